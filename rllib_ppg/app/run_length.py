"""App: how long a run is: its budget or a stop key ends it, and what it does until then."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rllib_ppg.algorithm.config import PPGConfig
from rllib_ppg.algorithm.parts import phase_plan
from rllib_ppg.app.result_keys import STEP_KEYS


@dataclass(frozen=True)
class RunLength:
    """What a run does until its environment steps are used up.

    Attributes:
        steps: Environment steps that were set.
        sampled: Policy iterations.
        learned: Those of them that it learns from; not the last one where the budget does not hold
            the whole of it.
        aux_phases: Whole auxiliary phases. The one after the last iteration is not begun.
    """

    steps: float
    sampled: int
    learned: int
    aux_phases: int


def run_length(config: PPGConfig, stop: Mapping[str, float]) -> RunLength | None:
    """Return what a run does, None where neither a stop key nor its budget sets its steps.

    Args:
        config: A checked configuration.
        stop: The stop keys.
    """
    rows, budget, end = rows_of(config), config.budget_env_steps, steps_of(stop)
    if budget is None and end is None:
        return None
    sampled = min(math.ceil(each / rows) for each in (budget, end) if each is not None)
    learned = sampled if budget is None else min(sampled, int(budget // rows))
    steps = min(each for each in (budget, end) if each is not None)
    return RunLength(steps, sampled, learned, phase_plan(config).phases_within(sampled - 1))


def rows_of(config: PPGConfig) -> int:
    """Environment steps of a policy iteration."""
    return int(config.num_envs * config.rollout_fragment_length)


def steps_of(stop: Mapping[str, float]) -> float | None:
    """Environment steps at which a stop key ends a run, if one does."""
    found = [stop[name] for name in STEP_KEYS if name in stop]
    return min(found) if found else None


def seconds_of(config: PPGConfig, stop: Mapping[str, float]) -> float | None:
    """Seconds after which a stop key or its budget ends a run, if one does."""
    found = [stop["time_total_s"]] if "time_total_s" in stop else []
    if config.budget_s is not None:
        found.append(config.budget_s - config.budget_margin_s)
    return min(found) if found else None


def policy_updates(config: PPGConfig) -> int:
    """Optimiser steps of a policy phase."""
    pi, vf = config.n_epoch_pi, config.n_epoch_vf
    kinds = [pi] if pi == vf else [pi, vf]
    minibatches = config.policy_minibatches()
    return sum(math.ceil(epochs * minibatches / config.num_accumulates) for epochs in kinds)


def aux_updates(config: PPGConfig) -> int:
    """Optimiser steps of an auxiliary phase."""
    steps = math.ceil(config.aux_minibatches() / config.aux_num_accumulates)
    return int(config.n_aux_epochs * steps)


def best_weights_notes(
    config: PPGConfig, stop: Mapping[str, float], time_budget_s: float | None = None
) -> Iterator[str]:
    """Say where the best weights would not be what a run ends with.

    They take effect at the end of the algorithm's own budget, and only there.

    Args:
        config: A checked configuration.
        stop: The stop keys.
        time_budget_s: Seconds of the whole experiment.
    """
    if not config.best_weights:
        return
    rows, least, length = rows_of(config), config.best_weights_min_env_steps, run_length(config, {})
    if length is not None and length.sampled * rows <= least:
        yield (
            f"best_weights has no effect: the run ends with {length.sampled * rows:,} environment "
            f"steps, which are no more than best_weights_min_env_steps={least:,}."
        )
        return
    found = list(_earlier_ends(config, stop, length))
    if time_budget_s is not None:
        found.append("time_budget_s")
    if found:
        yield (
            "best_weights takes effect at budget_env_steps or budget_s only: a run that "
            f"{' or '.join(found)} ends before keeps its last weights."
        )


def _earlier_ends(
    config: PPGConfig, stop: Mapping[str, float], length: RunLength | None
) -> Iterator[str]:
    """Stop keys that may end a run before its budget does."""
    for name, value in stop.items():
        if name in STEP_KEYS and length is not None:
            early = math.ceil(value / rows_of(config)) < length.sampled
        elif name == "time_total_s" and config.budget_s is not None:
            early = value < config.budget_s
        else:
            early = True
        if early:
            yield f"stop.{name}={value:,}"
