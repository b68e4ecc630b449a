"""App: what a trial of PBT has copied from others, noted in its folder.

Such a trial goes on from another's checkpoint, and its own of before are another history's.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

COPIES = "copies.jsonl"
"""A line for each copy: from whom, from which checkpoint, and with which changed values."""


class Copy(NamedTuple):
    """The newest copy.

    Attributes:
        checkpoint: The other's checkpoint.
        after: Number of the newest checkpoint that the trial had itself then; -1 for none.
    """

    checkpoint: Path
    after: int


def number_of(checkpoint: Path) -> int:
    """The number in a checkpoint folder's name."""
    return int(checkpoint.name.rpartition("_")[2])


def note_copy(folder: Path, source: str, checkpoint: str, values: Mapping[str, Any]) -> None:
    """Append a line.

    Args:
        folder: The trial's folder.
        source: The other trial's id.
        checkpoint: Its checkpoint.
        values: The values that PBT gave the trial.

    Raises:
        OSError: If it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    own = [number_of(path) for path in folder.glob("checkpoint_*")]
    line = {
        "from": source, "checkpoint": checkpoint, "after": max(own, default=-1),
        "config": dict(values),
    }  # fmt: skip
    with open(folder / COPIES, "a", encoding="utf-8") as file:
        file.write(json.dumps(line, default=str) + "\n")


def newest_copy(folder: Path) -> Copy | None:
    """The last whole line, if there is one."""
    try:
        lines = (folder / COPIES).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    for line in reversed(lines):
        try:
            found = json.loads(line)
        except ValueError:  # cut short by a kill
            continue
        return Copy(Path(found["checkpoint"]), int(found["after"]))
    return None
