"""The generalisation gap of training runs, from the evaluations that they made."""

import json
from pathlib import Path

import pytest
from plot_files import COLUMNS, write_csv

from rllib_ppg.app.plot_training_gaps import read_training_gaps
from rllib_ppg.errors import UserError

NAN = "nan"


def run(folder: Path, seed: int, rows: list[list[object]], unseen: str = "test") -> Path:
    """Write a trial whose rows are (train return, unseen return)."""
    path = folder / f"PPG_{seed}"
    columns = (*COLUMNS, "evaluation/train_return", f"evaluation/{unseen}_return")
    base = [[1.0, 100 * k, k, 10.0 * k] for k in range(1, len(rows) + 1)]
    write_csv(path / "progress.csv", [[*b, *r] for b, r in zip(base, rows, strict=True)], columns)
    env = {"env_name": "coinrun", "distribution_mode": "easy"}
    config = {"env": "procgen", "env_config": env, "seed": seed}
    (path / "params.json").write_text(json.dumps(config))
    return path


@pytest.mark.parametrize("unseen", ["test", "all"])
def test_the_newest_evaluation_of_each_trial_counts(tmp_path: Path, unseen: str):
    run(tmp_path, 1, [[5.0, 4.0], [NAN, NAN], [8.0, 6.0], [NAN, NAN]], unseen)
    run(tmp_path, 2, [[9.0, 7.0]], unseen)
    scores = read_training_gaps(str(tmp_path), print)
    found = [(score.origin.seed, score.origin.game, score.returns) for score in scores]
    assert found == [
        (1, "coinrun", {unseen: 6.0, "train": 8.0}),
        (2, "coinrun", {unseen: 7.0, "train": 9.0}),
    ]


def test_a_trial_without_an_evaluation_is_left_out_and_named(tmp_path: Path):
    run(tmp_path, 1, [[9.0, 7.0]])
    lacking = run(tmp_path, 2, [[NAN, NAN]])
    notes = []
    assert len(read_training_gaps(str(tmp_path), notes.append)) == 1
    (note,) = notes
    assert str(lacking) in note and "left out" in note
    with pytest.raises(UserError, match="evaluation_interval"):
        read_training_gaps(str(lacking), notes.append)


def test_a_line_that_is_not_whole_can_be_left_out(tmp_path: Path):
    run(tmp_path, 1, [[5.0, 4.0], [8.0, 6.0]])
    (table,) = tmp_path.rglob("progress.csv")
    table.write_text(table.read_text()[:-3])
    with pytest.raises(UserError, match="--partial"):
        read_training_gaps(str(tmp_path), print)
    (score,) = read_training_gaps(str(tmp_path), print, partial=True)
    assert score.returns == {"test": 4.0, "train": 5.0}
