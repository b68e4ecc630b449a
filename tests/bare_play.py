"""Random play in the bare procgen library, as a yardstick for evaluations."""

import math

import numpy as np

from rllib_ppg.algorithm.evaluate_agents import RandomAgent
from rllib_ppg.algorithm.evaluate_blocks import make_blocks
from rllib_ppg.algorithm.evaluate_episodes import join
from rllib_ppg.algorithm.evaluate_workers import play_blocks
from rllib_ppg.envs.procgen_library import import_procgen

NUM_ENVS = 32


def random_returns(game: str, episodes: int) -> np.ndarray:
    """Return the returns (E,) of a random policy in an evaluation on easy."""
    options = {"env_name": game, "distribution_mode": "easy"}
    blocks = make_blocks("procgen", options, game, episodes=episodes, num_envs=NUM_ENVS, seed=0)
    return join(play_blocks(RandomAgent(), blocks, 0)).returns


def bare_returns(game: str, episodes: int, rand_seed: int) -> np.ndarray:
    """Return the same from the library alone, on levels of its own choice."""
    games = import_procgen().ProcgenGym3Env(
        num=NUM_ENVS, env_name=game, distribution_mode="easy", rand_seed=rand_seed
    )
    generator = np.random.default_rng(rand_seed)
    left = np.full(NUM_ENVS, episodes // NUM_ENVS)
    totals, returns = np.zeros(NUM_ENVS), []
    while left.any():
        games.act(generator.integers(15, size=NUM_ENVS))
        rewards, _, firsts = games.observe()
        totals += rewards
        returns += totals[firsts & (left > 0)].tolist()
        left[firsts & (left > 0)] -= 1
        totals[firsts] = 0
    games.close()
    return np.array(returns)


def standard_errors_apart(one: np.ndarray, other: np.ndarray) -> float:
    """Return the difference of two means in units of its standard error.

    Between two constants it is 0 if they are the same, else infinite.
    """
    variance = one.var(ddof=1) / len(one) + other.var(ddof=1) / len(other)
    difference = float(one.mean() - other.mean())
    if not variance:
        return math.copysign(math.inf, difference) if difference else 0.0
    return difference / math.sqrt(variance)
