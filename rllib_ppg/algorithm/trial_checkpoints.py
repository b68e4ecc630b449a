"""Algorithm: the checkpoints of a Tune trial, `checkpoint_000000` and so on in its folder.

Ray writes a checkpoint to the machine's temporary folder and copies it to its place file by file.
Where the place is a file system of this machine, here it is written beside its place and renamed,
so that a folder of that name is whole, is written once, and no rest of a killed process stays.
"""

import errno
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pyarrow.fs import FileSelector, LocalFileSystem
from ray.tune import Checkpoint

from rllib_ppg._ray_compat import TrainingResult
from rllib_ppg.algorithm.checkpoint_files import check_checkpoint, checkpoint_path, newest_whole
from rllib_ppg.errors import UserError

UNFINISHED = ".checkpoint_unfinished"
"""A trial's folder for the checkpoint that is being written."""

COUNTERS = ("training_iteration", "time_total_s", "timesteps_total", "episodes_total")
"""What Ray counts on from a checkpoint; it notes them elsewhere, the manifest holds them too."""


def save(write: Callable[[str], None], metrics: Mapping[str, Any], storage: Any) -> TrainingResult:
    """Write the next checkpoint of a trial.

    Args:
        write: Writes a checkpoint into a folder.
        metrics: The newest result.
        storage: Ray's `StorageContext` of the trial.

    Raises:
        OSError: If it cannot be written; nothing of it is left then.
    """
    _check_place(storage)
    local = isinstance(storage.storage_filesystem, LocalFileSystem)
    folder = _unfinished(storage) if local else Path(tempfile.mkdtemp())
    try:
        write(str(folder))
        checkpoint = _rename(folder, storage) if local else _upload(folder, storage)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return TrainingResult(checkpoint=checkpoint, metrics=dict(metrics))


def _check_place(storage: Any) -> None:
    """Look whether this machine sees the run's folder, and not one of its own."""
    try:
        storage._check_validation_file()
    except RuntimeError as error:
        problem = "the run's folder is not there, or is not the driver's"
        raise FileNotFoundError(errno.ENOENT, problem, storage.experiment_fs_path) from error


def _unfinished(storage: Any) -> Path:
    folder = Path(storage.trial_fs_path, UNFINISHED)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _rename(folder: Path, storage: Any) -> Checkpoint:
    _count_on(storage)
    folder.rename(storage.checkpoint_fs_path)
    return Checkpoint(storage.checkpoint_fs_path, storage.storage_filesystem)


def _upload(folder: Path, storage: Any) -> Checkpoint:
    _count_on(storage)
    made: Checkpoint = storage.persist_current_checkpoint(Checkpoint.from_directory(str(folder)))
    return made


def _count_on(storage: Any) -> None:
    """Give the next checkpoint the highest number; the one that Ray kept may be an old one."""
    selector = FileSelector(storage.trial_fs_path, allow_not_found=True)
    names = [info.base_name for info in storage.storage_filesystem.get_file_info(selector)]
    numbers = [int(name[11:]) for name in names if re.fullmatch(r"checkpoint_\d+", name)]
    storage.current_checkpoint_index = 1 + max([storage.current_checkpoint_index, *numbers])


class Whole(NamedTuple):
    """A checkpoint to restore.

    Attributes:
        result: It, with Ray's counters.
        summary: Its manifest's, where it was checked; one on other storage is once it is here.
        notices: What there is to say about it.
    """

    result: TrainingResult
    summary: Mapping[str, Any] | None
    notices: list[str]


def whole(given: Any) -> Whole:
    """Find what to restore: the given checkpoint or, if Tune chose a broken one, an earlier one.

    Args:
        given: A folder, Ray's `Checkpoint`, or a `TrainingResult` with one.

    Raises:
        UserError: If the checkpoint is broken and there is no earlier whole one.
    """
    result = _as_result(given)
    if not isinstance(result.checkpoint.filesystem, LocalFileSystem):
        return Whole(result, None, [])
    folder = Path(result.checkpoint.path)
    try:
        summary = check_checkpoint(folder)
    except UserError as error:
        chosen_by_tune = bool(result.metrics)
        found = newest_whole(folder.parent, before=folder)
        if found.path is None or not chosen_by_tune:
            raise
        notices = [f"{error} Going on from {found.path.name}."]
        return Whole(at(found.path, found.summary), found.summary, notices)
    return Whole(result if result.metrics else at(folder, summary), summary, [])


def _as_result(given: Any) -> TrainingResult:
    if isinstance(given, TrainingResult):
        return given
    if not isinstance(given, Checkpoint):
        given = Checkpoint(given if "://" in str(given) else str(checkpoint_path(given)))
    return TrainingResult(checkpoint=given, metrics={})


def at(folder: Path, summary: Mapping[str, Any]) -> TrainingResult:
    """Describe a whole checkpoint as Ray does, with the counters of its manifest's summary."""
    counters = summary.get("counters", {})
    return TrainingResult(
        checkpoint=Checkpoint.from_directory(str(folder)),
        metrics={name: counters[name] for name in COUNTERS if name in counters},
    )
