"""The policy phase against the original's numbers: losses, gradients and weights step by step."""

import golden_files
import numpy as np
import pytest
import torch
from golden_files import case_id
from golden_phases import policy_settings, run_policy_phase

from rllib_ppg.core.learner import AuxPhaseSettings, PhasicLearner
from rllib_ppg.core.returns import RewardNormalizer, compute_gae, standardize

NO_AUX = AuxPhaseSettings(
    n_aux_epochs=1, aux_mbsize=1, beta_clone=1.0, vf_true_weight=1.0, aux_lr=1e-3
)


@pytest.mark.parametrize("path", golden_files.files("policy_phase"), ids=case_id)
def test_rewards_values_and_advantages_of_the_segment(path):
    golden = golden_files.load(path)
    seg, hp = golden.below("seg"), golden.below("hp")
    network, _ = golden_files.loaded_network(golden, "param0")
    with torch.no_grad():
        final = network.value(torch.from_numpy(seg["finalob"])).numpy()
    np.testing.assert_allclose(final, seg["vpredfinal"], rtol=0, atol=3e-5)
    rewards = RewardNormalizer(len(final))(seg["reward_raw"].T, seg["first"].T)
    np.testing.assert_allclose(rewards.T, seg["reward"], rtol=1e-5, atol=1e-5)
    advantages, targets = compute_gae(
        seg["reward"].T,
        seg["vpred"].T,
        seg["vpredfinal"],
        golden_files.env_done(seg["first"], seg["finalfirst"]),
        gamma=hp.number("gamma"),
        lambda_=hp.number("lam"),
    )
    np.testing.assert_allclose(advantages.T, seg["adv_raw"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(targets.T, seg["vtarg"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(standardize(advantages).T, seg["adv"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("path, case", golden_files.cases("policy_phase", "kind"), ids=case_id)
def test_losses_gradients_and_weights_of_every_step(path, case):
    golden = golden_files.load(path)
    own = golden.below(case)
    network, spec = golden_files.loaded_network(golden, "param0")
    learner = PhasicLearner(
        network,
        spec,
        policy_settings(golden.below("hp"), own.below("hp")),
        NO_AUX,
        generator=np.random.default_rng(0),
        permutation=golden_files.replay(own["perm"]),
    )
    run_policy_phase(learner, golden.below("seg"), own, gradients=True)
    golden_files.assert_parameters(network, own, "param1")
