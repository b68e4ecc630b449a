"""The description of an exported policy: through JSON and back, and the actions' mapping."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from rllib_ppg.core.distributions import ActionSpec
from rllib_ppg.core.policy_meta import (
    EnvActions,
    NetworkSpec,
    Observations,
    PolicyMeta,
    from_json,
    to_json,
)

VECTOR = PolicyMeta(
    network=NetworkSpec("mlp", "shared", {"hiddens": [8], "activation": "relu"}),
    observations=Observations((4,), "float32"),
    action=ActionSpec("gaussian", (2,)),
    env_actions=EnvActions((2,), "float32", (), "clip", (-1.0, -math.inf), (math.inf, 2.0)),
    env="Some-v1",
    env_options={"a": [1, {"b": None}]},
    frame_stack=1,
    env_steps=128,
    version="0.0.0",
)


def test_a_description_comes_back_from_json_with_infinite_bounds():
    text = json.dumps(to_json(VECTOR), allow_nan=False)
    back = from_json(json.loads(text))
    assert back == replace(VECTOR, network=back.network)
    assert back.network.build(back.observations, 4).policy_head.out_features == 4


@pytest.mark.parametrize(
    ("mapping", "actions", "expected"),
    [
        (EnvActions((), "int64", (0,)), [0, 2], [0, 2]),
        (EnvActions((), "int64", (-3,)), [0, 2], [-3, -1]),
        (EnvActions((2,), "int64", (1, 5)), [[0, 0], [1, 2]], [[1, 5], [2, 7]]),
        (EnvActions((1,), "float32"), [[-7.5]], [[-7.5]]),
        (EnvActions((1,), "float64", (), "clip", (-1.0,), (2.0,)), [[-3.0], [3]], [[-1], [2]]),
        (EnvActions((1,), "float32", (), "unsquash", (0.0,), (4.0,)), [[0.0], [9]], [[2], [4]]),
        (EnvActions((2, 1), "float32", (), "none"), [[1.0, 2]], [[[1], [2]]]),
    ],
)
def test_actions_become_the_environments(mapping: EnvActions, actions: list, expected: list):
    given = np.array(actions, np.int64 if mapping.start else np.float32)
    found = mapping(given)
    assert found.dtype == mapping.dtype
    assert np.array_equal(found, np.array(expected, found.dtype))


@pytest.mark.parametrize(
    "keys",
    [
        {"network": {"kind": "lstm", "arch": "dual"}},
        {"network": {"arch": "dual"}},
        {"action": {"kind": "categorical", "sizes": [0]}},
        {"env_actions": {"shape": [3], "dtype": "float32"}},
        {"env_actions": {"shape": [2], "dtype": "float33"}},
        {"env_actions": {"shape": [2], "dtype": "float32", "scaling": "tanh"}},
        {"observations": {"shape": [4], "dtype": "pictures"}},
        {"observations": {"shape": [4], "dtype": "float32", "crop": 3}},
        {"observations": {"shape": ["a"], "dtype": "float32"}},
        {"frame_stack": "two"},
        {"env_steps": None},
        {"env_options": 5},
    ],
)
def test_what_describes_no_policy_is_refused(keys: dict):
    with pytest.raises((KeyError, TypeError, ValueError)):
        from_json({**to_json(VECTOR), **keys})


def test_a_description_from_before_temperatures_is_one_at_1():
    content = {name: part for name, part in to_json(VECTOR).items() if name != "temperature"}
    assert from_json(content).temperature == 1.0


@pytest.mark.parametrize("name", sorted({*to_json(VECTOR)} - {"temperature"}))
def test_every_part_is_needed(name: str):
    content = to_json(VECTOR)
    del content[name]
    with pytest.raises(KeyError, match=name):
        from_json(content)
