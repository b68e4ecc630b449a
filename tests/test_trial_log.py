"""A trial's files: TensorBoard's names and steps, and training that a full disk does not end."""

import math
import resource
import struct
from pathlib import Path
from typing import Any

import pytest
from app_helpers import result
from tensorboardX.proto.event_pb2 import Event, SessionLog

from rllib_ppg.algorithm.metrics import METRICS
from rllib_ppg.app.result_files import results
from rllib_ppg.app.tensorboard_log import TensorBoardLog, scalars
from rllib_ppg.app.trial_log import TrialLog


def events(folder: Path) -> list[Event]:
    """All events of a folder: a record is a length, a checksum, the event and a checksum."""
    found = []
    for path in sorted(folder.glob("events.out.tfevents.*"), key=lambda p: p.name):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (size,) = struct.unpack_from("<Q", data, at)
            found.append(Event.FromString(data[at + 12 : at + 12 + size]))
            at += 16 + size
    return found


def values(folder: Path, name: str) -> list[tuple[int, float]]:
    return [
        (e.step, round(v.simple_value, 4))
        for e in events(folder) for v in e.summary.value if v.tag == name
    ]  # fmt: skip


def test_metrics_stand_under_their_documented_names_by_environment_steps(tmp_path):
    log = TensorBoardLog(tmp_path)
    log.write(result(1, 100, policy_phase__loss_pi=0.25, lost_envs=0.0))
    log.write(result(2, 200, policy_phase__loss_pi=0.5, lost_envs=2.0))
    assert values(tmp_path, "policy_phase/loss_pi") == [(100, 0.25), (200, 0.5)]
    assert values(tmp_path, "lost_envs") == [(100, 0.0), (200, 2.0)]
    assert values(tmp_path, "env_runners/episode_return_mean") == [(100, 7.25), (200, 7.25)]


def test_what_is_no_number_and_what_repeats_others_is_left_out():
    made = dict(scalars({**result(1, 100), "config": {"lr": 1.0}, "date": "today", "list": [1]}))
    assert not any(name.startswith("config") or name in ("date", "list") for name in made)
    assert not any(math.isnan(value) for value in made.values())
    assert not any(name.startswith("info/learner/default_policy") for name in made)
    assert "phase/n_pi" in made and set(made) & set(METRICS)


def test_a_restart_declares_void_what_was_written_beyond_it(tmp_path):
    log = TensorBoardLog(tmp_path)
    for steps in (100, 200, 300):
        log.write(result(steps // 100, steps))
    again = TensorBoardLog(tmp_path)
    again.write(result(2, 200))
    starts = [e.step for e in events(tmp_path) if e.session_log.status == SessionLog.START]
    assert starts == [100, 200]


def test_training_goes_on_where_files_cannot_be_written_and_that_is_said_once(tmp_path):
    said: list[str] = []
    folder = tmp_path / "trial"
    log = TrialLog(folder, {}, said.append)
    log.write(result(1, 100))
    folder.rename(tmp_path / "away")
    folder.write_text("in the way")
    for iteration in (2, 3):
        log.write(result(iteration, 100 * iteration))
    folder.unlink()
    (tmp_path / "away").rename(folder)
    for iteration in (4, 5):
        log.write(result(iteration, 100 * iteration))
    assert len(said) == 2, said
    assert (
        said[0].startswith("results cannot be written (Not a directory") and "going on" in said[0]
    )
    assert said[1].startswith("results are written again")
    made: list[Any] = list(results(folder))
    assert [row["training_iteration"] for row in made] == [1, 2, 3, 4, 5]
    assert [step for step, _ in values(folder, "phase/n_pi")] == [100, 200, 300, 400, 500]


def test_what_a_full_disk_cut_off_is_written_whole_later(tmp_path):
    log = TensorBoardLog(tmp_path)
    log.write(result(1, 100, lost_envs=1.0))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    (path,) = tmp_path.iterdir()
    for iteration in (2, 3):
        full = path.stat().st_size + 10
        resource.setrlimit(resource.RLIMIT_FSIZE, (full, before[1]))
        try:
            with pytest.raises(OSError, match="File too large"):
                log.write(result(iteration, 100 * iteration, lost_envs=float(iteration)))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    log.write(result(4, 400, lost_envs=4.0))
    assert values(tmp_path, "lost_envs") == [(100, 1.0), (200, 2.0), (300, 3.0), (400, 4.0)]
