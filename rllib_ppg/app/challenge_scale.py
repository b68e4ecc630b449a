"""App: a challenge made small for a rehearsal: what shrinks with the budget.

A phase of the published size is half a million environment steps. So that a rehearsal goes through
everything, at least two auxiliary phases have to fit into its budget.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from rllib_ppg.algorithm.config import PPGConfig
from rllib_ppg.algorithm.settings import DEFAULTS
from rllib_ppg.app.challenge_minibatches import aux_minibatches, divisor, policy_minibatches
from rllib_ppg.core.phase_plan import PhasePlan
from rllib_ppg.errors import UserError

MIN_ENVS, MIN_N_PI, MIN_SKIPS, MIN_FRAGMENT = 4, 2, 1, 16
PHASES = 2
SCHEDULES = tuple(name for name in DEFAULTS if name.endswith("_schedule"))
SIZES = (
    "num_envs", "rollout_fragment_length", "n_pi", "aux_skips", "nminibatch", "mbsize_rows",
    "num_accumulates", "aux_mbsize", "aux_mbsize_rows", "aux_num_accumulates",
)  # fmt: skip
"""Keys that may shrink, as they are shown."""


@dataclass(frozen=True)
class Sizes:
    """What decides on how many environment steps a phase takes.

    Attributes:
        num_envs: Environments, N.
        fragment: Steps of each in an iteration, T.
        n_pi: Iterations that an auxiliary phase learns from; 0 where there are none.
        skips: Iterations before these, in each phase.
        most: Most auxiliary phases; None sets no limit.
    """

    num_envs: int
    fragment: int
    n_pi: int
    skips: int = 0
    most: int | None = None

    @property
    def rows(self) -> int:
        """Environment steps of an iteration."""
        return self.num_envs * self.fragment

    @property
    def period(self) -> int:
        """Iterations of a phase."""
        return self.n_pi + self.skips

    def aux_phases(self, steps: int) -> int:
        """Auxiliary phases within a budget; the one after the last iteration is not begun."""
        if not self.n_pi:
            return 0
        plan = PhasePlan(self.n_pi, self.skips, self.most)
        return plan.phases_within(max(0, steps // self.rows - 1))

    def fits(self, steps: int) -> bool:
        """Whether a budget has room for `PHASES` auxiliary phases, or without them iterations."""
        return steps // self.rows >= PHASES * self.period + 1


def sizes_of(config: PPGConfig) -> Sizes:
    """The sizes of a checked configuration."""
    found = Sizes(config.num_envs, config.rollout_fragment_length, 0)
    if not config.has_aux_phases:
        return found
    return replace(found, n_pi=config.n_pi, skips=config.aux_skips, most=config.max_aux_phases)


def scaled_sizes(sizes: Sizes, steps: int, scale: float) -> Sizes:
    """Shrink environments and iterations of a phase together with a budget.

    Each shrinks with the root of the scale, so that as many phases as before fit; then, where two
    do not fit because neither can be less than a few, the rollouts become shorter, and at last
    both as small as can be.

    Args:
        sizes: Those of the experiment.
        steps: The scaled budget.
        scale: The scale, in (0, 1].

    Raises:
        UserError: If even the smallest run has no two phases.
    """
    root = math.sqrt(scale)
    found = replace(
        sizes,
        num_envs=_at_least(MIN_ENVS, sizes.num_envs, root),
        n_pi=_at_least(MIN_N_PI, sizes.n_pi, root),
        skips=_at_least(MIN_SKIPS, sizes.skips, root),
    )
    while not found.fits(steps):
        if found.fragment > MIN_FRAGMENT:
            found = replace(found, fragment=max(MIN_FRAGMENT, found.fragment // 2))
        elif found.num_envs > MIN_ENVS:
            found = replace(found, num_envs=max(MIN_ENVS, found.num_envs // 2))
        elif found.n_pi > MIN_N_PI:
            found = replace(found, n_pi=max(MIN_N_PI, found.n_pi // 2))
        else:
            need = (PHASES * found.period + 1) * found.rows
            raise UserError(
                f"budget_scale={scale:g} leaves {steps:,} environment steps of a trial; the "
                f"smallest run with {PHASES} auxiliary phases needs {need:,}. Give a larger scale."
            )
    return found


def _at_least(least: int, value: int, factor: float) -> int:
    return max(min(value, least), round(value * factor))


def scaled_config(
    config: Mapping[str, Any],
    checked: PPGConfig,
    steps: int,
    scale: float,
    sizes: Sizes | None = None,
) -> dict[str, Any]:
    """Return an experiment's configuration for a scaled budget.

    Args:
        config: As it was given.
        checked: The same, checked.
        steps: The scaled budget.
        scale: The scale, in (0, 1].
        sizes: What to shrink it to; None: what `scaled_sizes` finds.

    Raises:
        UserError: If it leaves nothing, or the configuration fixes what has to shrink.
    """
    if config.get("num_envs_per_env_runner") is not None:
        raise UserError(
            "num_envs_per_env_runner contradicts budget_scale, which shrinks num_envs; give "
            "num_envs instead."
        )
    found = sizes or scaled_sizes(sizes_of(checked), steps, scale)
    changes: dict[str, Any] = {
        "num_envs": found.num_envs,
        "rollout_fragment_length": found.fragment,
        **policy_minibatches(checked, found.num_envs, found.rows),
    }
    if found.n_pi and checked.has_aux_phases:
        changes |= {"n_pi": found.n_pi, "aux_skips": found.skips}
        changes |= aux_minibatches(checked, found.n_pi, found.num_envs, found.fragment)
    if isinstance(config.get("num_env_runners"), int) and config["num_env_runners"]:
        changes["num_env_runners"] = divisor(found.num_envs, config["num_env_runners"])
    if config.get("micro_batch_size") not in (None, "auto"):
        changes["micro_batch_size"] = "auto"
    changes |= _in_steps(checked, scale)
    changes |= _in_groups(checked, found.num_envs)
    kept = {name: value for name, value in config.items() if name != "train_batch_size"}
    return {**kept, **changes}


def _in_steps(checked: PPGConfig, scale: float) -> dict[str, Any]:
    """What is counted in environment steps: schedules, and when best weights begin to count."""
    given = {name: getattr(checked, name) for name in SCHEDULES}
    found: dict[str, Any] = {
        name: _scaled_schedule(schedule, scale) for name, schedule in given.items() if schedule
    }
    if checked.best_weights:
        found["best_weights_min_env_steps"] = int(checked.best_weights_min_env_steps * scale)
    return found


def _in_groups(checked: PPGConfig, num_envs: int) -> dict[str, Any]:
    """Groups of environments with statistics of their own."""
    transform = checked.reward_transform
    if not isinstance(transform, Mapping) or not isinstance(transform.get("groups"), int):
        return {}
    groups = divisor(num_envs, transform["groups"])
    return {"reward_transform": {**transform, "groups": groups}}


def _scaled_schedule(schedule: Any, scale: float) -> list[list[float]]:
    found: list[list[float]] = []
    for steps, value in schedule:
        least = found[-1][0] + 1 if found else 0
        found.append([max(least, int(steps * scale)), value])
    return found
