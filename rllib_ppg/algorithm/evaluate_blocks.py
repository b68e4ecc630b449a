"""Algorithm: evaluations cut into blocks of a fixed size, each of which plays the same anywhere.

A block has its own environments, seeds and action generator, and is played by one thread. So its
episodes do not depend on who plays it, nor on how many blocks are played at the same time.
"""

import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rllib_ppg.algorithm.actions import first_actions
from rllib_ppg.algorithm.evaluate_agents import Agent
from rllib_ppg.algorithm.evaluate_episodes import EpisodeStatistics
from rllib_ppg.algorithm.hardware import LearnerThreads
from rllib_ppg.algorithm.named_environments import make_array_env
from rllib_ppg.algorithm.policy_export import env_name
from rllib_ppg.envs.arrays import ArrayEnv
from rllib_ppg.envs.procgen import ProcgenVectorEnv
from rllib_ppg.errors import UserError

BLOCK_ENVS = 16
"""Environments of a block: enough for one network pass to be efficient on one core."""

MAX_DEFAULT_ENVS = 64


@dataclass(frozen=True)
class Block:
    """Environments that are played together.

    Attributes:
        env: The environment, as `named_environments.find_creator` takes it.
        env_config: Its configuration.
        quotas: Episodes of each environment.
        first_env: Number of its first environment in the evaluation.
        env_seed: Seed of the levels, or of the environments' first reset.
        action_seed: Seed of the actions.
    """

    env: Any
    env_config: Mapping[str, Any]
    quotas: Sequence[int]
    first_env: int
    env_seed: int
    action_seed: int


def make_blocks(
    env: Any,
    env_config: Mapping[str, Any],
    name: str,
    *,
    episodes: int,
    num_envs: int | None,
    seed: int,
) -> list[Block]:
    """Cut an evaluation into blocks.

    Args:
        env: The environment.
        env_config: Its configuration.
        name: The game, or the environment's name; part of the seeds.
        episodes: Episodes in all, shared out over the environments.
        num_envs: Environments; None for one an episode, but at most `MAX_DEFAULT_ENVS`.
        seed: The user's seed.

    Raises:
        UserError: If a number makes no sense.
    """
    quotas = shares(episodes, env_count(episodes, num_envs)).tolist()
    if seed < 0:
        raise UserError(f"seed={seed}: must be at least 0.")
    blocks = []
    for index, first in enumerate(range(0, len(quotas), BLOCK_ENVS)):
        words = np.random.SeedSequence([seed, zlib.crc32(name.encode()), index])
        env_seed, action_seed = (int(word) >> 1 for word in words.generate_state(2))
        part = quotas[first : first + BLOCK_ENVS]
        blocks.append(Block(env, env_config, part, first, env_seed, action_seed))
    return blocks


def env_count(episodes: int, num_envs: int | None) -> int:
    """Number of environments for some episodes.

    Raises:
        UserError: If there would be no episode, or an environment without one.
    """
    if episodes < 1:
        raise UserError(f"episodes={episodes}: must be at least 1.")
    count = num_envs if num_envs is not None else min(episodes, MAX_DEFAULT_ENVS)
    if not 1 <= count <= episodes:
        raise UserError(f"num_envs={num_envs}: must be 1 to {episodes}, the number of episodes.")
    return count


def shares(episodes: int, num_envs: int) -> np.ndarray:
    """Episodes of each environment, int64 (N,): as equal as can be, the first ones one more."""
    quotas = np.full(num_envs, episodes // num_envs, np.int64)
    quotas[: episodes % num_envs] += 1
    return quotas


class BlockPlayer:
    """Plays a block, some time at a time, until every environment has finished its episodes.

    Args:
        block: The block.
        agent: Who plays.

    Attributes:
        env_steps: Environment steps so far.

    Raises:
        UserError: If the environments cannot be made, or give a number that is not finite.
    """

    def __init__(self, block: Block, agent: Agent) -> None:
        count = len(block.quotas)
        self.block = block
        self.env = make_array_env(block.env, block.env_config, count, block.env_seed)
        if self.env.num_envs != count:
            made = self.env.num_envs
            self.env.close()
            raise UserError(f"{count} environments were asked for, and its creator made {made}.")
        self._act = agent.begin(self.env.action_space, block.action_seed)
        self._left = np.array(block.quotas, np.int64)
        self._totals, self._steps = np.zeros(count), np.zeros(count, np.int64)
        self._obs = self.env.reset()
        self._levels = _level_seeds(self.env)
        self._actions: np.ndarray | None = None
        self._before = first_actions(self.env.action_space, count)
        self._finished: list[list[tuple[float, int, int]]] = [[] for _ in range(count)]
        self.env_steps = 0

    @property
    def done(self) -> bool:
        """Whether every environment has finished its episodes."""
        return not self._left.any()

    @property
    def num_finished(self) -> int:
        """Episodes that are finished."""
        return sum(self.block.quotas) - int(self._left.sum())

    def play(self, seconds: float = float("inf")) -> None:
        """Play until all is done, or for about some seconds."""
        end = time.monotonic() + seconds
        # The same sums whoever plays: more threads may add in another order.
        with LearnerThreads(1):
            while not self.done:
                self._step()
                if time.monotonic() >= end:
                    break

    def episodes(self) -> EpisodeStatistics:
        """Return the episodes that are finished."""
        envs = [index for index, rows in enumerate(self._finished) for _ in rows]
        rows = [row for rows in self._finished for row in rows]
        returns, lengths, levels = zip(*rows, strict=True) if rows else ((), (), ())
        return EpisodeStatistics(
            np.array(returns, np.float64),
            np.array(lengths, np.int64),
            np.array(envs, np.int64) + self.block.first_env,
            None if self._levels is None else np.array(levels, np.int64),
            self.env_steps,
        )

    def close(self) -> None:
        """Close the environments."""
        self.env.close()

    def _step(self) -> None:
        actions = self._choose()
        transition = self.env.step(actions)
        self._obs = transition.obs
        self._check_finite("a reward of", transition.rewards)
        self._totals += transition.rewards
        self._steps += 1
        self.env_steps += len(self._left)
        done = transition.terminateds | transition.truncateds
        self._before = np.array(actions)
        if not done.any():
            return
        self._before[done] = first_actions(self.env.action_space, int(done.sum()))
        for index in np.flatnonzero(done & (self._left > 0)):
            level = -1 if self._levels is None else int(self._levels[index])
            row = (float(self._totals[index]), int(self._steps[index]), level)
            self._finished[index].append(row)
        self._left[done & (self._left > 0)] -= 1
        self._totals[done], self._steps[done] = 0.0, 0
        # A game whose episode has ended stands on its next level already; another one may have gone
        # on to a further level within its episode, which counts for the one that it began on.
        now = _level_seeds(self.env)
        if self._levels is not None and now is not None:
            self._levels[done] = now[done]

    def _check_finite(self, what: str, values: np.ndarray) -> None:
        """Refuse a row of values (N, ...) that is not finite, of the environments that play."""
        if values.dtype.kind != "f" or np.isfinite(values).all():
            return
        for index in np.flatnonzero(self._left > 0):
            broken = values[index][~np.isfinite(values[index])]
            if broken.size:
                raise UserError(
                    f"Environment {self.block.first_env + index} of {env_name(self.block.env)} "
                    f"gave {what} {broken[0]} around step {self._steps[index] + 1} of an episode; "
                    "rewards and observations have to be finite, or the numbers of an evaluation "
                    "mean nothing. Correct the environment."
                )

    def _choose(self) -> np.ndarray:
        """Actions for all; an environment that has finished repeats its last one, at no cost."""
        self._check_finite("an observation with", self._obs)
        playing = self._left > 0
        if self._actions is None or playing.all():
            self._actions = np.array(self._act(self._obs, self._before))
        else:
            self._actions[playing] = self._act(self._obs[playing], self._before[playing])
        return self._actions


def _level_seeds(env: ArrayEnv) -> np.ndarray | None:
    """The levels that Procgen's games are on, int64 (N,); None for other environments."""
    if not isinstance(getattr(env, "unwrapped", env), ProcgenVectorEnv):
        return None
    return np.array([info["level_seed"] for info in env.infos()], np.int64)
