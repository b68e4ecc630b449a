"""App: search spaces written as data: `{loguniform: [1e-5, 1e-3]}` and the like.

A space is a mapping with one key, the name of its kind. Nothing in it is ever run as code. The
kinds and their meaning are those of `ray.tune`.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rllib_ppg.algorithm.setting_types import parse_number
from rllib_ppg.app.yaml_reader import KeyPath, read_yaml
from rllib_ppg.errors import UserError, shown
from rllib_ppg.spelling import did_you_mean

GRID, CHOICE, CONDITIONAL = "grid_search", "choice", "conditional"


@dataclass(frozen=True)
class Kind:
    """What a kind of numeric space is like.

    Attributes:
        integer: Whether its values are whole numbers.
        log: Whether their logarithm is spread evenly, not they themselves.
        stepped: Whether a third number gives the distance between values.
        meaning: For the documentation.
    """

    integer: bool
    log: bool
    stepped: bool
    meaning: str

    @property
    def arguments(self) -> str:
        """What it takes."""
        return "[low, high, step]" if self.stepped else "[low, high]"


RANGES: dict[str, Kind] = {
    "uniform": Kind(False, False, False, "a number, any in between as likely"),
    "quniform": Kind(False, False, True, "the same, rounded to whole steps"),
    "loguniform": Kind(False, True, False, "a number, each factor of ten as likely"),
    "qloguniform": Kind(False, True, True, "the same, rounded to whole steps"),
    "randint": Kind(True, False, False, "a whole number below high"),
    "qrandint": Kind(True, False, True, "a whole number, rounded to whole steps; high included"),
    "lograndint": Kind(
        True, True, False, "a whole number below high, each factor of ten as likely"
    ),
    "qlograndint": Kind(True, True, True, "the same, rounded to whole steps; high included"),
}

NODES = (*RANGES, CHOICE, GRID, CONDITIONAL)
"""The keys by which a mapping is no value but says where values come from."""

REFUSED = {
    "eval": "is Python code, which is never run",
    "sample_from": "takes a Python function; write a space as data, such as {uniform: [0, 1]}",
    "randn": "has no bounds, so its values cannot be checked; use uniform",
    "qrandn": "has no bounds, so its values cannot be checked; use quniform",
}

MANY_INTEGERS = 40
"""Of a range with more whole numbers than this, only some are looked at beforehand."""


@dataclass(frozen=True)
class Space:
    """Where the values of one key come from.

    Attributes:
        kind: Its name: a key of `RANGES`, or `choice`.
        low: Lowest value, of a range.
        high: Upper bound; whether it is a value depends on the kind.
        step: Distance between values, of a stepped range.
        values: The values of a choice.
    """

    kind: str
    low: float = 0
    high: float = 0
    step: float | None = None
    values: tuple[Any, ...] = ()

    @property
    def last(self) -> float:
        """The highest value of a range."""
        kind = RANGES[self.kind]
        return self.high - 1 if kind.integer and not kind.stepped else self.high

    def samples(self) -> list[Any]:
        """Values to try before anything is started: all of few, else both ends and some between."""
        if self.kind == CHOICE:
            return list(self.values)
        if not RANGES[self.kind].integer:
            return [self.low, self.high]
        step = int(self.step or 1)
        found = list(range(int(self.low), int(self.last) + 1, step))
        if len(found) <= MANY_INTEGERS:
            return found
        return sorted({found[0], found[len(found) // 3], found[len(found) // 2], found[-1]})

    def nearest(self, value: Any) -> Any:
        """The value of the space that is nearest to a number."""
        if self.kind == CHOICE:
            return value
        number = min(max(float(value), self.low), self.last)
        if self.step:
            number = round(number / self.step) * self.step
        return round(number) if RANGES[self.kind].integer else float(number)

    def domain(self) -> Any:
        """The same as a domain of `ray.tune`."""
        from ray import tune

        if self.kind == CHOICE:
            return tune.choice(list(self.values))
        numbers = [self.low, self.high] if self.step is None else [self.low, self.high, self.step]
        return getattr(tune, self.kind)(*numbers)

    def __str__(self) -> str:
        if self.kind == CHOICE:
            return f"choice of {', '.join(map(str, self.values))}"
        step = "" if self.step is None else f" in steps of {self.step:g}"
        return f"{self.kind} {self.low:g} to {self.high:g}{step}"


@dataclass(frozen=True)
class Conditional:
    """Where the values of a key come from that depend on another key.

    Attributes:
        on: Path of the other key within the configuration.
        cases: The other key's values, each with a value or a space for this one.
        otherwise: The value or space for all other values, as a list of one; empty: none is given.
    """

    on: KeyPath
    cases: tuple[tuple[Any, Any], ...]
    otherwise: tuple[Any, ...] = ()

    def case_of(self, value: Any) -> Any:
        """The value or space that belongs to the other key's value.

        Raises:
            KeyError: If there is none.
        """
        for key, item in self.cases:
            if same(key, value):
                return item
        if not self.otherwise:
            raise KeyError(value)
        return self.otherwise[0]

    @property
    def branches(self) -> list[Any]:
        """All its values and spaces."""
        return [*(item for _, item in self.cases), *self.otherwise]


def same(one: Any, other: Any) -> bool:
    """Whether two plain values are the same; 0 is not false, and 1 is 1.0."""
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def is_node(value: Any, *kinds: str) -> bool:
    """Whether a value is a search space, a grid or a conditional (of these kinds, if given)."""
    return isinstance(value, dict) and len(value) == 1 and set(value) <= set(kinds or NODES)


def is_space(value: Any) -> bool:
    """Whether a value is a sampled space: a range or a choice."""
    return is_node(value, *RANGES, CHOICE)


def parse(node: Mapping[str, Any]) -> Space:
    """Read a range or a choice.

    Raises:
        ValueError: With what is wrong, and how it is written.
    """
    ((kind, content),) = node.items()
    if kind == CHOICE:
        if not isinstance(content, list) or not content:
            raise ValueError("write {choice: [value, value, ...]}")
        return Space(kind, values=tuple(content))
    form = RANGES[kind]
    count = 3 if form.stepped else 2
    if not isinstance(content, list) or len(content) != count:
        raise ValueError(f"write {{{kind}: {form.arguments}}}, {form.meaning}")
    numbers = [_number(value, form) for value in content]
    low, high, step = numbers[0], numbers[1], numbers[2] if form.stepped else None
    _check_bounds(form, low, high, step)
    return Space(kind, low, high, step)


def _number(value: Any, form: Kind) -> float:
    try:
        number = parse_number(value)
    except ValueError:
        number = None
    if not isinstance(number, int | float) or not math.isfinite(number):
        raise ValueError(f"{shown(value)} is no number; write {form.arguments}")
    if form.integer and not float(number).is_integer():
        raise ValueError(f"{shown(value)} is no whole number")
    return int(number) if form.integer else float(number)


def _check_bounds(form: Kind, low: float, high: float, step: float | None) -> None:
    if low >= high:
        raise ValueError(f"low ({low:g}) must be less than high ({high:g})")
    if form.log and low <= 0:
        raise ValueError(f"low ({low:g}) must be more than 0, since its logarithm is taken")
    if step is None:
        return
    if not 0 < step <= high - low:
        raise ValueError(f"step ({step:g}) must be more than 0 and at most high - low")
    for bound in (low, high):
        if not math.isclose(bound / step, round(bound / step), rel_tol=0, abs_tol=1e-6):
            raise ValueError(
                f"low and high must be multiples of step, {bound:g} is none of {step:g}"
            )


def parse_conditional(node: Mapping[str, Any]) -> Conditional:
    """Read a conditional.

    Raises:
        ValueError: With what is wrong, and how it is written.
    """
    content = node[CONDITIONAL]
    form = "write {conditional: {on: KEY, cases: {VALUE: value or space, ...}}}"
    if not isinstance(content, dict) or not {"on", "cases"} <= set(content):
        raise ValueError(form)
    unknown = set(content) - {"on", "cases", "otherwise"}
    if unknown:
        raise ValueError(f'"{min(unknown)}" is none of on, cases and otherwise; {form}')
    on, cases = content["on"], content["cases"]
    if not isinstance(on, str) or not all(on.split(".")):
        raise ValueError(f"on={shown(on)}: must be another key of config, nested ones with dots")
    if not isinstance(cases, dict) or not cases:
        raise ValueError(f"cases={shown(cases)}: must be a mapping; {form}")
    pairs = tuple((_value_of(key), item) for key, item in cases.items())
    otherwise = (content["otherwise"],) if "otherwise" in content else ()
    found = Conditional(tuple(on.split(".")), pairs, otherwise)
    for item in found.branches:
        if is_node(item, GRID, CONDITIONAL):
            raise ValueError(f"a case is a value or a sampled space, not {next(iter(item))}")
    return found


def _value_of(key: str) -> Any:
    """A mapping's key as the value that it would be elsewhere: `0.2` is a number."""
    try:
        return read_yaml(key, "cases").data
    except UserError:
        return key


def node_problems(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    """What is wrong with the spaces in an experiment, each with its path.

    Args:
        value: The experiment, or a part of it.
        path: Where that stands.
    """
    if isinstance(value, list):
        for item in value:
            yield from node_problems(item, path)
    if not isinstance(value, Mapping):
        return
    yield from ((path, problem) for problem in _own_problems(value, path))
    for name, item in value.items():
        yield from node_problems(item, (*path, name))


def _own_problems(value: Mapping[str, Any], path: KeyPath) -> Iterator[str]:
    """What is wrong with one mapping, if it is a space, a grid or a conditional."""
    where = ".".join(path)
    names = set(value)
    for name in names & set(REFUSED) if len(names) == 1 else ():
        yield f"{where}: {{{name}: ...}} {REFUSED[name]}."
    if GRID in names and not _is_list_of(value, GRID):
        yield f"{where}: write {{grid_search: [value, value, ...]}}."
    elif is_node(value) and not _may_stand(path, next(iter(value))):
        yield f"{where or 'here'}: {next(iter(value))} can only stand in config."
    elif is_node(value, *RANGES, CHOICE, CONDITIONAL):
        try:
            parse_conditional(value) if CONDITIONAL in value else parse(value)
        except ValueError as error:
            yield f"{where}: {next(iter(value))}: {error}."
    elif len(names) == 1 and _looks_like_a_space(value):
        (name,) = names
        yield f'{where}: "{name}" is no kind of space.{did_you_mean(name, NODES)}'


def _is_list_of(value: Mapping[str, Any], name: str) -> bool:
    return len(value) == 1 and isinstance(value[name], list) and bool(value[name])


def _may_stand(path: KeyPath, kind: str) -> bool:
    if path[:2] == ("scheduler", "hyperparam_mutations"):
        return len(path) > 2
    return path == ("env",) or (path[:1] == ("config",) and len(path) > 1)


def _looks_like_a_space(value: Mapping[str, Any]) -> bool:
    """Whether a one-key mapping is a misspelt space, such as `{loguniforn: [1e-5, 1e-3]}`."""
    ((name, content),) = value.items()
    known = name in (*NODES, *REFUSED)
    return isinstance(content, list) and not known and bool(did_you_mean(name, NODES, 0.8))


def described(value: Any) -> str:
    """A value, or a node in words."""
    if is_node(value, GRID):
        return f"grid of {', '.join(map(described, value[GRID]))}"
    if is_space(value):
        return str(parse(value))
    if is_node(value, CONDITIONAL):
        found = parse_conditional(value)
        parts = [f"{key}: {described(item)}" for key, item in found.cases]
        parts += [f"else {described(item)}" for item in found.otherwise]
        return f"by {'.'.join(found.on)} ({'; '.join(parts)})"
    return str(value)
