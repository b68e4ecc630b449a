"""App: YAML (and so JSON) as plain data, with the line of every key.

Stricter than PyYAML where that guesses: `5e-4` is a number, a key that stands twice is an error,
and there are no tags, so nothing in a file can make Python objects.
"""

import re
import unicodedata
from dataclasses import dataclass, field
from typing import Any

import yaml

from rllib_ppg.errors import UserError

KeyPath = tuple[str, ...]

MAX_CHARACTERS = 200_000
"""A text may be this long: a hundred experiments, read within seconds."""

_MAX_NODES = 50_000  # anchors can make a small file huge
_MAX_DEPTH = 50  # brackets can make it too deep for the reader, and for those after it
_MAX_DIGITS = 30  # Python refuses to show numbers of thousands of digits
_INTEGER = re.compile(r"[-+]?(0x[0-9a-fA-F_]+|0o[0-7_]+|[0-9][0-9_]*)$")
_FLOAT = re.compile(
    r"[-+]?(\.[0-9][0-9_]*|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?$"
    r"|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$"
)
_PLAIN_TAGS = {
    f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "map", "seq")
}


@dataclass
class Document:
    """What a YAML text holds.

    Attributes:
        data: Plain dicts, lists, strings, numbers, booleans and None.
        lines: Line of each key from 1, by its path; list entries are not in it.
    """

    data: Any
    lines: dict[KeyPath, int] = field(default_factory=dict)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with our numbers, without dates and with an end to nesting."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose the next node, unless it is too deep."""
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            mark = self.peek_event().start_mark
            raise yaml.MarkedYAMLError(problem="nested far too deeply", problem_mark=mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag.rsplit(":", 1)[-1] not in ("int", "float", "timestamp", "value")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", _INTEGER, list("-+0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


def read_yaml(text: str, source: str) -> Document:
    """Read YAML text.

    Args:
        text: The text; JSON is YAML too.
        source: What to call it in messages: a path, or the flag that it was given to.

    Raises:
        UserError: If it is not YAML, holds tags, repeats a key, is too large or too deep, or has
            anchors that contain themselves; with line and column.
    """
    if len(text) > MAX_CHARACTERS:
        raise UserError(f"{source}: more than {MAX_CHARACTERS:,} characters; make it smaller.")
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        raise UserError(_syntax_message(error, source)) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise UserError(f"{source}:{line}: broken YAML: {error.reason}.") from None
    if node is None:
        return Document(None)
    reader = _Reader(loader, source)
    return Document(reader.value(node, ()), reader.lines)


def _syntax_message(error: yaml.MarkedYAMLError, source: str) -> str:
    mark = error.problem_mark or error.context_mark
    place = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
    column = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
    problem = (error.problem or error.context or "not readable").rstrip(".")
    if "'\\t'" in problem:
        problem = "a tab where YAML wants spaces; indent with spaces"
    return f"{place}: broken YAML: {problem}{column}."


def _float(text: str) -> float:
    special = text.lower().lstrip("+-") in (".inf", ".nan")
    return float(text.replace(".", "") if special else text.replace("_", ""))


def _unwritable(text: str) -> str | None:
    """A character that neither a terminal nor a file's name can take, such as NUL or half a one."""
    kinds = ("Cc", "Cs", "Zl", "Zp")  # control, surrogate, line and paragraph separator
    odd = (c for c in text if unicodedata.category(c) in kinds and c not in "\n\t")
    return next(odd, None)


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."


class _Reader:
    """Turns YAML nodes into plain data and remembers where the keys stand."""

    def __init__(self, loader: _Loader, source: str) -> None:
        self.lines: dict[KeyPath, int] = {}
        self._loader = loader
        self._source = source
        self._open: set[int] = set()
        self._count = 0

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        """Plain data of a node at `path`."""
        self._check(node)
        self._open.add(id(node))
        if isinstance(node, yaml.MappingNode):
            value: Any = self._mapping(node, path)
        elif isinstance(node, yaml.SequenceNode):
            value = [self.value(item, path) for item in node.value]
        else:
            value = self._scalar(node)
        self._open.discard(id(node))
        return value

    def _check(self, node: yaml.Node) -> None:
        self._count += 1
        if node.tag not in _PLAIN_TAGS:
            raise self._error(node, f"tags such as {node.tag} are not allowed; write plain values")
        if isinstance(node, yaml.ScalarNode) and (odd := _unwritable(node.value)):
            raise self._error(node, f"the character {odd!r} cannot stand in a name or text")
        if id(node) in self._open or self._count > _MAX_NODES:
            raise self._error(node, "an anchor contains itself, or the text is far too large")

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        found: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                merged |= self._merged(value_node, path)
                continue
            key = self._key(key_node)
            if key in found:
                raise self._error(key_node, f'key "{key}" stands twice; remove one')
            inner = (*path, key)
            self.lines[inner] = key_node.start_mark.line + 1
            found[key] = self.value(value_node, inner)
        return {**merged, **found}

    def _merged(self, node: yaml.Node, path: KeyPath) -> dict[str, Any]:
        """Keys that `<<: *anchor` brings in; those of an earlier anchor win."""
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        merged: dict[str, Any] = {}
        for item in nodes:
            value = self.value(item, path)
            if not isinstance(value, dict):
                raise self._error(item, "<< takes a mapping")
            merged = {**value, **merged}
        return merged

    def _key(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise self._error(node, "a key must be a name")
        self._check(node)
        if "\n" in node.value or "\t" in node.value:
            raise self._error(node, "a key must be a name on one line, without tabs")
        return str(node.value)  # `on:` and `1:` too are names here

    def _scalar(self, node: yaml.Node) -> Any:
        text = str(node.value)
        kind = node.tag.rsplit(":", 1)[-1]
        if kind == "int" and len(text) > _MAX_DIGITS:
            raise self._error(node, f"{_short(text)} is too large a number")
        try:
            if kind == "int":
                prefixed = text.lstrip("+-")[:2] in ("0x", "0o")
                return int(text.replace("_", ""), 0 if prefixed else 10)
            if kind == "float":
                return _float(text)
            return self._loader.construct_object(node, deep=True)
        except (ValueError, KeyError):
            raise self._error(node, f"{_short(text)!r} is no {kind}") from None

    def _error(self, node: yaml.Node, problem: str) -> UserError:
        mark = node.start_mark
        return UserError(f"{self._source}:{mark.line + 1}:{mark.column + 1}: {problem}.")
