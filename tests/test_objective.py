"""What a sweep compares its trials by."""

import math

import pytest

from rllib_ppg.app.objective import Objective, game_of, number_in, score_table
from rllib_ppg.errors import UserError

RETURN = "env_runners/episode_return_mean"
STARPILOT = {"env_config": {"env_name": "starpilot", "distribution_mode": "easy"}}


@pytest.mark.parametrize("result", [{RETURN: 7}, {"env_runners": {"episode_return_mean": 7.0}}])
def test_a_number_is_found_in_flat_and_nested_results(result: dict):
    assert number_in(result, RETURN) == 7


@pytest.mark.parametrize("result", [{}, {RETURN: None}, {RETURN: "x"}, {RETURN: True}])
def test_what_is_no_number_is_none(result: dict):
    assert math.isnan(number_in(result, RETURN))


def test_the_newest_number_counts():
    rows = [{RETURN: 1.0}, {RETURN: 5.0}, {RETURN: math.nan}, {}]
    assert Objective(RETURN).newest(rows, {}) == 5
    assert math.isnan(Objective(RETURN).newest([], {}))


def test_over_games_a_return_is_normalised_by_the_games_own_table():
    over = Objective(RETURN, over_games=True)
    # easy_challenge has (2.5, 64) for starpilot and (5, 10) for coinrun.
    assert over.of({RETURN: 64}, STARPILOT) == 1 and over.of({RETURN: 2.5}, STARPILOT) == 0
    coinrun = {"env_config": {"distribution_mode": "easy"}}
    assert over.of({RETURN: 7.5}, coinrun) == 0.5
    assert Objective(RETURN).of({RETURN: 64}, STARPILOT) == 64


def test_scores_are_taken_as_they_are():
    over = Objective("evaluation/test_score", over_games=True)
    assert over.of({"evaluation/test_score": 0.25}, STARPILOT) == 0.25


def test_the_best_comes_first_and_the_unknown_last():
    values = [2.0, math.nan, 3.0, 1.0]
    for mode, expected in (("max", [3, 2, 1]), ("min", [1, 2, 3])):
        ordered = sorted(values, key=Objective(RETURN, mode).order)
        assert ordered[:3] == expected and math.isnan(ordered[3])


def test_a_game_without_a_table_is_refused():
    assert game_of({}) == ("coinrun", "hard") and score_table("coinrun", "hard") == "hard"
    with pytest.raises(UserError, match="no score table has caveflyer"):
        score_table("caveflyer", "memory")
