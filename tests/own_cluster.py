"""A Ray cluster of a test's own, started with `ray start` as on other machines.

Its Python has what this one has, but for rllib_ppg. Its processes are known by their environment,
so that ending it ends nothing else.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Sequence
from pathlib import Path

MARK = "RLLIB_PPG_TEST_CLUSTER"
PATIENT = {"RAY_raylet_start_wait_time_s": "240", "RAY_agent_register_timeout_ms": "240000"}
"""Ray's own patience while its processes start, for machines where tests run side by side."""

_OURS = ("rllib_ppg", "__editable__")


def python_without_the_package(folder: Path) -> Path:
    """Make a Python in a folder that has everything that this one has but rllib_ppg."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    linked = []
    for number, place in enumerate(entry for entry in sys.path if entry.endswith("site-packages")):
        linked.append(folder / f"site{number}")
        linked[-1].mkdir()
        for entry in Path(place).iterdir():
            if not entry.name.startswith(_OURS) and entry.suffix != ".pth":
                (linked[-1] / entry.name).symlink_to(entry)
    (site_packages,) = folder.glob("lib/python*/site-packages")
    (site_packages / "linked.pth").write_text("".join(f"{place}\n" for place in linked))
    return folder / "bin" / "python"


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nothing listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class OwnCluster:
    """A head node with a job server, and further nodes.

    Args:
        python: The Python that Ray is started with.
        cpus: CPUs of the head.
        paths: PYTHONPATH of its processes.

    Attributes:
        address: Of its dashboard and job server.
        gcs: Of the cluster itself, for `rllib train --ray-address`.
        environment: Variables for commands that speak to it.
    """

    def __init__(self, python: Path, cpus: int = 2, paths: str | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="rs_", dir="/tmp"))  # sockets' names are short
        port, dashboard, agent, client = free_ports(4)
        self.address, self.gcs = f"http://127.0.0.1:{dashboard}", f"127.0.0.1:{port}"
        plain = {
            name: value
            for name, value in os.environ.items()
            if name not in ("PYTHONPATH", "RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")
        }
        self.environment = {
            **plain, **PATIENT, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": uuid.uuid4().hex,
        }  # fmt: skip
        if paths is not None:
            self.environment["PYTHONPATH"] = paths
        self.python, self.nodes = python, []
        head = [
            "--head", f"--port={port}", f"--dashboard-port={dashboard}",
            f"--dashboard-agent-listen-port={agent}", f"--ray-client-server-port={client}",
            f"--temp-dir={self.folder / 'ray'}",
        ]  # fmt: skip
        self._start(head, cpus)

    def add_node(self, cpus: int, prefix: Sequence[str] = ()) -> "Node":
        """Start a further node; does not wait for it.

        Args:
            cpus: Its CPUs.
            prefix: Words before the command, such as `unshare`'s.
        """
        (agent,) = free_ports(1)
        words = [f"--address={self.gcs}", f"--dashboard-agent-listen-port={agent}"]
        return self._start(words, cpus, prefix)

    def _start(self, words: Sequence[str], cpus: int, prefix: Sequence[str] = ()) -> "Node":
        command = [
            *prefix, str(self.python), "-m", "ray.scripts.scripts", "start", *words, "--block",
            f"--num-cpus={cpus}", "--num-gpus=0", "--object-store-memory=200000000",
            "--node-ip-address=127.0.0.1", "--disable-usage-stats",
        ]  # fmt: skip
        path = f"{self.python.parent}{os.pathsep}{os.environ['PATH']}"
        log = self.folder / f"node{len(self.nodes)}.log"
        self.nodes.append(Node(command, {**self.environment, "PATH": path}, log))
        return self.nodes[-1]

    def wait_until_up(self, seconds: float = 240.0) -> None:
        """Wait for the job server."""
        token = self.environment["RAY_AUTH_TOKEN"]
        request = urllib.request.Request(
            f"{self.address}/api/version", headers={"Authorization": f"Bearer {token}"}
        )
        limit = time.monotonic() + seconds
        while self.nodes[0].process.poll() is None and time.monotonic() < limit:
            try:
                urllib.request.urlopen(request, timeout=10).close()
                return
            except OSError:
                time.sleep(0.5)
        raise AssertionError(self.nodes[0].log.read_text())

    def wait_for_nodes(self, count: int, seconds: float = 240.0) -> None:
        """Wait until so many nodes are alive."""
        code = (
            "import sys, ray; ray.init(address=sys.argv[1], logging_level='ERROR');"
            "print(sum(node['Alive'] for node in ray.nodes()))"
        )
        limit, found = time.monotonic() + seconds, ""
        while time.monotonic() < limit:
            run = subprocess.run(
                [str(self.python), "-c", code, self.gcs], env=self.environment,
                capture_output=True, text=True, cwd="/",
            )  # fmt: skip
            found = run.stdout.strip()
            if found == str(count):
                return
            time.sleep(1)
        logs = "\n".join(node.log.read_text() for node in self.nodes)
        raise AssertionError(f"{found or 'no'} nodes are alive instead of {count}\n{logs}")

    def end(self) -> None:
        """End all of its processes, and no others."""
        for node in reversed(self.nodes):
            node.end()
        shutil.rmtree(self.folder, ignore_errors=True)


class Node:
    """One node, `ray start --block` or another command, and all that it has started.

    Args:
        command: The command.
        environment: Its variables.
        log: The file for what it prints.
    """

    def __init__(self, command: Sequence[str], environment: dict[str, str], log: Path) -> None:
        self.mark, self.log = uuid.uuid4().hex, log
        with log.open("w") as file:
            self.process = subprocess.Popen(
                command, cwd="/", env={**environment, MARK: self.mark}, stdout=file,
                stderr=subprocess.STDOUT,
            )  # fmt: skip

    def wait_for(self, text: str, seconds: float = 600.0) -> None:
        """Wait until a text stands in the log."""
        limit = time.monotonic() + seconds
        while text not in self.log.read_text():
            alive = self.process.poll() is None and time.monotonic() < limit
            assert alive, f"waited in vain for {text!r}: {self.log.read_text()}"
            time.sleep(0.2)

    def processes(self) -> dict[int, str]:
        """Process ids of all that belongs to it, with their command lines."""
        needle = f"{MARK}={self.mark}".encode()
        found = {}
        for place in Path("/proc").glob("[0-9]*"):
            try:
                if needle in (place / "environ").read_bytes().split(b"\0"):
                    words = (place / "cmdline").read_bytes().replace(b"\0", b" ")
                    found[int(place.name)] = words.decode(errors="replace")
            except OSError:
                continue
        return found

    def kill(self) -> None:
        """SIGKILL to all of it at once, as when a machine is gone."""
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()

    def end(self) -> None:
        """End it in order, and what is left by force."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.kill()
