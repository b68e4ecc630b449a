"""App: Tune's notes about an experiment, kept whole.

Tune writes them (trials, searcher, its own settings) to a temporary folder every few seconds, and
copies that to the results every five minutes, in place: a process that is killed meanwhile leaves
old notes, or half a file.
"""

import json
import os
import pickletools
import shutil
from pathlib import Path
from typing import Any

TRIALS = "experiment_state-*.json"
"""Tune's notes about the trials, one file for each process that has trained them."""

SETTINGS = "tuner.pkl"
_PATTERNS = (TRIALS, SETTINGS, "*state-*.json", "*state-*.pkl", "callback-states-*.pkl")
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
        folder = Path(storage.experiment_fs_path)
        for path in _notes(Path(storage.experiment_driver_staging_path), folder):
            changed = path.stat().st_mtime_ns
            if self._copied.get(path.name) == changed:
                continue
            try:
                _copy(path, kept_path(folder, path.name))
            except OSError:
                return  # tried again at the next step; of a full disk the results' files tell
            self._copied[path.name] = changed


def _notes(staging: Path, folder: Path) -> set[Path]:
    """The notes in Tune's temporary folder; its settings stand in the results from the start."""
    found = {path for pattern in _PATTERNS for path in staging.glob(pattern)}
    if staging / SETTINGS not in found and (folder / SETTINGS).is_file():
        found.add(folder / SETTINGS)
    return found


def _copy(path: Path, place: Path) -> None:
    """Copy a file so that it is there whole or not at all; its time stays."""
    temporary = place.with_name(f"{place.name}.{os.getpid()}")
    try:
        shutil.copy2(path, temporary)
        temporary.replace(place)
    finally:
        temporary.unlink(missing_ok=True)


def kept_path(folder: Path, name: str) -> Path:
    """Where our copy of a file stands: under a name that Tune does not write to."""
    return folder / f".{name}{_KEPT}"


def mend_notes(folder: Path) -> bool:
    """Put kept notes in place of those that Tune has left old or half written; drop half ones.

    Returns:
        Whether there are notes about trials then.

    Raises:
        OSError: If the folder cannot be written.
    """
    for kept in folder.glob(f".*{_KEPT}"):
        own = folder / kept.name[1 : -len(_KEPT)]
        newer = own.exists() and own.stat().st_mtime_ns >= kept.stat().st_mtime_ns
        if not (newer and _is_whole(own)) and _is_whole(kept):
            _copy(kept, own)
    for path in (*folder.glob(TRIALS), *folder.glob(SETTINGS)):
        if not _is_whole(path):
            path.unlink()
    return any(folder.glob(TRIALS)) and (folder / SETTINGS).exists()


def _is_whole(path: Path) -> bool:
    """Whether a file is whole JSON, or a whole pickle, which is not loaded for that."""
    data = path.read_bytes()
    try:
        if data[:1] in (b"{", b"["):
            json.loads(data)
            return True
        *_, last = pickletools.genops(data)
    except Exception:  # a damaged pickle raises anything
        return False
    return bool(last[2] == len(data) - 1)


def noted_trials(folder: Path) -> set[str]:
    """Ids of the trials in the notes that Tune goes by: the newest ones."""
    newest = max(folder.glob(TRIALS), key=lambda path: path.name)
    content = json.loads(newest.read_text(encoding="utf-8"))
    return {json.loads(state)["trial_id"] for state, _ in content["trial_data"]}
