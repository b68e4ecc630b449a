"""YAML as data: numbers as people write them, no tags, no key twice, positions in every message."""

import math

import pytest

from rllib_ppg.app.yaml_reader import MAX_CHARACTERS, read_yaml
from rllib_ppg.errors import UserError


def data(text: str):
    return read_yaml(text, "file.yaml").data


def refusal(text: str) -> str:
    with pytest.raises(UserError) as error:
        read_yaml(text, "file.yaml")
    return str(error.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5e-4", 5e-4),
        ("1e6", 1e6),
        ("1.0e-5", 1e-5),
        ("-.5", -0.5),
        ("1_000", 1000),
        ("25_000_000", 25_000_000),
        ("010", 10),
        ("0x1f", 31),
        ("-3", -3),
        ("true", True),
        ("null", None),
        ("'5e-4'", "5e-4"),
        ("12:30:45", "12:30:45"),
        ("2020-01-01", "2020-01-01"),
        ("=", "="),
        ("'True,'", "True,"),
    ],
)
def test_a_plain_value_means_what_it_looks_like(text: str, value: object):
    found = data(f"key: {text}")["key"]
    assert found == value and type(found) is type(value)


def test_infinity_and_nan_are_numbers():
    found = data("[.inf, -.inf, .nan]")
    assert found[:2] == [math.inf, -math.inf] and math.isnan(found[2])


def test_a_stray_comma_makes_a_string():
    assert data("explore: True,") == {"explore": "True,"}


def test_json_is_read():
    assert data('{"a": {"b": [1, 2.5e-3, "x", null]}}') == {"a": {"b": [1, 2.5e-3, "x", None]}}


def test_an_empty_text_holds_nothing():
    assert data("# only a comment\n") is None


def test_every_key_has_its_line():
    document = read_yaml("a:\n  b: 1\n  c: {d: 2}\n", "file.yaml")
    assert document.lines == {("a",): 1, ("a", "b"): 2, ("a", "c"): 3, ("a", "c", "d"): 3}


def test_anchors_are_merged_and_own_keys_win():
    text = "base: &b {x: 1, y: 2}\nother: &o {y: 5, z: 6}\nall: {<<: [*b, *o], x: 3}"
    assert data(text)["all"] == {"x": 3, "y": 2, "z": 6}


@pytest.mark.parametrize(
    ("text", "place", "why"),
    [
        ("a: [1, 2", "file.yaml:1:9", "broken YAML"),
        ("a: 1\nb: c: d", "file.yaml:2:5", "broken YAML"),
        ("a:\n\tb: 1", "file.yaml:2:1", "tab"),
        ("a: 1\na: 2", "file.yaml:2:1", 'key "a" stands twice'),
        ("x:\n  a: {b: 1, b: 2}", "file.yaml:2:13", 'key "b" stands twice'),
        ("a: &x [*x]", "file.yaml:1:4", "contains itself"),
        ("a: !!python/object/apply:os.system ['true']", "file.yaml:1:4", "tags"),
        ("a: !secret x", "file.yaml:1:4", "tags"),
        ("a: !!int x", "file.yaml:1:4", "no int"),
        ("a: \x01", "file.yaml:1", "broken YAML"),
        ("? [1, 2]\n: 3", "file.yaml:1:3", "must be a name"),
        ("a: 1\n---\nb: 2", "file.yaml:2:1", "broken YAML"),
        ("[" * 1000, "file.yaml:1:51", "nested far too deeply"),
        ("a: " + "9" * 5000, "file.yaml:1:4", "too large a number"),
        ("a: 0x" + "f" * 5000, "file.yaml:1:4", "too large a number"),
        ("a: ['\\0', \"\\0\"]", "file.yaml:1:11", "cannot stand in a name or text"),
        ('a: "\\uD800"', "file.yaml:1:4", "cannot stand in a name or text"),
        ('"a\\nb": 1', "file.yaml:1:1", "a name on one line"),
    ],
)
def test_a_broken_text_is_refused_with_its_place(text: str, place: str, why: str):
    message = refusal(text)
    assert message.startswith(f"{place}: ") and why in message


def test_a_text_that_would_take_minutes_is_not_read():
    assert "200,000 characters" in refusal("x" * (MAX_CHARACTERS + 1))
    assert data("x" * MAX_CHARACTERS) == "x" * MAX_CHARACTERS


def test_nesting_as_deep_as_anyone_writes_is_read():
    assert data("[" * 40 + "]" * 40)[0][0] != []


def test_anchors_cannot_make_a_small_text_huge():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    assert "far too large" in refusal("\n".join(lines))
