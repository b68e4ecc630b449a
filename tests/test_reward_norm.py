"""Reward transforms on scripted rewards, by hand."""

import math

import numpy as np
import pytest

from rllib_ppg.core.reward_norm import (
    FragmentTransform,
    RewardPipeline,
    RewardTransform,
    StepTransform,
    fragments,
    make_reward_transform,
)
from rllib_ppg.errors import UserError

ONE = np.zeros(1, np.int64)


def rollout(rewards: list[float], firsts: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.array(rewards)[:, None], np.array(firsts, bool)[:, None], ONE


@pytest.mark.parametrize(
    ("reset", "sums"),
    # An episode begins with the third step.
    [("never", [1, 2.5, 4.25]), ("episode", [1, 2.5, 3]), ("late", [1, 2.5, 0])],
)
def test_when_a_sum_is_emptied(reset: str, sums: list[float]):
    transform, seen = StepTransform(1, gamma=0.5, reset=reset), []
    for reward, first in zip([1.0, 2.0, 3.0], [1, 0, 1], strict=True):
        transform(*rollout([reward], [first]))
        seen.append(float(transform.returns[0]))
    assert seen == sums


def test_each_step_enters_the_statistics_before_it_is_divided():
    transform = StepTransform(2, gamma=0.0)
    rewards = np.array([[1.0, 3.0], [0.0, 8.0]])
    out = transform(rewards, np.zeros((2, 2), bool), np.arange(2))
    # Population variances of {1, 3} and of {1, 3, 0, 8}, but for the start's count of 1e-4.
    np.testing.assert_allclose(out[0], [1.0, 3.0], rtol=1e-3)
    deviation = math.sqrt(((1 - 3) ** 2 + 0 + 3**2 + 5**2) / 4)
    np.testing.assert_allclose(out[1], [0.0, 8.0 / deviation], rtol=1e-3)


def test_fragments_come_by_their_end_and_then_by_environment():
    firsts = np.array([[1, 1, 1], [0, 0, 1], [0, 1, 0]], bool)
    assert list(fragments(firsts)) == [(2, 0, 1), (1, 0, 2), (0, 0, 3), (1, 2, 3), (2, 1, 3)]


def test_moving_statistics_of_fragments_by_hand():
    transform = FragmentTransform(1, gamma=0.99, alpha=0.5)
    out = transform(*rollout([1.0, 1.0, 6.0], [1, 0, 1]))
    # The first sum, 2, sets the mean and leaves the variance at 1; the second, 6, moves both.
    assert transform.mean[0] == 4.0 and transform.var[0] == 0.5 * (1 + 0.5 * 16)
    np.testing.assert_allclose(out[:, 0], [1, 1, 6 / math.sqrt(4.5)], rtol=1e-6)


def test_groups_of_environments_have_statistics_of_their_own():
    transform = FragmentTransform(4, gamma=0.99, alpha=0.5, groups=2)
    rewards = np.array([[1.0, 3.0, 10.0, 10.0]])
    transform(rewards, np.ones((1, 4), bool), np.arange(4))
    assert transform.mean.tolist() == [2.0, 10.0] and transform.count.tolist() == [2, 2]
    lost = FragmentTransform(4, gamma=0.99, alpha=0.5, groups=2)
    lost(rewards[:, 2:], np.ones((1, 2), bool), np.array([2, 3]))
    assert lost.count.tolist() == [0, 2]


def test_rewards_are_divided_then_clipped_then_scaled():
    class Double(RewardTransform):
        scale = 0.5

        def __call__(self, rewards, firsts, envs):
            return (2 * rewards).astype(np.float32)

        def get_state(self):
            return {}

        def set_state(self, state):
            pass

    pipeline = RewardPipeline(Double(1, gamma=0.9), clip=3.0, scale=0.5)
    out = pipeline(*rollout([1.0, 5.0, -5.0], [1, 0, 0]))
    assert out[:, 0].tolist() == [1.0, 1.5, -1.5]
    plain = RewardPipeline(None, clip=3.0, scale=0.5)
    assert plain(*rollout([10.0], [1]))[0, 0] == 5.0, "raw rewards are not clipped"


@pytest.mark.parametrize(
    "setting", ["rollout", "step", {"type": "step", "reset": "late"}, {"type": "fragment"}]
)
def test_a_transform_goes_on_from_its_state(setting):
    rng = np.random.default_rng(0)
    parts = [(rng.normal(size=(5, 3)), rng.random((5, 3)) < 0.3, np.arange(3)) for _ in range(3)]
    whole = make_reward_transform(setting, 3, gamma=0.9)
    for part in parts[:2]:
        whole(*part)
    other = make_reward_transform(setting, 3, gamma=0.9)
    other.set_state(whole.get_state())
    np.testing.assert_array_equal(other(*parts[2]), whole(*parts[2]))


def test_statistics_of_another_transform_are_refused():
    step = RewardPipeline(StepTransform(2, gamma=0.9), clip=None)
    fragment = RewardPipeline(FragmentTransform(2, gamma=0.9), clip=None)
    with pytest.raises(ValueError, match="another reward_transform"):
        fragment.set_state(step.get_state())


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("steps", 'Did you mean "step"'),
        ("numpy.array", "no subclass"),
        ("no_such_package.Thing", "no installed package"),
        ({"alpha": 1}, "the name as `type`"),
        ({"type": "fragment", "alpha": 0}, "alpha=0"),
    ],
)
def test_what_is_no_transform_is_refused(setting, words: str):
    with pytest.raises(UserError, match=words):
        make_reward_transform(setting, 2, gamma=0.9)
