"""Search spaces as data: what they mean, and one message for each malformed one."""

import re
from pathlib import Path

import pytest
from app_helpers import experiments

from rllib_ppg.app.spaces import (
    CHOICE,
    RANGES,
    Space,
    described,
    is_node,
    node_problems,
    parse,
    parse_conditional,
)
from rllib_ppg.errors import UserError

GOOD = {
    "uniform": [0, 1], "quniform": [0, 1, 0.25], "loguniform": ["1e-5", 1e-3],
    "qloguniform": [0.1, 10, 0.1], "randint": [1, 9], "qrandint": [8, 64, 8],
    "lograndint": [1, 100], "qlograndint": [2, 64, 2],
}  # fmt: skip


def test_every_kind_is_tried_here():
    assert set(GOOD) == set(RANGES)


@pytest.mark.parametrize("kind", RANGES)
def test_samples_are_the_ends_of_what_tune_draws(kind: str):
    space = parse({kind: GOOD[kind]})
    drawn = [space.domain().sample() for _ in range(300)]
    samples = space.samples()
    assert min(samples) <= min(drawn) and max(drawn) <= max(samples)
    assert all(space.nearest(value) == pytest.approx(value) for value in drawn)
    if RANGES[kind].integer:
        assert all(isinstance(value, int) for value in samples)


def test_of_few_integers_all_are_looked_at_and_of_many_some():
    assert parse({"randint": [1, 5]}).samples() == [1, 2, 3, 4]
    assert parse({"qrandint": [8, 24, 8]}).samples() == [8, 16, 24]
    many = parse({"randint": [0, 10_000]}).samples()
    assert len(many) < 10 and many[0] == 0 and many[-1] == 9999


@pytest.mark.parametrize(
    ("node", "value", "expected"),
    [
        ({"uniform": [0.9, 0.999]}, 1.19, 0.999),
        ({"quniform": [0, 1, 0.25]}, 0.6, 0.5),
        ({"randint": [1, 9]}, 9.6, 8),
        ({"qrandint": [8, 64, 8]}, 13, 16),
        ({CHOICE: ["a", "b"]}, "b", "b"),
    ],
)
def test_a_number_is_brought_to_the_nearest_value(node: dict, value, expected):
    assert parse(node).nearest(value) == expected


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        ({"uniform": [0]}, "write {uniform: [low, high]}"),
        ({"uniform": 3}, "write {uniform: [low, high]}"),
        ({"quniform": [0, 1]}, "write {quniform: [low, high, step]}"),
        ({"uniform": [1, 0]}, "low (1) must be less than high (0)"),
        ({"uniform": [0, "x"]}, "'x' is no number"),
        ({"uniform": [0, True]}, "True is no number"),
        ({"uniform": [0, float("inf")]}, "inf is no number"),
        ({"uniform": [0, [1]]}, "[1] is no number"),
        ({"loguniform": [0, 1]}, "low (0) must be more than 0"),
        ({"randint": [0, 1.5]}, "1.5 is no whole number"),
        ({"quniform": [0, 1, 2]}, "step (2) must be more than 0 and at most high - low"),
        ({"quniform": [0.1, 1, 0.25]}, "multiples of step, 0.1 is none of 0.25"),
        ({CHOICE: []}, "write {choice: [value, value, ...]}"),
        ({CHOICE: 3}, "write {choice: [value, value, ...]}"),
    ],
)
def test_a_malformed_space_says_how_it_is_written(node: dict, reason: str):
    with pytest.raises(ValueError, match=re.escape(reason)):
        parse(node)
    ((path, problem),) = node_problems({"config": {"lr": node}}, ())
    assert path == ("config", "lr") and problem.startswith("config.lr: ") and reason in problem


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (3, "write {conditional: {on: KEY, cases:"),
        ({"on": "lr"}, "write {conditional: {on: KEY, cases:"),
        ({"on": "lr", "cases": {}}, "must be a mapping"),
        ({"on": 3, "cases": {"1": 2}}, "on=3: must be another key of config"),
        ({"on": "a..b", "cases": {"1": 2}}, "on='a..b': must be another key"),
        ({"on": "lr", "cases": {"1": 2}, "othrwise": 3}, '"othrwise" is none of on, cases'),
        ({"on": "lr", "cases": {"1": {"grid_search": [1]}}}, "not grid_search"),
        ({"on": "lr", "cases": {"1": {"uniform": [1, 0]}}}, "must be less than high"),
    ],
)
def test_a_malformed_conditional_is_named(content, reason: str):
    problems = node_problems({"config": {"kl": {"conditional": content}}}, ())
    assert any(reason in problem and "config.kl" in problem for _, problem in problems)


def test_cases_are_matched_as_values_and_not_as_text():
    node = {"conditional": {"on": "x", "cases": {"0": "zero", "false": "no", "0.5": "half"}}}
    found = parse_conditional(node)
    assert [found.case_of(value) for value in (0, 0.0, False, 0.5)] == [
        "zero",
        "zero",
        "no",
        "half",
    ]
    with pytest.raises(KeyError):
        found.case_of("other")
    node["conditional"]["otherwise"] = None
    assert parse_conditional(node).case_of("other") is None


def test_only_a_mapping_with_one_key_is_a_space():
    assert is_node({"uniform": [0, 1]}) and is_node({"grid_search": [1]})
    assert not is_node({"uniform": [0, 1], "lr": 2}) and not is_node({"lr": 2}) and not is_node(3)


@pytest.mark.parametrize(
    ("text", "where", "reason"),
    [
        ("config: {lr: {loguniforn: [1e-5, 1e-3]}}", 5, 'Did you mean "loguniform"?'),
        ("config: {lr: {sample_from: x}}", 5, "takes a Python function"),
        ("config: {lr: {eval: x}}", 5, "is Python code, which is never run"),
        ("config: {lr: {randn: [0, 1]}}", 5, "has no bounds"),
        ("stop: {lr: {uniform: [0, 1]}}", 5, "stop.lr: uniform can only stand in config"),
        ("config: {uniform: [0, 1]}", 5, "config: uniform can only stand in config"),
        ("config: {lr: {grid_search: 3}}", 5, "config.lr: write {grid_search: [value"),
        ("scheduler: {type: asha, max_t: {uniform: [0, 1]}}", 5, "can only stand in config"),
    ],
)
def test_what_is_wrong_is_said_with_line_and_path(
    tmp_path: Path, text: str, where: int, reason: str
):
    head = "x:\n  run: PPG\n  env: CartPole-v1\n  max_failures: 1\n"
    with pytest.raises(UserError) as error:
        experiments(f"{head}  {text}\n", tmp_path)
    (line,) = str(error.value).splitlines()
    assert line.startswith(f"{tmp_path}/e.yaml:{where}: ") and reason in line


def test_spaces_are_told_in_words():
    assert described({"quniform": [0, 1, 0.5]}) == "quniform 0 to 1 in steps of 0.5"
    assert described({CHOICE: [1, "a"]}) == "choice of 1, a"
    node = {"conditional": {"on": "a.b", "cases": {"1": {"uniform": [0, 1]}}, "otherwise": 3}}
    assert described(node) == "by a.b (1: uniform 0 to 1; else 3)"
    assert str(Space("uniform", 0, 1)) == "uniform 0 to 1" and described(5) == "5"
