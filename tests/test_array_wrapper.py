"""Wrappers around array environments, named in an environment's options."""

import numpy as np
import pytest

from rllib_ppg.algorithm import named_environments
from rllib_ppg.envs.array_wrapper import ArrayWrapper, wrap
from rllib_ppg.envs.arrays import ArrayEnv, frame_stack_of
from rllib_ppg.envs.procgen import ProcgenVectorEnv, make_procgen_array, parse_options
from rllib_ppg.errors import UserError

NAME = f"{__name__}.Doubled"


class Doubled(ArrayWrapper):
    """Multiplies rewards, and counts its steps in its state."""

    def __init__(self, env: ArrayEnv, factor: float = 2.0) -> None:
        super().__init__(env)
        self.factor, self.steps = factor, 0

    def step(self, actions):
        transition = self.env.step(actions)
        self.steps += 1
        return transition._replace(rewards=transition.rewards * self.factor)

    def get_state(self):
        return {"env": self.env.get_state(), "steps": self.steps}

    def set_state(self, state):
        self.env.set_state(state["env"])
        self.steps = state["steps"]


def played(env, steps=60):
    rng = np.random.default_rng(0)
    return np.stack([env.step(rng.integers(0, 15, env.num_envs)).rewards for _ in range(steps)])


def test_a_wrapper_passes_on_what_it_does_not_change():
    env = make_procgen_array({"frame_stack": 2, "count_states": True, "wrappers": [NAME]}, 2)
    assert isinstance(env, ArrayEnv) and isinstance(env.unwrapped, ProcgenVectorEnv)
    assert env.observation_space.shape == (64, 64, 6) and frame_stack_of(env) == 2
    assert set(env.sample_columns) == {"num_unique_states", "episode_step"}
    assert env.reset().shape == env.observe().shape == (2, 64, 64, 6)
    assert env.render(1).shape == (64, 64, 3) and len(env.infos()) == 2
    env.close()


def test_wrappers_stand_around_each_other_in_order_and_save_their_state():
    options = {"env_name": "chaser", "distribution_mode": "easy"}
    plain = make_procgen_array(options, 4, rand_seed=1)
    wrapped = make_procgen_array(
        {**options, "wrappers": [NAME, {"type": NAME, "factor": 5}]}, 4, rand_seed=1
    )
    assert wrapped.factor == 5 and wrapped.env.factor == 2
    rewards = played(plain, 150)
    assert rewards.any()
    np.testing.assert_allclose(played(wrapped, 150), 10 * rewards)
    state = wrapped.get_state()
    assert state["steps"] == 150 and state["env"]["steps"] == 150
    expected = played(wrapped)
    wrapped.set_state(state)
    np.testing.assert_array_equal(played(wrapped), expected)


def test_wrapped_games_begin_with_other_levels_when_they_are_seeded_anew():
    options = {"env_name": "chaser", "distribution_mode": "easy"}
    plain = make_procgen_array(options, 4, rand_seed=1)
    wrapped = make_procgen_array({**options, "wrappers": [NAME, NAME]}, 4, rand_seed=1)
    first = wrapped.reset().copy()
    for env in (plain, wrapped):
        env.reseed(5)
    np.testing.assert_array_equal(wrapped.reset(), plain.reset())
    assert not np.array_equal(wrapped.observe(), first)


def test_environments_that_cannot_be_seeded_anew_are_left_alone():
    class Fixed(ProcgenVectorEnv):
        reseed = None

    env = Doubled(Fixed({"env_name": "chaser"}, 1, rand_seed=1))
    first = env.reset().copy()
    env.reseed(5)
    np.testing.assert_array_equal(env.observe(), first)


def test_the_spaces_of_wrapped_games_are_those_of_the_wrapper():
    found = named_environments.spaces("procgen", {"frame_stack": 3, "wrappers": [NAME]})
    assert found.observations.shape == (64, 64, 9) and found.frame_stack == 3


@pytest.mark.parametrize(
    ("wrappers", "words"),
    [
        ("package.Class", "give a list of dotted names"),
        (["Doubled"], "wrapper 'Doubled' must be a dotted name"),
        ([7], "wrapper 7 must be a dotted name, or a mapping"),
        ([{"factor": 2}], "with the name as `type`"),
        ([{"type": NAME, "speed": 2}], "'speed'; its options: env, factor"),
        (["no_such_package.Wrapper"], "no installed package no_such_package"),
        (["rllib_ppg.envs.procgen.ProcgenEnv"], "is no subclass of .*ArrayWrapper"),
    ],
)
def test_a_wrong_wrapper_is_refused(wrappers, words):
    with pytest.raises(UserError, match=words):
        parse_options({"wrappers": wrappers})


def test_wrap_without_wrappers_gives_the_environment_itself():
    env = object()
    assert wrap(env, ()) is env
