"""Training over several nodes: several raylets on this machine, one of them lost on the way.

Each node has one CPU, so that the trial and its two workers are on three nodes.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_runs import Runs, differences, wait_until
from own_cluster import PATIENT, Node, OwnCluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ROOT = Path(__file__).resolve().parents[2]
OVER_NODES = {"num_env_runners": 2, "num_cpus_per_env_runner": 1, "placement_strategy": "SPREAD"}


@pytest.fixture
def cluster() -> Iterator[OwnCluster]:
    """Yield a cluster of three nodes with a CPU each."""
    one = OwnCluster(Path(sys.executable), cpus=1, paths=str(ROOT))
    try:
        one.wait_until_up()
        for count in (2, 3):  # one after the other: Ray's nodes of one machine share a folder
            one.add_node(cpus=1)
            one.wait_for_nodes(count)
        yield one
    finally:
        one.end()


@pytest.fixture
def on_cluster(cluster: OwnCluster, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Return the flags for runs on it."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "PYTHONPATH"):
        monkeypatch.setenv(name, cluster.environment[name])
    return ("--ray-address", cluster.gcs)


def holds(node: Node, name: str) -> int:
    """How many processes of a node have a name like this."""
    return sum(name in words for words in node.processes().values())


def numbers(runs: Runs) -> list:
    """What each iteration learned and saw, without times."""
    return [
        (
            row["training_iteration"],
            row["num_env_steps_sampled_lifetime"],
            row["env_runners"]["episode_return_mean"],
            {
                name: value
                for name, value in row["info"]["learner"]["default_policy"]["learner_stats"].items()
                if isinstance(value, dict) and name in ("policy_phase", "aux_phase", "rewards")
            },
        )
        for row in runs.rows()
    ]


def told(runs: Runs) -> str:
    """All that a person was told."""
    return "\n".join(text for row in runs.rows() for text in row["notices"])


def test_three_nodes_learn_what_one_does(cluster: OwnCluster, on_cluster, make_runs):
    apart = make_runs(20, **OVER_NODES)
    process = apart.start(*on_cluster)
    wait_until(lambda: len(apart.rows()) >= 1, "the first iteration", process)
    assert sorted(holds(node, "PPGRolloutWorker") for node in cluster.nodes) == [0, 1, 1]
    assert [holds(node, "ray::PPG.") for node in cluster.nodes].count(1) == 1
    assert process.wait(600) == 0, apart.output
    together = make_runs(20, **OVER_NODES)
    assert together.run("--ray-num-cpus", "3") == 0, together.output
    assert len(numbers(apart)) == 20
    assert differences(numbers(apart), numbers(together)) == []


def test_a_lost_node_costs_a_worker_until_another_joins(cluster: OwnCluster, on_cluster, make_runs):
    runs = make_runs(2000, **OVER_NODES)
    process = runs.start(*on_cluster)
    wait_until(lambda: len(runs.rows()) >= 5, "five iterations", process)
    lost = next(node for node in cluster.nodes[1:] if holds(node, "PPGRolloutWorker"))
    lost.kill()
    seen = len(runs.rows())
    wait_until(lambda: len(runs.rows()) >= seen + 20, "iterations without the node", process)
    new = cluster.add_node(cpus=1)
    wait_until(lambda: holds(new, "PPGRolloutWorker"), "a worker on the new node", process)
    wait_until(lambda: "is back" in told(runs), "iterations with the new node", process)
    process.terminate()
    assert process.wait(300) == 143, runs.output
    assert told(runs).index("was lost") < told(runs).index("is back")
    assert [row["training_iteration"] for row in runs.rows()] == list(
        range(1, len(runs.rows()) + 1)
    )


def test_a_run_that_has_lost_a_node_finishes(cluster: OwnCluster, on_cluster, make_runs):
    runs = make_runs(30, **OVER_NODES)
    process = runs.start(*on_cluster)
    wait_until(lambda: len(runs.rows()) >= 5, "five iterations", process)
    next(node for node in cluster.nodes[1:] if holds(node, "PPGRolloutWorker")).kill()
    assert process.wait(600) == 0, runs.output
    assert len(runs.rows()) == 30 and "was lost" in told(runs)


def test_a_results_folder_that_a_node_does_not_share_is_refused(
    cluster: OwnCluster, on_cluster, make_runs
):
    runs = make_runs(5, **OVER_NODES)
    runs.storage.mkdir()
    # A node with a file system of its own in the results folder's place.
    hide = f'mount -t tmpfs none {runs.storage} && exec "$@"'
    cluster.add_node(1, ["unshare", "--mount", "--map-root-user", "sh", "-c", hide, "sh"])
    cluster.wait_for_nodes(4)
    assert runs.run(*on_cluster) == 2, runs.output
    assert "is not one folder for all nodes" in runs.output and "--storage-path" in runs.output
    assert runs.rows() == [] and not list(runs.storage.glob("faulty/*/"))


@pytest.fixture
def networks() -> Iterator[tuple[str, str]]:
    """Yield the names of two network namespaces, at 10.213.0.1 and .2, that a cable joins."""
    mark = f"r{os.getpid():x}"[-8:]
    names = (f"{mark}a", f"{mark}b")
    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", names[0], "type", "veth", "peer", "name", names[1])
        for number, name in enumerate(names, 1):
            ip("link", "set", name, "netns", name)
            ip("-n", name, "address", "add", f"10.213.0.{number}/24", "dev", name)
            for device in ("lo", name):
                ip("-n", name, "link", "set", device, "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], stderr=subprocess.DEVNULL)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def sent_bytes(network: str) -> int:
    """Bytes that have left a namespace through its cable."""
    place = f"/sys/class/net/{network}/statistics/tx_bytes"
    words = ["ip", "netns", "exec", network, "cat", place]
    return int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("ip") is None, reason="network namespaces need root and ip"
)
def test_two_networks_learn_what_one_machine_does(networks, make_runs, tmp_path, monkeypatch):
    head, other = networks
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": uuid.uuid4().hex}
    environment = {**os.environ, **PATIENT, **token, "PYTHONPATH": str(ROOT)}
    folder = tempfile.mkdtemp(prefix="rn_", dir="/tmp")  # sockets' names are short
    nodes: list[Node] = []

    def start(network: str, number: int, cpus: int, *words: str) -> Node:
        command = [
            "ip", "netns", "exec", network, sys.executable, "-m", "ray.scripts.scripts", "start",
            *words, "--block", f"--num-cpus={cpus}", "--num-gpus=0", "--disable-usage-stats",
            "--object-store-memory=200000000", f"--node-ip-address=10.213.0.{number}",
        ]  # fmt: skip
        nodes.append(Node(command, environment, tmp_path / f"{network}.log"))
        nodes[-1].wait_for("Ray runtime started.")
        return nodes[-1]

    try:
        start(head, 1, 2, "--head", "--port=6379", f"--temp-dir={folder}")
        far = start(other, 2, 1, "--address=10.213.0.1:6379")
        apart = make_runs(12, **OVER_NODES)
        before = sent_bytes(other)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        inside = ("ip", "netns", "exec", head)
        process = apart.start("--ray-address", "10.213.0.1:6379", prefix=inside)
        wait_until(lambda: len(apart.rows()) >= 1, "the first iteration", process)
        assert holds(far, "PPGRolloutWorker") == 1
        assert process.wait(600) == 0, apart.output
        steps = apart.rows()[-1]["num_env_steps_sampled_lifetime"] // 2  # those of its worker
        assert sent_bytes(other) - before > steps * 64 * 64 * 3
    finally:
        for node in reversed(nodes):
            node.end()
        shutil.rmtree(folder, ignore_errors=True)
    together = make_runs(12, **OVER_NODES)
    assert together.run("--ray-num-cpus", "3") == 0, together.output
    assert len(numbers(apart)) == 12
    assert differences(numbers(apart), numbers(together)) == []
