import psutil
import pytest

from rllib_ppg.algorithm import resources
from rllib_ppg.algorithm.resources import (
    DEFAULT_NUM_ENVS,
    available,
    check_counts,
    check_divides,
    choose_env_runners,
    divisors,
    resolve_auto,
)
from rllib_ppg.errors import UserError


@pytest.mark.parametrize("number", [1, 2, 12, 64, 97, 256, 360])
def test_divisors_are_all_and_ascending(number: int):
    assert divisors(number) == [d for d in range(1, number + 1) if number % d == 0]


@pytest.mark.parametrize(
    ("num_envs", "cpus", "main", "each", "expected"),
    [
        (64, 2, 1, 1, 1),  # the two-core machine
        (64, 1, 1, 1, 0),  # no CPU left: the learner's process samples
        (64, 0.5, 1, 1, 0),
        (64, 4, 1, 1, 2),  # 3 does not divide 64
        (64, 9, 1, 1, 8),
        (64, 128, 1, 1, 8),  # at least eight environments each
        (256, 128, 1, 1, 32),
        (60, 8, 1, 1, 6),  # seven CPUs are left, six divide
        (64, 9, 1, 2, 4),
        (64, 9, 1, 0.5, 8),
        (4, 16, 1, 1, 1),  # one worker is better than none, however few environments
        (97, 16, 1, 1, 1),  # a prime
        (64, 2, 0, 1, 2),
        (64, 1, 1, 0, 8),  # workers that reserve no CPU always fit
    ],
)
def test_auto_takes_the_most_workers_that_divide_and_fit(num_envs, cpus, main, each, expected):
    assert choose_env_runners(num_envs, cpus, main_cpus=main, cpus_each=each) == expected


def resolve(**given):
    values = {
        "num_envs": None,
        "num_env_runners": 0,
        "num_envs_per_env_runner": None,
        "num_gpus": 0,
    }
    resolved = resolve_auto({**values, **given}, main_cpus=1, cpus_each=1)
    assert set(resolved) == set(values)
    return tuple(resolved[k] for k in ("num_envs", "num_env_runners", "num_envs_per_env_runner"))


def test_missing_counts_follow_from_the_given_ones():
    assert resolve() == (DEFAULT_NUM_ENVS, 0, DEFAULT_NUM_ENVS)
    assert resolve(num_envs=32) == (32, 0, 32)
    assert resolve(num_envs=32, num_env_runners=4) == (32, 4, 8)
    assert resolve(num_env_runners=4) == (64, 4, 16)
    assert resolve(num_env_runners=4, num_envs_per_env_runner=3) == (12, 4, 3)
    assert resolve(num_envs_per_env_runner=3) == (3, 0, 3)
    assert resolve(num_envs=12, num_env_runners=4, num_envs_per_env_runner=3) == (12, 4, 3)


def test_auto_counts_become_numbers(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(resources, "available", lambda: {"CPU": 5.0, "GPU": 0.0})
    assert resolve(num_env_runners="auto") == (64, 4, 16)
    assert resolve(num_env_runners="auto", num_envs=24) == (24, 3, 8)
    assert resolve(num_env_runners="auto", num_envs=24, num_envs_per_env_runner=12) == (24, 2, 12)
    # Where the environments of one worker are given, auto is about the number of workers.
    total, runners, each = resolve(num_env_runners="auto", num_envs_per_env_runner=16)
    assert (total, each) == (runners * 16, 16) and 1 <= runners <= 4


@pytest.mark.parametrize(("gpus", "expected"), [(0.0, 0), (1.0, 1), (8.0, 1)])
def test_auto_takes_one_gpu_where_there_is_one(monkeypatch, gpus, expected):
    monkeypatch.setattr(resources, "available", lambda: {"CPU": 5.0, "GPU": gpus})
    values = {"num_envs": 8, "num_env_runners": 0, "num_envs_per_env_runner": None}
    resolved = resolve_auto({**values, "num_gpus": "auto"}, main_cpus=1, cpus_each=1)
    assert resolved["num_gpus"] == expected


def test_explicit_counts_never_ask_the_machine(monkeypatch: pytest.MonkeyPatch):
    def no_machine():
        raise AssertionError("asked for the machine")

    monkeypatch.setattr(resources, "available", no_machine)
    assert resolve(num_envs=32, num_env_runners=64 // 8) == (32, 8, 4)


def test_counts_that_do_not_multiply_are_refused():
    with pytest.raises(UserError, match=r"num_envs=10 contradicts num_envs_per_env_runner=4"):
        check_counts(10, 2, 4)
    with pytest.raises(UserError, match=r"num_env_runners=3 does not divide num_envs=64.*2, 4"):
        check_counts(64, 3, None)
    check_counts(64, 4, 16)


def test_a_size_that_does_not_divide_names_those_that_do():
    with pytest.raises(UserError) as error:
        check_divides("nminibatch", 7, 64, "num_envs")
    assert str(error.value) == (
        "nminibatch=7 does not divide num_envs = 64; use 1, 2, 4, 8, 16, 32."
    )
    with pytest.raises(UserError, match=r"use 2, 4, 8, 16, 32, 64\."):
        check_divides("aux_mbsize", 100, 64, "n_pi x num_envs")
    check_divides("nminibatch", 8, 64, "num_envs")


def test_memory_is_at_most_the_machines():
    assert 100 * 2**20 < resources.machine_memory() <= psutil.virtual_memory().total


def test_free_memory_is_less_than_the_machines():
    assert 0 < resources.free_memory() < resources.machine_memory()


@pytest.mark.parametrize(
    ("names", "stat"),
    [
        (("memory.max", "memory.current"), "anon 5\ninactive_file 1000\n"),
        (("memory.limit_in_bytes", "memory.usage_in_bytes"), "total_inactive_file 1000\nx 1\n"),
    ],
)
def test_a_containers_limit_less_what_it_uses_is_free(monkeypatch, tmp_path, names, stat):
    limit, used = (tmp_path / name for name in names)
    files = (limit, used, tmp_path / "memory.stat")
    monkeypatch.setattr(resources, "_CGROUP_FILES", (files,))
    assert resources.free_memory() > 10**8, "without these files the machine counts"
    for file, text in zip(files, ["500000\n", "200000\n", stat], strict=True):
        file.write_text(text)
    # Pages of files that nobody uses are as good as free.
    assert resources.free_memory() == 301_000 and resources.machine_memory() == 500_000
    limit.write_text("max\n")
    assert resources.free_memory() > 10**8


def test_inside_ray_the_clusters_cpus_count(ray_local):
    assert available()["CPU"] == 3


@pytest.mark.parametrize(
    ("gpus", "share"),
    [(0, 0), (1, 1), (3, 1), (0.5, 0.5), (0.75, 0.5), (0.3, 0.25)],
)
def test_a_learner_takes_one_gpu_or_a_share_that_fills_them(gpus: float, share: float):
    assert resources.gpu_share(gpus) == pytest.approx(share)


@pytest.mark.parametrize(
    ("cpus", "runners", "each"), [(8, 4, 1), (8, 7, 1), (8, 14, 0.5), (8, 16, 0.43), (1, 4, 0.0)]
)
def test_workers_share_the_cpus_that_are_too_few(cpus: float, runners: int, each: float):
    with resources.assume(cpus, 0):
        assert resources.cpus_of_each(runners, main_cpus=1) == each
        assert 1 + runners * resources.cpus_of_each(runners, main_cpus=1) <= max(cpus, 1)


@pytest.mark.parametrize(
    ("gpus", "learner", "runners", "each"),
    [(0, 0, 4, 0), (1, 1, 4, 0), (1, 0, 4, 0.25), (2, 1, 3, 1 / 3), (4, 1, 2, 1), (2, 1, 0, 0)],
)
def test_workers_share_the_gpus_that_the_learner_leaves(gpus, learner, runners, each):
    with resources.assume(8, gpus):
        assert resources.gpus_of_each(runners, learner) == pytest.approx(each)
