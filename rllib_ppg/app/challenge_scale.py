"""App: a challenge made small for a rehearsal: what shrinks with the budget.

A phase of the published size is half a million environment steps. So that a rehearsal goes through
everything, at least two auxiliary phases have to fit into its budget.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from rllib_ppg.algorithm.config import PPGConfig
from rllib_ppg.errors import UserError

MIN_ENVS, MIN_N_PI, MIN_FRAGMENT = 4, 2, 16
PHASES = 2
SCHEDULES = ("lr_schedule", "aux_lr_schedule", "entropy_coeff_schedule")


@dataclass(frozen=True)
class Sizes:
    """What decides on how many environment steps a phase takes.

    Attributes:
        num_envs: Environments, N.
        fragment: Steps of each in an iteration, T.
        n_pi: Iterations of a phase; 0 where there are no auxiliary phases.
    """

    num_envs: int
    fragment: int
    n_pi: int

    @property
    def rows(self) -> int:
        """Environment steps of an iteration."""
        return self.num_envs * self.fragment

    def aux_phases(self, steps: int) -> int:
        """Auxiliary phases within a budget; the one after the last iteration is not begun."""
        return max(0, steps // self.rows - 1) // self.n_pi if self.n_pi else 0

    def fits(self, steps: int) -> bool:
        """Whether a budget has room for `PHASES` auxiliary phases, or without them iterations."""
        return steps // self.rows >= PHASES * self.n_pi + 1


def sizes_of(config: PPGConfig) -> Sizes:
    """The sizes of a checked configuration."""
    n_pi = config.n_pi if config.n_aux_epochs else 0
    return Sizes(config.num_envs, config.rollout_fragment_length, n_pi)


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
    found = Sizes(
        _at_least(MIN_ENVS, sizes.num_envs, root),
        sizes.fragment,
        _at_least(MIN_N_PI, sizes.n_pi, root),
    )
    while not found.fits(steps):
        if found.fragment > MIN_FRAGMENT:
            found = replace(found, fragment=max(MIN_FRAGMENT, found.fragment // 2))
        elif found.num_envs > MIN_ENVS:
            found = replace(found, num_envs=max(MIN_ENVS, found.num_envs // 2))
        elif found.n_pi > MIN_N_PI:
            found = replace(found, n_pi=max(MIN_N_PI, found.n_pi // 2))
        else:
            need = (PHASES * found.n_pi + 1) * found.rows
            raise UserError(
                f"budget_scale={scale:g} leaves {steps:,} environment steps of a trial; the "
                f"smallest run with {PHASES} auxiliary phases needs {need:,}. Give a larger scale."
            )
    return found


def _at_least(least: int, value: int, factor: float) -> int:
    return max(min(value, least), round(value * factor))


def scaled_config(
    config: Mapping[str, Any], checked: PPGConfig, steps: int, scale: float
) -> dict[str, Any]:
    """Return an experiment's configuration for a scaled budget.

    Args:
        config: As it was given.
        checked: The same, checked.
        steps: The scaled budget.
        scale: The scale, in (0, 1].

    Raises:
        UserError: If it leaves nothing, or the configuration fixes what has to shrink.
    """
    if config.get("num_envs_per_env_runner") is not None:
        raise UserError(
            "num_envs_per_env_runner contradicts budget_scale, which shrinks num_envs; give "
            "num_envs instead."
        )
    found = scaled_sizes(sizes_of(checked), steps, scale)
    changes: dict[str, Any] = {
        "num_envs": found.num_envs,
        "rollout_fragment_length": found.fragment,
    }
    parts = found.num_envs if checked.minibatch_unit == "segment" else found.rows
    changes["nminibatch"] = divisor(parts, checked.nminibatch)
    if found.n_pi:
        changes["n_pi"] = found.n_pi
        changes["aux_mbsize"] = divisor(found.n_pi * found.num_envs, checked.aux_mbsize)
    if isinstance(config.get("num_env_runners"), int) and config["num_env_runners"]:
        changes["num_env_runners"] = divisor(found.num_envs, config["num_env_runners"])
    if config.get("micro_batch_size") not in (None, "auto"):
        changes["micro_batch_size"] = "auto"
    for name in SCHEDULES:
        if getattr(checked, name):
            changes[name] = _scaled_schedule(getattr(checked, name), scale)
    kept = {name: value for name, value in config.items() if name != "train_batch_size"}
    return {**kept, **changes}


def divisor(number: int, most: int) -> int:
    """The largest divisor of a number that is no more than `most`."""
    return next(d for d in range(min(number, most), 0, -1) if number % d == 0)


def _scaled_schedule(schedule: Any, scale: float) -> list[list[float]]:
    found: list[list[float]] = []
    for steps, value in schedule:
        least = found[-1][0] + 1 if found else 0
        found.append([max(least, int(steps * scale)), value])
    return found
