"""A challenge that is killed goes on without repeating finished trials or evaluations."""

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from challenge_files import EXPERIMENT, challenge_file
from fault_runs import MARK, kill, left_over, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

# A worker beside the learner, so that on two CPUs one trial runs after the other.
ONE_BY_ONE = {**EXPERIMENT, "config": {**EXPERIMENT["config"], "num_env_runners": 1}}


class Challenges:
    """Starts of `rllib challenge` in one folder."""

    def __init__(self, folder: Path) -> None:
        self.file = challenge_file(folder, ONE_BY_ONE)
        self.folder = folder / "results" / "tiny"
        self.token = secrets.token_hex(8)
        self.log = folder / "log.txt"
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, *flags: str) -> subprocess.Popen[bytes]:
        words = ["challenge", "-f", str(self.file), "--out", str(self.folder.parent), *flags]
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "rllib_ppg", *words, "--ray-num-cpus", "2"],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
                env={**os.environ, MARK: self.token},
            )  # fmt: skip
        self.processes.append(process)
        return process

    def finished(self, track: str) -> dict[str, int]:
        """When each finished trial of a track and each evaluation was last written to."""
        trials = [
            path
            for path in self.folder.glob(f"{track}/*/result.json")
            if '"done": true' in path.read_text()
        ]
        found = [*trials, *self.folder.glob("evaluations/*.json")]
        return {str(path.relative_to(self.folder)): path.stat().st_mtime_ns for path in found}

    def rows(self, track: str) -> int:
        """Results of a track's trials so far."""
        files = self.folder.glob(f"{track}/*/result.json")
        return sum(len(path.read_text().splitlines()) for path in files)


@pytest.fixture
def challenges(tmp_path: Path) -> Iterator[Challenges]:
    made = Challenges(tmp_path)
    yield made
    for process in made.processes:
        if process.poll() is None:
            process.kill()
            process.wait()
    wait_until(lambda: not left_over(made.token), "the end of all processes")


def test_a_killed_challenge_repeats_nothing_that_was_finished(challenges: Challenges):
    track = "sample_efficiency"
    process = challenges.start()
    # One trial is finished and the other has begun.
    wait_until(lambda: challenges.finished(track) and challenges.rows(track) > 11, "it", process)
    first = challenges.finished(track)
    kill(process)
    wait_until(lambda: not left_over(challenges.token), "the end of Ray")
    assert len(first) == 1

    process = challenges.start("--resume")
    count = lambda: len(challenges.finished("generalization"))  # noqa: E731
    wait_until(lambda: count() >= 5, "evaluations of the second track", process)
    second = {**challenges.finished(track), **challenges.finished("generalization")}
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    assert first.items() <= second.items()
    assert "--resume" in challenges.log.read_text()

    assert challenges.start("--resume").wait(200) == 0
    last = {**challenges.finished(track), **challenges.finished("generalization")}
    assert second.items() <= last.items() and len(last) == 4 + 6
    results = json.loads((challenges.folder / "results.json").read_text())
    assert len(results["runs"]) == 4 and results["missing"] == []
    assert all(run["env_steps_trained"] == 768 for run in results["runs"])
    assert all(run["aux_phases"] == 2 for run in results["runs"])
    # Six iterations and two phases of two slices at least, each written once.
    trials = [path.parent for path in challenges.folder.glob("*/*/result.json")]
    assert len(trials) == 4
    report = (challenges.folder / "report.md").read_text()
    assert "score table easy_challenge" in report and "figures/gap.png" in report
