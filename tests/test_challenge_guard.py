"""The time guard: a trial ends before its seconds, and one that has ended rests."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from challenge_files import trained
from ray import cloudpickle
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from rllib_ppg.app.challenge_disk import BETWEEN
from rllib_ppg.app.challenge_guard import TimeGuard

STOP, CONTINUE = TrialScheduler.STOP, TrialScheduler.CONTINUE
TRIAL = SimpleNamespace(trial_id="t")


class Clock:
    """Time that a test sets."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("rllib_ppg.app.challenge_guard.time", made)
    return made


def play(guard: TimeGuard, clock: Clock, iterations: list[float], *, saving: float = 0.0) -> float:
    """Run iterations of some seconds until the guard ends the trial; returns the seconds then."""
    begin, trained_for = clock.now, 0.0
    for number, seconds in enumerate(iterations, start=1):
        clock.now += seconds
        trained_for += seconds
        result = {
            "time_this_iter_s": seconds, "time_total_s": trained_for,
            "time_since_restore": trained_for, "iterations_since_restore": number,
        }  # fmt: skip
        if guard.on_trial_result(None, TRIAL, result) == STOP:
            return clock.now - begin
        clock.now += saving
    raise AssertionError("the guard never ended the trial")


@pytest.mark.parametrize("length", [0.5, 1.0, 3.0, 7.0])
def test_a_trial_ends_within_its_seconds_and_uses_most_of_them(clock: Clock, length: float):
    seconds = play(TimeGuard(100, 5, 0), clock, [length] * 300)
    assert 95 - 2.2 * length <= seconds <= 95


def test_the_longest_iteration_counts_not_the_last_one(clock: Clock):
    seconds = play(TimeGuard(100, 5, 0), clock, [20.0] + [1.0] * 200)
    assert seconds <= 95 - 20


def test_a_slice_of_an_auxiliary_phase_is_expected_before_there_was_one(clock: Clock):
    assert play(TimeGuard(100, 5, 30), clock, [1.0] * 200) <= 95 - 30


@pytest.mark.parametrize("saving", [1.0, 4.0, 10.0])
def test_the_last_checkpoint_is_written_in_time_however_long_one_takes(clock: Clock, saving: float):
    ended = play(TimeGuard(100, 5, 0), clock, [1.0] * 200, saving=saving)
    assert ended + saving <= 100
    assert ended >= 100 - 5 - 1.1 * (2 + 4 * saving), "it is used"


def test_seconds_of_an_earlier_process_count_and_the_pause_does_not(tmp_path: Path, clock: Clock):
    guard = TimeGuard(100, 5, 0)
    result = {"time_this_iter_s": 1.0, "time_since_restore": 1.0, "iterations_since_restore": 1}
    first = {**result, "time_total_s": 1.0}
    guard.on_trial_result(None, TRIAL, first)
    clock.now += 31.0
    second = {**result, "time_total_s": 2.0}
    assert guard.on_trial_result(None, TRIAL, second) == STOP, "two more such checkpoints"
    assert (first[BETWEEN], second[BETWEEN]) == (0.0, 30.0)

    folder = trained(tmp_path, "maze", 1, {100: 1.0}, done=False)
    rows = (folder / "result.json").read_text().splitlines()
    row = json.dumps({**json.loads(rows[-1]), BETWEEN: 30.0})
    (folder / "result.json").write_text("\n".join([*rows[:-1], row]) + "\n")
    clock.now += 1000.0
    again = cloudpickle.loads(cloudpickle.dumps(guard))
    one = SimpleNamespace(trial_id="t", status="PENDING", relative_logdir="x", path=str(folder))
    again.on_trial_add(None, one)
    assert again.on_trial_result(None, one, third := {**result, "time_total_s": 50.0}) == CONTINUE
    assert third[BETWEEN] == 30.0
    assert again.on_trial_result(None, one, {**result, "time_total_s": 65.0}) == STOP


@pytest.mark.parametrize(
    ("done", "checkpoint", "expected"),
    [(True, True, ["TERMINATED"]), (True, False, []), (False, True, [])],
)
def test_a_trial_that_is_over_and_saved_rests(
    tmp_path: Path, done: bool, checkpoint: bool, expected: list[str]
):
    folder = trained(tmp_path, "maze", 1, {100: 1.0}, done=done, checkpoint=checkpoint)
    found: list[str] = []
    one = SimpleNamespace(
        trial_id="t",
        status="PENDING",
        relative_logdir="x",
        path=str(folder),
        set_status=found.append,
    )
    TimeGuard(100, 5, 0).on_trial_add(None, one)
    assert found == expected


def test_a_new_trial_is_left_alone():
    new = SimpleNamespace(status="PENDING", relative_logdir=None)
    TimeGuard(100, 5, 0).on_trial_add(None, new)
    assert new.status == "PENDING"


def test_trials_that_are_over_are_tidied_before_the_next_one_begins(tmp_path: Path):
    def trial(game: str, status: str, *, done: bool = True) -> SimpleNamespace:
        folder = trained(tmp_path, game, 1, {100: 1.0, 200: 2.0}, done=done)
        shutil.copytree(folder / "checkpoint_000001", folder / "checkpoint_000000")
        return SimpleNamespace(trial_id=game, status=status, path=str(folder))

    trials = [
        trial("maze", Trial.TERMINATED),
        trial("heist", Trial.RUNNING),
        trial("ninja", Trial.TERMINATED, done=False),
    ]
    controller = SimpleNamespace(
        get_trials=lambda: trials, get_live_trials=lambda: [], search_alg=None
    )
    guard = cloudpickle.loads(cloudpickle.dumps(TimeGuard(100, 5, 0)))
    guard.choose_trial_to_run(controller)
    left = {each.trial_id: len(list(Path(each.path).glob("checkpoint_*"))) for each in trials}
    assert left == {"maze": 1, "heist": 2, "ninja": 2}
