"""Scores: tables that fit what was played, and the mean with its error."""

import numpy as np
import pytest

from rllib_ppg import UserError
from rllib_ppg.algorithm.evaluate_episodes import EpisodeStatistics
from rllib_ppg.algorithm.evaluate_levels import Task
from rllib_ppg.algorithm.evaluate_scores import choose_table, score


def test_a_score_is_the_normalised_mean_with_its_error():
    ones = np.ones(4, np.int64)
    episodes = EpisodeStatistics(np.array([5.0, 10.0, 10.0, 10.0]), ones, ones)
    coinrun = Task("procgen", {}, "coinrun", "test", "easy")
    mean, stderr = score(coinrun, episodes, "easy_challenge")  # of 5 to 10
    assert mean == pytest.approx(0.75)
    assert stderr == pytest.approx(np.std([0, 1, 1, 1], ddof=1) / 2)
    assert score(coinrun, episodes, None) is None


@pytest.mark.parametrize(
    ("game", "mode", "wanted", "table"),
    [
        ("coinrun", "easy", None, "easy_challenge"),
        ("coinrun", "hard", None, "hard"),
        ("coinrun", "memory", None, None),
        ("coinrun", "easy", "easy_paper", "easy_paper"),
        ("coinrun", "easy", "none", None),
        ("CartPole-v1", None, None, None),
    ],
)
def test_the_table_fits_game_and_difficulty(game: str, mode: str, wanted: str, table: str):
    assert choose_table(Task("procgen", {}, game, "test", mode), wanted) == table


@pytest.mark.parametrize(
    ("game", "mode", "wanted", "why"),
    [
        ("coinrun", "easy", "hrad", 'Did you mean "hard"'),
        ("coinrun", "easy", "hard", "give easy_challenge or easy_paper"),
        ("caterpillar", "easy", "easy_paper", "no constants for caterpillar"),
        ("CartPole-v1", None, "hard", "not for CartPole-v1"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(game: str, mode: str, wanted: str, why: str):
    with pytest.raises(UserError, match=why):
        choose_table(Task("procgen", {}, game, "test", mode), wanted)
