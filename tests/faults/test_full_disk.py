"""A real full disk while checkpoints and results are written."""

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_runs import ITERATIONS, Runs, differences, kill, left_over, state_of, wait_until

from rllib_ppg.algorithm.checkpoint_files import check_checkpoint, newest_whole

MEGABYTES = 24


class SmallDisk:
    """A folder that can be filled up: a tmpfs, where this process may mount one.

    Elsewhere a trial's folder is put out of reach instead, so that every write to it fails.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "tmpfs", str(folder)]
        self.mounted = not subprocess.run(mount, capture_output=True).returncode

    def fill(self, trial: Path) -> None:
        if not self.mounted:
            if trial.is_dir():
                trial.rename(trial.with_name("away"))
                trial.write_text("in the way")
            return
        with (self.folder / "ballast").open("ab", buffering=0) as file:
            with contextlib.suppress(OSError):
                while file.write(bytes(4096)):
                    pass

    def free(self, trial: Path) -> None:
        if not self.mounted:
            trial.unlink()
            trial.with_name("away").rename(trial)
            return
        (self.folder / "ballast").unlink()

    def close(self) -> None:
        if self.mounted:
            subprocess.run(["umount", str(self.folder)], check=True)


@pytest.fixture
def disk(tmp_path) -> Iterator[SmallDisk]:
    made = SmallDisk(tmp_path / "disk")
    yield made
    made.close()


def printed_iterations(runs: Runs) -> int:
    return runs.output.count(" iteration ")


def fill(runs: Runs, disk: SmallDisk) -> Path:
    """Start, fill the disk after some checkpoints, and let it go on for some more iterations."""
    process = runs.start()
    wait_until(lambda: len(runs.rows()) >= 6, "results", process)
    trial = runs.trial
    disk.fill(trial)
    wait_until(lambda: "No checkpoint was written" in runs.output, "a message", process)
    there = printed_iterations(runs)
    wait_until(lambda: printed_iterations(runs) >= there + 5, "more iterations", process)
    return trial


@pytest.mark.slow
def test_training_goes_on_while_the_disk_is_full(make_runs, undisturbed, disk):
    runs = make_runs(ITERATIONS)
    runs.storage.symlink_to(disk.folder)
    trial = fill(runs, disk)
    disk.free(trial)
    assert runs.processes[-1].wait(240) == 0, runs.output
    final, expected = newest_whole(runs.trial).path, undisturbed.checkpoints()[-1]
    assert differences(state_of(final), state_of(expected)) == []
    assert [row["training_iteration"] for row in runs.rows()] == list(range(1, ITERATIONS + 1))
    assert "Traceback" not in runs.output


@pytest.mark.slow
def test_a_disk_that_stays_full_costs_the_last_checkpoints_and_says_so(make_runs, disk):
    runs = make_runs(ITERATIONS)
    runs.storage.symlink_to(disk.folder)
    trial = fill(runs, disk)
    older = newest_whole(trial).path if disk.mounted else None
    process = runs.processes[-1]
    while process.poll() is None:  # what is deleted there makes no room for long
        disk.fill(trial)
        time.sleep(0.05)
    assert process.returncode == 1, runs.output
    assert "a newer one could not be written" in runs.output
    assert "results cannot be written" in runs.output
    assert "Traceback" not in runs.output
    if older is not None:
        assert check_checkpoint(older)["training_iteration"] >= 5
        assert not list(trial.glob(".checkpoint_unfinished/*"))


@pytest.mark.slow
def test_a_resume_while_the_disk_is_full_is_refused_and_later_goes_on(make_runs, disk):
    if not disk.mounted:
        pytest.skip("needs a disk of its own: run it where tmpfs can be mounted")
    runs = make_runs(ITERATIONS)
    runs.storage.symlink_to(disk.folder)
    process = runs.start()
    wait_until(lambda: len(runs.rows()) >= 6, "results", process)
    kill(process)
    wait_until(lambda: not left_over(runs.token), "the end of Ray")
    trial = runs.trial
    disk.fill(trial)
    assert runs.run("--resume") == 2, runs.output
    assert "results cannot be written" in runs.output and "Traceback" not in runs.output
    disk.free(trial)
    assert runs.run("--resume") == 0, runs.output
    assert [row["training_iteration"] for row in runs.rows()] == list(range(1, ITERATIONS + 1))
