"""App: a trial's results as result.json and progress.csv, each training iteration once.

Ray's own loggers write to a temporary folder that is copied to the results from time to time, and
write an iteration that is repeated after a restart a second time. These write to their place at
once, and a repeated iteration replaces what came after the checkpoint.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ray import cloudpickle
from ray.tune.utils import flatten_dict
from ray.tune.utils.util import SafeFallbackEncoder

from rllib_ppg.app.run_folder import write_text

RESULTS, TABLE = "result.json", "progress.csv"
ITERATION = "training_iteration"

Row = Mapping[str, Any]


class ResultFiles:
    """The files of one trial.

    A result that cannot be written, because the disk is full for instance, is written together with
    the next one.

    Args:
        folder: The trial's folder, which is made if it is not there.
        config: The trial's configuration, for params.json and params.pkl.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        self._folder = folder
        self._config = config
        self._waiting: list[Row] = []
        self._newest: int | None = None  # iteration of the last row; None: not known
        self._sizes: dict[str, int] = {}  # bytes of each file up to there
        self._columns: list[str] = []

    def write(self, result: Row) -> None:
        """Append a result; one of an earlier iteration replaces what was written from there on.

        Raises:
            OSError: If it cannot be written; it is kept.
        """
        self._waiting.append(result)
        if self._newest is None:
            self._newest = self._begin()
        first = iteration_of(self._waiting[0])
        if first <= self._newest:
            kept = [row for row in results(self._folder) if iteration_of(row) < first]
            self._newest = None
            self._newest = self._replace(kept)
        self._append(self._waiting)
        self._newest = iteration_of(self._waiting[-1])
        self._waiting = []

    def _begin(self) -> int:
        """Make or mend the files; returns the last iteration in them.

        A process that was killed may have left half a line, or one file behind the other.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        if not (self._folder / "params.json").exists():
            (self._folder / "params.pkl").write_bytes(cloudpickle.dumps(dict(self._config)))
            text = json.dumps(self._config, indent=2, sort_keys=True, cls=SafeFallbackEncoder)
            write_text(self._folder / "params.json", text)
        return self._replace(list(results(self._folder)))

    def _replace(self, rows: Sequence[Row]) -> int:
        """Write both files anew; returns the last iteration in them, -1 where there is none."""
        write_text(self._folder / RESULTS, _lines(rows))
        self._columns = list(dict.fromkeys(name for row in rows for name in _flat(row)))
        write_text(self._folder / TABLE, _table(rows, self._columns, header=True) if rows else "")
        self._measure()
        return iteration_of(rows[-1]) if rows else -1

    def _append(self, rows: Sequence[Row]) -> None:
        """Append to both files, in place of what an attempt that failed has left there."""
        header = not self._columns
        columns = self._columns or list(_flat(rows[0]))
        table = _table(rows, columns, header=header)
        for name, text in ((RESULTS, _lines(rows)), (TABLE, table)):
            with open(self._folder / name, "ab") as file:
                file.truncate(self._sizes[name])
                file.write(text.encode())
        self._columns = columns
        self._measure()

    def _measure(self) -> None:
        self._sizes = {name: (self._folder / name).stat().st_size for name in (RESULTS, TABLE)}


def _table(rows: Iterable[Row], columns: Sequence[str], *, header: bool) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(_flat(row) for row in rows)
    return text.getvalue()


def _lines(rows: Iterable[Row]) -> str:
    return "".join(json.dumps(row, cls=SafeFallbackEncoder) + "\n" for row in rows)


def _flat(row: Row) -> dict[str, Any]:
    return dict(flatten_dict({k: v for k, v in row.items() if k != "config"}, "/"))


def iteration_of(row: Row) -> int:
    """The training iteration of a result."""
    return int(row.get(ITERATION, 0))


def results(folder: Path) -> Iterator[dict[str, Any]]:
    """The results in a trial's result.json; what is no whole line is left out."""
    path = folder / RESULTS
    if not path.exists():
        return
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict) and line.endswith("\n"):
                yield row


def result_at(folder: Path, iteration: int) -> dict[str, Any] | None:
    """The result of a training iteration, if it was written."""
    return next((row for row in results(folder) if iteration_of(row) == iteration), None)
