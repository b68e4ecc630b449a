"""App: the variants that `{grid_search: [...]}` nodes make of a configuration."""

import itertools
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

NodePath = tuple[str | int, ...]

MAX_CHECKED = 500
"""Grids with more variants than this are looked at one axis at a time."""


def is_grid(value: Any) -> bool:
    """Whether a value is a `{grid_search: [...]}` node."""
    return isinstance(value, dict) and set(value) == {"grid_search"}


def axes(config: dict[str, Any]) -> dict[NodePath, list[Any]]:
    """The grid nodes of a configuration: their paths and values."""
    return dict(_axes(config, ()))


def _axes(value: Any, path: NodePath) -> Iterator[tuple[NodePath, list[Any]]]:
    if is_grid(value):
        yield path, value["grid_search"]
        return
    items: Iterator[tuple[str | int, Any]] = iter(())
    if isinstance(value, dict):
        items = iter(value.items())
    elif isinstance(value, list):
        items = iter(enumerate(value))
    for name, item in items:
        yield from _axes(item, (*path, name))


def variants(config: dict[str, Any]) -> list[dict[str, Any]]:
    """Every combination of the grid's values; one axis at a time where there are too many.

    Args:
        config: A configuration with any number of grid nodes, also within others' values.

    Returns:
        Configurations without grid nodes; at least one.
    """
    grid = axes(config)
    if not grid:
        return [config]
    return [leaf for choice in _choices(grid) for leaf in variants(_filled(config, choice))]


def _choices(grid: dict[NodePath, list[Any]]) -> Iterator[dict[NodePath, Any]]:
    if count(grid) <= MAX_CHECKED:
        for choice in itertools.product(*grid.values()):
            yield dict(zip(grid, choice, strict=True))
        return
    first = {path: values[0] for path, values in grid.items()}
    for path, values in grid.items():
        yield from ({**first, path: value} for value in values)


def count(grid: dict[NodePath, list[Any]]) -> int:
    """Number of combinations of a grid."""
    total = 1
    for values in grid.values():
        total *= len(values)
    return total


def _filled(config: dict[str, Any], choice: dict[NodePath, Any]) -> dict[str, Any]:
    """A copy of a configuration with values put in place of its grid nodes."""
    copy = deepcopy(config)
    for path, value in choice.items():
        node: Any = copy
        for name in path[:-1]:
            node = node[name]
        node[path[-1]] = deepcopy(value)
    return copy
