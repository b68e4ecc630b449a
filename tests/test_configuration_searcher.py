"""A searcher is told the objective of whole configurations, and its state survives."""

import math
from typing import Any

import pytest
from ray.tune.search import Searcher

from rllib_ppg.app.configuration_searcher import ConfigurationSearcher
from rllib_ppg.app.objective import Objective

METRIC = "env_runners/episode_return_mean"


class Recorder(Searcher):
    """Suggests 1, 2, 3 and writes down what it is told."""

    def __init__(self) -> None:
        super().__init__(metric=METRIC, mode="max")
        self.asked: list[str] = []
        self.results: list[tuple[str, float]] = []
        self.completed: list[tuple[str, float | None, bool]] = []

    def suggest(self, trial_id: str) -> dict[str, Any]:
        self.asked.append(trial_id)
        return {"lr": len(self.asked), "env_config": {"num_levels": 0}}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self.results.append((trial_id, result[METRIC]))

    def on_trial_complete(self, trial_id, result=None, error=False) -> None:
        self.completed.append((trial_id, result[METRIC] if result else None, error))


def made(over: dict | None = None, *, games: bool = False) -> ConfigurationSearcher:
    config = {"env_config": {"distribution_mode": "easy"}}
    return ConfigurationSearcher(
        Recorder(), Objective(METRIC, over_games=games), config, over or {}
    )


def result(value: float, iteration: int = 1) -> dict[str, Any]:
    return {METRIC: value, "training_iteration": iteration}


def test_one_trial_a_configuration_is_passed_on():
    searcher = made()
    assert searcher.suggest("a") == {"lr": 1, "env_config": {"num_levels": 0}}
    searcher.on_trial_result("a", result(math.nan))
    searcher.on_trial_result("a", result(5.0))
    searcher.on_trial_complete("a", result(math.nan))
    assert searcher.searcher.results == [("a", 5)]
    assert searcher.searcher.completed == [("a", 5, False)], "the newest that is a number"


def test_a_trial_without_any_number_has_no_objective():
    searcher = made()
    searcher.suggest("a")
    searcher.on_trial_complete("a", result(math.nan))
    assert searcher.searcher.completed == [("a", None, False)]


def test_each_suggestion_becomes_a_trial_for_each_game_and_seed():
    searcher = made({("env_config", "env_name"): ["coinrun", "starpilot"], ("seed",): [1, 2]})
    found = [searcher.suggest(name) for name in "abcde"]
    assert [(f["env_config"]["env_name"], f["seed"]) for f in found[:4]] == [
        ("coinrun", 1), ("coinrun", 2), ("starpilot", 1), ("starpilot", 2),
    ]  # fmt: skip
    assert [f["lr"] for f in found] == [1, 1, 1, 1, 2]
    assert found[0]["env_config"]["num_levels"] == 0 and searcher.searcher.asked == ["a", "e"]


def test_the_searcher_is_told_the_mean_of_normalised_returns_once_all_have_ended():
    searcher = made({("env_config", "env_name"): ["coinrun", "starpilot"]}, games=True)
    searcher.suggest("a")
    searcher.on_trial_complete("a", result(7.5))  # 0.5 of coinrun, before b has begun
    searcher.suggest("b")
    searcher.on_trial_result("b", result(64.0))  # 1.0 of starpilot
    assert searcher.searcher.completed == [] and searcher.searcher.results == []
    searcher.on_trial_complete("b", result(64.0))
    assert searcher.searcher.completed == [("a", 0.75, False)]


def test_a_configuration_of_which_one_trial_failed_has_failed():
    searcher = made({("seed",): [1, 2]})
    for name in "ab":
        searcher.suggest(name)
    searcher.on_trial_complete("a", error=True)
    searcher.on_trial_complete("b", result(3.0))
    assert searcher.searcher.completed == [("a", None, True)]
    searcher.on_trial_complete("a", result(3.0))  # tried again after a resume
    assert len(searcher.searcher.completed) == 1, "a searcher is told once"


@pytest.mark.parametrize("moment", range(4))
def test_its_state_goes_on_wherever_it_was_saved(moment: int):
    steps = [
        lambda s: s.suggest("a"),
        lambda s: s.suggest("b"),
        lambda s: s.on_trial_complete("a", result(1.0)),
        lambda s: s.on_trial_complete("b", result(3.0)),
    ]
    searcher = made({("seed",): [1, 2]})
    for number, step in enumerate(steps):
        if number == moment:
            state, inner = searcher.get_state(), searcher.searcher
            assert "searcher" not in state
            searcher = made()
            searcher.set_state(state)
            searcher.searcher = inner
        step(searcher)
    assert searcher.searcher.completed == [("a", 2.0, False)]
