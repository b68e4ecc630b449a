"""Returns and reward normalisation: loops, closed forms, carried state."""

import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_ppg.core.returns import (
    RewardNormalizer,
    RunningMoments,
    compute_gae,
    discounted_sums,
    explained_variance,
    standardize,
)


def plain_gae(rewards, values, bootstrap, dones, final_values, gamma, lambda_):
    """GAE of one environment straight from its definition: a sum over the future."""
    num_steps = len(rewards)
    following = [*values[1:], bootstrap]
    deltas = []
    for t in range(num_steps):
        after = final_values[t] if dones[t] else following[t]
        deltas.append(rewards[t] + gamma * after - values[t])
    advantages = []
    for t in range(num_steps):
        total, weight = 0.0, 1.0
        for k in range(t, num_steps):
            total += weight * deltas[k]
            weight *= gamma * lambda_
            if dones[k]:
                break
        advantages.append(total)
    return advantages


def rollout(seed: int, num_steps: int, num_envs: int):
    rng = np.random.default_rng(seed)
    shape = (num_steps, num_envs)
    rewards, values, final_values = rng.standard_normal((3, *shape)).astype(np.float32)
    bootstrap = rng.standard_normal(num_envs).astype(np.float32)
    return rewards, values, bootstrap, rng.random(shape) < 0.3, final_values


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 1000),
    st.integers(1, 9),
    st.integers(1, 4),
    st.sampled_from([(0.99, 0.95), (1.0, 1.0), (0.9, 0.0), (0.0, 1.0)]),
    st.booleans(),
)
def test_gae_equals_its_definition(seed, num_steps, num_envs, discounts, with_finals):
    rewards, values, bootstrap, dones, finals = rollout(seed, num_steps, num_envs)
    gamma, lambda_ = discounts
    advantages, targets = compute_gae(
        rewards,
        values,
        bootstrap,
        dones,
        gamma=gamma,
        lambda_=lambda_,
        final_values=finals if with_finals else None,
    )
    if not with_finals:
        finals = np.zeros_like(finals)
    for n in range(num_envs):
        columns = (rewards[:, n], values[:, n], bootstrap[n], dones[:, n], finals[:, n])
        np.testing.assert_allclose(
            advantages[:, n], plain_gae(*columns, gamma, lambda_), rtol=1e-4, atol=1e-5
        )
    assert advantages.dtype == targets.dtype == np.float32
    np.testing.assert_allclose(targets, advantages + values, rtol=1e-5, atol=1e-6)


def test_with_lambda_one_targets_are_discounted_returns():
    rewards = np.ones((3, 1), np.float32)
    zeros, dones = np.zeros((3, 1), np.float32), np.array([[False], [False], [True]])
    _, targets = compute_gae(
        rewards, zeros, np.array([100.0], np.float32), dones, gamma=0.5, lambda_=1.0
    )
    assert targets[:, 0].tolist() == [1.75, 1.5, 1.0]


def test_time_limit_bootstraps_from_the_final_observation_but_cuts_the_chain():
    rewards = np.array([[1.0], [5.0]], np.float32)
    values = np.zeros((2, 1), np.float32)
    dones, finals = np.array([[True], [False]]), np.array([[10.0], [99.0]], np.float32)
    advantages, _ = compute_gae(
        rewards, values, np.array([2.0], np.float32), dones, gamma=0.5, lambda_=1.0,
        final_values=finals,
    )  # fmt: skip
    # 1 + 0.5 * 10 and nothing of the next episode; 5 + 0.5 * 2 without the final value of no end.
    assert advantages[:, 0].tolist() == [6.0, 6.0]


def test_bootstrap_is_not_read_where_the_rollout_ends_with_an_episode():
    ones, zeros = np.ones((2, 2), np.float32), np.zeros((2, 2), np.float32)
    dones = np.array([[False, False], [True, False]])
    advantages, _ = compute_gae(
        ones, zeros, np.array([np.nan, 0.0], np.float32), dones, gamma=1.0, lambda_=1.0
    )
    assert advantages.tolist() == [[2.0, 2.0], [1.0, 1.0]]


def test_gae_refuses_other_shapes():
    rewards, values, bootstrap, dones, _ = rollout(0, 4, 3)
    with pytest.raises(ValueError, match="vf_preds"):
        compute_gae(rewards, values.T, bootstrap, dones, gamma=0.9, lambda_=0.9)
    with pytest.raises(ValueError, match="bootstrap"):
        compute_gae(rewards, values, bootstrap[:2], dones, gamma=0.9, lambda_=0.9)
    with pytest.raises(ValueError, match=r"\(T, N\)"):
        compute_gae(bootstrap, bootstrap, bootstrap, bootstrap, gamma=0.9, lambda_=0.9)


def test_standardised_advantages_have_mean_zero_and_population_deviation_one():
    rng = np.random.default_rng(0)
    values = standardize((3 + 5 * rng.standard_normal((4, 3))).astype(np.float32))
    assert values.dtype == np.float32
    assert values.mean() == pytest.approx(0, abs=1e-6)
    assert values.std(ddof=0) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_constant_advantages_standardise_to_zero(value):
    assert not standardize(np.full((7, 3), value, np.float32)).any()


def test_explained_variance_of_perfect_mean_and_constant():
    targets = np.array([1.0, 2.0, 4.0])
    assert explained_variance(targets, targets) == 1.0
    assert explained_variance(np.full(3, 9.0), targets) == pytest.approx(0.0)
    assert explained_variance(-targets, targets) == pytest.approx(-3.0)
    assert math.isnan(explained_variance(targets, np.ones(3)))


def test_discounted_sums_restart_with_each_episode():
    rewards = np.array([[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]])
    firsts = np.array([[False, True], [False, False], [True, False]])
    sums = discounted_sums(rewards, firsts, np.array([4.0, 4.0]), gamma=0.5)
    assert sums.tolist() == [[3.0, 1.0], [2.5, 1.5], [1.0, 1.75]]


@given(st.lists(st.integers(1, 20), min_size=1, max_size=5), st.integers(0, 100))
@settings(deadline=None, max_examples=25)
def test_running_moments_equal_those_of_everything(sizes, seed):
    rng = np.random.default_rng(seed)
    moments = RunningMoments(count=0.0)
    batches = [rng.normal(3, 2, size) for size in sizes]
    for batch in batches:
        moments.update(batch)
    everything = np.concatenate(batches)
    assert moments.count == len(everything)
    assert moments.mean == pytest.approx(everything.mean())
    assert moments.var == pytest.approx(everything.var(), abs=1e-12)


def test_running_moments_ignore_an_empty_batch():
    moments = RunningMoments()
    moments.update([])
    assert moments.get_state() == {"mean": 0.0, "var": 1.0, "count": 1e-4}


def test_normaliser_learns_before_it_scales_and_does_not_centre():
    normalizer = RewardNormalizer(2, gamma=0.5)
    rewards = np.array([[1.0, 2.0], [1.0, 2.0]], np.float32)
    out = normalizer(rewards, np.zeros((2, 2), bool))
    sums = np.array([1.0, 2.0, 1.5, 3.0])
    assert normalizer.scale == pytest.approx(sums.std(), rel=1e-3)
    np.testing.assert_allclose(out, rewards / normalizer.scale, rtol=1e-6)
    assert out.dtype == np.float32


def test_normaliser_clips():
    normalizer = RewardNormalizer(100, clip=2.0)
    rewards = np.zeros((1, 100), np.float32)
    rewards[0, :2] = 50.0, -50.0
    out = normalizer(rewards, np.zeros((1, 100), bool))
    assert (out.max(), out.min()) == (2.0, -2.0)


def test_one_long_call_carries_like_two_short_ones():
    rewards, _, _, firsts, _ = rollout(0, 6, 3)
    whole, parts = RewardNormalizer(3), RewardNormalizer(3)
    whole(rewards, firsts)
    parts(rewards[:2], firsts[:2])
    parts(rewards[2:], firsts[2:])
    np.testing.assert_allclose(whole.returns, parts.returns)
    assert whole.moments.var == pytest.approx(parts.moments.var)


def test_missing_environments_keep_their_sums():
    normalizer = RewardNormalizer(3, gamma=0.5)
    ones = np.ones((1, 3), np.float32)
    normalizer(ones, np.zeros((1, 3), bool))
    out = normalizer(np.array([[4.0, 8.0]], np.float32), np.zeros((1, 2), bool), np.array([2, 0]))
    assert normalizer.returns.tolist() == [8.5, 1.0, 4.5]
    assert out.shape == (1, 2)


def test_normaliser_continues_from_its_state():
    rewards, _, _, firsts, _ = rollout(0, 6, 3)
    first = RewardNormalizer(3)
    first(rewards[:3], firsts[:3])
    second = RewardNormalizer(3)
    second.set_state(pickle.loads(pickle.dumps(first.get_state())))
    first_out, second_out = first(rewards[3:], firsts[3:]), second(rewards[3:], firsts[3:])
    assert np.array_equal(first_out, second_out)
    assert first.moments.get_state() == second.moments.get_state()


def test_state_does_not_change_with_the_normaliser():
    normalizer = RewardNormalizer(1)
    state = normalizer.get_state()
    normalizer(np.ones((1, 1), np.float32), np.zeros((1, 1), bool))
    assert state["returns"].tolist() == [0.0]


def test_normaliser_refuses_other_environments():
    normalizer = RewardNormalizer(3)
    with pytest.raises(ValueError, match="belong to 4 environments, not 3"):
        normalizer.set_state(RewardNormalizer(4).get_state())
    with pytest.raises(ValueError, match="columns"):
        normalizer(np.ones((1, 2), np.float32), np.zeros((1, 2), bool))


def test_a_reward_that_is_not_finite_is_named_and_leaves_the_statistics():
    normalizer = RewardNormalizer(3)
    before = normalizer.get_state()
    rewards = np.ones((2, 3), np.float32)
    rewards[1, 2] = np.nan
    with pytest.raises(FloatingPointError, match="environment 2 gave the reward nan at step 1"):
        normalizer(rewards, np.zeros((2, 3), bool))
    assert normalizer.get_state()["moments"] == before["moments"]
    assert not normalizer.returns.any()
