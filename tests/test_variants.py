"""What `grid_search` nodes make of a configuration."""

import pytest

from rllib_ppg.app import variants as module
from rllib_ppg.app.variants import axes, count, is_grid, trial_count, variants, without_nodes


def test_without_a_grid_there_is_one_variant():
    assert variants({"lr": 1, "model": {"x": [1, 2]}}) == [{"lr": 1, "model": {"x": [1, 2]}}]


def test_grids_at_any_depth_are_combined():
    config = {"lr": {"grid_search": [1, 2]}, "model": {"a": [{"grid_search": ["x", "y"]}]}}
    found = [(v["lr"], v["model"]["a"][0]) for v in variants(config)]
    assert found == [(1, "x"), (1, "y"), (2, "x"), (2, "y")]


def test_a_grid_within_a_grids_value_is_resolved():
    config = {"a": {"grid_search": [{"b": {"grid_search": [1, 2]}}, 3]}}
    assert [v["a"] for v in variants(config)] == [{"b": 1}, {"b": 2}, 3]


def test_variants_do_not_share_their_values():
    first, second = variants({"x": {"grid_search": [1, 2]}, "shared": {"y": 1}})
    first["shared"]["y"] = 5
    assert second["shared"]["y"] == 1


def test_a_huge_grid_is_taken_one_axis_at_a_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MAX_CHECKED", 5)
    config = {name: {"grid_search": [0, 1, 2]} for name in "ab"}
    found = {(v["a"], v["b"]) for v in variants(config)}
    assert found == {(0, 0), (1, 0), (2, 0), (0, 1), (0, 2)}
    assert count(axes(config)) == 9


def test_only_a_node_with_that_one_key_is_a_grid():
    assert is_grid({"grid_search": [1]})
    assert not is_grid({"grid_search": [1], "more": 2}) and not is_grid([1])


def test_sampled_spaces_are_looked_at_at_their_ends():
    found = variants({"lr": {"loguniform": [1e-5, 1e-3]}, "n": {"choice": [8, 16]}})
    assert [(v["lr"], v["n"]) for v in found] == [(1e-5, 8), (1e-5, 16), (1e-3, 8), (1e-3, 16)]


def test_a_conditional_follows_the_other_key():
    node = {"conditional": {"on": "m.a", "cases": {"1": {"uniform": [2, 3]}}, "otherwise": 7}}
    found = variants({"b": node, "m": {"a": {"choice": [1, 5]}}})
    assert [(v["m"]["a"], v["b"]) for v in found] == [(1, 2), (1, 3), (5, 7)]


def test_only_grids_count_as_trials():
    config = {"a": {"grid_search": [1, 2, {"b": {"grid_search": [3, 4]}}]}, "c": {"choice": [1, 2]}}
    assert trial_count(config, 1) == 4 and trial_count(config, 3) == 12
    assert trial_count({}, 5) == 5


def test_what_is_searched_can_be_left_out():
    config = {"a": {"uniform": [0, 1]}, "b": {"c": {"choice": [1]}, "d": 2}}
    assert without_nodes(config) == {"b": {"d": 2}}
