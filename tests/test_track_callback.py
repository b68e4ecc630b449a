"""Results on their way to a tracker: what is passed on, and that an error there ends nothing.

Ray's own callbacks are not called here; they need the trackers' packages.
"""

import io
from typing import Any

import pytest
from app_helpers import evaluated, trial
from ray import cloudpickle

from rllib_ppg.app import track_callback
from rllib_ppg.app.interrupt import Interrupt
from rllib_ppg.app.track_callback import TrackCallback
from rllib_ppg.app.view import PlainView
from rllib_ppg.app.watch import RunWatch

TRIAL = trial("00000")


class Recorder:
    """Stands where Ray's callback would, and fails where it is told to."""

    def __init__(self, failing: str = "") -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.failing = failing

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **info: Any) -> None:
            self.calls.append((name, *args))
            if name == self.failing:
                raise ConnectionError("the server\nis down")

        return call

    @property
    def names(self) -> list[str]:
        return [name for name, *_ in self.calls]


def callback(monkeypatch: pytest.MonkeyPatch, failing: str = "") -> tuple[TrackCallback, Recorder]:
    recorder = Recorder(failing)
    monkeypatch.setattr(track_callback, "make_logger", lambda tracker, experiment: recorder)
    made = TrackCallback("wandb", "x")
    made.setup()
    return made, recorder


def report(made: TrackCallback, number: int = 1) -> None:
    result = {**evaluated(number, 100 * number, test_return=4.0), "config": {"lr": 1}}
    made.on_trial_result(iteration=number, trials=[TRIAL], trial=TRIAL, result=result)


def test_results_go_under_their_documented_names(monkeypatch):
    made, recorder = callback(monkeypatch)
    made.on_trial_start(0, [TRIAL], TRIAL)
    report(made)
    name, iteration, given, numbers = recorder.calls[-1]
    assert (name, iteration, given) == ("log_trial_result", 1, TRIAL)
    assert numbers["evaluation/test_return"] == 4.0 and numbers["phase/n_pi"] == 4
    assert numbers["training_iteration"] == 1 and numbers["timesteps_total"] == 100
    assert all(isinstance(value, float) for value in numbers.values())
    assert not any(name.startswith(("info/", "config")) for name in numbers)


def test_a_trial_begins_and_ends_once_also_when_it_is_restarted_or_interrupted(monkeypatch):
    made, recorder = callback(monkeypatch)
    for _ in range(2):
        made.on_trial_start(0, [TRIAL], TRIAL)
    report(made)
    made.on_experiment_end([TRIAL])
    made.on_trial_complete(0, [TRIAL], TRIAL)
    assert recorder.names == [
        "setup", "log_trial_start", "log_trial_result", "log_trial_end", "on_experiment_end",
    ]  # fmt: skip


@pytest.mark.parametrize("end", ["on_trial_complete", "on_trial_error"])
def test_how_a_trial_ended_is_reported(monkeypatch, end: str):
    made, recorder = callback(monkeypatch)
    made.on_trial_start(0, [TRIAL], TRIAL)
    getattr(made, end)(0, [TRIAL], TRIAL)
    assert recorder.calls[-1] == ("log_trial_end", TRIAL, end == "on_trial_error")


@pytest.mark.parametrize("failing", ["setup", "log_trial_start", "log_trial_result"])
def test_an_error_is_told_once_and_nothing_more_is_reported(monkeypatch, failing: str):
    out = io.StringIO()
    with RunWatch(PlainView("title", out), Interrupt(), {}):
        made, recorder = callback(monkeypatch, failing)
        made.on_trial_start(0, [TRIAL], TRIAL)
        report(made)
        report(made, 2)
        made.on_trial_complete(0, [TRIAL], TRIAL)
        made.on_experiment_end([TRIAL])
    assert recorder.names[-1] == failing
    (line,) = out.getvalue().splitlines()
    assert "Weights & Biases gets no results, going on: the server is down" in line


def test_only_names_travel_into_the_results_folder(monkeypatch):
    made, _ = callback(monkeypatch)
    made.on_trial_start(0, [TRIAL], TRIAL)
    again = cloudpickle.loads(cloudpickle.dumps(made))
    assert (again.tracker, again.experiment) == ("wandb", "x")
    assert again._logger is None and again._open == {}
