"""What a challenge takes on disk: an estimate that is near what a real one leaves."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from evaluation import config_of

from rllib_ppg import PPGConfig
from rllib_ppg.app.challenge_space import DiskSpace, estimate, show_bytes, trials_at_a_time
from rllib_ppg.app.checks import network_parameters, store_bytes
from rllib_ppg.app.experiment import CheckpointKeys

SIZES = {"num_envs": 8, "rollout_fragment_length": 16, "nminibatch": 4, "n_pi": 2, "aux_mbsize": 8}


def checked(**keys: object) -> PPGConfig:
    config = config_of("procgen", {"env_name": "starpilot"}, **{**SIZES, **keys})
    config.validate()
    return config


def space(keys: CheckpointKeys, config: PPGConfig | None = None) -> DiskSpace:
    return estimate(config or checked(), keys, iterations=10, trials=6, at_a_time=2)


def test_the_peak_is_of_the_trials_under_way_and_the_end_of_what_stays():
    found = DiskSpace(checkpoint=100, kept=3, side_by_side=2, finished=10, trials=6)
    assert found.peak == 2 * (3 * 100 + 10) + 4 * 10 and found.end == 60


@pytest.mark.parametrize(
    ("keys", "kept"),
    [
        ({"checkpoint_frequency": 2, "num_to_keep": 3}, 4),  # one is written before one goes
        ({"checkpoint_frequency": 2}, 6),
        ({"checkpoint_frequency": 0, "num_to_keep": 3}, 1),
        ({"checkpoint_frequency": 8, "num_to_keep": 3}, 2),
    ],
)
def test_checkpoints_are_counted_as_tune_keeps_them(keys: dict, kept: int):
    assert space(CheckpointKeys(**keys)).kept == kept


def test_frames_count_only_where_they_are_saved():
    with_frames = space(CheckpointKeys()).checkpoint
    without = space(CheckpointKeys(), checked(checkpoint_store=False)).checkpoint
    assert with_frames - without == pytest.approx(store_bytes(checked()) / 10, abs=1)


def test_too_little_space_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    found = DiskSpace(checkpoint=10**9, kept=1, side_by_side=1, finished=10**6, trials=3)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=2 * 10**9))
    (line,) = found.lines(tmp_path / "not" / "there")
    assert line == (
        "about 1.0 GB at most (1 trial(s) at a time with 1 checkpoint(s) of 1.0 GB), 3 MB at the "
        "end; 2.0 GB are free"
    )
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10**8))
    assert "TOO LITTLE is free" in found.lines(tmp_path)[1]


def test_trials_at_a_time_follow_from_cpus_gpus_and_the_limit():
    config = checked(num_env_runners=2)
    assert trials_at_a_time(config, {"CPU": 9.0}, None) == 3
    assert trials_at_a_time(config, {"CPU": 9.0}, 2) == 2
    assert trials_at_a_time(config, {"CPU": 1.0}, None) == 1
    gpu = checked(num_env_runners=2, num_gpus=1, _fake_gpus=True)
    assert trials_at_a_time(gpu, {"CPU": 9.0, "GPU": 2.0}, None) == 2


def test_bytes_are_shown_for_a_person():
    assert [show_bytes(size) for size in (10, 2_600_000, 2_610_000_000)] == [
        "1 MB", "3 MB", "2.6 GB"
    ]  # fmt: skip


def test_a_real_checkpoint_is_about_as_large(ray_local: None, tmp_path: Path):
    network = {"custom_model_config": {"widths": [8, 16, 16], "hidden_size": 128, "blocks": 1}}
    config = checked(model=network, num_env_runners=0)
    algorithm = config.build_algo()
    for _ in range(4):  # a whole phase, after which every optimiser has its moments, and more
        algorithm.train()
    algorithm.save(str(tmp_path))
    algorithm.stop()
    size = {path.name: path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()}
    kept = sum(size[name] for name in size if name not in ("frames", "phase.pkl", "workers.pkl"))
    expected = estimate(config, CheckpointKeys(), iterations=0, trials=1, at_a_time=1)
    assert network_parameters(config) * 20 < kept < 1.2 * expected.finished
    assert 0.8 * expected.finished < kept
    assert size["workers.pkl"] < 1.5 * 45_000 * 8
