"""Whole training jobs of SageMaker in simulated trees: one host, two hosts, interruptions."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from own_cluster import free_ports
from sagemaker_tree import EXPERIMENT, make_tree

from rllib_ppg import load_policy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

HOSTS = ["127.0.0.1", "127.0.0.2"]
FILES = {"tiny.yaml": EXPERIMENT}
COMMON = {"experiment": "tiny.yaml", "ray_num_cpus": "2", "seed": "1"}


def start(root: Path, *words: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "RAY_raylet_start_wait_time_s": "240"}
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE"):
        environment.pop(name, None)
    return subprocess.Popen(
        [sys.executable, "-m", "rllib_ppg", "sagemaker", "--root", str(root), *words],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def finished(process: subprocess.Popen[str]) -> tuple[int, str]:
    out, _ = process.communicate(timeout=900)
    return process.returncode, out


def rows(root: Path) -> list[dict]:
    (path,) = root.glob("checkpoints/tiny/PPG_*/result.json")
    return [json.loads(line) for line in path.read_text().splitlines()]


def start_all(folder: Path, parameters: dict, ray_folder: str) -> list[subprocess.Popen[str]]:
    port = str(free_ports(1)[0])
    words: Sequence[str] = ("--port", port, "--ray-folder", ray_folder)
    return [
        start(make_tree(folder / here, parameters, HOSTS, here, FILES), *words) for here in HOSTS
    ]


def test_one_host_trains_and_leaves_a_model(tmp_path: Path):
    root = make_tree(tmp_path, COMMON, files=FILES)
    code, out = finished(start(root))
    assert code == 0, out
    policy = load_policy(str(root / "model" / "tiny" / "policy"))
    assert policy.act([[0.0, 0.0, 0.0, 0.0]]).shape == (1,)
    assert (root / "model" / "tiny" / "config.yaml").is_file()
    assert not (root / "output" / "failure").exists()


def test_two_hosts_are_one_cluster_whose_trial_is_on_the_first(tmp_path: Path):
    with tempfile.TemporaryDirectory(prefix="rs_", dir="/tmp") as ray_folder:
        # Two workers of a CPU each, besides the trial's: more than one host has.
        parameters = {**COMMON, "num_env_runners": "2", "num_envs": "8"}

        processes = start_all(tmp_path, parameters, ray_folder)
        results = [finished(process) for process in processes]
    assert [code for code, _ in results] == [0, 0], results
    head, other = (tmp_path / here for here in HOSTS)
    assert len(rows(head)) == 4
    # Only the head has this resource.
    assert rows(head)[0]["config"]["custom_resources_for_main_process"] == {"head_host": 0.001}
    assert (head / "model" / "tiny" / "policy").is_dir()
    assert not list((other / "checkpoints").iterdir()) and not list((other / "model").iterdir())


def test_a_failure_is_told_with_its_cause_and_ends_both_hosts(tmp_path: Path):
    with tempfile.TemporaryDirectory(prefix="rs_", dir="/tmp") as ray_folder:
        parameters = {**COMMON, "gama": "0.9"}
        results = [finished(one) for one in start_all(tmp_path, parameters, ray_folder)]
    assert results[0][0] == 2 and results[1][0] == 0, results
    told = (tmp_path / HOSTS[0] / "output" / "failure").read_text()
    assert 'Did you mean "gamma"?' in told.splitlines()[0]
    assert not (tmp_path / HOSTS[1] / "output" / "failure").exists()


def test_a_spot_interruption_goes_on_from_the_checkpoint_in_a_new_container(tmp_path: Path):
    parameters = {**COMMON, "stop.training_iteration": "100000"}
    root = make_tree(tmp_path / "first", parameters, files=FILES)
    process = start(root)
    for line in process.stdout:
        if "iteration 5 " in line:
            break
    process.send_signal(signal.SIGTERM)
    code, out = finished(process)
    assert code == 143 and "interrupted after a checkpoint" in out
    assert (root / "model" / "tiny" / "policy").is_dir()
    assert not (root / "output" / "failure").exists()
    reached = rows(root)[-1]["training_iteration"]

    # SageMaker makes a new container and fills /opt/ml/checkpoints from S3. The path is the same.
    checkpoints = tmp_path / "s3"
    (root / "checkpoints").rename(checkpoints)
    for path in sorted(root.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    again = {**parameters, "stop.training_iteration": str(reached + 3)}
    make_tree(root, again, files=FILES)
    (root / "checkpoints").rmdir()
    checkpoints.rename(root / "checkpoints")
    code, out = finished(start(root))
    assert code == 0 and "Going on from what" in out, out
    assert [row["training_iteration"] for row in rows(root)] == list(range(1, reached + 4))
