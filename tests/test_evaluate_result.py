"""The result of an evaluation: score tables that fit, a file that is whole, numbers that agree."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from rllib_ppg.algorithm.evaluate_episodes import EpisodeStatistics
from rllib_ppg.algorithm.evaluate_levels import Task
from rllib_ppg.app.evaluate_result import (
    Outcome,
    document,
    overall,
    print_table,
    write,
)
from rllib_ppg.app.plot_evaluations import read_scores

SETTINGS = {"policy": "agent", "temperature": 0.5, "seed": 0, "num_envs": 2}


def task(
    game: str = "coinrun", mode: str = "easy", levels: str = "test", transfer: bool = False
) -> Task:
    config = {"env_name": game, "num_levels": 10, "start_level": 5}
    return Task("procgen", config, game, levels, mode, transfer)


def outcome(
    *returns: float,
    game: str = "coinrun",
    table: str | None = "easy_challenge",
    transfer: bool = False,
) -> Outcome:
    ones = np.ones(len(returns), np.int64)
    episodes = EpisodeStatistics(np.array(returns), ones * 7, ones - 1, ones * 33, 40)
    return Outcome(task(game, transfer=transfer), episodes, table)


def test_the_file_of_one_game_has_every_episode_and_can_be_plotted(tmp_path: Path):
    path = tmp_path / "e.json"
    write(path, document([outcome(5.0, 10.0)], SETTINGS, checkpoint="exp/trial/checkpoint_1"))
    content = json.loads(path.read_text())
    assert content["episodes"] == [
        {"return": value, "length": 7, "level_seed": 33, "env": 0} for value in (5.0, 10.0)
    ]
    summary = content["summary"]
    assert (summary["mean"], summary["stderr"], summary["env_steps"]) == (7.5, 2.5, 40)
    assert summary["normalised"] == {
        "table": "easy_challenge", "mean": 0.5, "stderr": 0.5, "low": 5, "high": 10,
    }  # fmt: skip
    (score,) = read_scores(path)
    assert score.returns == {"test": 7.5} and score.origin.agent == "exp/trial/checkpoint_1"
    assert (score.origin.game, score.origin.difficulty) == ("coinrun", "easy")


def test_the_file_of_several_games_gives_a_score_each(tmp_path: Path):
    path = tmp_path / "e.json"
    outcomes = [outcome(5.0, 10.0), outcome(5.0, game="maze")]
    write(path, document(outcomes, SETTINGS, checkpoint=None))
    scores = read_scores(path)
    assert [(s.origin.game, s.returns) for s in scores] == [
        ("coinrun", {"test": 7.5}),
        ("maze", {"test": 5.0}),
    ]
    content = json.loads(path.read_text())
    assert content["games"][1]["summary"]["stderr"] is None  # one episode


def test_the_mean_over_games_needs_scores_by_one_table():
    two = [outcome(5.0, 10.0), outcome(5.0, 10.0, game="maze")]
    error = math.hypot(0.5, 0.5) / 2
    expected = {"table": "easy_challenge", "mean": 0.5, "stderr": pytest.approx(error)}
    assert overall(two)["normalised"] == expected
    assert overall([*two, outcome(1.0, game="heist", table=None)])["normalised"] is None
    assert overall([*two, outcome(1.0, game="heist", table="easy_paper")])["normalised"] is None


def test_trained_and_transfer_games_never_share_a_mean(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "100")
    trained = [outcome(10.0, 10.0), outcome(5.0, 5.0, game="heist")]
    transfer = [
        outcome(5.0, 10.0, game=game, transfer=True) for game in ("maze", "ninja", "leaper")
    ]
    summary = document([*trained, *transfer], SETTINGS)["summary"]
    assert summary["num_games"] == 2 and summary["transfer"]["num_games"] == 3
    assert summary["normalised"] == overall(trained)["normalised"]
    assert summary["transfer"]["normalised"]["mean"] == pytest.approx(
        np.mean([each.score[0] for each in transfer])
    )
    only = overall(transfer)
    assert only["num_games"] == 0 and only["normalised"] is None
    print_table([*trained, *transfer])
    out = capsys.readouterr().out
    assert "maze (transfer)" in out and "that the agent was not trained on" in out
    rows = [line for line in out.splitlines() if line.startswith("mean of")]
    assert [row.split("  ")[0] for row in rows] == ["mean of 2 games", "mean of 3 transfer games"]
    print_table([trained[0], *transfer])
    out = capsys.readouterr().out
    assert [row.split("  ")[0] for row in out.splitlines() if "mean of" in row] == [
        "mean of 3 transfer games"
    ]


def test_the_table_names_levels_errors_and_score_table(capsys: pytest.CaptureFixture[str]):
    other = Outcome(task("maze", levels="custom"), outcome(5.0, 10.0).episodes, "easy_challenge")
    print_table([outcome(5.0, 10.0), other])
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines()]
    assert rows[1] == ["coinrun", "test", "2", "7.0", "7.50", "+-", "2.50", "0.500", "+-", "0.500"]
    assert rows[2][:5] == ["maze", "5", "to", "14", "2"]
    assert rows[3][:4] == ["mean", "of", "2", "games"] and "by easy_challenge" in out
