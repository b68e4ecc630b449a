"""A trial's checkpoints appear whole, with the highest number, and a failed one leaves nothing."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.fs
import pytest
from ray.train._internal.storage import StorageContext

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


@pytest.mark.parametrize("local", [True, False])
def test_a_place_that_is_gone_is_an_error_of_the_storage_wherever_it_is(tmp_path, local):
    local_files = pyarrow.fs.LocalFileSystem()
    filesystem = local_files if local else pyarrow.fs.SubTreeFileSystem(str(tmp_path), local_files)
    place = StorageContext(
        str(tmp_path / "results") if local else "results", "run",
        storage_filesystem=filesystem, trial_dir_name="trial",
    )  # fmt: skip
    made = trial_checkpoints.save(write, {}, place)
    (folder,) = (tmp_path / "results/run/trial").iterdir()
    assert made.checkpoint.path.endswith(folder.name) and names(folder) == ["weights"]
    shutil.rmtree(tmp_path / "results")
    with pytest.raises(FileNotFoundError, match="the run's folder is not there"):
        trial_checkpoints.save(write, {}, place)
    assert not (tmp_path / "results").exists()
