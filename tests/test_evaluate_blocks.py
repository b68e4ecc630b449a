"""Blocks: fixed quotas, own seeds, and the levels on which episodes began."""

import numpy as np
import pytest
from bare_play import bare_returns, random_returns, standard_errors_apart
from evaluation import Clock
from procgen_play import SHORT

from rllib_ppg import UserError
from rllib_ppg.algorithm.evaluate_agents import RandomAgent
from rllib_ppg.algorithm.evaluate_blocks import BLOCK_ENVS, Block, BlockPlayer, make_blocks, shares
from rllib_ppg.algorithm.evaluate_episodes import EpisodeStatistics, join
from rllib_ppg.envs.procgen import ProcgenVectorEnv, derive_rand_seed


def clock_blocks(**options: int) -> list[Block]:
    return make_blocks(Clock, {}, "clock", **{"num_envs": None, "seed": 0, **options})


def played(block: Block) -> EpisodeStatistics:
    player = BlockPlayer(block, RandomAgent())
    player.play()
    assert player.done
    player.close()
    return player.episodes()


def test_episodes_are_shared_out_evenly():
    assert shares(10, 4).tolist() == [3, 3, 2, 2] and shares(3, 3).tolist() == [1, 1, 1]


def test_every_environment_plays_its_quota_and_short_episodes_are_not_favoured():
    block = Block(Clock, {}, (3, 3, 3, 2), 0, env_seed=1, action_seed=2)
    episodes = played(block)
    assert np.bincount(episodes.envs).tolist() == [3, 3, 3, 2]
    # Three episodes in a row have every length once; the first to finish would be the short ones.
    assert [sorted(episodes.lengths[i : i + 3]) for i in (0, 3, 6)] == [[1, 2, 3]] * 3
    assert episodes.returns.tolist() == episodes.lengths.tolist()
    assert episodes.level_seeds is None


def test_all_steps_are_counted_those_left_out_too():
    block = Block(Clock, {}, (3, 1), 0, env_seed=1, action_seed=2)
    assert played(block).env_steps == 2 * 6


def test_blocks_have_a_fixed_size_and_number_their_environments_through():
    blocks = clock_blocks(episodes=100, num_envs=40)
    assert [len(block.quotas) for block in blocks] == [BLOCK_ENVS, BLOCK_ENVS, 40 - 2 * BLOCK_ENVS]
    assert [block.first_env for block in blocks] == [0, BLOCK_ENVS, 2 * BLOCK_ENVS]
    assert sum(sum(block.quotas) for block in blocks) == 100
    assert np.unique(join([played(block) for block in blocks]).envs).tolist() == list(range(40))


def test_seeds_differ_by_block_by_game_and_by_the_users_seed():
    def seeds(name: str, seed: int) -> list[int]:
        blocks = make_blocks("procgen", {}, name, episodes=64, num_envs=64, seed=seed)
        return [word for block in blocks for word in (block.env_seed, block.action_seed)]

    every = seeds("maze", 0) + seeds("maze", 1) + seeds("heist", 0)
    assert len(set(every)) == len(every) == 24
    assert seeds("maze", 1) == seeds("maze", 1)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"episodes": 0}, "at least 1"),
        ({"episodes": 3, "num_envs": 4}, "1 to 3"),
        ({"episodes": 3, "num_envs": 0}, "1 to 3"),
        ({"episodes": 3, "seed": -1}, "at least 0"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(options: dict, why: str):
    with pytest.raises(UserError, match=why):
        clock_blocks(**options)


def test_a_level_is_the_one_that_the_episode_began_on():
    block = Block("procgen", SHORT, (2, 2, 2), 0, env_seed=4, action_seed=2)
    episodes = played(block)
    # The same games, whose levels are read at every first frame.
    env = ProcgenVectorEnv(SHORT, 3, rand_seed=derive_rand_seed(4))
    env.reset()
    levels = [[info["level_seed"]] for info in env.infos()]
    act = RandomAgent().begin(env.action_space, 2)
    while min(map(len, levels)) < 2:
        done = env.step(act(env.observe(), np.zeros(3, np.int64))).terminateds
        for index in np.flatnonzero(done):
            levels[index].append(env.infos()[index]["level_seed"])
    env.close()
    expected = [level for row in levels for level in row[:2]]
    assert episodes.level_seeds.tolist() == expected and len(set(expected)) == 6


def test_a_block_played_in_slices_is_the_same():
    block = Block("procgen", SHORT, (1, 2), 0, env_seed=4, action_seed=2)
    whole = played(block)
    player = BlockPlayer(block, RandomAgent())
    slices = 0
    while not player.done:
        player.play(0.0)
        slices += 1
    player.close()
    sliced = player.episodes()
    assert slices == sliced.env_steps / 2 > 10
    assert sliced.returns.tolist() == whole.returns.tolist()
    assert sliced.level_seeds.tolist() == whole.level_seeds.tolist()


def test_gymnasium_environments_are_seeded_by_reset():
    first, other = (Block(Clock, {}, (1,) * 16, 0, env_seed=s, action_seed=2) for s in (1, 5))
    assert played(first).lengths.tolist() == played(first).lengths.tolist()
    assert played(first).lengths.tolist() != played(other).lengths.tolist()


class Broken(Clock):
    """A `Clock` that gives a reward or an observation that is not finite, from some episode on."""

    def __init__(self, config: dict) -> None:
        self.reward, self.entry = config.get("reward", 1.0), config.get("entry", 0.0)
        self.episode, self.first = 0, config.get("first", 1)

    def reset(self, **options):
        self.episode += 1
        return super().reset(**options)

    def step(self, action: int):
        obs, reward, *ends = super().step(action)
        if self.episode < self.first:
            return obs, reward, *ends
        return np.array([0, self.entry], np.float32), self.reward, *ends


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"reward": float("nan")}, "a reward of nan around step 1"),
        ({"reward": float("-inf")}, "a reward of -inf around step 1"),
        ({"entry": float("inf")}, "an observation with inf around step 2"),
    ],
)
def test_numbers_that_are_not_finite_are_refused_with_the_environment(options: dict, what: str):
    block = Block(Broken, options, (3, 3), 32, env_seed=1, action_seed=2)
    with pytest.raises(UserError, match=rf"Environment 32 of .*Broken gave {what} of an episode"):
        played(block)


def test_what_comes_after_an_environment_s_last_episode_does_not_count():
    options = {"reward": float("nan"), "first": 2}
    episodes = played(Block(Broken, options, (1, 1), 0, env_seed=1, action_seed=2))
    assert episodes.returns.tolist() == episodes.lengths.tolist() == [2, 3]
    with pytest.raises(UserError, match="a reward of nan"):
        played(Block(Broken, options, (2, 1), 0, env_seed=1, action_seed=2))


def test_two_constants_that_differ_are_infinitely_many_standard_errors_apart():
    one, other = np.ones(3), np.zeros(3)
    assert standard_errors_apart(one, one) == 0
    assert standard_errors_apart(one, other) == -standard_errors_apart(other, one) == np.inf
    assert standard_errors_apart(np.array([0.0, 2.0]), other) == pytest.approx(1)


def test_a_random_policy_scores_what_it_scores_in_the_bare_library():
    ours, bare = random_returns("starpilot", 160), bare_returns("starpilot", 160, rand_seed=12345)
    assert abs(standard_errors_apart(ours, bare)) < 3
