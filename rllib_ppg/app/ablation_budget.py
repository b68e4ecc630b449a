"""App: the budget of an ablation: the first experiment's own, unless flags say otherwise."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rllib_ppg.algorithm.setting_types import parse_number
from rllib_ppg.app.ablation_flags import AblationFlags
from rllib_ppg.app.challenge_protocol import MIN_SCALED_SECONDS, Protocol
from rllib_ppg.app.experiment import RawExperiment
from rllib_ppg.app.result_keys import SECONDS_KEY, STEP_KEYS, flat_stop, stop_value
from rllib_ppg.app.yaml_reader import KeyPath
from rllib_ppg.errors import UserError, shown

STEPS, SECONDS = "budget_steps", "budget_seconds"

_UNITS = {STEPS: "environment steps", SECONDS: "seconds"}


@dataclass(frozen=True)
class _Limit:
    """Where an experiment ends by its own keys."""

    value: float
    path: KeyPath


def budget_of(raw: RawExperiment, flags: AblationFlags) -> dict[str, Any]:
    """Return the protocol's budget: an experiment's own, or the challenge's where it has none.

    Seconds are not scaled: a trial that ends by them has fewer steps than others.

    Args:
        raw: The first experiment. Its source learns where the keys stand.
        flags: The flags; what they set themselves is not changed here.

    Raises:
        UserError: If its budget is none.
    """
    limits = _limits(raw)
    for key, limit in limits.items():
        raw.source.places["protocol", key] = raw.source.at(*limit.path)
    found: dict[str, Any] = {key: limit.value for key, limit in limits.items()}
    seconds = found.get(SECONDS, Protocol.model_fields[SECONDS].default)
    scale = flags.budget_scale or 1.0
    if seconds > MIN_SCALED_SECONDS and 0 < scale <= 1 and math.isfinite(seconds / scale):
        seconds /= scale  # one out of range is refused by its own name
    return {**found, SECONDS: seconds}


def _limits(raw: RawExperiment) -> dict[str, _Limit]:
    """The first end by steps and by seconds, of stop keys and budgets, where there is one."""
    found: dict[str, _Limit] = {}
    for key, limit in _all_limits(raw):
        if key not in found or limit.value < found[key].value:
            found[key] = limit
    return found


def _all_limits(raw: RawExperiment) -> Iterator[tuple[str, _Limit]]:
    for name, given in _stop(raw).items():
        if name in (*STEP_KEYS, SECONDS_KEY):
            key = SECONDS if name == SECONDS_KEY else STEPS
            yield key, _limit(raw, ("stop", name), given)
    config = raw.data.get("config")
    config = config if isinstance(config, Mapping) else {}
    for name, key in (("budget_env_steps", STEPS), ("budget_s", SECONDS)):
        if config.get(name) is not None:
            yield key, _limit(raw, ("config", name), config[name])


def _stop(raw: RawExperiment) -> dict[str, Any]:
    stop = raw.data.get("stop")
    return dict(flat_stop(stop)) if isinstance(stop, Mapping) else {}


def _limit(raw: RawExperiment, path: KeyPath, given: Any) -> _Limit:
    try:
        number = stop_value(path[-1], given) if path[0] == "stop" else parse_number(given)
        if not isinstance(number, int | float):
            raise ValueError("must be a number")
    except ValueError as error:
        problem = f"{'.'.join(path)}={shown(given)} {error}."
        raise UserError(raw.source.message(path, problem)) from None
    return _Limit(number, path)


def budget_notes(raws: list[RawExperiment], flags: AblationFlags) -> Iterator[str]:
    """Say which ends of experiments do not count.

    Args:
        raws: The experiments, the first one first.
        flags: The flags; what they set counts for all, and needs no words.
    """
    first, *others = raws
    for name in _stop(first):
        if name not in (*STEP_KEYS, SECONDS_KEY):
            yield f"stop.{name} ends no trial here: a budget is environment steps and seconds."
    limits = _limits(first)
    for raw in others:
        for key, limit in _limits(raw).items():
            same = key in limits and limits[key].value == limit.value
            if not same and getattr(flags, key) is None:
                yield (
                    f"{raw.name}: its own {limit.value:,} {_UNITS[key]} do not count; all "
                    f"experiments have the budget of {first.name}."
                )
