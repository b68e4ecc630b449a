"""App: Ray's job server on a cluster, spoken to through Ray's own client."""

import asyncio
import importlib.util
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rllib_ppg.app.interrupt import TERMINATED
from rllib_ppg.app.submit_flags import DEFAULT_ADDRESS
from rllib_ppg.errors import UserError

ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
_TIMEOUT = (10.0, 120.0)
"""Seconds to connect, and for an answer to begin; Ray's client would wait for ever."""

_PATIENCE_S = 600.0
"""How long a cluster that has stopped answering is asked again before a job is given up."""


def job_server(address: str | None) -> str:
    """The http address of the job server, from the flag or the environment.

    Raises:
        UserError: If it is no http address.
    """
    given = address or os.environ.get("RAY_API_SERVER_ADDRESS")
    if given is None:
        cluster = os.environ.get("RAY_ADDRESS", "")
        given = cluster if cluster.startswith("http") else DEFAULT_ADDRESS
    if not given.startswith(("http://", "https://")):
        raise UserError(
            f"--address {given}: must be the http address of the cluster's dashboard, such as "
            f"{DEFAULT_ADDRESS}."
        )
    return given.rstrip("/")


class NoSuchJob(UserError):
    """The server has never had a job of this id, or was started anew since."""


@contextmanager
def _as_user_error(address: str) -> Iterator[None]:
    """Context in which what goes wrong between here and the job server is a message."""
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError:
        raise UserError(
            f"The cluster at {address} does not accept this token: set RAY_AUTH_TOKEN, or "
            "RAY_AUTH_TOKEN_PATH, to that of the cluster (on its head node: ~/.ray/auth_token)."
        ) from None
    # A RuntimeError is Ray's own for an answer that is an error; a ValueError one that is no JSON.
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:300].rstrip(".")
        raise UserError(
            f"No Ray job server answers at {address}: {reason}. It is part of the dashboard on the "
            'head node (port 8265 by default), which needs pip install "ray[default]" there.'
        ) from None


def connect(address: str) -> Any:
    """Ray's job client for a job server that answers and runs a Ray that fits.

    Args:
        address: Its http address.

    Raises:
        UserError: If a package is missing here, nothing answers, or Ray there is another.
    """
    if importlib.util.find_spec("aiohttp") is None:
        raise UserError(
            'rllib submit needs Ray\'s job client: pip install "rllib-ppg[cluster]" (or '
            '"ray[default]").'
        )
    # Ray's client prefers the environment, whatever address it is given.
    os.environ["RAY_API_SERVER_ADDRESS"] = address
    from ray.job_submission import JobSubmissionClient

    class Client(JobSubmissionClient):
        """Ray's client, with an end to waiting."""

        def _do_request(self, method: str, endpoint: str, **kwargs: Any) -> Any:
            return super()._do_request(method, endpoint, **{"timeout": _TIMEOUT, **kwargs})

    logging.getLogger("ray").setLevel(logging.WARNING)
    for name in ("ray.dashboard.modules.job.sdk", "ray.dashboard.modules.dashboard_sdk"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with _as_user_error(address):
        client = Client(address)
        there = str(client._do_request("GET", "/api/version").json()["ray_version"])
    _check_ray(there, address)
    return client


def _check_ray(there: str, address: str) -> None:
    """Refuse a cluster whose Ray is of another minor release than ours, which the package needs."""
    import ray

    if there.split(".")[:2] != ray.__version__.split(".")[:2]:
        raise UserError(
            f"The cluster at {address} runs Ray {there}, and rllib_ppg here needs "
            f"{'.'.join(ray.__version__.split('.')[:2])}: install that on its nodes."
        )


def submit(client: Any, address: str, words: str, job: str, environment: Mapping[str, Any]) -> None:
    """Upload what a job needs and start it.

    Args:
        client: Of `connect`.
        address: Of the job server, for messages.
        words: The command as a shell reads it.
        job: The id that the job gets.
        environment: Ray's runtime environment, with local paths.

    Raises:
        UserError: If the server refuses it.
    """
    with _as_user_error(address):
        client.submit_job(entrypoint=words, submission_id=job, runtime_env=dict(environment))


def details(client: Any, address: str, job: str) -> Any:
    """How a job stands.

    Raises:
        UserError: If the server knows no such job.
    """
    with _as_user_error(address):
        try:
            return client.get_job_info(job)
        except RuntimeError as error:
            if "404" not in str(error):
                raise
    raise NoSuchJob(f"There is no job {job} on the cluster at {address}.")


def exit_code(info: Any) -> int:
    """What `rllib submit` returns for a job: 0 unless it has failed or was stopped."""
    if info.status == "STOPPED":
        return TERMINATED  # as a process that got SIGTERM
    if info.status != "FAILED":
        return 0
    code = info.driver_exit_code
    return code if isinstance(code, int) and 0 < code < 256 else 1


def last_lines(client: Any, address: str, job: str, count: int) -> list[str]:
    """The last lines of a job's output."""
    with _as_user_error(address):
        return str(client.get_job_logs(job)).splitlines()[-count:]


def stop(client: Any, address: str, job: str) -> bool:
    """Tell a job to stop; whether it was running."""
    details(client, address, job)
    with _as_user_error(address):
        return bool(client.stop_job(job))


def wait(client: Any, address: str, job: str) -> Any:
    """Wait for a job's end; returns how it ended."""
    while (info := details(client, address, job)).status not in ENDED:
        time.sleep(1.0)
    return info


def follow(client: Any, address: str, job: str, write: Callable[[str], None]) -> Any:
    """Show a job's output until it ends.

    A connection that breaks is made again; what has been shown is not shown twice.

    Args:
        client: Of `connect`.
        address: Of the job server, for messages.
        job: The job's id.
        write: Shows a piece of output.

    Returns:
        How it ended.

    Raises:
        UserError: If the cluster stops answering for good.
    """
    shown = _Shown(write)
    answered = time.monotonic()
    while True:
        try:
            asyncio.run(_tail(client, job, shown))
            info = details(client, address, job)
            answered = time.monotonic()
            if info.status in ENDED:
                with _as_user_error(address):
                    shown.whole(client.get_job_logs(job))
                return info
        except NoSuchJob:
            raise
        except _broken_connection() as error:
            if time.monotonic() - answered > _PATIENCE_S:
                raise UserError(
                    f"The cluster at {address} has not answered for {_PATIENCE_S / 60:.0f} "
                    f"minutes ({' '.join(str(error).split())}). Job {job} may go on without this "
                    f"command; see rllib submit --address {address} --follow {job}"
                ) from None
        time.sleep(1.0)


class _Shown:
    """What has been shown of an output that is sent from its beginning each time."""

    def __init__(self, write: Callable[[str], None]):
        self._write = write
        self._shown = 0
        self._place = 0

    def begin(self) -> None:
        """The output is sent again."""
        self._place = 0

    def piece(self, text: str) -> None:
        """The next piece of it."""
        new = text[max(0, self._shown - self._place) :]
        self._place += len(text)
        if new:
            self._write(new)
            self._shown = self._place

    def whole(self, text: str) -> None:
        """All of it."""
        self.begin()
        self.piece(text)


async def _tail(client: Any, job: str, shown: _Shown) -> None:
    shown.begin()
    async for piece in client.tail_job_logs(job):
        shown.piece(piece)


def _broken_connection() -> tuple[type[Exception], ...]:
    import aiohttp

    return (OSError, RuntimeError, aiohttp.ClientError, UserError)
