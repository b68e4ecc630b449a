"""A trial's checkpoints appear whole, with the highest number, and a failed one leaves nothing."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.fs
import pytest

from rllib_ppg.algorithm import trial_checkpoints


class Storage(SimpleNamespace):
    """What is used of Ray's `StorageContext`; it counts a trial's checkpoints from -1 on."""

    @property
    def checkpoint_fs_path(self) -> str:
        return f"{self.trial_fs_path}/checkpoint_{self.current_checkpoint_index:06}"

    def _check_validation_file(self) -> None:
        pass


def storage(folder: Path, index: int = -1) -> Storage:
    filesystem = pyarrow.fs.LocalFileSystem()
    return Storage(
        trial_fs_path=str(folder), storage_filesystem=filesystem, current_checkpoint_index=index
    )


def write(folder: str) -> None:
    Path(folder, "weights").write_text("w")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_checkpoint_gets_its_place_when_it_is_whole(tmp_path):
    seen: list[Any] = []

    def watched(folder: str) -> None:
        write(folder)
        seen.append(names(tmp_path))

    made = trial_checkpoints.save(watched, {"training_iteration": 4}, storage(tmp_path))
    assert seen == [[trial_checkpoints.UNFINISHED]]
    assert names(tmp_path) == ["checkpoint_000000"]
    assert made.checkpoint.path == str(tmp_path / "checkpoint_000000")
    assert made.metrics == {"training_iteration": 4}
    assert (tmp_path / "checkpoint_000000/weights").read_text() == "w"


def test_the_newest_checkpoint_has_the_highest_number_whatever_ray_remembers(tmp_path):
    (tmp_path / "checkpoint_000038").mkdir()
    (tmp_path / "checkpoint_000039").mkdir()
    for expected in ("checkpoint_000040", "checkpoint_000041"):
        trial_checkpoints.save(write, {}, storage(tmp_path, index=5))
        assert names(tmp_path)[-1] == expected


def test_one_that_cannot_be_written_leaves_nothing(tmp_path):
    def full(folder: str) -> None:
        write(folder)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        trial_checkpoints.save(full, {}, storage(tmp_path))
    assert names(tmp_path) == []


def test_what_a_killed_process_left_is_cleared_away(tmp_path):
    (tmp_path / trial_checkpoints.UNFINISHED).mkdir()
    (tmp_path / trial_checkpoints.UNFINISHED / "rest").write_text("r")
    trial_checkpoints.save(write, {}, storage(tmp_path))
    assert names(tmp_path) == ["checkpoint_000000"]
    assert names(tmp_path / "checkpoint_000000") == ["weights"]
