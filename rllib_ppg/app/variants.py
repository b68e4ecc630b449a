"""App: the variants that grids and spaces make of a configuration.

A grid's values are all trained; of a sampled space some values stand for all of them here, so that
what would be refused is refused before anything is started.
"""

import itertools
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

from rllib_ppg.app.spaces import (
    CONDITIONAL,
    GRID,
    is_node,
    is_space,
    parse,
    parse_conditional,
)

NodePath = tuple[str | int, ...]

MAX_CHECKED = 500
"""Where grids and spaces make more variants than this, they are looked at one axis at a time."""

_MISSING = object()


def is_grid(value: Any) -> bool:
    """Whether a value is a `{grid_search: [...]}` node."""
    return is_node(value, GRID)


def nodes(value: Any, path: NodePath = ()) -> Iterator[tuple[NodePath, dict[str, Any]]]:
    """All grids, spaces and conditionals of a configuration with their paths, outer ones only."""
    if is_node(value):
        yield path, value
        return
    items: Iterator[tuple[str | int, Any]] = iter(())
    if isinstance(value, Mapping):
        items = iter(value.items())
    elif isinstance(value, list):
        items = iter(enumerate(value))
    for name, item in items:
        yield from nodes(item, (*path, name))


def axes(config: dict[str, Any]) -> dict[NodePath, list[Any]]:
    """The grids and sampled spaces of a configuration: their paths and values to look at."""
    return {
        path: node[GRID] if is_grid(node) else parse(node).samples()
        for path, node in nodes(config)
        if is_grid(node) or is_space(node)
    }


def grids(config: dict[str, Any]) -> dict[NodePath, list[Any]]:
    """The grids of a configuration: their paths and values."""
    return {path: node[GRID] for path, node in nodes(config) if is_grid(node)}


def variants(config: dict[str, Any], limit: int | None = None) -> list[dict[str, Any]]:
    """Every combination of the axes' values; one axis at a time where there are too many.

    Args:
        config: A configuration with any number of nodes, also within others' values.
        limit: How many are too many; `MAX_CHECKED` unless given.

    Returns:
        Configurations without nodes; at least one. A conditional whose other key has no case for
        its value, or is not there, is left out.
    """
    limit = MAX_CHECKED if limit is None else limit
    config = with_conditionals(config)
    found = axes(config)
    if not found:
        return [config]
    choices = list(_choices(found, limit))
    each = max(1, limit // len(choices))
    return [leaf for choice in choices for leaf in variants(_filled(config, choice), each)]


def with_conditionals(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration with the case of each conditional whose other key has its value."""
    found = [(path, node) for path, node in nodes(config) if is_node(node, CONDITIONAL)]
    decided = {}
    for path, node in found:
        conditional = parse_conditional(node)
        value = value_at(config, conditional.on)
        if not is_node(value):
            try:
                decided[path] = conditional.case_of(value)
            except KeyError:
                decided[path] = _MISSING
    return _filled(config, decided) if decided else config


def without_nodes(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without the keys that are grids, spaces or conditionals."""
    return _filled(dict(config), {path: _MISSING for path, _ in nodes(config)})


def value_at(config: Any, path: NodePath, default: Any = None) -> Any:
    """What stands in a configuration at a path."""
    for name in path:
        try:
            config = config[name]
        except (KeyError, IndexError, TypeError):
            return default
    return config


def _choices(found: dict[NodePath, list[Any]], limit: int) -> Iterator[dict[NodePath, Any]]:
    if count(found) <= limit:
        for choice in itertools.product(*found.values()):
            yield dict(zip(found, choice, strict=True))
        return
    first = {path: values[0] for path, values in found.items()}
    for path, values in found.items():
        yield from ({**first, path: value} for value in values)


def count(found: dict[NodePath, list[Any]]) -> int:
    """Number of combinations of some axes."""
    total = 1
    for values in found.values():
        total *= len(values)
    return total


def trial_count(config: dict[str, Any], num_samples: int) -> int:
    """Number of trials that a run makes: its grids' combinations, each so often."""
    found = grids(config)
    inner = 1
    for values in found.values():
        inner *= sum(trial_count({"": value}, 1) for value in values)
    return inner * num_samples


def _filled(config: dict[str, Any], choice: dict[NodePath, Any]) -> dict[str, Any]:
    """A copy of a configuration with values put in place of its nodes."""
    copy = deepcopy(config)
    for path, value in choice.items():
        node: Any = copy
        for name in path[:-1]:
            node = node[name]
        if value is _MISSING:
            del node[path[-1]]
        else:
            node[path[-1]] = deepcopy(value)
    return copy
