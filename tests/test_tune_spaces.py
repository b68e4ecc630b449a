"""Spaces as Tune and Optuna take them: the same values, conditionals included."""

from collections import Counter

import optuna
import pytest
from ray.tune.search.basic_variant import BasicVariantGenerator
from ray.tune.search.variant_generator import generate_variants

from rllib_ppg.app.spaces import parse
from rllib_ppg.app.tune_spaces import OptunaSpace, for_tune, suggest

CONFIG = {
    "lr": {"loguniform": [1e-5, 1e-2]},
    "clip_param": {"choice": [0, 0.2]},
    "kl_penalty": {
        "conditional": {
            "on": "clip_param", "cases": {"0": {"uniform": [1, 2]}}, "otherwise": 0,
        }
    },
    "model": {"custom_model_config": {"hidden_size": {"qrandint": [32, 64, 16]}}},
    "gamma": 0.99,
}  # fmt: skip


def check(config: dict) -> None:
    assert 1e-5 <= config["lr"] <= 1e-2 and config["gamma"] == 0.99
    assert config["model"]["custom_model_config"]["hidden_size"] in (32, 48, 64)
    expected = 1 <= config["kl_penalty"] <= 2 if config["clip_param"] == 0 else True
    assert expected and (config["clip_param"] == 0 or config["kl_penalty"] == 0)


def test_tune_samples_spaces_and_conditionals_at_any_depth():
    found = [
        spec["config"]
        for _ in range(40)
        for _, spec in generate_variants({"config": for_tune(CONFIG)})
    ]
    for config in found:
        check(config)
    assert Counter(config["clip_param"] for config in found).keys() == {0, 0.2}


def test_the_same_seed_gives_the_same_values():
    def drawn(seed: int) -> list:
        state = BasicVariantGenerator(random_state=seed)._random_state
        variants = generate_variants({"config": for_tune(CONFIG)}, random_state=state)
        return [spec["config"] for _, spec in variants]

    assert drawn(1) == drawn(1) != drawn(2)


def test_grids_stay_and_spaces_within_them_are_sampled():
    config = {"a": {"grid_search": [1, {"b": {"uniform": [2, 3]}}]}, "c": [{"choice": [7]}]}
    found = [spec["config"] for _, spec in generate_variants({"config": for_tune(config)})]
    assert found[0]["a"] == 1 and 2 <= found[1]["a"]["b"] <= 3 and found[1]["c"] == [7]


def test_optuna_suggests_the_same_spaces():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    space = OptunaSpace(CONFIG)
    for _ in range(30):
        values = space(study.ask())
        check({
            **{name: value for name, value in values.items() if "/" not in name},
            "gamma": 0.99,
            "model": {"custom_model_config": {
                "hidden_size": values["model/custom_model_config/hidden_size"],
            }},
        })  # fmt: skip


@pytest.mark.parametrize(
    "node",
    [
        {"uniform": [0, 1]}, {"quniform": [0, 1, 0.25]}, {"loguniform": [1e-3, 1]},
        {"qloguniform": [1, 100, 1]}, {"randint": [1, 5]}, {"qrandint": [8, 64, 8]},
        {"lograndint": [1, 9]}, {"qlograndint": [2, 64, 2]}, {"choice": [[1, 2], "x", None]},
    ],
)  # fmt: skip
def test_every_kind_has_its_values_in_optuna_too(node: dict):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    space = parse(node)
    for _ in range(30):
        value = suggest(study.ask(), "x", space)
        assert space.nearest(value) == value
        assert space.kind != "choice" or value in space.values
        assert space.kind == "choice" or space.low <= value <= space.last
