"""Whole runs against the original's numbers: policy and auxiliary phases in turn."""

import golden_files
import numpy as np
import pytest
import torch
from golden_files import Golden, case_id
from golden_phases import (
    assert_old_policy,
    aux_settings,
    fill_store,
    overwrite_policy_head,
    policy_settings,
    run_aux_epochs,
    run_policy_phase,
)

from rllib_ppg.core.learner import PhasicLearner
from rllib_ppg.core.returns import RewardNormalizer, compute_gae, standardize


def make_learner(golden: Golden) -> PhasicLearner:
    hp = golden.below("hp")
    network, spec = golden_files.loaded_network(golden, "param0")
    return PhasicLearner(
        network,
        spec,
        policy_settings(hp, hp),
        aux_settings(hp.number("aux_lr"), hp.count("aux_mbsize"), hp),
        generator=np.random.default_rng(0),
        permutation=golden_files.replay(permutations_in_order(golden, hp.count("n_pi"))),
    )


def permutations_in_order(golden: Golden, n_pi: int) -> list[np.ndarray]:
    drawn: list[np.ndarray] = []
    for i, policy in enumerate(golden["pol/perm"]):
        drawn.extend(policy)
        if (i + 1) % n_pi == 0:
            drawn.extend(golden["aux/perm"][(i + 1) // n_pi - 1])
    return drawn


def assert_acting(learner: PhasicLearner, seg: Golden) -> None:
    """Compare log-probabilities and values of the weights of this moment."""
    obs = torch.from_numpy(seg["ob"])
    with torch.no_grad():
        output = learner.network(obs.flatten(0, 1))
    logp = learner.action_spec.distribution(output.logits).logp(torch.from_numpy(seg["ac"]).ravel())
    shape = seg["logp"].shape
    np.testing.assert_allclose(logp.numpy().reshape(shape), seg["logp"], rtol=0, atol=3e-5)
    np.testing.assert_allclose(output.vf.numpy().reshape(shape), seg["vpred"], rtol=0, atol=3e-5)
    final = learner.values(seg["finalob"])
    np.testing.assert_allclose(final, seg["vpredfinal"], rtol=0, atol=3e-5)


def process_rewards(normalizer: RewardNormalizer, golden: Golden, i: int) -> Golden:
    """Normalise rewards and compute advantages; returns the segment with our own numbers."""
    seg, hp = golden.below("seg").at(i), golden.below("hp")
    rewards = normalizer(seg["reward_raw"].T, seg["first"].T)
    np.testing.assert_allclose(rewards.T, seg["reward"], rtol=1e-5, atol=1e-5)
    moments = normalizer.moments
    np.testing.assert_allclose(moments.mean, golden["rnorm/ret_mean"][i], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(moments.var, golden["rnorm/ret_var"][i], rtol=1e-5)
    np.testing.assert_allclose(moments.count, golden["rnorm/ret_count"][i], rtol=1e-5)
    advantages, targets = compute_gae(
        rewards,
        seg["vpred"].T,
        seg["vpredfinal"],
        golden_files.env_done(seg["first"], seg["finalfirst"]),
        gamma=hp.number("gamma"),
        lambda_=hp.number("lam"),
    )
    np.testing.assert_allclose(advantages.T, seg["adv_raw"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(targets.T, seg["vtarg"], rtol=1e-5, atol=1e-5)
    standardized = standardize(advantages)
    np.testing.assert_allclose(standardized.T, seg["adv"], rtol=0, atol=1e-5)
    ours = {"adv": np.ascontiguousarray(standardized.T), "vtarg": np.ascontiguousarray(targets.T)}
    return Golden({**seg.arrays, **ours})


def run_aux_phase(learner: PhasicLearner, golden: Golden, p: int, segments: list[Golden]) -> None:
    own = golden.below("aux").at(p)
    store = fill_store(
        np.stack([seg["ob"] for seg in segments]), np.stack([seg["vtarg"] for seg in segments])
    )
    golden_files.assert_parameters(learner.network, golden, f"param_before_aux{p}")
    phase = learner.begin_aux_phase(store)
    assert_old_policy(learner, phase, own["oldpd_logits"])
    head = f"aux{p}_param_step1"

    def after_first() -> None:
        if golden.below(head).arrays:
            overwrite_policy_head(learner.network, golden, head)

    run_aux_epochs(learner, phase, store, own, after_first)
    golden_files.assert_parameters(learner.network, golden, f"param_after_aux{p}")


@pytest.mark.parametrize("path", golden_files.files("cycle"), ids=case_id)
def test_whole_run_of_policy_and_auxiliary_phases(path):
    golden = golden_files.load(path)
    n_pi = golden.count("hp/n_pi")
    learner = make_learner(golden)
    num_iterations, num_envs = golden["seg/ac"].shape[:2]
    normalizer = RewardNormalizer(num_envs)
    stored: list[Golden] = []
    for i in range(num_iterations):
        assert_acting(learner, golden.below("seg").at(i))
        seg = process_rewards(normalizer, golden, i)
        run_policy_phase(learner, seg, golden.below("pol").at(i), gradients=False)
        stored.append(seg)
        if len(stored) == n_pi:
            run_aux_phase(learner, golden, i // n_pi, stored)
            stored.clear()
    golden_files.assert_parameters(learner.network, golden, "param1")
