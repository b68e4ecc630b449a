"""App: Ray Tune's schedulers out of an experiment's keys."""

import math
from collections.abc import Mapping
from typing import Any

from ray.tune.schedulers import (
    AsyncHyperBandScheduler,
    FIFOScheduler,
    HyperBandScheduler,
    MedianStoppingRule,
    PopulationBasedTraining,
    TrialScheduler,
)

from rllib_ppg.app.schedulers import AshaKeys, HyperBandKeys, MedianKeys, PbtKeys
from rllib_ppg.app.spaces import CHOICE, is_node, parse
from rllib_ppg.app.sweep import Sweep

CLASSES: dict[type, type[TrialScheduler]] = {
    AshaKeys: AsyncHyperBandScheduler,
    HyperBandKeys: HyperBandScheduler,
    MedianKeys: MedianStoppingRule,
}


def make_scheduler(sweep: Sweep) -> TrialScheduler:
    """The scheduler of a sweep."""
    keys, goal = sweep.scheduler, {"metric": sweep.metric, "mode": sweep.mode}
    if isinstance(keys, PbtKeys):
        given = keys.model_dump(exclude={"type", "hyperparam_mutations"})
        return PopulationBasedTraining(
            **given,
            **goal,
            hyperparam_mutations=_mutations(keys.hyperparam_mutations),
            custom_explore_fn=WithinSpaces(keys.hyperparam_mutations),
            log_config=False,  # `copies` notes it, at its place and at once
        )
    if type(keys) not in CLASSES:
        return FIFOScheduler()
    given = keys.model_dump(exclude={"type"})
    if isinstance(keys, MedianKeys):
        # Otherwise a trial that cannot be compared yet makes room for another with each result,
        # and a new process for it takes longer than many of them.
        given["min_time_slice"] = math.inf
    return CLASSES[type(keys)](**given, **goal)


def _mutations(spaces: Mapping[str, Any]) -> dict[str, Any]:
    """Spaces as PBT takes them: a choice is a list, of which it takes a neighbour."""
    made: dict[str, Any] = {}
    for name, value in spaces.items():
        if is_node(value, CHOICE):
            made[name] = list(value[CHOICE])
        else:
            made[name] = parse(value).domain() if is_node(value) else _mutations(value)
    return made


class WithinSpaces:
    """Keeps what PBT has multiplied within the bounds and steps of its space.

    Tune multiplies whatever the bounds are: a `gamma` of 0.99 would become 1.19.

    Args:
        spaces: The spaces, nested like the configuration.
    """

    def __init__(self, spaces: Mapping[str, Any]) -> None:
        self._spaces = dict(spaces)

    def __call__(self, config: dict[str, Any]) -> dict[str, Any]:
        """The configuration with values of the spaces."""
        return _within(config, self._spaces)


def _within(config: Mapping[str, Any], spaces: Mapping[str, Any]) -> dict[str, Any]:
    kept = dict(config)
    for name, space in spaces.items():
        if is_node(space):
            kept[name] = parse(space).nearest(config[name])
        else:
            kept[name] = _within(config[name], space)
    return kept
