"""App: the rows of a `progress.csv` or `result.json`, as Tune writes them, as numbers by column.

Both files hold one line a training iteration. A run that is killed while it writes leaves a line
cut off; where it was resumed, the first line of the resumed run stands behind the cut one, on the
same line. After a resume from a checkpoint the iterations since that checkpoint come again; what
counts is what was done last.
"""

import csv
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rllib_ppg.errors import UserError

FloatArray = npt.NDArray[np.float64]

ITERATION = "training_iteration"


@dataclass(frozen=True)
class ResultTable:
    """The rows of a results file.

    Attributes:
        path: The file, for messages.
        names: Names of all columns, nested ones with slashes.
        rows: One mapping a row, from column to text or value; a column may be missing in a row.
        lines: Number of the line of each row, from 1.
        left_out: Numbers of the lines that were not whole.
    """

    path: Path
    names: Sequence[str]
    rows: Sequence[Mapping[str, Any]]
    lines: Sequence[int]
    left_out: Sequence[int] = ()

    def column(self, name: str) -> FloatArray:
        """Return a column as numbers, NaN where nothing is known, (K,).

        Raises:
            UserError: If a row has something else there.
        """
        return np.array([self._number(index, name) for index in range(len(self.rows))])

    def _number(self, index: int, name: str) -> float:
        value = self.rows[index].get(name)
        if value is None or value in ("", "None"):
            return float("nan")
        if value in ("True", "False"):
            return float(value == "True")
        try:
            return float(value)
        except (TypeError, ValueError):
            shown = str(value) if len(str(value)) <= 40 else f"{str(value)[:37]}..."
            raise UserError(
                f'{self.path}, line {self.lines[index]}: column "{name}" has {shown!r}, which is '
                "no number."
            ) from None

    def current(self) -> "ResultTable":
        """Leave out the rows that a resumed run replaced: those not before a later iteration."""
        if ITERATION not in self.names:
            return self
        kept: list[int] = []
        iterations = self.column(ITERATION)
        for index, iteration in enumerate(iterations):
            while kept and iterations[kept[-1]] >= iteration:
                kept.pop()
            kept.append(index)
        rows, lines = [self.rows[k] for k in kept], [self.lines[k] for k in kept]
        return ResultTable(self.path, self.names, rows, lines, self.left_out)


def read_table(path: Path, *, partial: bool = False) -> ResultTable:
    """Read a `progress.csv`, or a `result.json` with one JSON object a line.

    Args:
        path: The file.
        partial: Leave out lines that are not whole.

    Raises:
        UserError: If it cannot be read, has no rows, or a line is not whole and `partial` is false.
    """
    lines = _lines(path)
    rows = _json_rows(path, lines) if path.suffix == ".json" else _csv_rows(path, lines)
    found: list[Mapping[str, Any]] = []
    numbers: list[int] = []
    broken: list[int] = []
    for number, row in rows:
        if isinstance(row, str):
            if not partial:
                raise UserError(row)
            broken.append(number)
        else:
            found.append(row)
            numbers.append(number)
    if not found:
        raise UserError(f"{path} holds no whole row: the run has not finished an iteration yet.")
    names = list(dict.fromkeys(name for row in (found[0], found[-1]) for name in row))
    return ResultTable(path, names, found, numbers, broken)


def _lines(path: Path) -> list[str]:
    """The lines of a file with their line ends; only the last one may lack it."""
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}).") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is no text file in UTF-8.") from None
    # Not splitlines(), which also splits at characters that stand within a field.
    return re.findall(r"[^\n]+\n?|\n", text)


def _csv_rows(path: Path, lines: Sequence[str]) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    """Yield each row, or what is wrong with it; each line by itself, as rows never span lines."""
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # lists of episode returns stand in a field
    header = _fields(lines[0]) if lines and lines[0].endswith("\n") else None
    if not header:
        raise UserError(f"{path} has no whole first line with the names of its columns.")
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        fields = _fields(line)
        count = "a broken field" if fields is None else f"{len(fields)} fields"
        if not line.endswith("\n"):
            yield number, _cut(path, number)
        elif fields is None or len(fields) != len(header):
            yield number, _broken(path, number, f"{count} where the header has {len(header)}")
        else:
            yield number, dict(zip(header, fields, strict=True))


def _fields(line: str) -> list[str] | None:
    try:
        return next(csv.reader([line.rstrip("\r\n")], strict=True), None)
    except csv.Error:
        return None


def _json_rows(path: Path, lines: Sequence[str]) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            whole = line.endswith("\n")
            yield number, _broken(path, number, "broken JSON") if whole else _cut(path, number)
            continue
        if not isinstance(row, dict):
            raise UserError(f"{path}, line {number}: not a JSON object with a training result.")
        yield number, dict(flat(row))


def flat(
    values: Mapping[str, Any], separator: str = "/", prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested mappings, named by their path."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, separator, f"{prefix}{name}{separator}")
        else:
            yield f"{prefix}{name}", value


def _cut(path: Path, number: int) -> str:
    return (
        f"{path} ends in the middle of line {number}: the run was killed while writing, or is "
        "writing now. Add --partial to plot the lines that are whole."
    )


def _broken(path: Path, number: int, problem: str) -> str:
    return (
        f"{path}, line {number} has {problem} (a run that was killed while writing and then "
        "resumed leaves such a line). Add --partial to leave it out."
    )


def nearest_columns(name: str, names: Sequence[str], count: int = 5) -> list[str]:
    """Return the columns that `name` was perhaps meant to be, best first; none if none is near."""
    last = name.rsplit("/", 1)[-1].lower()
    tails: dict[str, list[str]] = {}
    for known in names:
        tails.setdefault(known.rsplit("/", 1)[-1].lower(), []).append(known)
    close = get_close_matches(last, list(tails), n=count, cutoff=0.5)
    within = [known for known in names if last in known.lower()]
    return list(dict.fromkeys([*(known for tail in close for known in tails[tail]), *within]))[
        :count
    ]
