import gymnasium
import numpy as np
import pytest

from rllib_ppg.envs.arrays import ArrayEnv, GymnasiumArrayEnv
from rllib_ppg.errors import UserError


class Countdown(gymnasium.Env):
    """Ends after `length` steps in the way asked for; the observation counts the steps."""

    observation_space = gymnasium.spaces.Box(-1e3, 1e3, (2,), np.float64)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, length, terminated=False, truncated=False):
        self.length, self.ends = length, (terminated, truncated)
        self.episode, self.seeds, self.actions = -1, [], []

    def reset(self, *, seed=None, options=None):
        self.seeds.append(seed)
        self.episode, self.t = self.episode + 1, 0
        return self._obs(), {"start": self.episode}

    def step(self, action):
        self.actions.append(np.array(action))
        self.t += 1
        terminated, truncated = self.ends if self.t == self.length else (False, False)
        return self._obs(), 0.1 * self.t, terminated, truncated, {"t": self.t}

    def _obs(self):
        return np.array([self.episode, self.t], np.float64)


NO_ACTION = np.zeros((1, 1), np.float32)


def test_ended_environment_shows_the_next_episode_in_the_same_step():
    env = GymnasiumArrayEnv([Countdown(2, terminated=True)])
    np.testing.assert_array_equal(env.reset(), [[0, 0]])
    first = env.step(NO_ACTION)
    assert (first.obs.tolist(), first.terminateds.tolist()) == ([[0, 1]], [False])
    second = env.step(NO_ACTION)
    assert (second.obs.tolist(), second.terminateds.tolist()) == ([[1, 0]], [True])
    assert second.rewards.tolist() == pytest.approx([0.2])
    assert env.step(NO_ACTION).obs.tolist() == [[1, 1]]


def test_true_last_observation_is_kept_for_truncated_environments_only():
    envs = [Countdown(2, terminated=True), Countdown(2, truncated=True), Countdown(5)]
    env = GymnasiumArrayEnv(envs)
    env.reset()
    actions = np.zeros((3, 1), np.float32)
    assert env.step(actions).final_obs == {}
    transition = env.step(actions)
    assert transition.terminateds.tolist() == [True, False, False]
    assert transition.truncateds.tolist() == [False, True, False]
    assert list(transition.final_obs) == [1]
    assert transition.final_obs[1].tolist() == [0, 2]
    env.step(actions)
    assert transition.final_obs[1].tolist() == [0, 2], "a later step must not overwrite it"


def test_terminated_wins_over_truncated():
    env = GymnasiumArrayEnv([Countdown(1, terminated=True, truncated=True)])
    env.reset()
    transition = env.step(NO_ACTION)
    assert transition.terminateds.tolist() == [True]
    assert transition.truncateds.tolist() == [False]
    assert transition.final_obs == {}


def test_infos_are_those_of_the_step_that_ended_the_episode():
    env = GymnasiumArrayEnv([Countdown(2, terminated=True)])
    env.reset()
    assert env.infos() == [{"start": 0}]
    env.step(NO_ACTION)
    env.step(NO_ACTION)
    assert env.infos() == [{"t": 2}]


def test_float64_becomes_float32_and_other_types_stay():
    double = GymnasiumArrayEnv([Countdown(2)])
    assert double.observation_space.dtype == np.float32
    assert double.reset().dtype == np.float32
    transition = double.step(NO_ACTION)
    assert transition.obs.dtype == transition.rewards.dtype == np.float32
    assert double.observation_space.contains(transition.obs[0])
    taxi = GymnasiumArrayEnv([gymnasium.make("Taxi-v3")] * 2)
    assert taxi.reset().dtype == np.int64
    assert taxi.reset().shape == (2,)


def test_each_environment_gets_its_own_action_row():
    envs = [Countdown(9), Countdown(9)]
    env = GymnasiumArrayEnv(envs)
    env.reset()
    env.step(np.array([[0.25], [-0.5]], np.float32))
    assert [e.actions[0].tolist() for e in envs] == [[0.25], [-0.5]]


def test_seeds_are_used_for_the_first_reset_only():
    envs = [Countdown(1, terminated=True), Countdown(9)]
    env = GymnasiumArrayEnv(envs, seeds=[5, 6])
    env.reset()
    env.step(np.zeros((2, 1), np.float32))
    env.reset()
    assert [e.seeds for e in envs] == [[5, None, None], [6, None]]


def test_observe_repeats_the_current_observations():
    env = GymnasiumArrayEnv([Countdown(9)])
    env.reset()
    stepped = env.step(NO_ACTION).obs.copy()
    np.testing.assert_array_equal(env.observe(), stepped)


def test_same_seeds_give_the_same_run_and_other_seeds_another():
    def run(seeds):
        env = GymnasiumArrayEnv([gymnasium.make("CartPole-v1") for _ in seeds], seeds)
        rows = [env.reset().copy()]
        actions = np.random.default_rng(0).integers(0, 2, (60, len(seeds)))
        rows += [env.step(action).obs.copy() for action in actions]
        return np.array(rows)

    np.testing.assert_array_equal(run([1, 2]), run([1, 2]))
    assert not np.array_equal(run([1, 2]), run([1, 3]))


def test_returns_and_lengths_equal_those_of_stepping_by_hand():
    actions = np.random.default_rng(0).integers(0, 2, (80, 3))
    env = GymnasiumArrayEnv([gymnasium.make("CartPole-v1") for _ in range(3)], [7, 8, 9])
    env.reset()
    batch = [t._replace(obs=t.obs.copy()) for t in map(env.step, actions)]
    for n in range(3):
        single = gymnasium.make("CartPole-v1")
        single.reset(seed=7 + n)
        for t in range(80):
            obs, reward, terminated, _, _ = single.step(int(actions[t, n]))
            if terminated:
                obs, _ = single.reset()
            np.testing.assert_array_equal(batch[t].obs[n], obs)
            assert batch[t].rewards[n] == reward
            assert batch[t].terminateds[n] == terminated


def test_time_limit_of_gymnasium_counts_as_truncated():
    env = GymnasiumArrayEnv([gymnasium.make("Pendulum-v1", max_episode_steps=3)], [0])
    env.reset()
    action = np.zeros((1, 1), np.float32)
    flags = [env.step(action) for _ in range(3)]
    assert [bool(f.truncateds[0]) for f in flags] == [False, False, True]
    assert flags[2].final_obs[0].shape == (3,)


def test_it_is_an_array_env_and_has_no_state():
    env = GymnasiumArrayEnv([Countdown(2)])
    assert isinstance(env, ArrayEnv)
    assert env.get_state() is None
    env.set_state(None)
    with pytest.raises(ValueError, match="no state"):
        env.set_state({"anything": 1})


def test_render_returns_the_picture_of_one_environment():
    class Painter(Countdown):
        render_mode = "rgb_array"

        def render(self):
            return np.full((2, 3, 3), self.length, np.uint8)

    env = GymnasiumArrayEnv([Painter(4), Painter(7)])
    assert env.render(1).shape == (2, 3, 3)
    assert env.render(1)[0, 0, 0] == 7
    with pytest.raises(UserError, match="render_mode='rgb_array'"):
        GymnasiumArrayEnv([Countdown(2)]).render(0)


def test_environments_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match="at least one"):
        GymnasiumArrayEnv([])
    with pytest.raises(UserError, match="same observation_space"):
        GymnasiumArrayEnv([gymnasium.make("CartPole-v1"), gymnasium.make("Taxi-v3")])
    with pytest.raises(UserError, match="FlattenObservation"):
        GymnasiumArrayEnv([gymnasium.make("Blackjack-v1")])
    with pytest.raises(ValueError, match="3 seeds for 1"):
        GymnasiumArrayEnv([Countdown(2)], seeds=[1, 2, 3])


def test_close_closes_every_environment():
    class Closing(Countdown):
        closed = False

        def close(self):
            self.closed = True

    envs = [Closing(1), Closing(1)]
    GymnasiumArrayEnv(envs).close()
    assert all(env.closed for env in envs)
