"""App: Tune's notes about an experiment, kept whole.

Tune writes them (trials, searcher, its own settings) to a temporary folder every few seconds, and
copies that to the results every five minutes, file by file and in place: a process that is killed
meanwhile leaves old notes, half a file, or files of different moments. Here all of one moment are
kept in one file.
"""

import json
import os
import pickletools
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

TRIALS = "experiment_state-*.json"
"""Tune's notes about the trials, one file for each process that has trained them."""

SETTINGS = "tuner.pkl"
_PATTERNS = (TRIALS, SETTINGS, "*state-*.json", "*state-*.pkl", "callback-states-*.pkl")
KEPT = ".notes.zip"
"""Our copy of the notes: under a name that Tune does not write to."""


class ExperimentState:
    """Copies the notes to the results folder whenever they have changed."""

    def __init__(self) -> None:
        self._copied: Mapping[str, int] = {}

    def keep(self, storage: Any) -> None:
        """Copy them if one has changed.

        Args:
            storage: Ray's `StorageContext` of the experiment.
        """
        folder = Path(storage.experiment_fs_path)
        paths = _notes(Path(storage.experiment_driver_staging_path), folder)
        changed = {path.name: path.stat().st_mtime_ns for path in paths}
        if not paths or changed == self._copied:
            return
        try:
            _pack(paths, folder / KEPT)
        except OSError:
            return  # tried again at the next step; of a full disk the results' files tell
        self._copied = changed


def _notes(staging: Path, folder: Path) -> set[Path]:
    """The notes in Tune's temporary folder; its settings stand in the results from the start."""
    found = {path for pattern in _PATTERNS for path in staging.glob(pattern)}
    if staging / SETTINGS not in found and (folder / SETTINGS).is_file():
        found.add(folder / SETTINGS)
    return found


class _Note(NamedTuple):
    """One file: its content, and when it was changed, in nanoseconds."""

    data: bytes
    changed: int


def _pack(paths: Collection[Path], place: Path) -> None:
    """Copy files into one archive, which is there whole or not at all."""
    temporary = place.with_name(f"{place.name}.{os.getpid()}")
    try:
        with zipfile.ZipFile(temporary, "w") as archive:
            for path in paths:
                entry = zipfile.ZipInfo(path.name)
                entry.comment = str(path.stat().st_mtime_ns).encode()
                archive.writestr(entry, path.read_bytes())
        temporary.replace(place)
    finally:
        temporary.unlink(missing_ok=True)


def kept_notes(folder: Path) -> dict[str, _Note]:
    """The notes that were kept of a run; none where there is no whole archive."""
    try:
        with zipfile.ZipFile(folder / KEPT) as archive:
            return {
                entry.filename: _Note(archive.read(entry), int(entry.comment))
                for entry in archive.infolist()
            }
    except (FileNotFoundError, zipfile.BadZipFile, ValueError, EOFError):
        return {}


def mend_notes(folder: Path) -> bool:
    """Put kept notes in place of what Tune has left old or half written; drop half ones.

    All of them, since files of different moments contradict each other.

    Returns:
        Whether there are notes about trials then.

    Raises:
        OSError: If the folder cannot be written.
    """
    kept = kept_notes(folder)
    if any(_is_older(folder / name, note) for name, note in kept.items()):
        for name, note in kept.items():
            _write(folder / name, note)
    for path in (*folder.glob(TRIALS), *folder.glob(SETTINGS)):
        if not _is_whole(path.read_bytes()):
            path.unlink()
    return any(folder.glob(TRIALS)) and (folder / SETTINGS).exists()


def _is_older(own: Path, note: _Note) -> bool:
    """Whether Tune's file is older than the kept one, missing, or not whole."""
    if not own.exists() or own.stat().st_mtime_ns < note.changed:
        return True
    return not _is_whole(own.read_bytes()) and _is_whole(note.data)


def _write(path: Path, note: _Note) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(note.data)
        os.utime(temporary, ns=(note.changed, note.changed))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _is_whole(data: bytes) -> bool:
    """Whether a file is whole JSON, or a whole pickle, which is not loaded for that."""
    if data[:1] in (b"{", b"["):
        try:
            json.loads(data)
            return True
        except ValueError:
            return False
    try:
        *_, last = pickletools.genops(data)
    except Exception:  # a damaged pickle raises anything
        return False
    return bool(last[2] == len(data) - 1)


def noted_trials(folder: Path) -> set[str]:
    """Ids of the trials in the notes that Tune goes by: the newest ones."""
    newest = max(folder.glob(TRIALS), key=lambda path: path.name)
    content = json.loads(newest.read_text(encoding="utf-8"))
    return {json.loads(state)["trial_id"] for state, _ in content["trial_data"]}
