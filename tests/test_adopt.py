"""A resumed trial goes on from the newest whole checkpoint there is, whatever Ray has noted."""

from pathlib import Path
from typing import Any

from app_helpers import resumable
from ray.tune import Checkpoint

from rllib_ppg._ray_compat import TrainingResult
from rllib_ppg.app.adopt import adopt_newest


def note(trial: Any, folder: Path, iteration: int) -> None:
    """Let Ray know of a checkpoint."""
    path = folder / f"checkpoint_{iteration - 1:06}"
    metrics = {"training_iteration": iteration, "noted": True}
    made = TrainingResult(checkpoint=Checkpoint.from_directory(str(path)), metrics=metrics)
    trial.run_metadata.checkpoint_manager.register_checkpoint(made)


def latest(trial: Any) -> TrainingResult | None:
    return trial.run_metadata.checkpoint_manager.latest_checkpoint_result


def test_a_checkpoint_that_ray_has_not_noted_is_taken_with_its_result(tmp_path):
    trial = resumable(tmp_path, [1, 2, 3], rows=[1, 2, 3, 4])
    note(trial, tmp_path, 1)
    adopted = adopt_newest(trial)
    assert adopted.checkpoint == tmp_path / "checkpoint_000002" and adopted.notes == []
    assert adopted.result is not None and adopted.result["timesteps_total"] == 300
    newest = latest(trial)
    assert newest.checkpoint.path == str(adopted.checkpoint)
    assert newest.metrics["training_iteration"] == 3 and newest.metrics["timesteps_total"] == 300


def test_what_ray_has_noted_of_the_newest_stays(tmp_path):
    trial = resumable(tmp_path, [1, 2])
    note(trial, tmp_path, 1)
    note(trial, tmp_path, 2)
    assert adopt_newest(trial).result is None
    assert latest(trial).metrics == {"training_iteration": 2, "noted": True}


def test_a_broken_checkpoint_is_named_and_passed_over(tmp_path):
    trial = resumable(tmp_path, [1, 2, 3])
    for iteration in (1, 2, 3):
        note(trial, tmp_path, iteration)
    (tmp_path / "checkpoint_000002/weights").write_bytes(bytes(99))
    adopted = adopt_newest(trial)
    assert adopted.checkpoint == tmp_path / "checkpoint_000001"
    assert len(adopted.notes) == 1 and "weights is truncated" in adopted.notes[0]
    assert latest(trial).metrics["training_iteration"] == 2
    assert (tmp_path / "checkpoint_000002").is_dir(), "it is left to the user"


def test_without_a_whole_one_the_trial_begins_again(tmp_path):
    trial = resumable(tmp_path, [1])
    note(trial, tmp_path, 1)
    (tmp_path / "checkpoint_000000/rllib_ppg.json").unlink()
    adopted = adopt_newest(trial)
    assert adopted.checkpoint is None and latest(trial) is None and len(adopted.notes) == 1


def test_checkpoints_that_are_gone_are_forgotten_and_old_ones_are_deleted_as_ever(tmp_path):
    trial = resumable(tmp_path, [2, 3, 4], keep=2)
    note(trial, tmp_path, 2)
    note(trial, tmp_path, 3)
    for path in (tmp_path / "checkpoint_000001").iterdir():
        path.unlink()
    (tmp_path / "checkpoint_000001").rmdir()
    adopt_newest(trial)
    left = trial.run_metadata.checkpoint_manager._checkpoint_results
    assert [r.metrics["training_iteration"] for r in left] == [3, 4]


def test_older_checkpoints_that_ray_has_not_noted_are_deleted_when_due(tmp_path):
    trial = resumable(tmp_path, [1, 2, 3, 4, 5], keep=2)
    note(trial, tmp_path, 1)
    adopted = adopt_newest(trial)
    assert adopted.checkpoint is not None
    assert sorted(p.name for p in tmp_path.glob("checkpoint_*")) == [
        "checkpoint_000003", "checkpoint_000004",
    ]  # fmt: skip


def test_old_broken_checkpoints_are_deleted_before_whole_ones(tmp_path):
    trial = resumable(tmp_path, [4, 8], keep=1)
    note(trial, tmp_path, 8)
    (tmp_path / "checkpoint_000003/weights").write_bytes(bytes(99))  # passed over long ago
    adopted = adopt_newest(trial)
    assert adopted.checkpoint == tmp_path / "checkpoint_000007" and adopted.notes == []
    assert latest(trial).metrics["training_iteration"] == 8
    assert [path.name for path in tmp_path.glob("checkpoint_*")] == ["checkpoint_000007"]


def test_where_the_best_are_kept_the_newest_is_noted_by_its_score(tmp_path):
    trial = resumable(tmp_path, [1, 2, 3], keep=2, score="training_iteration")
    note(trial, tmp_path, 2)
    adopt_newest(trial)
    left = trial.run_metadata.checkpoint_manager._checkpoint_results
    assert [r.metrics["training_iteration"] for r in left] == [2, 3]
    assert (tmp_path / "checkpoint_000000").is_dir(), "it may be one of the best"
