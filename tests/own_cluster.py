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
from pathlib import Path

MARK = "RLLIB_PPG_TEST_CLUSTER"
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
    """A head node with a job server.

    Attributes:
        address: Of its dashboard and job server.
        environment: Variables for commands that speak to it.
    """

    def __init__(self, python: Path, cpus: int = 2) -> None:
        self.mark = uuid.uuid4().hex
        self.folder = Path(tempfile.mkdtemp(prefix="rs_", dir="/tmp"))  # sockets' names are short
        port, dashboard, agent, client = free_ports(4)
        self.address = f"http://127.0.0.1:{dashboard}"
        plain = {
            name: value
            for name, value in os.environ.items()
            if name not in ("PYTHONPATH", "RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")
        }
        self.environment = {
            **plain, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": uuid.uuid4().hex,
            "RAY_raylet_start_wait_time_s": "240",
        }  # fmt: skip
        path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
        self.log = (self.folder / "start.log").open("w+")
        self.process = subprocess.Popen(
            [
                str(python), "-m", "ray.scripts.scripts", "start", "--head", "--block",
                f"--port={port}", f"--dashboard-port={dashboard}", "--disable-usage-stats",
                f"--dashboard-agent-listen-port={agent}", f"--ray-client-server-port={client}",
                f"--num-cpus={cpus}", "--num-gpus=0", "--object-store-memory=300000000",
                f"--temp-dir={self.folder / 'ray'}",
            ],
            cwd="/", env={**self.environment, MARK: self.mark, "PATH": path},
            stdout=self.log, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def wait_until_up(self, seconds: float = 240.0) -> None:
        """Wait for the job server."""
        token = self.environment["RAY_AUTH_TOKEN"]
        request = urllib.request.Request(
            f"{self.address}/api/version", headers={"Authorization": f"Bearer {token}"}
        )
        limit = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < limit:
            try:
                urllib.request.urlopen(request, timeout=10).close()
                return
            except OSError:
                time.sleep(0.5)
        raise AssertionError((self.folder / "start.log").read_text())

    def end(self) -> None:
        """End all of its processes, and no others."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pid in self._left():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _left(self) -> list[int]:
        needle = f"{MARK}={self.mark}".encode()
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            try:
                if needle in (place / "environ").read_bytes().split(b"\0"):
                    found.append(int(place.name))
            except OSError:
                continue
        return found
