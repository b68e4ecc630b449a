"""Scores of a group: one a run and game, train and test of one agent together."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rllib_ppg.app.plot_evaluations import Score
from rllib_ppg.app.plot_runs import Origin
from rllib_ppg.app.plot_scores import (
    by_game,
    cells,
    choose_levels,
    common_games,
    gap_levels,
    matrix,
    merge,
    overall,
)
from rllib_ppg.errors import UserError


def score(game: str, agent: str, **returns: float) -> Score:
    return Score(Origin(Path(f"{agent}.json"), "e", game=game, agent=agent), returns)


def test_evaluations_of_one_agent_on_two_kinds_of_levels_are_one_run():
    found = merge("g", [score("m", "a", train=3), score("m", "b", test=1), score("m", "a", test=2)])
    assert [one.returns for one in found] == [{"train": 3, "test": 2}, {"test": 1}]


def test_an_agent_that_was_evaluated_twice_is_not_two_seeds():
    with pytest.raises(UserError, match="the same agent on m, test levels"):
        merge("g", [score("m", "a", test=3), score("m", "a", test=4)])
    assert len(merge("g", [score("m", "a", test=3), score("n", "a", test=4)])) == 2


def played(agent: str, game: str = "m", *, transfer: bool = False, **settings: object) -> Score:
    origin = Origin(Path(f"{agent}.json"), "e", game=game, agent=agent)
    return Score(replace(origin, transfer=transfer, played=settings), {"test": 1.0})


def test_evaluations_that_differ_in_more_than_levels_have_no_mean():
    for two in (
        [played("a", distribution_mode="easy"), played("a", distribution_mode="hard")],
        [played("a", temperature=0), played("b", temperature=1)],
        [
            played("a", distribution_mode="hard", transfer=True),
            played("b", distribution_mode="easy"),
        ],
    ):
        with pytest.raises(UserError, match="play m in different ways"):
            merge("g", two)
    assert len(merge("g", [played("a", temperature=0), played("a", "n", temperature=1)])) == 2
    trained_and_not = [played("a", temperature=0), played("b", transfer=True, temperature=0)]
    assert by_game(merge("g", trained_and_not), "test").keys() == {"m", "m (transfer)"}


def test_transfer_games_have_an_aggregate_of_their_own():
    values = {name: np.array([1.0]) for name in ("m", "n")}
    values |= {f"{name} (transfer)": np.array([5.0]) for name in "opq"}
    found = overall({"x": values}, "mean", "none", print)
    assert [(cell.game, cell.interval.estimate) for cell in found] == [
        ("mean of 2 games", 1.0),
        ("mean of 3 transfer games", 5.0),
    ]


def test_levels_are_the_first_that_all_have_or_those_that_are_wanted():
    some = [score("m", "a", train=1, all=2), score("m", "b", train=3, test=4, all=5)]
    assert choose_levels(some, None) == "all" and choose_levels(some, "train") == "train"
    assert gap_levels(some) == "all" and gap_levels(some[1:]) == "test"
    with pytest.raises(UserError, match=r"a.json has scores on train, all levels only"):
        choose_levels(some, "test")
    with pytest.raises(UserError, match="share none"):
        choose_levels([score("m", "a", train=1), score("m", "b", test=1)], None)
    with pytest.raises(UserError, match="needs train and test"):
        gap_levels([score("m", "a", train=1)])


def test_a_matrix_has_runs_by_games_with_as_many_runs_as_the_fewest():
    notes: list[str] = []
    games = by_game(
        [score("m", "a", test=1), score("n", "a", test=2), score("m", "b", test=3)], "test"
    )
    assert games["m"].tolist() == [1, 3]
    assert matrix("g", games, ["n", "m"], notes.append).tolist() == [[2, 1]]
    assert len(notes) == 1


def test_groups_are_compared_on_the_games_that_all_have():
    notes: list[str] = []
    groups = {"x": {"m": np.array([1.0]), "n": np.array([2.0])}, "y": {"n": np.array([4.0])}}
    assert common_games(groups, notes.append) == ["n"] and "m" in notes[0]
    with pytest.raises(UserError, match="no game in common"):
        common_games({**groups, "z": {"o": np.array([1.0])}}, notes.append)


def test_the_aggregate_over_games_is_of_all_runs_of_all_games():
    values = {f"game{k}": np.array([k, k + 10.0]) for k in range(4)}
    (cell,) = overall({"x": values}, "iqm", "bootstrap", print)
    # Of 0 1 2 3 10 11 12 13 the middle half is 2 3 10 11.
    assert cell.interval.estimate == 6.5 and cell.game == "interquartile mean of 4 games"
    assert cell.num_runs == 2 and cell.interval.low <= 6.5 <= cell.interval.high
    assert overall({"x": {"one": np.array([1.0])}}, "iqm", "none", print) == []


def test_each_games_cell_is_its_mean():
    (cell,) = cells({"x": {"m": np.array([1.0, 4.0])}}, "none")
    assert (cell.group, cell.game, cell.num_runs, cell.interval.estimate) == ("x", "m", 2, 2.5)
