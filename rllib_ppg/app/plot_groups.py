"""App: which runs belong together in a plot, and what each group is called.

Runs of one group are seeds of the same agent: they become one mean with an interval. A group may
cover several games.
"""

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Protocol, TypeVar

from rllib_ppg.app.plot_runs import Origin
from rllib_ppg.errors import UserError
from rllib_ppg.spelling import did_you_mean

WAYS = ("auto", "experiment", "run")

NOT_THE_AGENT = frozenset(
    {"seed", "env", "env_config.env_name", "env_config.rand_seed", "num_env_runners", "num_gpus"}
)
"""Keys of a configuration in which runs of one agent differ: seed, game and machine."""

MAX_SHOWN_KEYS = 3

PLAYED = "played "
"""What keys begin with that say how an agent was evaluated, not how it was trained."""


class Item(Protocol):
    """What can be grouped."""

    @property
    def origin(self) -> Origin:
        """Where it comes from."""


T = TypeVar("T", bound=Item)


def parse_labels(given: Sequence[str]) -> dict[str, str]:
    """Return pattern by name for the values of --label.

    Raises:
        UserError: If one is not NAME=PATTERN.
    """
    labels: dict[str, str] = {}
    for text in given:
        name, _, pattern = text.partition("=")
        if not name.strip() or not pattern.strip():
            raise UserError(
                f'--label {text}: give NAME=PATTERN, such as --label "PPG=results/ppg-*".'
            )
        labels[name.strip()] = pattern.strip()
    return labels


def make_groups(items: Sequence[T], way: str, labels: Mapping[str, str]) -> dict[str, list[T]]:
    """Sort items into groups by name, in the order of the labels, then of the items.

    Args:
        items: Runs or scores.
        way: One of `WAYS`, or keys of the configuration with commas between them.
        labels: Name of a group to the pattern that its items' paths or names match.

    Raises:
        UserError: If a label matches nothing or a key is in no configuration.
    """
    groups: dict[str, list[T]] = {name: [] for name in labels}
    rest: dict[str, list[T]] = {}
    keys = _keys(items, way)
    for item in items:
        name = next((name for name, text in labels.items() if matches(item.origin, text)), None)
        if name is None:
            rest.setdefault(_identity(item.origin, way, keys), []).append(item)
        else:
            groups[name].append(item)
    for name, found in groups.items():
        if not found:
            names = ", ".join(dict.fromkeys(item.origin.experiment for item in items))
            raise UserError(f"--label {name}={labels[name]} matches no run; there are: {names}.")
    members = list(rest.values())
    for name, found in zip(_names(members, way, keys), members, strict=True):
        groups[_unused(name, groups)] = found
    return groups


def matches(origin: Origin, pattern: str) -> bool:
    """Whether a pattern occurs in the name of a run's experiment, or with a slash in its path.

    A published curve matches none. Without a slash the path does not count: its first folders, and
    the algorithm's name in the trial's, would match by chance.
    """
    if origin.reference:
        return False
    path = str(origin.path.absolute())
    texts = [path] if "/" in pattern else [origin.label or origin.experiment]
    return any(fnmatchcase(text, f"*{pattern}*") for text in texts)


def _keys(items: Sequence[Item], way: str) -> list[str]:
    """The keys of the configuration by which to group; none for the other ways."""
    if way in WAYS:
        return []
    keys = [key.strip() for key in way.split(",")]
    known = sorted({key for item in items for key in item.origin.config or {}})
    for key in keys:
        if key not in known:
            hint = did_you_mean(key, [*known, *WAYS])
            raise UserError(
                f"--group {way}: no run's configuration has the key {key}.{hint} Give "
                f"{', '.join(WAYS)}, or keys of params.json with dots and commas."
            )
    return keys


def _identity(origin: Origin, way: str, keys: Sequence[str]) -> str:
    """What items of the same group share."""
    config = origin.config or {}
    if origin.reference:
        return f"{origin.path} {origin.label}"
    if keys:
        return json.dumps([config.get(key) for key in keys], default=str)
    if way == "run":
        return f"{origin.path} {origin.agent} {origin.label} {origin.seed}"
    if way == "experiment":
        return origin.label or origin.experiment
    if origin.label is not None:
        return origin.label
    own = _agent(origin)
    if origin.config is None:
        own["agent"] = origin.agent or str(origin.path)
    return json.dumps(own, sort_keys=True, default=str)


def _agent(origin: Origin) -> dict[str, Any]:
    """What makes an agent, and what it is when it plays."""
    config = origin.config or {}
    played = {f"{PLAYED}{key}": value for key, value in origin.played.items()}
    return {key: value for key, value in config.items() if key not in NOT_THE_AGENT} | played


def _names(groups: Sequence[Sequence[Item]], way: str, keys: Sequence[str]) -> list[str]:
    """Name groups by their experiments, and by what else tells them apart."""
    if keys:
        first = [found[0].origin for found in groups]
        return [
            str(origin.label) if origin.reference else _settings(origin.config or {}, keys)
            for origin in first
        ]
    names = [
        found[0].origin.label or _common([item.origin.experiment for item in found])
        for found in groups
    ]
    if way == "run":
        seeds = [found[0].origin.seed for found in groups]
        return [
            name if names.count(name) == 1 or seed is None else f"{name} seed {seed}"
            for name, seed in zip(names, seeds, strict=True)
        ]
    alike = [k for k, name in enumerate(names) if names.count(name) > 1]
    configs = [_agent(groups[k][0].origin) for k in alike]
    every = list(dict.fromkeys(key for config in configs for key in config))
    differing = _differing(every, configs)
    only = len(set(names)) == 1
    for k, config in zip(alike, configs, strict=True):
        settings = _settings(config, differing[:MAX_SHOWN_KEYS])
        names[k] = (settings if only else f"{names[k]} {settings}".strip()) or names[k]
    return names


def _differing(keys: Sequence[str], configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys that tell configurations apart; of those that say the same, the first."""
    found: dict[tuple[str, ...], str] = {}
    for key in keys:
        values = [str(config.get(key)) for config in configs]
        if len(set(values)) > 1:
            found.setdefault((key.removeprefix(PLAYED).rsplit(".", 1)[-1], *values), key)
    return list(found.values())


def _settings(config: Mapping[str, Any], keys: Sequence[str]) -> str:
    return ", ".join(f"{key.rsplit('.', 1)[-1]}={config.get(key, 'default')}" for key in keys)


def _common(names: Sequence[str]) -> str:
    """What the names of experiments begin with, without the start of a seed's number."""
    different = sorted(set(names))
    if len(different) == 1:
        return different[0]
    alike = (len(set(letters)) == 1 for letters in zip(*different, strict=False))
    begin = different[0][: sum(itertools.takewhile(bool, alike))]
    short = re.sub(r"[-_. ]*(seed|s)?[-_. ]*$", "", re.sub(r"\d+$", "", begin))
    return short or f"{different[0]} and {len(different) - 1} more"


def _unused(name: str, taken: Mapping[str, Any]) -> str:
    """The name, with a number behind it where it is taken."""
    number, found = 1, name
    while found in taken:
        number += 1
        found = f"{name} ({number})"
    return found
