"""Who plays: temperatures are what they say, random actions are uniform."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from evaluation import procgen_policy

from rllib_ppg import PPGConfig, UserError
from rllib_ppg.algorithm.evaluate_agents import RandomAgent, TrainedAgent, trained_agent
from rllib_ppg.algorithm.policy import PPGTorchPolicy
from rllib_ppg.core.distributions import ActionSpec

LOGITS = torch.tensor([2.0, 1.0, 0.0, -1.0])
BEFORE = np.zeros(0, np.int64)  # no agent here looks at the actions before
MAPPING = {"normalize_actions": True, "clip_actions": False}


class Fixed(torch.nn.Module):
    """Gives the same logits for every observation."""

    takes_prev_actions = False

    def policy(self, obs: torch.Tensor, before: None) -> tuple[torch.Tensor, None]:
        return LOGITS.expand(len(obs), -1), None


def frequencies(temperature: float) -> np.ndarray:
    agent = TrainedAgent(Fixed(), ActionSpec("categorical", (4,)), MAPPING, temperature)
    actions = agent.begin(gym.spaces.Discrete(4), 0)(np.zeros((20_000, 1), np.float32), BEFORE)
    return np.bincount(actions, minlength=4) / len(actions)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_actions_are_drawn_from_the_softmax_of_logits_over_temperature(temperature: float):
    expected = torch.softmax(LOGITS / temperature, 0).numpy()
    assert np.abs(frequencies(temperature) - expected).max() < 0.015  # four standard errors


def test_temperature_0_takes_the_most_probable_action():
    assert frequencies(0.0).tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize("temperature", [-1.0, float("nan"), float("inf"), 1e-9])
def test_a_temperature_that_makes_no_sense_is_refused(temperature: float):
    with pytest.raises(UserError, match="must be 0"):
        trained_agent(procgen_policy(), temperature)


@pytest.mark.parametrize(("explore", "temperature"), [(True, 1.0), (False, 0.0)])
def test_the_default_is_what_the_training_did(explore: bool, temperature: float):
    assert trained_agent(procgen_policy(explore=explore)).temperature == temperature


@pytest.mark.parametrize("explore", [True, False])
@pytest.mark.parametrize("given", [0, 0.5, 1])
def test_the_trainings_evaluation_temperature_is_the_default(explore: bool, given: float):
    policy = procgen_policy(explore=explore, evaluation_temperature=given)
    assert trained_agent(policy).temperature == given
    assert trained_agent(policy, 2.0).temperature == 2.0


def test_continuous_actions_are_the_mean_or_sampled():
    space, box = gym.spaces.Box(-1, 1, (3,), np.float32), gym.spaces.Box(-1, 1, (2,), np.float32)
    policy = PPGTorchPolicy(space, box, PPGConfig().to_dict())
    obs = np.zeros((2, 3), np.float32)
    assert np.unique(trained_agent(policy, 0).begin(box, 0)(obs, BEFORE), axis=0).shape == (1, 2)
    assert np.unique(trained_agent(policy, 1).begin(box, 0)(obs, BEFORE), axis=0).shape == (2, 2)
    many = np.zeros((2000, 3), np.float32)
    wide, narrow = (
        np.median(np.abs(trained_agent(policy, t).begin(box, 0)(many, BEFORE))) for t in (1, 0.01)
    )
    assert narrow == pytest.approx(0.1 * wide, rel=0.1)


@pytest.mark.parametrize(
    "space", [gym.spaces.Discrete(3, start=5), gym.spaces.MultiDiscrete([2, 3])]
)
def test_random_actions_lie_in_the_space_and_follow_the_seed(space: gym.Space):
    obs = np.zeros((300, 1))
    actions = RandomAgent().begin(space, 7)(obs, BEFORE)
    assert all(space.contains(action) for action in actions)
    assert np.array_equal(actions, RandomAgent().begin(space, 7)(obs, BEFORE))
    assert not np.array_equal(actions, RandomAgent().begin(space, 8)(obs, BEFORE))
    assert len(np.unique(actions, axis=0)) == 3 if space.shape == () else 6
