"""Which Ray is used, and whether a run fits there."""

import os
from pathlib import Path

import pytest

from rllib_ppg.app import cluster
from rllib_ppg.app.cluster import RaySettings, check_fits, ray_settings
from rllib_ppg.app.flags import TrainFlags
from rllib_ppg.errors import UserError

LEARNER, WORKER = {"CPU": 1, "GPU": 0}, {"CPU": 1}


def test_a_run_that_fits_is_let_through():
    check_fits([LEARNER, WORKER], [{"CPU": 2}], "this machine")
    check_fits([{"CPU": 1, "GPU": 1}, WORKER, WORKER], [{"CPU": 2}, {"CPU": 1, "GPU": 1}], "it")
    check_fits([{"CPU": 1, "GPU": 0.5}], [{"CPU": 1, "GPU": 1}], "it")


@pytest.mark.parametrize(
    ("bundles", "there", "why"),
    [
        ([LEARNER, WORKER, WORKER], [{"CPU": 2}], r"needs 3 CPUs \(there 2 CPUs\)"),
        ([{"CPU": 1, "GPU": 1}], [{"CPU": 2}], r"needs 1 GPU \(there 0 GPUs\)"),
        ([{"CPU": 3}], [{"CPU": 2}, {"CPU": 2}], "no node of it has room"),
        ([{"CPU": 2}, {"CPU": 2}], [{"CPU": 3}, {"CPU": 1}], "no node of it has room"),
        ([{"CPU": 1, "disk": 5}], [{"CPU": 2, "disk": 1}], r"needs 5 disk \(there 1 disk\)"),
    ],
)
def test_a_run_that_can_never_start_is_refused(bundles: list, there: list, why: str):
    with pytest.raises(UserError, match=why) as error:
        check_fits(bundles, there, "it")
    custom = "disk" in bundles[0]
    assert ("custom_resources" if custom else "num_env_runners: auto") in str(error.value)


def test_parts_that_one_node_alone_can_hold_are_placed_first():
    head, other = {"CPU": 2, "head_host": 1}, {"CPU": 2}
    check_fits([{"CPU": 1, "head_host": 0.001}, {"CPU": 2}], [head, other], "it")


def test_the_way_out_depends_on_where_it_would_run():
    for place, way in (("this machine", "--ray-num-cpus"), ("the cluster", "--wait-for-resources")):
        with pytest.raises(UserError, match=way):
            check_fits([{"CPU": 9}], [{"CPU": 1}], place)
    with pytest.raises(UserError, match="--ray-num-gpus N makes Ray count N GPUs"):
        check_fits([{"CPU": 1, "GPU": 1}], [{"CPU": 1}], "this machine")
    with pytest.raises(UserError, match=r"--resources\).$"):  # no flag of ours makes them
        check_fits([{"CPU": 1, "tpu": 1}], [{"CPU": 1}], "this machine")


def test_the_address_comes_from_the_flag_or_the_environment(monkeypatch: pytest.MonkeyPatch):
    assert ray_settings(TrainFlags()).address is None
    monkeypatch.setenv("RAY_ADDRESS", "host:6379")
    assert ray_settings(TrainFlags()).address == "host:6379"
    assert ray_settings(TrainFlags(ray_address="other:1")).address == "other:1"
    assert ray_settings(TrainFlags(ray_address="local")).address is None
    assert ray_settings(TrainFlags(ray_num_cpus=4)).address is None


@pytest.mark.parametrize(
    "flags",
    [
        {"ray_num_cpus": 0},
        {"ray_num_gpus": -1},
        {"ray_object_store_memory": 5},
        {"ray_address": "auto", "ray_num_cpus": 2},
    ],
)
def test_sizes_that_make_no_sense_are_refused(flags: dict):
    with pytest.raises(UserError, match="--ray-"):
        ray_settings(TrainFlags(**flags))


def test_numbers_of_cpus_and_gpus_replace_the_machines():
    settings = RaySettings(num_cpus=5, num_gpus=2)
    assert cluster.nodes(settings) == [{"CPU": 5.0, "GPU": 2.0}]


def test_a_private_ray_works_where_the_home_folder_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(Path, "home", lambda: Path("/dev/null/home"))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    cluster.prepare_environment(RaySettings())
    assert os.environ["RAY_AUTH_MODE"] == "token" and len(os.environ["RAY_AUTH_TOKEN"]) == 64


def test_a_clusters_authentication_is_left_alone(monkeypatch: pytest.MonkeyPatch):
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    cluster.prepare_environment(RaySettings(address="host:6379"))
    assert "RAY_AUTH_MODE" not in os.environ


def test_the_bundles_are_those_of_learner_and_workers():
    from rllib_ppg.algorithm.registration import register

    register()
    config = {"env": "CartPole-v1", "num_envs": 8, "num_env_runners": 2, "num_gpus": 0}
    assert [b.get("CPU") for b in cluster.bundles_of("PPG", config)] == [1, 1, 1]


def test_a_connection_of_the_callers_own_is_used_and_left_open(ray_local: None):
    import ray

    with cluster.session(RaySettings()):
        assert ray.is_initialized()
    assert ray.is_initialized()


def test_an_address_where_nothing_listens_is_refused_at_once():
    with pytest.raises(UserError, match=r"No Ray cluster answers at 127\.0\.0\.1:1: "):
        cluster._check_answers("127.0.0.1:1")
    cluster._check_answers("auto")
