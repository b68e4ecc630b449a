"""App: `--resume` goes on from the newest whole checkpoint that lies in a trial's folder.

Tune's notes about its trials are some seconds old when a process is killed: newer checkpoints may
lie there, and the one that they name may be gone, or broken since. A trial of PBT that has copied
another one goes on from that one's checkpoint until it has written one itself.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ray.tune import Checkpoint
from ray.tune.experiment import Trial

from rllib_ppg._ray_compat import TrainingResult
from rllib_ppg.algorithm.checkpoint_files import (
    check_checkpoint,
    checkpoint_folders,
    newest_whole,
)
from rllib_ppg.algorithm.trial_checkpoints import at
from rllib_ppg.app.copies import newest_copy, number_of
from rllib_ppg.app.result_files import ITERATION, result_at
from rllib_ppg.errors import UserError


class Adopted(NamedTuple):
    """What a trial goes on from.

    Attributes:
        checkpoint: The newest whole checkpoint, or None.
        result: The result that belongs to it, if it is known.
        notes: The checkpoints that were passed over, and why.
    """

    checkpoint: Path | None
    result: Mapping[str, Any] | None
    notes: list[str]


def adopt_newest(trial: Trial) -> Adopted:
    """Let a PPG trial on this machine's file system go on from its newest whole checkpoint."""
    folder = Path(trial.path)
    found = newest_whole(folder)
    notes = [problem for _, problem in found.passed_over]
    manager = trial.run_metadata.checkpoint_manager
    copied = _copied(manager, folder, found.path)
    if copied is not None:
        return Adopted(copied, None, notes)
    broken = {path for path, _ in found.passed_over}
    noted = {Path(r.checkpoint.path): r for r in manager._checkpoint_results}
    noted = {path: r for path, r in noted.items() if path.is_dir() and path not in broken}
    if found.path is None:
        manager._checkpoint_results = list(noted.values())
        if not trial.restore_path:
            manager._latest_checkpoint_result = None
        return Adopted(None, None, notes)
    made = at(found.path, found.summary)
    result = result_at(folder, made.metrics[ITERATION])
    made.metrics = {**(result or {}), **made.metrics}
    newest = noted.pop(found.path, made)
    manager._checkpoint_results = _others(manager, folder, noted, broken | {found.path})
    manager.register_checkpoint(newest)
    return Adopted(found.path, result, notes)


def _copied(manager: Any, folder: Path, newest: Path | None) -> Path | None:
    """The checkpoint of another trial that this one has copied and not yet gone on from."""
    copy, noted = newest_copy(folder), manager._latest_checkpoint_result
    if copy is None or noted is None or Path(noted.checkpoint.path) != copy.checkpoint:
        return None
    if newest is not None and number_of(newest) > copy.after:
        return None
    try:
        check_checkpoint(copy.checkpoint)
    except UserError:  # then its own of before, if there is one
        return None
    return copy.checkpoint


def _others(
    manager: Any, folder: Path, noted: Mapping[Path, TrainingResult], skip: set[Path]
) -> list[TrainingResult]:
    """Return the checkpoints beside the newest in Ray's order, from which it deletes at the front.

    That is the order of their making, and then those that Ray has not noted belong there too; or,
    where it keeps the best ones, that of their scores.
    """
    if manager.checkpoint_config.checkpoint_score_attribute is not None:
        return list(noted.values())
    oldest_first = [path for path in reversed(checkpoint_folders(folder)) if path not in skip]
    return [noted.get(path) or _unnoted(path) for path in oldest_first]


def _unnoted(path: Path) -> TrainingResult:
    return TrainingResult(checkpoint=Checkpoint.from_directory(str(path)), metrics={})
