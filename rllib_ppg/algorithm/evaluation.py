"""Algorithm: evaluations while it trains, which leave the training as it is.

An evaluation has environments, seeds and generators of its own. Its episodes follow from the
weights, the seed and the number of policy iterations alone: not from who plays them, and not from
where a run was resumed.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rllib_ppg.algorithm.checkpoint import randomness_kept
from rllib_ppg.algorithm.config import PPGConfig
from rllib_ppg.algorithm.evaluate_agents import trained_agent
from rllib_ppg.algorithm.evaluate_blocks import make_blocks
from rllib_ppg.algorithm.evaluate_episodes import EpisodeStatistics, join
from rllib_ppg.algorithm.evaluate_levels import Task, check_task_fits
from rllib_ppg.algorithm.evaluate_scores import choose_table, score
from rllib_ppg.algorithm.evaluate_workers import Team, play_blocks
from rllib_ppg.algorithm.metrics import EVALUATION, nested
from rllib_ppg.algorithm.policy import PPGTorchPolicy
from rllib_ppg.envs.levels import UNSEEN

Numbers = dict[str, Any]


class Evaluator:
    """Evaluates policies of one training.

    Args:
        config: The training's configuration.
        policy: Its policy, to be tried against what is played.
        tell: Told of each worker that was lost, in a sentence.

    Raises:
        UserError: If the policy cannot act in what the configuration wants played.
    """

    def __init__(
        self, config: PPGConfig, policy: PPGTorchPolicy, tell: Callable[[str], None]
    ) -> None:
        overrides: dict[str, Any] = dict(config.evaluation_config or {})
        self._episodes = config.evaluation_duration
        self._seed = int(overrides["seed"]) if "seed" in overrides else config.seed or 0
        explore = overrides.get("explore")
        # None: the policy's own.
        self._temperature = None if explore is None else float(explore)
        self._tasks = config.evaluation_tasks()
        if overrides.get("env_config"):
            for task in self._tasks:
                check_task_fits(policy, task)
        self._tables = [choose_table(task, None) for task in self._tasks]
        self._workers: int | Team = 0
        if config.evaluation_num_env_runners:
            self._workers = Team(
                config.evaluation_num_env_runners,
                num_cpus=config.evaluation_cpus_each(),
                silent_s=config.evaluation_sample_timeout_s,
                tell=tell,
            )

    def run(self, policy: PPGTorchPolicy, policy_iterations: int) -> dict[str, Any]:
        """Play new episodes and return their numbers, by the names of `metrics.EVALUATION`.

        Args:
            policy: The policy as it is now.
            policy_iterations: Of the training so far; other episodes are played after each.

        Raises:
            UserError: If an environment cannot be made, or evaluation workers keep dying.
        """
        begin = time.perf_counter()
        words = np.random.SeedSequence([self._seed, policy_iterations]).generate_state(1, np.uint64)
        blocks = [
            make_blocks(
                task.env, task.env_config, task.name,
                episodes=self._episodes, num_envs=None, seed=int(words[0] >> np.uint64(1)),
            )
            for task in self._tasks
        ]  # fmt: skip
        with randomness_kept():
            agent = trained_agent(policy, self._temperature)
            parts = iter(play_blocks(agent, [b for each in blocks for b in each], self._workers))
        played = [join([next(parts) for _ in each]) for each in blocks]
        numbers = summary(self._tasks, played, self._tables)
        return nested({**numbers, "time_s": time.perf_counter() - begin})

    def nothing(self) -> dict[str, Any]:
        """The same names where no evaluation was made; numbers are NaN."""
        return nested(_unknown(self._tasks, self._tables))

    def close(self) -> None:
        """End the workers."""
        if isinstance(self._workers, Team):
            self._workers.close()


def _unknown(tasks: Sequence[Task], tables: Sequence[str | None]) -> Numbers:
    none = EpisodeStatistics(np.full(2, math.nan), np.zeros(2), np.zeros(2))
    numbers = summary(tasks, [none] * len(tasks), tables)
    unknown = {k: v if isinstance(v, str) else math.nan for k, v in numbers.items()}
    return {**unknown, "time_s": math.nan}


def number_names(config: PPGConfig) -> list[str]:
    """The names of `metrics.EVALUATION` whose numbers stand in the results of a training."""
    if not config.evaluation_interval:
        return []
    tasks = config.evaluation_tasks()
    found = _unknown(tasks, [choose_table(task, None) for task in tasks])
    return [name for name, value in found.items() if not isinstance(value, str)]


def summary(
    tasks: Sequence[Task], played: Sequence[EpisodeStatistics], tables: Sequence[str | None]
) -> Numbers:
    """The numbers of an evaluation by the names of `metrics.EVALUATION`, but for its time.

    Args:
        tasks: What was played: one environment, once for each kind of levels.
        played: The episodes of each.
        tables: The score table of each.
    """
    levels = [task.levels for task in tasks]
    main = next((levels.index(name) for name in UNSEEN if name in levels), 0)
    numbers: Numbers = {**_as_rllib(played[main])}
    for task, episodes, table in zip(tasks, played, tables, strict=True):
        numbers |= _of_levels(task, episodes, table)
    if "train" in levels and levels[main] in UNSEEN:
        numbers |= _gap(numbers, str(levels[main]))
    if tables[main] is not None:
        numbers["score_table"] = str(tables[main])
    numbers["num_env_steps_sampled_this_iter"] = sum(episodes.env_steps for episodes in played)
    return {name: numbers[name] for name in EVALUATION if name in numbers}


def _as_rllib(episodes: EpisodeStatistics) -> dict[str, float]:
    numbers = {
        "episode_return_mean": episodes.mean,
        "episode_return_stderr": episodes.stderr,
        "episode_return_min": float(episodes.returns.min()),
        "episode_return_max": float(episodes.returns.max()),
        "episode_len_mean": float(episodes.lengths.mean()),
        "num_episodes": len(episodes.returns),
    }
    return {f"env_runners/{name}": value for name, value in numbers.items()}


def _of_levels(task: Task, episodes: EpisodeStatistics, table: str | None) -> dict[str, float]:
    if task.levels is None:
        return {}
    numbers = {
        "return": episodes.mean,
        "return_stderr": episodes.stderr,
        "length": float(episodes.lengths.mean()),
    }
    normalised = score(task, episodes, table)
    if normalised is not None:
        numbers["score"], numbers["score_stderr"] = normalised
    return {f"{task.levels}_{name}": value for name, value in numbers.items()}


def _gap(numbers: Mapping[str, Any], unseen: str) -> dict[str, float]:
    gaps = {}
    for kind, name in (("return", "gap"), ("score", "gap_score")):
        if f"train_{kind}" in numbers:
            gaps[name] = numbers[f"train_{kind}"] - numbers[f"{unseen}_{kind}"]
            errors = (numbers[f"{levels}_{kind}_stderr"] for levels in ("train", unseen))
            gaps[f"{name}_stderr"] = math.hypot(*errors)
    return gaps
