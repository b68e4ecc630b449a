"""`rllib submit` against a real cluster whose Python does not have the package.

Needs a job server: pip install ".[dev,cluster]". `test_jobs.py` and `test_submit.py` have a look at
the same without one.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from app_helpers import SET_SMALL
from own_cluster import OwnCluster, python_without_the_package

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

ROOT = Path(__file__).resolve().parents[2]
MELTING = """
import gymnasium
from ray.tune.registry import register_env

class Melting(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (3,))
    action_space = gymnasium.spaces.Discrete(2)
    steps = 0

    def reset(self, *, seed=None, options=None):
        return self.observation_space.sample(), {}

    def step(self, action):
        self.steps += 1
        if self.steps > 40:
            raise RuntimeError("the reactor has melted")
        return self.observation_space.sample(), 1.0, False, False, {}

register_env("melting", lambda config: Melting())
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnCluster]:
    python = python_without_the_package(tmp_path_factory.mktemp("python") / "venv")
    imported = subprocess.run(
        [str(python), "-c", "import ray, torch, procgen; import rllib_ppg"],
        cwd="/", env={"HOME": "/tmp"}, capture_output=True, text=True,
    )  # fmt: skip
    assert "No module named 'rllib_ppg'" in imported.stderr, imported.stderr
    one = OwnCluster(python)
    try:
        one.wait_until_up()
        yield one
    finally:
        one.end()


def submit(cluster: OwnCluster, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rllib_ppg", "submit", "--address", cluster.address, *words],
        cwd=ROOT, env={**cluster.environment, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip


def test_an_experiment_trains_to_its_end(cluster: OwnCluster, tmp_path: Path):
    run = submit(
        cluster, "-f", "experiments/ppg_cartpole.yaml", *SET_SMALL, "--storage-path",
        str(tmp_path), "--stop", "{training_iteration: 4}",
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert "ppg-cartpole: done" in run.stdout and "iteration 4" in run.stdout
    assert "succeeded, exit code 0" in run.stdout and run.stderr == ""
    assert list(tmp_path.glob("ppg-cartpole/PPG_*/checkpoint_*"))
    (command,) = re.findall(r"^  rllib submit .*--restore.*$", run.stdout, re.MULTILINE)
    assert cluster.address in command and "experiments/ppg_cartpole.yaml" in command


def test_a_trial_that_fails_fails_the_command_with_its_last_lines(
    cluster: OwnCluster, tmp_path: Path
):
    module = tmp_path / "melting.py"
    module.write_text(MELTING)
    run = submit(
        cluster, "--run", "PPG", "--env", "melting", "--from", str(module), *SET_SMALL,
        "--storage-path", str(tmp_path), "--max-failures", "0", "--stop", "{training_iteration: 9}",
    )  # fmt: skip
    assert run.returncode == 1, run.stdout + run.stderr
    told = run.stdout.split("last lines of the error:")[1]
    assert 'raise RuntimeError("the reactor has melted")' in told
    job = re.search(r"Job (\S+) has been submitted", run.stdout)[1]
    status = submit(cluster, "--status", job)
    assert status.returncode == 1 and "the reactor has melted" in status.stdout


def test_a_mistake_that_only_the_cluster_sees_is_exit_code_2(cluster: OwnCluster, tmp_path: Path):
    words = ["--run", "PPG", "--env", "CartPole-v1", "--set", "gama=0.9"]
    run = submit(cluster, *words, "--storage-path", str(tmp_path))
    assert run.returncode == 2 and 'Did you mean "gamma"?' in run.stdout, run.stdout + run.stderr


def test_an_environment_that_cannot_be_made_is_said(cluster: OwnCluster, tmp_path: Path):
    environment = tmp_path / "env.yaml"
    environment.write_text("py_modules: ['file:///nowhere.zip']")
    words = ["--run", "PPG", "--env", "CartPole-v1", "--runtime-env", str(environment)]
    run = submit(cluster, *words)
    assert run.returncode == 1 and "could not be started" in run.stderr, run.stdout + run.stderr
    assert "nowhere.zip" in run.stderr


def test_a_job_that_nobody_waits_for_is_asked_after_and_stopped_with_a_checkpoint(
    cluster: OwnCluster, tmp_path: Path
):
    sent = submit(
        cluster, "--run", "PPG", "--env", "CartPole-v1", *SET_SMALL, "--storage-path",
        str(tmp_path), "--checkpoint-freq", "0", "--stop", "{training_iteration: 100000}",
        "--no-wait",
    )  # fmt: skip
    assert sent.returncode == 0, sent.stdout + sent.stderr
    job = re.search(r"Job (\S+) has been submitted", sent.stdout)[1]
    words = ["submit", "--address", cluster.address, "--follow", job]
    follow = subprocess.Popen(
        [sys.executable, "-m", "rllib_ppg", *words],
        cwd=ROOT, env={**cluster.environment, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    for line in follow.stdout:
        if "iteration 3 " in line:
            break
    status = submit(cluster, "--status", job)
    assert status.returncode == 0 and "running" in status.stdout
    stopped = submit(cluster, "--stop", job)
    assert stopped.returncode == 0 and "stopped" in stopped.stdout
    rest = follow.stdout.read()
    assert follow.wait() == 143 and "interrupted after a checkpoint" in rest
    assert list(tmp_path.glob("*/PPG_*/checkpoint_*"))
    again = submit(cluster, "--stop", job)
    assert again.returncode == 0 and "not running any more" in again.stdout


def test_a_job_that_does_not_exist_and_a_wrong_token_are_refused(cluster: OwnCluster):
    run = submit(cluster, "--status", "nope")
    assert run.returncode == 2 and "There is no job nope" in run.stderr
    stranger = {**cluster.environment, "RAY_AUTH_TOKEN": "f" * 32, "PYTHONPATH": str(ROOT)}
    words = ["submit", "--address", cluster.address, "--status", "nope"]
    run = subprocess.run(
        [sys.executable, "-m", "rllib_ppg", *words], env=stranger, capture_output=True, text=True
    )
    assert run.returncode == 2 and "does not accept this token" in run.stderr
