"""result.json and progress.csv: at once, each iteration once, and mended after a kill."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest

from rllib_ppg.app.result_files import RESULTS, TABLE, ResultFiles, result_at, results


def row(iteration: int, value: float = 0.5, **more: Any) -> dict[str, Any]:
    nested = {"loss": value, "steps": 10 * iteration}
    return {"training_iteration": iteration, "info": nested, "config": {"lr": 1}, **more}


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / TABLE).open(newline="") as file:
        return list(csv.DictReader(file))


def written(folder: Path, *iterations: int, value: float = 0.5) -> ResultFiles:
    files = ResultFiles(folder, {"lr": 1})
    for iteration in iterations:
        files.write(row(iteration, value))
    return files


def test_each_result_is_there_when_write_returns(tmp_path):
    files = ResultFiles(tmp_path / "trial", {"lr": 1})
    for iteration in (1, 2, 3):
        files.write(row(iteration))
        assert [r["training_iteration"] for r in results(tmp_path / "trial")][-1] == iteration
        assert table(tmp_path / "trial")[-1]["info/steps"] == str(10 * iteration)
    assert json.loads((tmp_path / "trial/params.json").read_text()) == {"lr": 1}
    assert "config/lr" not in table(tmp_path / "trial")[0]


@pytest.mark.parametrize("restarted", [False, True])
def test_a_repeated_iteration_replaces_what_came_after_the_checkpoint(tmp_path, restarted):
    files = written(tmp_path, 1, 2, 3, 4)
    files = ResultFiles(tmp_path, {"lr": 1}) if restarted else files
    files.write(row(3, 9.0))
    assert [(r["training_iteration"], r["info"]["loss"]) for r in results(tmp_path)] == [
        (1, 0.5), (2, 0.5), (3, 9.0),
    ]  # fmt: skip
    assert [r["info/loss"] for r in table(tmp_path)] == ["0.5", "0.5", "9.0"]


@pytest.mark.parametrize("name", [RESULTS, TABLE])
@pytest.mark.parametrize("cut", [1, 5])
def test_half_a_line_that_a_kill_left_is_mended(tmp_path, name, cut):
    written(tmp_path, 1, 2, 3)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:-cut])
    again = 3 if name == RESULTS else 4
    ResultFiles(tmp_path, {}).write(row(again))
    assert [r["training_iteration"] for r in results(tmp_path)] == list(range(1, again + 1))
    assert [int(r["training_iteration"]) for r in table(tmp_path)] == list(range(1, again + 1))


def test_what_could_not_be_written_comes_with_the_next_result(tmp_path):
    folder = tmp_path / "trial"
    files = written(folder, 1, 2)
    folder.rename(tmp_path / "away")
    folder.write_text("in the way")
    for iteration in (3, 4):
        with pytest.raises(OSError):
            files.write(row(iteration))
    folder.unlink()
    (tmp_path / "away").rename(folder)
    files.write(row(5))
    assert [r["training_iteration"] for r in results(folder)] == [1, 2, 3, 4, 5]
    assert len(table(folder)) == 5


def test_columns_stay_those_of_the_first_result(tmp_path):
    files = written(tmp_path, 1)
    files.write(row(2, extra=7))
    del (third := row(3))["info"]["loss"]
    files.write(third)
    assert [list(r) for r in table(tmp_path)] == [list(table(tmp_path)[0])] * 3
    assert table(tmp_path)[2]["info/loss"] == ""


def test_a_result_is_found_by_its_iteration(tmp_path):
    written(tmp_path, 1, 2, value=math.nan)
    found = result_at(tmp_path, 2)
    assert found is not None and found["info"]["steps"] == 20
    assert result_at(tmp_path, 3) is None and result_at(tmp_path / "none", 1) is None


def test_after_a_failed_write_only_what_is_missing_is_written(tmp_path):
    files = written(tmp_path, 1, 2)
    before = [(tmp_path / name).stat().st_ino for name in (RESULTS, TABLE)]
    table_file, away = tmp_path / TABLE, tmp_path / "away"
    table_file.rename(away)
    table_file.mkdir()
    for iteration in (3, 4):
        with pytest.raises(OSError):
            files.write(row(iteration))
    table_file.rmdir()
    away.rename(table_file)
    files.write(row(5))
    assert [r["training_iteration"] for r in results(tmp_path)] == [1, 2, 3, 4, 5]
    assert [int(r["training_iteration"]) for r in table(tmp_path)] == [1, 2, 3, 4, 5]
    assert before == [(tmp_path / name).stat().st_ino for name in (RESULTS, TABLE)], "not rewritten"
