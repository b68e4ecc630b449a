import math

import pytest

from rllib_ppg.algorithm.metrics import METRICS, complete, nested


def test_every_result_has_every_metric_in_one_order():
    stats = {"lr": 0.5, "phase/n_pi": 3}
    completed = complete(stats)
    assert list(completed) == list(METRICS) == list(complete({}))
    assert completed["lr"] == 0.5 and completed["phase/n_pi"] == 3.0
    others = {name: value for name, value in completed.items() if name not in stats}
    assert all(math.isnan(value) for value in others.values())
    assert all(type(value) is float for value in completed.values())


def test_an_undefined_metric_is_a_mistake_in_the_code():
    with pytest.raises(KeyError, match="policy_phase/los_pi"):
        complete({"policy_phase/los_pi": 1.0})


def test_slashes_become_levels():
    assert nested({"a/b": 1.0, "a/c/d": 2.0, "e": 3.0}) == {
        "a": {"b": 1.0, "c": {"d": 2.0}},
        "e": 3.0,
    }


def test_no_metric_hides_another_in_the_nested_result():
    def leaves(tree):
        for value in tree.values():
            yield from leaves(value) if isinstance(value, dict) else [value]

    numbered = {name: float(i) for i, name in enumerate(METRICS)}
    assert sorted(leaves(nested(numbered))) == sorted(numbered.values())


def test_every_metric_is_explained():
    assert all(text.endswith(".") and len(text) > 10 for text in METRICS.values())
