"""App: `--resume` goes on from the newest whole checkpoint that lies in a trial's folder.

Tune's notes about its trials are some seconds old when a process is killed: newer checkpoints may
lie there, and the one that they name may be gone, or broken since.
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
from rllib_ppg.app.result_files import ITERATION, result_at


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
    known = [r for r in manager._checkpoint_results if Path(r.checkpoint.path).is_dir()]
    broken = {path for path, _ in found.passed_over}
    manager._checkpoint_results = [r for r in known if Path(r.checkpoint.path) not in broken]
    if found.path is None:
        if not trial.restore_path:
            manager._latest_checkpoint_result = None
        return Adopted(None, None, notes)
    summary = check_checkpoint(found.path)
    made = at(found.path, summary)
    result = result_at(folder, made.metrics[ITERATION])
    made.metrics = {**(result or {}), **made.metrics}
    _register_others(manager, folder, known, skip={found.path, *broken})
    same = [r for r in known if Path(r.checkpoint.path) == found.path]
    if same:
        manager._latest_checkpoint_result = same[0]
    else:
        manager.register_checkpoint(made)
    return Adopted(found.path, result, notes)


def _register_others(
    manager: Any, folder: Path, known: list[TrainingResult], skip: set[Path]
) -> None:
    """Tell Ray of older checkpoints that it has not noted, so that it deletes them when due.

    Where it keeps the best ones, those stay.
    """
    if manager.checkpoint_config.checkpoint_score_attribute is not None:
        return
    noted = {Path(result.checkpoint.path) for result in known}
    for path in reversed(checkpoint_folders(folder)):
        if path not in skip | noted:
            checkpoint = Checkpoint.from_directory(str(path))
            manager.register_checkpoint(TrainingResult(checkpoint=checkpoint, metrics={}))
