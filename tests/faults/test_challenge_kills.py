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
from challenge_files import challenge_file
from fault_runs import MARK, kill, left_over, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]

LIMIT_S = 900
ONE_BY_ONE = ("--ray-num-cpus", "1")
"""A trial takes one CPU, so that they run one after the other."""


class Challenges:
    """Starts of `rllib challenge` in one folder."""

    def __init__(self, folder: Path) -> None:
        self.file = challenge_file(folder, track="generalization")
        self.folder = folder / "results" / "tiny"
        self.token = secrets.token_hex(8)
        self.log = folder / "log.txt"
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, *flags: str) -> subprocess.Popen[bytes]:
        words = ["challenge", "-f", str(self.file), "--out", str(self.folder.parent), *flags]
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "rllib_ppg", *words, *ONE_BY_ONE],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
                env={**os.environ, MARK: self.token},
            )  # fmt: skip
        self.processes.append(process)
        return process

    def finished(self) -> dict[str, int]:
        """When each finished trial and each evaluation was last written to."""
        trials = [
            path
            for path in self.folder.glob("generalization/*/result.json")
            if '"done": true' in path.read_text()
        ]
        found = [*trials, *self.folder.glob("evaluations/*.json")]
        return {str(path.relative_to(self.folder)): path.stat().st_mtime_ns for path in found}

    def rows(self) -> list[int]:
        """Training iterations of each trial so far."""
        files = self.folder.glob("generalization/*/result.json")
        return [len(path.read_text().splitlines()) for path in files]


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
    process = challenges.start()
    begun = lambda: len(challenges.finished()) == 1 and len(challenges.rows()) == 2  # noqa: E731
    wait_until(begun, "one trial that is over and another under way", process, LIMIT_S)
    kill(process)
    first = challenges.finished()
    wait_until(lambda: not left_over(challenges.token), "the end of Ray", limit_s=LIMIT_S)
    assert len(first) == 1

    process = challenges.start("--resume")
    wait_until(lambda: len(challenges.finished()) > 2, "an evaluation", process, LIMIT_S)
    process.send_signal(signal.SIGTERM)
    assert process.wait(LIMIT_S) in (143, 0)
    second = challenges.finished()
    assert first.items() <= second.items()

    assert challenges.start("--resume").wait(LIMIT_S) == 0
    last = challenges.finished()
    assert second.items() <= last.items() and len(last) == 2 + 4
    results = json.loads((challenges.folder / "results.json").read_text())
    assert len(results["runs"]) == 2 and results["missing"] == []
    assert all(run["env_steps_trained"] == 768 for run in results["runs"])
    assert all(run["aux_phases"] == 2 for run in results["runs"])
    report = (challenges.folder / "report.md").read_text()
    assert "score table easy_challenge" in report and "figures/gap.png" in report
    assert "Traceback" not in challenges.log.read_text()
