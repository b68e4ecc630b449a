"""The order of a challenge's trials: one that has ended rests, and is tidied."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from challenge_files import trained
from ray.tune.experiment import Trial

from rllib_ppg.app.challenge_scheduler import RestingScheduler


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
    RestingScheduler().on_trial_add(None, one)
    assert found == expected


def test_a_new_trial_is_left_alone():
    new = SimpleNamespace(status="PENDING", relative_logdir=None)
    RestingScheduler().on_trial_add(None, new)
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
    RestingScheduler().choose_trial_to_run(controller)
    left = {each.trial_id: len(list(Path(each.path).glob("checkpoint_*"))) for each in trials}
    assert left == {"maze": 1, "heist": 2, "ninja": 2}
