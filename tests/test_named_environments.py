"""Environments by name, and many of them as arrays."""

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from toy_envs import CodedEnv

from rllib_ppg.algorithm.named_environments import (
    find_creator,
    make_array_env,
    registered_names,
    spaces,
)
from rllib_ppg.algorithm.registration import register
from rllib_ppg.envs.arrays import ArrayEnv
from rllib_ppg.errors import UserError


@pytest.fixture(autouse=True)
def registered():
    register()


@pytest.mark.parametrize(
    "name",
    ["procgen", "CartPole-v1", "gymnasium.envs.classic_control.CartPoleEnv", CodedEnv],
)
def test_an_environment_is_found_by_each_kind_of_name(name: object):
    assert callable(find_creator(name))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("Cartpole", '"CartPole-v1"'),
        ("CartPole-v77", '"CartPole-v1"'),
        ("no_such_module:Env-v0", "cannot be imported|Unknown"),
        ("gymnasium.nothing", "cannot be imported"),
        ("gymnasium.envs", "not a class"),
        (5, "must be an environment's name"),
    ],
)
def test_another_name_is_refused(name: object, why: str):
    with pytest.raises(UserError, match=why):
        find_creator(name)


def test_registered_names_are_offered():
    assert "procgen" in registered_names()


def test_procgens_spaces_are_known_without_making_a_game():
    known = spaces("procgen", {"frame_stack": 4})
    env = make_array_env("procgen", {"frame_stack": 4}, 1, seed=0)
    assert known == (env.observation_space, env.action_space, 4, ())
    env.close()


@pytest.mark.parametrize("wrappers", [[], ["rllib_ppg.envs.array_wrapper.ArrayWrapper"]])
def test_what_procgens_games_count_is_known(wrappers):
    made = spaces("procgen", {"count_states": True, "wrappers": wrappers})
    assert set(made.columns) == {"num_unique_states", "episode_step"}


def test_other_environments_are_made_once_to_see():
    made = spaces("CartPole-v1", {})
    assert isinstance(made.observations, Box) and made.observations.shape == (4,)
    assert made.actions == Discrete(2) and made.frame_stack == 1


def test_an_environment_that_does_not_start_is_told_with_its_own_error():
    with pytest.raises(UserError, match=r"cannot be made: TypeError: .*no_such_option"):
        spaces("CartPole-v1", {"no_such_option": 1})


@pytest.mark.parametrize("name", ["procgen", "CartPole-v1"])
def test_the_same_seed_begins_the_same_episodes(name: str):
    first, second, other = (make_array_env(name, {}, 3, seed) for seed in (1, 1, 2))
    begin = first.reset().copy()
    assert isinstance(first, ArrayEnv) and first.num_envs == 3
    assert np.array_equal(begin, second.reset())
    assert not np.array_equal(begin, other.reset())
    assert not np.array_equal(begin[0], begin[1])
    assert isinstance(first.action_space, Discrete)
    for env in (first, second, other):
        env.close()


def test_env_config_reaches_the_environment():
    env = make_array_env(CodedEnv, {"length": 2}, 2, seed=0)
    assert env.envs[0].length == 2 and env.envs[1].length == 3  # length + vector index
    env.close()
