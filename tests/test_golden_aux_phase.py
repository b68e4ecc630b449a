"""The auxiliary phase against the original's numbers: losses, gradients, weights step by step."""

import golden_files
import numpy as np
import pytest
from golden_files import case_id
from golden_phases import (
    assert_old_policy,
    aux_settings,
    fill_store,
    overwrite_policy_head,
    recorded,
    run_aux_epochs,
)

from rllib_ppg.core.learner import PhasicLearner, PolicyPhaseSettings

NO_POLICY = PolicyPhaseSettings(
    n_epoch_pi=1,
    n_epoch_vf=1,
    nminibatch=1,
    clip_param=0.2,
    kl_penalty=0.0,
    entropy_coeff=0.01,
    vf_loss_coeff=0.5,
    lr=1e-3,
)


@pytest.mark.parametrize("path, case", golden_files.cases("aux_phase", "mb_envseg"), ids=case_id)
def test_losses_gradients_and_weights_of_every_step(path, case):
    golden = golden_files.load(path)
    own, seg = golden.below(case), golden.below("seg")
    network, spec = golden_files.loaded_network(golden, "param0")
    store = fill_store(seg["ob"], seg["vtarg"])
    learner = PhasicLearner(
        network,
        spec,
        NO_POLICY,
        aux_settings(golden.number("hp/aux_lr"), own.count("hp/mbsize"), own.below("hp")),
        generator=np.random.default_rng(0),
        permutation=golden_files.replay(own["perm"]),
    )
    # With old = new the policy head has no gradient but rounding noise, which Adam turns into steps
    # of random direction; elsewhere the first step is as good as any.
    head_gradients = [own[k] for k in own.arrays if k.startswith("grad0/pi_head.")]
    fresh = max(np.abs(gradient).max() for gradient in head_gradients) < 1e-6

    def after_first() -> None:
        leave_out = "policy_head." if fresh else "\0"
        golden_files.assert_gradients(network, own, "grad0", leave_out)
        if fresh:
            overwrite_policy_head(network, own, "param_step1")
        for name, value in own.named("param_step1").items():
            np.testing.assert_allclose(network.state_dict()[name], value, rtol=0, atol=2e-5)

    if fresh:
        np.testing.assert_allclose(
            learner.values(seg["ob"].reshape(-1, *seg["ob"].shape[3:])),
            own["oldvpred"].reshape(-1),
            rtol=0,
            atol=3e-5,
        )
        phase = learner.begin_aux_phase(store)
        assert_old_policy(learner, phase, own["oldpd_logits"])
    else:
        old_inputs = own["oldpd_logits"].reshape(-1, spec.num_inputs)
        phase = learner.begin_aux_phase(store, recorded(old_inputs))
    run_aux_epochs(learner, phase, store, own, after_first)
    golden_files.assert_parameters(network, own, "param1")
