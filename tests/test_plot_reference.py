"""Published curves come from CSV files with various names of columns."""

import gzip
from pathlib import Path

import pytest
from plot_files import write_csv

from rllib_ppg.app.plot_reference import read_reference
from rllib_ppg.errors import UserError

ROWS = [["ppg", "maze", 0, 10, 1.5], ["ppg", "maze", 0, 20, 2], ["ppo", "maze", 0, 10, ""]]
NAMES = ["method", "game", "seed", "env_steps", "ep_return"]


def test_one_curve_a_label_game_and_seed_without_unknown_points(tmp_path: Path):
    path = write_csv(tmp_path / "r.csv", [*ROWS, ["ppg", "maze", 1, 5, 3]], NAMES)
    first, second = read_reference(str(path), "env_steps")
    assert (first.x.tolist(), first.y.tolist()) == ([10, 20], [1.5, 2])
    assert second.x.tolist() == [5] and (second.origin.seed, second.origin.game) == (1, "maze")
    assert first.origin.reference and first.origin.label == "ppg (reference)"


def test_a_plain_curve_is_named_by_its_file_which_may_be_compressed(tmp_path: Path):
    text = "﻿hours,return\r\n\r\n1,2\r\n"
    (tmp_path / "published.csv.gz").write_bytes(gzip.compress(text.encode()))
    (curve,) = read_reference(str(tmp_path / "published.csv.gz"), "hours")
    assert curve.origin.label == "published (reference)" and curve.y.tolist() == [2]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "no rows"),
        ("env_steps,return\n", "no rows"),
        ("env_steps,retrun\n1,2\n", "no column for the return.*nearest: retrun"),
        ("hours,return\n1,2\n", "no column for --x env_steps"),
        ("env_steps,return\n1,2,3\n", "line 2 has 3 fields where the header has 2"),
        ("env_steps,return\n1,2\n\n2,high\n", "line 4: 'high' is no finite number"),
        ("env_steps,return\n1,inf\n", "line 2: 'inf'"),
        ("env_steps,return\n,5\n", "do not increase"),
        ("env_steps,return\n2,5\n1,5\n", "do not increase"),
        ("env_steps,return\n1,\n", "holds no point"),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, content: str, reason: str):
    (tmp_path / "r.csv").write_text(content)
    with pytest.raises(UserError, match=reason):
        read_reference(str(tmp_path / "r.csv"), "env_steps")


def test_a_file_that_is_missing_or_damaged_is_refused(tmp_path: Path):
    (tmp_path / "bad.csv.gz").write_bytes(gzip.compress(b"env_steps,return\n1,2\n")[:-9])
    (tmp_path / "worse.csv.gz").write_bytes(gzip.compress(b"a" * 99)[:10] + b"\xff" * 20)
    for name in ("bad.csv.gz", "worse.csv.gz", "none.csv"):
        with pytest.raises(UserError, match="cannot be read"):
            read_reference(str(tmp_path / name), "env_steps")
