"""App: Tune's notes about an experiment, `experiment_state-<time>.json`, kept whole.

Tune writes them to a temporary folder every few seconds, and copies that to the results every five
minutes, in place: a process that is killed meanwhile leaves old notes, or half a file.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

PATTERN = "experiment_state-*.json"
_KEPT = ".kept"


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
        temporary.replace(kept_path(folder, path.name))
    finally:
        temporary.unlink(missing_ok=True)


def kept_path(folder: Path, name: str) -> Path:
    """Where our copy of the notes stands: under a name that Tune does not write to."""
    return folder / f".{name}{_KEPT}"


def mend_notes(folder: Path) -> bool:
    """Put the kept notes in place of those that Tune may have left old or half written.

    Returns:
        Whether whole ones are there.

    Raises:
        OSError: If the folder cannot be written.
    """
    for kept in folder.glob(f".{PATTERN}{_KEPT}"):
        name = kept.name[1 : -len(_KEPT)]
        temporary = folder / f".{name}.{os.getpid()}"
        shutil.copyfile(kept, temporary)
        temporary.replace(folder / name)
    for path in folder.glob(PATTERN):
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            path.unlink()
    return any(folder.glob(PATTERN))
