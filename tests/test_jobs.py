"""Speaking to a cluster's job server: every way in which it may not answer is one message.

What it does with a real one is tested in `slow/test_submit.py`.
"""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest
import ray

from rllib_ppg.app import jobs
from rllib_ppg.errors import UserError


class Server:
    """An HTTP server of this process that gives one answer to everything."""

    def __init__(self) -> None:
        self.code, self.body, self.seen = 200, b"", []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.seen.append(self.path)
                self.send_response(server.code)
                self.end_headers()
                self.wfile.write(server.body)

            def log_message(self, *arguments: object) -> None:
                pass

        self.http = HTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_port}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "")  # `connect` sets it
    one = Server()
    thread = threading.Thread(target=one.http.serve_forever, args=(0.01,))
    thread.start()
    yield one
    one.http.shutdown()
    thread.join()
    one.http.server_close()


def version(text: str) -> bytes:
    return json.dumps({"version": "4", "ray_version": text, "ray_commit": ""}).encode()


def test_a_server_with_this_ray_is_taken_before_what_the_environment_names(
    server: Server, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("RAY_ADDRESS", "nobody:6379")
    server.body = version(ray.__version__)
    jobs.connect(server.address)
    assert set(server.seen) == {"/api/version"}


@pytest.mark.parametrize(
    ("code", "body", "why"),
    [
        (404, b"", "No Ray job server answers"),
        (500, b"oh", "No Ray job server answers"),
        (200, b"<html>", "No Ray job server answers"),
        (200, b"{}", "No Ray job server answers"),
        (200, version("2.40.0"), r"runs Ray 2\.40\.0"),
        (401, b"unauthorised", "RAY_AUTH_TOKEN"),
        (403, b"forbidden", "RAY_AUTH_TOKEN"),
    ],
)
def test_another_server_is_refused_with_its_address(
    server: Server, code: int, body: bytes, why: str
):
    server.code, server.body = code, body
    with pytest.raises(UserError, match=why) as error:
        jobs.connect(server.address)
    assert server.address in str(error.value) and len(str(error.value).splitlines()) == 1


def test_a_server_that_accepts_and_says_nothing_is_given_up(
    server: Server, monkeypatch: pytest.MonkeyPatch
):
    server.http.shutdown()  # it still listens
    monkeypatch.setattr(jobs, "_TIMEOUT", (0.2, 0.2))
    with pytest.raises(UserError, match="No Ray job server answers"):
        jobs.connect(server.address)


def test_nothing_at_all_is_refused(server: Server):
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(UserError, match="No Ray job server answers"):
        jobs.connect(server.address)


@pytest.mark.parametrize("given", ["head:8265", "ray://head:10001", "auto", ""])
def test_an_address_that_is_not_http_is_refused_or_replaced(
    given: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_ADDRESS", given)
    assert jobs.job_server(None) == "http://127.0.0.1:8265"
    if given:
        with pytest.raises(UserError, match="http address"):
            jobs.job_server(given)


def test_the_address_comes_from_the_flag_then_from_rays_variables(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("RAY_ADDRESS", "http://a:1")
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    assert jobs.job_server(None) == "http://a:1"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://b:2/")
    assert jobs.job_server(None) == "http://b:2"
    assert jobs.job_server("https://c") == "https://c"


@pytest.mark.parametrize(
    ("status", "driver", "code"),
    [
        ("SUCCEEDED", 0, 0),
        ("RUNNING", None, 0),
        ("FAILED", 2, 2),
        ("FAILED", None, 1),  # its command never ran
        ("FAILED", -9, 1),
        ("STOPPED", None, 143),
    ],
)
def test_the_exit_code_is_the_jobs(status: str, driver: int | None, code: int):
    assert jobs.exit_code(SimpleNamespace(status=status, driver_exit_code=driver)) == code


class Output:
    """A job whose output breaks off: in each connection the whole is sent up to some place."""

    def __init__(self, whole: str, *ends: int | Exception) -> None:
        self.whole, self.ends, self.asked = whole, list(ends), 0

    async def tail_job_logs(self, job: str):
        end = self.ends[self.asked]
        self.asked += 1
        if isinstance(end, Exception):
            raise end
        for start in range(0, end, 7):
            yield self.whole[start : min(start + 7, end)]

    def get_job_info(self, job: str) -> SimpleNamespace:
        status = "SUCCEEDED" if self.asked == len(self.ends) else "RUNNING"
        return SimpleNamespace(status=status, driver_exit_code=0)

    def get_job_logs(self, job: str) -> str:
        return self.whole


@pytest.mark.parametrize(
    "ends", [(40,), (9, 23, 40), (23, 9, 30), (9, OSError("gone"), RuntimeError("again"), 14)]
)
def test_output_is_shown_once_and_whole_whatever_breaks(
    ends: tuple, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(jobs.time, "sleep", lambda seconds: None)
    whole, shown = "".join(f"line {i}\n" for i in range(6)), []
    info = jobs.follow(Output(whole[:40], *ends), "http://a", "job", shown.append)
    assert "".join(shown) == whole[:40] and info.status == "SUCCEEDED"


def test_a_cluster_that_is_gone_for_good_is_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jobs, "_PATIENCE_S", 0.0)
    with pytest.raises(UserError, match=r"(?s)has not answered.*--follow job"):
        jobs.follow(Output("", OSError("gone")), "http://a", "job", print)


def test_a_job_that_the_server_has_forgotten_ends_the_wait_at_once():
    output = Output("x", 1)
    output.get_job_info = lambda job: (_ for _ in ()).throw(RuntimeError("status code 404"))
    with pytest.raises(UserError, match="no job"):
        jobs.follow(output, "http://a", "job", print)
