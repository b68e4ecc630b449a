"""Whole training jobs of SageMaker in simulated trees: one host, two hosts, interruptions."""

import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from own_cluster import PATIENT, Node, free_ports
from sagemaker_tree import EXPERIMENT, make_tree

from rllib_ppg import load_policy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

HOSTS = ["127.0.0.1", "127.0.0.2"]
FILES = {"tiny.yaml": EXPERIMENT}
COMMON = {"experiment": "tiny.yaml", "ray_num_cpus": "2", "seed": "1"}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Node]]:
    """Return what starts a container; nothing of it stays."""
    containers: list[Node] = []

    def begin(root: Path, *words: str) -> Node:
        environment = {**os.environ, **PATIENT}
        environment["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
        for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE"):
            environment.pop(name, None)
        command = [sys.executable, "-m", "rllib_ppg", "sagemaker", "--root", str(root), *words]
        containers.append(Node(command, environment, tmp_path / f"log{len(containers)}.txt"))
        return containers[-1]

    yield begin
    for container in containers:
        container.end()


def finished(container: Node) -> tuple[int, str]:
    code = container.process.wait(900)
    return code, container.log.read_text()


def rows(root: Path) -> list[dict]:
    (path,) = root.glob("checkpoints/tiny/PPG_*/result.json")
    return [json.loads(line) for line in path.read_text().splitlines()]


def run_all(start: Callable[..., Node], folder: Path, parameters: dict) -> list[tuple[int, str]]:
    port = str(free_ports(1)[0])
    with tempfile.TemporaryDirectory(prefix="rs_", dir="/tmp") as ray_folder:
        words = ("--port", port, "--ray-folder", ray_folder)
        roots = [make_tree(folder / here, parameters, HOSTS, here, FILES) for here in HOSTS]
        return [finished(container) for container in [start(root, *words) for root in roots]]


def test_one_host_trains_and_leaves_a_model(start, tmp_path: Path):
    root = make_tree(tmp_path, COMMON, files=FILES)
    code, out = finished(start(root))
    assert code == 0, out
    policy = load_policy(str(root / "model" / "tiny" / "policy"))
    assert policy.act([[0.0, 0.0, 0.0, 0.0]]).shape == (1,)
    assert (root / "model" / "tiny" / "config.yaml").is_file()
    assert not (root / "output" / "failure").exists()


def test_two_hosts_are_one_cluster_whose_trial_is_on_the_first(start, tmp_path: Path):
    # Two workers of a CPU each, besides the trial's: more than one host has.
    results = run_all(start, tmp_path, {**COMMON, "num_env_runners": "2", "num_envs": "8"})
    assert [code for code, _ in results] == [0, 0], results
    head, other = (tmp_path / here for here in HOSTS)
    assert len(rows(head)) == 4
    # Only the head has this resource.
    assert rows(head)[0]["config"]["custom_resources_for_main_process"] == {"head_host": 0.001}
    assert (head / "model" / "tiny" / "policy").is_dir()
    assert not list((other / "checkpoints").iterdir()) and not list((other / "model").iterdir())


def test_a_failure_is_told_with_its_cause_and_ends_both_hosts(start, tmp_path: Path):
    results = run_all(start, tmp_path, {**COMMON, "gama": "0.9"})
    assert results[0][0] == 2 and results[1][0] == 0, results
    told = (tmp_path / HOSTS[0] / "output" / "failure").read_text()
    assert 'Did you mean "gamma"?' in told.splitlines()[0]
    assert not (tmp_path / HOSTS[1] / "output" / "failure").exists()


def test_a_spot_interruption_goes_on_from_the_checkpoint_in_a_new_container(start, tmp_path: Path):
    parameters = {**COMMON, "stop.training_iteration": "100000"}
    root = make_tree(tmp_path / "first", parameters, files=FILES)
    container = start(root)
    container.wait_for("iteration 5 ")
    container.process.send_signal(signal.SIGTERM)
    code, out = finished(container)
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
