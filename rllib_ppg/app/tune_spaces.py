"""App: search spaces as Ray Tune and Optuna take them."""

from collections.abc import Mapping
from typing import Any

from ray.tune.search.sample import Domain

from rllib_ppg.app.spaces import (
    CHOICE,
    CONDITIONAL,
    GRID,
    RANGES,
    Conditional,
    Space,
    is_node,
    is_space,
    parse,
    parse_conditional,
)
from rllib_ppg.app.variants import NodePath, nodes, value_at
from rllib_ppg.app.yaml_reader import KeyPath


class CaseDomain(Domain):
    """A conditional as a domain of Tune, which samples it once the other key has its value.

    Args:
        conditional: The conditional.
    """

    def __init__(self, conditional: Conditional) -> None:
        self.conditional = conditional

    def sample(self, config: Any = None, size: int = 1, random_state: Any = None) -> Any:
        """The case's value, or one of its space.

        Raises:
            RecursiveDependencyError: If the other key has no value yet; Tune then tries again.
        """
        node = config["config"]
        for name in self.conditional.on:
            node = node[name]
        item = self.conditional.case_of(node)
        return parse(item).domain().sample(random_state=random_state) if is_space(item) else item

    @property
    def domain_str(self) -> str:
        """What it is called in messages."""
        return f"by {'.'.join(self.conditional.on)}"


def for_tune(value: Any) -> Any:
    """A configuration, or a part of it, with Tune's domains in place of its nodes."""
    if is_node(value, GRID):
        return {GRID: [for_tune(item) for item in value[GRID]]}
    if is_space(value):
        return parse(value).domain()
    if is_node(value, CONDITIONAL):
        return CaseDomain(parse_conditional(value))
    if isinstance(value, dict):
        return {name: for_tune(item) for name, item in value.items()}
    if isinstance(value, list):
        return [for_tune(item) for item in value]
    return value


class OptunaSpace:
    """The spaces of a configuration as a function that Optuna calls for each new trial.

    Optuna learns a number for each space, those of a conditional's cases each by itself. It holds
    plain data only: Tune pickles it with the searcher.

    Args:
        config: The configuration; it holds no grids.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = dict(config)

    def __call__(self, trial: Any) -> dict[str, Any]:
        """Values for all nodes, by their paths with `/`."""
        trial = getattr(trial, "ot_trial", trial)  # not Tune's wrapper, which notes every name
        found = list(nodes(self._config))
        given = {p: suggest(trial, _name(p), parse(n)) for p, n in found if is_space(n)}
        for path, node in found:
            if is_node(node, CONDITIONAL):
                conditional = parse_conditional(node)
                given[path] = self._case(trial, path, conditional, given)
        return {_name(path): value for path, value in given.items()}

    def _case(
        self,
        trial: Any,
        path: NodePath,
        conditional: Conditional,
        given: Mapping[NodePath, Any],
    ) -> Any:
        on: KeyPath = conditional.on
        value = given[on] if on in given else value_at(self._config, on)
        item = conditional.case_of(value)
        name = f"{_name(path)} where {_name(on)} is {value}"
        return suggest(trial, name, parse(item)) if is_space(item) else item


def _name(path: NodePath) -> str:
    return "/".join(map(str, path))


def suggest(trial: Any, name: str, space: Space) -> Any:
    """A value of a space by Optuna.

    A step and a logarithm do not go together there; then the value is rounded afterwards.
    """
    if space.kind == CHOICE:  # by number, since Optuna's own choices are plain values only
        return space.values[trial.suggest_categorical(name, list(range(len(space.values))))]
    kind = RANGES[space.kind]
    step = None if kind.log else space.step
    if kind.integer:
        low, high = int(space.low), int(space.last)
        return space.nearest(trial.suggest_int(name, low, high, step=int(step or 1), log=kind.log))
    return space.nearest(trial.suggest_float(name, space.low, space.high, step=step, log=kind.log))
