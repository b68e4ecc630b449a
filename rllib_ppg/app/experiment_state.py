"""App: Tune's notes about an experiment, `experiment_state-<time>.json`, kept whole.

Tune writes them to a temporary folder every few seconds, and copies that to the results every five
minutes, in place: a process that is killed meanwhile leaves old notes, or half a file.
"""

import json
import os
from pathlib import Path
from typing import Any

PATTERN = "experiment_state-*.json"


class ExperimentState:
    """Copies the notes to the results folder whenever they have changed."""

    def __init__(self) -> None:
        self._copied: dict[str, int] = {}

    def keep(self, storage: Any) -> None:
        """Copy what has changed.

        Args:
            storage: Ray's `StorageContext` of the experiment.
        """
        for path in Path(storage.experiment_driver_staging_path).glob(PATTERN):
            changed = path.stat().st_mtime_ns
            if self._copied.get(path.name) == changed:
                continue
            try:
                _copy(path, Path(storage.experiment_fs_path))
            except OSError:
                return  # tried again at the next step; of a full disk the results' files tell
            self._copied[path.name] = changed


def _copy(path: Path, folder: Path) -> None:
    temporary = folder / f".{path.name}.{os.getpid()}"
    try:
        temporary.write_bytes(path.read_bytes())
        temporary.replace(folder / path.name)
    finally:
        temporary.unlink(missing_ok=True)


def drop_broken_notes(folder: Path) -> bool:
    """Remove notes that a killed process left half written.

    Returns:
        Whether whole ones are there.
    """
    for path in folder.glob(PATTERN):
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            path.unlink()
    return any(folder.glob(PATTERN))
