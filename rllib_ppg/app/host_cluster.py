"""App: one Ray cluster over several hosts that run the same command, without a scheduler's help.

The first host is the head: it starts Ray, waits for the others and works. The others join it and
stay until it is gone.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rllib_ppg.errors import UserError

HEAD_RESOURCE = "head_host"
"""A custom resource that the head alone has, for what has to run there."""

_GONE_S = 15.0
"""How long the head has to be silent before it counts as gone."""


@dataclass(frozen=True)
class HostCluster:
    """A cluster that is started host by host.

    Attributes:
        hosts: Names or addresses of all hosts, the head first.
        here: This one.
        port: The head's port.
        token: The same on all hosts.
        num_cpus: CPUs of each host; None: what Ray finds.
        folder: Of Ray's logs and sockets; None: Ray's own choice.
        limit_s: How long hosts may take to come.
    """

    hosts: Sequence[str]
    here: str
    port: int
    token: str
    num_cpus: int | None = None
    folder: str | None = None
    limit_s: float = 600.0

    @property
    def environment(self) -> dict[str, str]:
        """The environment of all that speaks to the cluster."""
        return {
            **os.environ,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
            "RAY_USAGE_STATS_ENABLED": "0",
        }

    @contextmanager
    def head(self) -> Iterator[str]:
        """Context of the head in which all hosts have joined; gives the cluster's address.

        Raises:
            UserError: If a host does not come.
        """
        own = resolve(self.here, self.limit_s)
        words = ["--head", f"--port={self.port}", "--include-dashboard=false"]
        words += [f"--resources={json.dumps({HEAD_RESOURCE: 1})}"]
        with self._node(own, words) as process:
            address = f"{own}:{self.port}"
            self._wait_for_all(address, process)
            yield address

    def join(self) -> int:
        """Belong to the cluster until its head is gone.

        Returns:
            The exit code: 0, or 1 where this host was lost before.

        Raises:
            UserError: If the head does not come.
        """
        head = resolve(self.hosts[0], self.limit_s)
        end = time.monotonic() + self.limit_s
        while not listens(head, self.port):
            if time.monotonic() > end:
                raise UserError(
                    f"{self.hosts[0]}, the head of the cluster, has not come within "
                    f"{self.limit_s:.0f} s."
                )
            time.sleep(1.0)
        own = resolve(self.here, self.limit_s)
        with self._node(own, [f"--address={head}:{self.port}"]) as process:
            heard = time.monotonic()
            while process.poll() is None and time.monotonic() - heard < _GONE_S:
                if listens(head, self.port):
                    heard = time.monotonic()
                time.sleep(1.0)
            return int(listens(head, self.port))

    @contextmanager
    def _node(self, own: str, words: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
        """Context with this host's part of Ray, which ends with it."""
        more = [] if self.num_cpus is None else [f"--num-cpus={self.num_cpus}"]
        if self.folder is not None and "--head" in words:  # others take the head's
            more += [f"--temp-dir={self.folder}"]
        start = [sys.executable, "-m", "ray.scripts.scripts", "start", f"--node-ip-address={own}"]
        process = subprocess.Popen(
            [*start, *words, *more, "--disable-usage-stats", "--block"],
            env=self.environment,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # a signal to this command is not for Ray
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _wait_for_all(self, address: str, process: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + self.limit_s
        count = 0
        while count < len(self.hosts):
            if process.poll() is not None:
                raise UserError(f"Ray could not be started on {self.here}; its message is above.")
            if time.monotonic() > end:
                raise UserError(
                    f"{count} of {len(self.hosts)} hosts ({', '.join(self.hosts)}) have joined the "
                    f"cluster within {self.limit_s:.0f} s."
                )
            count = self._joined(address)

    def _joined(self, address: str) -> int:
        """How many nodes the cluster has; asked in a process of its own, whose Ray ends with it."""
        code = (
            "import sys, time, ray\n"
            "ray.init(address=sys.argv[1], log_to_driver=False, logging_level='ERROR')\n"
            "end = time.monotonic() + 10\n"
            "while True:\n"
            "    alive = sum(node['Alive'] for node in ray.nodes())\n"
            "    if alive >= int(sys.argv[2]) or time.monotonic() > end: break\n"
            "    time.sleep(0.5)\n"
            "print(alive)\n"
        )
        words = [sys.executable, "-c", code, address, str(len(self.hosts))]
        run = subprocess.run(words, env=self.environment, capture_output=True, text=True)
        return int(run.stdout) if run.returncode == 0 else 0


def resolve(host: str, limit_s: float) -> str:
    """The IP address of a host, whose name may only become known after a while.

    Raises:
        UserError: If it does not.
    """
    end = time.monotonic() + limit_s
    while True:
        try:
            return socket.gethostbyname(host)
        except OSError as error:
            if time.monotonic() > end:
                raise UserError(f"The host {host} is not known: {error.strerror}.") from None
            time.sleep(1.0)


def listens(address: str, port: int) -> bool:
    """Whether something listens there."""
    try:
        socket.create_connection((address, port), timeout=5).close()
    except OSError:
        return False
    return True
