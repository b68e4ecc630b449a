"""App: the keys of PPG's results, for `stop` and for scoring checkpoints."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from rllib_ppg.algorithm.metrics import EVALUATION, METRICS
from rllib_ppg.algorithm.setting_types import parse_number
from rllib_ppg.spelling import nearest

TOP_KEYS = (
    "training_iteration",
    "timesteps_total",
    "num_env_steps_sampled_lifetime",
    "num_env_steps_sampled",
    "num_env_steps_sampled_this_iter",
    "num_env_steps_sampled_throughput_per_sec",
    "num_env_steps_trained",
    "num_env_steps_trained_this_iter",
    "num_env_steps_trained_throughput_per_sec",
    "num_agent_steps_sampled",
    "num_agent_steps_sampled_lifetime",
    "num_agent_steps_trained",
    "agent_timesteps_total",
    "num_healthy_workers",
    "num_remote_worker_restarts",
    "num_env_runners_dropped_lifetime",
    "time_total_s",
    "time_this_iter_s",
    "time_since_restore",
    "iterations_since_restore",
    "timestamp",
)

STEP_KEYS = ("timesteps_total", "num_env_steps_sampled_lifetime", "num_env_steps_sampled")
"""Those of environment steps so far; which one stands in `stop` makes no difference."""

SECONDS_KEY = "time_total_s"

EPISODE_KEYS = tuple(
    f"env_runners/{name}"
    for name in (
        "episode_return_mean",
        "episode_return_min",
        "episode_return_max",
        "episode_reward_mean",
        "episode_reward_min",
        "episode_reward_max",
        "episode_len_mean",
        "num_episodes",
        "episodes_this_iter",
        "episodes_timesteps_total",
    )
)

LEARNER_STATS = "info/learner/default_policy/learner_stats"

STATISTIC_KEYS = tuple(f"{LEARNER_STATS}/{name}" for name in METRICS)

EVALUATION_PREFIX = "evaluation/"

EVALUATION_KEYS = tuple(
    f"{EVALUATION_PREFIX}{name}" for name in EVALUATION if name != "score_table"
)

KEYS = (*TOP_KEYS, *EPISODE_KEYS, *STATISTIC_KEYS, *EVALUATION_KEYS)

COUNTS = tuple(name for name in TOP_KEYS if not name.startswith("num_healthy"))
"""Keys that count up from 0, or are seconds."""

OPEN_PREFIXES = ("env_runners/custom_metrics/", "custom_metrics/", "perf/", "timers/", "counters/")
"""Below these, callbacks and Ray put names that are not known beforehand."""

OUTDATED = {
    "episode_reward_mean": "env_runners/episode_return_mean",
    "episode_reward_max": "env_runners/episode_return_max",
    "episode_reward_min": "env_runners/episode_return_min",
    "episode_return_mean": "env_runners/episode_return_mean",
    "episode_return_max": "env_runners/episode_return_max",
    "episode_return_min": "env_runners/episode_return_min",
    "episode_len_mean": "env_runners/episode_len_mean",
    "sampler_results/episode_reward_mean": "env_runners/episode_return_mean",
    "episodes_total": "env_runners/num_episodes (of an iteration)",
    "timesteps": "timesteps_total",
    "env_steps": "timesteps_total",
    "iterations": "training_iteration",
    "time": "time_total_s",
    "time_s": "time_total_s",
}


def key_problem(name: str) -> str | None:
    """What is wrong with a result key, or None; ends without a full stop."""
    if name in KEYS or name.startswith(OPEN_PREFIXES):
        return None
    if name in OUTDATED:
        return f'unknown result key "{name}": use {OUTDATED[name]}'
    short = {key.rsplit("/", 1)[-1]: key for key in STATISTIC_KEYS}
    short |= {key.removeprefix(f"{LEARNER_STATS}/"): key for key in STATISTIC_KEYS}
    short |= {key.removeprefix(EVALUATION_PREFIX): key for key in EVALUATION_KEYS}
    short |= {key.removeprefix("env_runners/"): key for key in EPISODE_KEYS}
    known = {**short, **{key: key for key in KEYS}}
    found = nearest(name, known)
    hint = f'. Did you mean "{known[found]}"?' if found else "; see the results' progress.csv"
    return f'unknown result key "{name}"{hint}'


def evaluation_problem(name: str, made: Collection[str]) -> str | None:
    """What is wrong with a key of evaluations in a run that makes only some, or none, or None.

    Args:
        name: A result key.
        made: Names without `evaluation/` that the run's results hold.
    """
    own = name.removeprefix(EVALUATION_PREFIX)
    if own == name or own in made:
        return None
    if not made:
        return f'"{name}" needs evaluations during training; set evaluation_interval'
    return f'"{name}" is not made by this run\'s evaluations, which make: {", ".join(made)}'


def flat_stop(stop: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The keys of `stop` as Tune wants them: `{a: {b: 1}}` as `a/b`."""
    for name, value in stop.items():
        if isinstance(value, Mapping):
            yield from flat_stop(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", value


def stop_value(name: str, value: Any) -> float | int:
    """The number at which to stop.

    Raises:
        ValueError: If it is none, or a count or time that is over before it begins.
    """
    number = parse_number(value)
    if not isinstance(number, int | float) or number != number:
        raise ValueError("must be a number")
    if number <= 0 and name in COUNTS:
        raise ValueError("must be more than 0")
    return int(number) if isinstance(number, float) and number.is_integer() else number
