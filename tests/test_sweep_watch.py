"""What schedulers are told, which notes are written when, and what a resumed sweep takes up."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from app_helpers import result, trial
from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler

from rllib_ppg.app.adopt import adopt_newest
from rllib_ppg.app.copies import COPIES, newest_copy, note_copy
from rllib_ppg.app.objective import Objective
from rllib_ppg.app.result_files import ResultFiles
from rllib_ppg.app.sweep_watch import STATE, SweepWatch

RETURN = "env_runners/episode_return_mean"


def asha(**keys: Any) -> AsyncHyperBandScheduler:
    goal = {"metric": RETURN, "mode": "max", "time_attr": "timesteps_total"}
    return AsyncHyperBandScheduler(**goal, **{"grace_period": 1, "max_t": 9, **keys})


def watch(scheduler: Any = None, objective: Objective | None = None) -> SweepWatch:
    made = SweepWatch(objective)
    made.scheduler = scheduler or asha()
    made.heard = []
    made.tell = made.heard.append
    return made


class Notes:
    """The part of Tune's controller that writes notes."""

    def __init__(self, trials: list[Any]) -> None:
        self.trials, self.saved, self.marked = trials, 0, []
        self.search_alg = SimpleNamespace(on_trial_complete=self.complete)
        self.completed: list[tuple[str, float]] = []

    def get_trials(self) -> list[Any]:
        return self.trials

    def save_to_dir(self) -> None:
        self.saved += 1

    def _mark_trial_to_checkpoint(self, one: Any) -> None:
        self.marked.append(one.trial_id)

    def complete(self, trial_id: str, result: Any = None) -> None:
        self.completed.append((trial_id, result[RETURN]))


def noted_trial(number: str = "00000", **values: Any) -> Any:
    metadata = SimpleNamespace(invalidate_cache=lambda: None)
    return trial(number, run_metadata=metadata, invalidate_json_state=lambda: None, **values)


def test_a_scheduler_that_compares_nothing_is_told_everything():
    given = {"x": 1}
    assert watch(FIFOScheduler()).known(trial(), given) is given


def test_a_missing_number_is_the_newest_before():
    made, one = watch(), trial()
    assert made.known(one, {RETURN: math.nan, "timesteps_total": 1}) is None, "none is known yet"
    made.known(one, {RETURN: 7.0, "timesteps_total": 2})
    given = {RETURN: math.nan, "timesteps_total": 3, "training_iteration": 4, "more": 5}
    told = made.known(one, given)
    assert told == {RETURN: 7.0, "timesteps_total": 3, "training_iteration": 4}
    assert given[RETURN] == 7.0, "Tune gives its searcher the same"


def test_after_a_restart_it_stands_in_the_trials_file(tmp_path: Path):
    files = ResultFiles(tmp_path, {})
    files.write(result(1, 100))
    told = watch().known(trial(path=str(tmp_path)), {RETURN: math.nan, "timesteps_total": 3})
    assert told is not None and told[RETURN] == 7.25


def test_an_end_is_told_with_the_best_so_far():
    made = watch(objective=Objective(RETURN))
    for number, value in (("00000", 5.0), ("00001", 3.0)):
        row = {"env_runners": {"episode_return_mean": value}, "timesteps_total": 2000}
        made.ended(trial(number, last_result=row))
    assert made.heard == [
        "trial 00000 ended after 2,000 steps, episode_return_mean 5; best so far: trial 00000",
        "trial 00001 ended after 2,000 steps, episode_return_mean 3; best so far: trial 00000",
    ]


def test_notes_are_written_when_a_trial_begins_ends_or_changes_and_not_otherwise():
    made, one = watch(), noted_trial(status="PENDING")
    made.controller = Notes([one])
    for status, saved in (("PENDING", 1), ("PENDING", 1), ("RUNNING", 2), ("TERMINATED", 3)):
        one.status = status
        made._next_notes = 0.0
        made.write_notes([one])
        assert made.controller.saved == saved, status
    assert len(made.controller.marked) == 3


def test_a_copy_is_noted_in_the_trials_folder(tmp_path: Path):
    source = noted_trial("00001", path=str(tmp_path / "b"))
    one = noted_trial("00000", path=str(tmp_path / "a"), config={"lr": 0.5})
    (tmp_path / "a" / "checkpoint_000003").mkdir(parents=True)
    made = watch()
    made.scheduler._hyperparam_mutations = {"lr": [0.5]}
    made.controller = Notes([one, source])
    made.write_notes([one, source])
    one.experiment_tag = "0@perturbed[lr=0.5]"
    one.checkpoint = SimpleNamespace(path=str(tmp_path / "b" / "checkpoint_000007"))
    made._next_notes = 0.0
    made.write_notes([one, source])
    line = json.loads((tmp_path / "a" / COPIES).read_text())
    assert line == {
        "from": "abcde_00001", "checkpoint": one.checkpoint.path, "after": 3,
        "config": {"lr": 0.5},
    }  # fmt: skip
    assert made.heard == ["trial 00000 goes on from trial 00001, with lr 0.5"]
    assert made.controller.saved == 2


def test_the_state_has_the_scheduler_and_the_trials_that_it_has_paused():
    trials = [Trial("PPG", stub=True, trial_id=name) for name in ("a", "b", "c")]
    for one, status in zip(trials, ("PAUSED", "PAUSED", "TERMINATED"), strict=True):
        one.status = status
    made = watch()
    made.controller, made.halted = Notes(trials), {"b"}
    state = made.state()
    assert state[STATE]["statuses"] == {"a": "PAUSED", "b": "RUNNING", "c": "TERMINATED"}
    assert watch(FIFOScheduler()).state() is None

    later = watch()
    later.set_state(state)
    for one in trials[:2]:
        one.status = "PENDING"
        later.goes_on(one)
    assert [one.status for one in trials[:2]] == ["PAUSED", "PENDING"], "b by Ctrl-C only"


def test_a_resumed_scheduler_knows_what_it_knew_and_hears_of_ends_that_it_missed(tmp_path: Path):
    files = ResultFiles(tmp_path, {})
    files.write(result(3, 300))
    trials = [Trial("PPG", stub=True, trial_id=name) for name in ("a", "b")]
    first = watch()
    first.controller = Notes(trials)
    for one in trials:
        first.scheduler.on_trial_add(None, one)
        first.scheduler.on_trial_result(None, one, {RETURN: 1.0, "timesteps_total": 1})
    state = first.state()

    later = watch()
    later.controller = Notes(trials)
    later.set_state(state)
    for one in trials:
        later.scheduler.on_trial_add(None, one)
    trials[0].status = "TERMINATED"
    ended = SimpleNamespace(trial_id="a", path=str(tmp_path), last_result=None)
    later.had_ended(ended)
    later.begin(trials)
    rungs = dict(later.scheduler._brackets[0]._rungs)
    assert rungs[1] == {"a": 1.0, "b": 1.0}, "what both had done at the first rung"
    assert later.controller.completed == [("a", 7.25)]
    assert set(later.scheduler._trial_info) == {"b"}


def test_a_trial_goes_on_from_what_it_has_copied_until_it_has_saved_itself(tmp_path: Path):
    from app_helpers import resumable

    from rllib_ppg._ray_compat import TrainingResult
    from rllib_ppg.algorithm.checkpoint_files import write_manifest

    own, other = tmp_path / "own", tmp_path / "other"
    own.mkdir()
    one = resumable(own, [1, 2], rows=[1, 2])
    source = other / "checkpoint_000006"
    source.mkdir(parents=True)
    write_manifest(source, {"counters": {"training_iteration": 7}})
    note_copy(own, "x", str(source), {})
    assert newest_copy(own) == (source, 1)
    manager = one.run_metadata.checkpoint_manager
    copied = TrainingResult(
        checkpoint=SimpleNamespace(path=str(source)), metrics={"training_iteration": 7}
    )
    manager._latest_checkpoint_result = copied
    assert adopt_newest(one).checkpoint == source
    assert manager.latest_checkpoint_result is copied

    place = own / "checkpoint_000002"
    place.mkdir()
    write_manifest(place, {"counters": {"training_iteration": 9}})
    assert adopt_newest(one).checkpoint == place


@pytest.mark.parametrize("text", ["", "{", '{"from": "x"'])
def test_a_line_that_was_cut_short_is_passed_over(tmp_path: Path, text: str):
    assert newest_copy(tmp_path) is None
    note_copy(tmp_path, "a", "c/checkpoint_000001", {})
    with (tmp_path / COPIES).open("a") as file:
        file.write(text)
    found = newest_copy(tmp_path)
    assert found is not None and found.checkpoint == Path("c/checkpoint_000001")
