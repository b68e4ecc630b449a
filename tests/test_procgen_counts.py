"""Counted frames, penalties and the stale stack in the games themselves."""

from typing import Any

import numpy as np
import pytest

from rllib_ppg.envs.arrays import Transition, frame_stack_of
from rllib_ppg.envs.procgen import ProcgenEnv, ProcgenVectorEnv, parse_options
from rllib_ppg.errors import UserError

GAMES, STEPS = 3, 120
GAME = {"env_name": "bigfish", "distribution_mode": "easy"}  # short episodes for who stands still
COUNTED = {**GAME, "count_states": True, "noop_reward": -0.1, "noop_min_timestep": 3,
           "revisit_reward": -0.01}  # fmt: skip


def make(options: dict[str, Any]) -> ProcgenVectorEnv:
    env = ProcgenVectorEnv(options, GAMES, rand_seed=4)
    env.reset()
    return env


def play(env: ProcgenVectorEnv, steps: int = STEPS, seed: int = 0) -> list[Transition]:
    rng = np.random.default_rng(seed)
    return [env.step(rng.integers(0, 15, GAMES)) for _ in range(steps)]


@pytest.mark.parametrize("game", ["bigfish", "maze"])
def test_counts_and_penalties_follow_from_the_frames_and_rewards_stay_raw(game):
    env, plain = make({**COUNTED, "env_name": game}), make({**GAME, "env_name": game})
    firsts = [frame.tobytes() for frame in env.observe()]
    seen, before, t = [{f: 1} for f in firsts], list(firsts), [0] * GAMES
    ended, penalised = 0, 0
    for transition, other in zip(play(env), play(plain), strict=True):
        np.testing.assert_array_equal(transition.rewards, other.rewards)
        np.testing.assert_array_equal(transition.obs, other.obs)
        assert other.shaping is None and other.columns is None
        for n in range(GAMES):
            done, now = bool(transition.terminateds[n]), transition.obs[n].tobytes()
            after = before[n] if done else now
            seen[n][after] = seen[n].get(after, 0) + 1
            penalty = -0.01 * (seen[n][after] - 1) - 0.1 * (after == before[n] and t[n] > 3)
            expected = 0.0 if done else penalty
            assert transition.shaping[n] == pytest.approx(expected, abs=1e-6)
            penalised += expected < -0.1
            assert transition.columns["num_unique_states"][n] == len(seen[n])
            assert transition.columns["episode_step"][n] == t[n]
            before[n], t[n] = now, t[n] + 1
            if done:
                seen[n], t[n], ended = {now: 1}, 0, ended + 1
    # Fish move all the time and end an episode soon; in a maze nothing moves but who plays.
    assert ended if game == "bigfish" else penalised


def test_counts_go_on_from_a_saved_state():
    options = {**COUNTED, "env_name": "maze"}
    env = make(options)
    play(env, 30)
    state = env.get_state()
    expected = play(env, 40, seed=1)
    other = make(options)
    assert any(transition.shaping.any() for transition in expected)
    other.set_state(state)
    for one, two in zip(expected, play(other, 40, seed=1), strict=True):
        np.testing.assert_array_equal(one.shaping, two.shaping)
        for name in one.columns:
            np.testing.assert_array_equal(one.columns[name], two.columns[name])


def test_rllibs_own_sampler_gets_the_sum():
    maze = {**GAME, "env_name": "maze"}
    env, plain = make({**maze, "revisit_reward": -0.5}), make(maze)
    still = [4] * GAMES
    sums, raw = np.zeros(GAMES), np.zeros(GAMES)
    for _ in range(20):
        sums += env.vector_step(still)[1]
        raw += plain.vector_step(still)[1]
    assert not np.array_equal(sums, raw) and (sums <= raw).all()


def test_the_stale_stack_holds_the_last_frame_of_the_episode_before():
    options = {**GAME, "frame_stack": 2}
    stale, sound = make({**options, "stale_frame_stack": True}), make(options)
    assert frame_stack_of(stale) == 1 and frame_stack_of(sound) == 2
    rows = zip(play(stale), play(sound), strict=True)
    last = [np.zeros((64, 64, 3), np.uint8)] * GAMES
    newest, begun, faults = list(sound_frames(stale)), [True] * GAMES, 0
    for one, two in rows:
        for n in range(GAMES):
            if begun[n] and not one.terminateds[n]:
                np.testing.assert_array_equal(one.obs[n, ..., 3:], two.obs[n, ..., 3:])
                if faults >= GAMES:  # beyond the first episodes, whose frame before is black
                    np.testing.assert_array_equal(one.obs[n, ..., :3], last[n])
                else:
                    assert not one.obs[n, ..., :3].any()
                faults += 1
            else:
                np.testing.assert_array_equal(one.obs[n], two.obs[n])
            if one.terminateds[n]:
                last[n] = newest[n]
            begun[n], newest[n] = bool(one.terminateds[n]), one.obs[n, ..., 3:].copy()
    assert faults > GAMES


def sound_frames(env: ProcgenVectorEnv) -> np.ndarray:
    """The newest frames that an environment shows."""
    return env.observe()[..., 3:].copy()


def test_a_stale_stack_goes_on_from_a_saved_state():
    options = {**GAME, "frame_stack": 2, "stale_frame_stack": True}
    env, other = make(options), make(options)
    play(env, 60)
    other.set_state(env.get_state())
    np.testing.assert_array_equal(other.observe(), env.observe())
    for one, two in zip(play(env, 40, seed=1), play(other, 40, seed=1), strict=True):
        np.testing.assert_array_equal(one.obs, two.obs)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"noop_reward": "much"}, "noop_reward='much': give a number"),
        ({"revisit_reward": True}, "revisit_reward=True: give a number"),
        ({"noop_reward": "inf"}, "give a finite number"),
        ({"noop_min_timestep": -1}, "noop_min_timestep=-1: give a whole number"),
        ({"count_states": "yes"}, "count_states='yes': give true or false"),
        ({"noop_min_timestep": 3}, "noop_min_timestep=3 has no effect without noop_reward"),
        ({"stale_frame_stack": True}, "stale_frame_stack=True has no effect with frame_stack=1"),
    ],
)
def test_wrong_options_are_refused_in_a_sentence(options, words):
    with pytest.raises(UserError, match=words):
        parse_options(options)


def test_a_penalty_that_is_switched_off_may_keep_its_options():
    options = parse_options({"noop_reward": 0, "noop_min_timestep": 3})
    assert options.penalties is None


def test_the_challenges_constants_are_the_starter_kits_unless_given():
    easy = {"env_name": "fruitbot", "distribution_mode": "easy"}
    assert parse_options(easy).return_constants() == (-12, -1.5, 32.4)
    given = {"env_name": "coinrun", "return_min": 1, "return_blind": 2, "return_max": "7.5"}
    assert parse_options(given).return_constants() == (1, 2, 7.5)
    assert parse_options({**easy, "return_blind": 3}).return_constants() == (-12, 3, 32.4)


@pytest.mark.parametrize("mode", ["hard", "memory"])
def test_the_challenges_constants_hold_for_its_mode_only(mode: str):
    options = parse_options({"env_name": "heist", "distribution_mode": mode, "return_max": 9})
    assert options.return_constants() == (None, None, 9)


def test_the_environment_shows_the_constants_as_the_starter_kits_does():
    options = {"env_name": "fruitbot", "distribution_mode": "easy", "return_blind": -2}
    many, alone = make(options), ProcgenEnv(options)
    for env in (many, alone):
        assert (env.return_min, env.return_blind, env.return_max) == (-12, -2, 32.4)
        env.close()
