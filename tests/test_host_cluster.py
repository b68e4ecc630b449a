"""Hosts that come late, or never. `slow/test_sagemaker_jobs.py` makes clusters of them."""

import socket

import pytest

from rllib_ppg.app.host_cluster import HostCluster, listens, resolve
from rllib_ppg.errors import UserError


@pytest.fixture
def silent_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def test_a_port_listens_while_it_does(silent_port: int):
    assert not listens("127.0.0.1", silent_port)
    with socket.create_server(("127.0.0.1", 0)) as one:
        assert listens("127.0.0.1", one.getsockname()[1])


def test_a_host_that_nobody_knows_is_named():
    assert resolve("127.0.0.1", 0.0) == "127.0.0.1"
    with pytest.raises(UserError, match=r"no-such-host\.invalid"):
        resolve("no-such-host.invalid", 0.0)


def test_a_head_that_does_not_come_is_named(silent_port: int):
    hosts = ["127.0.0.1", "127.0.0.2"]
    cluster = HostCluster(hosts, "127.0.0.2", silent_port, "0" * 32, limit_s=0.0)
    with pytest.raises(UserError, match=r"127\.0\.0\.1, the head"):
        cluster.join()


def test_ray_on_all_hosts_has_the_same_token():
    cluster = HostCluster(["a"], "a", 1, "f" * 32)
    assert cluster.environment["RAY_AUTH_TOKEN"] == "f" * 32
