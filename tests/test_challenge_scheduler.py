"""The order of a challenge's trials: one that has ended rests."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from challenge_files import trained

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
