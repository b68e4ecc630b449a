"""The measured rows as a table on the terminal, as JSON and as Markdown."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.measure import Row
from rllib_ppg.errors import UserError

FORMAT = 1
COLUMNS = ("what", "ours", "beside", "its", "ratio", "target", "spread")


def cells(row: Row) -> tuple[str, ...]:
    """Return a row's cells, one for each of `COLUMNS`."""
    sign = "≥" if row.limit == "at least" else "≤"
    mark = {True: "met", False: "MISSED", None: ""}[row.met]
    target = "" if row.target is None else f"{sign} {row.target:.2f} {mark}"
    spread = f"{row.low:.2f}–{row.high:.2f}" if row.rounds > 1 else ""
    return (
        row.what,
        f"{number(row.ours)} {row.unit}",
        row.against,
        f"{number(row.yardstick)} {row.unit}",
        f"{row.ratio:.2f}",
        target,
        spread,
    )


def number(value: float) -> str:
    """Write a number with three digits at least, thousands separated."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def print_table(rows: Sequence[Row], facts: Mapping[str, str]) -> None:
    """Print everything as one table on the terminal."""
    console = Console(width=None if sys.stdout.isatty() else 200)
    table = Table(title="rllib_ppg beside bare loops", title_justify="left")
    for column in COLUMNS:
        table.add_column(column, overflow="fold")
    section = None
    for row in rows:
        if section not in (None, row.section):
            table.add_section()
        section = row.section
        table.add_row(*cells(row), style="red" if row.met is False else None)
    console.print(table)
    for note in notes(rows):
        console.print(note, highlight=False)
    console.print(", ".join(f"{name} {value}" for name, value in facts.items()), highlight=False)


def notes(rows: Sequence[Row]) -> list[str]:
    """Return the distinct notes, each with the section it belongs to."""
    return list(dict.fromkeys(f"{row.section}: {row.note}" for row in rows if row.note))


def to_json(rows: Sequence[Row], facts: Mapping[str, str], *, complete: bool) -> dict[str, Any]:
    """Return the file's content.

    Args:
        rows: What was measured.
        facts: Machine and versions.
        complete: False where the run was cut short.
    """
    return {
        "format": FORMAT,
        "complete": complete,
        "machine": dict(facts),
        "rows": [asdict(row) | {"met": row.met} for row in rows],
    }


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write the file at once: there is never half of it."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(part, path)


def read_json(path: Path) -> tuple[list[Row], dict[str, str]]:
    """Return the rows and facts of a file that `write_json` wrote.

    Raises:
        UserError: If it is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        rows = [{k: v for k, v in row.items() if k != "met"} for row in content["rows"]]
        return [Row(**row) for row in rows], dict(content["machine"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no result of `make bench` ({error}); run it first.") from error


def markdown(rows: Sequence[Row], facts: Mapping[str, str]) -> str:
    """Return the table, the notes and the machine as Markdown."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---|---:|---|---:|---:|---|---|"]
    lines += ["| " + " | ".join(cells(row)) + " |" for row in rows]
    lines += ["", *(f"- {note}" for note in notes(rows)), ""]
    lines += ["| measured on | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in facts.items()]
    return "\n".join(lines)


def insert(path: Path, name: str, text: str) -> None:
    """Put text between a Markdown file's marks `<!-- NAME -->` and `<!-- end of NAME -->`.

    Raises:
        UserError: If the file or a mark is missing.
    """
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    try:
        before, rest = path.read_text(encoding="utf-8").split(begin)
        _, after = rest.split(end)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} must have one {begin} and, after it, one {end}.") from error
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
