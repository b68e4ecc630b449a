"""The key `scheduler`: what is filled in, and one message for each wrong entry."""

import re

import pytest

from rllib_ppg.app.schedulers import MODELS, AshaKeys, HyperBandKeys, read_scheduler
from rllib_ppg.app.typed import KeyProblems

STOP = {"timesteps_total": 1600}
PBT = {"type": "pbt", "perturbation_interval": 100, "hyperparam_mutations": {"lr": 1}}


def test_without_one_every_trial_is_trained_to_its_end():
    assert read_scheduler(None, "PPG", {}).type == "fifo"
    assert read_scheduler("FIFO", "PPG", {}).type == "fifo"


def test_asha_takes_its_times_from_the_stop_keys():
    found = read_scheduler("asha", "PPG", STOP)
    assert isinstance(found, AshaKeys)
    assert (found.time_attr, found.max_t, found.grace_period) == ("timesteps_total", 1600, 100)
    other = read_scheduler({"type": "async_hyperband"}, "PPO", {"training_iteration": 64})
    assert (other.time_attr, other.max_t, other.grace_period) == ("training_iteration", 64, 4)


def test_hyperband_counts_iterations():
    found = read_scheduler("hyperband", "PPG", {**STOP, "training_iteration": 27})
    assert isinstance(found, HyperBandKeys) and found.max_t == 27


@pytest.mark.parametrize(
    ("given", "path", "reason"),
    [
        ("ahsa", ("scheduler", "type"), 'unknown scheduler "ahsa". Did you mean "asha"?'),
        ({"type": 3}, ("scheduler", "type"), "3 must be a name"),
        ("resource_changing", ("scheduler", "type"), "takes a Python function"),
        ({"type": "asha", "max_tt": 3}, ("scheduler", "max_tt"), 'Did you mean "max_t"?'),
        ({"type": "asha", "max_t": "x"}, ("scheduler", "max_t"), "'x' must be a number"),
        ({"type": "asha", "max_t": -1}, ("scheduler", "max_t"), "-1 must be greater than 0"),
        ({"type": "asha", "brackets": 1.5}, ("scheduler", "brackets"), "must be a whole number"),
        ({"type": "asha", "reduction_factor": 1}, ("scheduler", "reduction_factor"), "1 must be"),
        (
            {"type": "asha", "grace_period": 2000},
            ("scheduler", "grace_period"),
            "2,000 must be less than max_t (1,600)",
        ),
        (
            {"type": "asha", "time_attr": "training_iteration"},
            ("scheduler", "max_t"),
            "is missing, and stop sets no training_iteration",
        ),
        ({"type": "fifo", "max_t": 3}, ("scheduler", "max_t"), "It takes no arguments"),
        ("hyperband", ("scheduler", "max_t"), "is missing, and stop sets no training_iteration"),
        ({"type": "median"}, ("scheduler", "grace_period"), "scheduler.grace_period: is missing."),
        ({"type": "asha", "metric": "x"}, ("scheduler", "metric"), "stands beside scheduler"),
        (
            {"type": "pbt"},
            ("scheduler", "perturbation_interval"),
            "scheduler.perturbation_interval: is missing.",
        ),
        (PBT, ("scheduler", "hyperparam_mutations", "lr"), "1 is no sampled space; give its space"),
        (
            {**PBT, "hyperparam_mutations": {"model": {"x": [1, 2]}}},
            ("scheduler", "hyperparam_mutations", "model", "x"),
            "hyperparam_mutations.model.x: [1, 2] is no sampled space; write {choice: [...]}",
        ),
        (
            {**PBT, "hyperparam_mutations": {}},
            ("scheduler", "hyperparam_mutations"),
            "is empty",
        ),
        (
            {**PBT, "hyperparam_mutations": 3},
            ("scheduler", "hyperparam_mutations"),
            "3 must be a mapping",
        ),
        (
            {**PBT, "perturbation_factors": [1.2, 1.1]},
            ("scheduler", "perturbation_factors"),
            "must be one number above 1 and one below",
        ),
        ({**PBT, "quantile_fraction": 0.7}, ("scheduler", "quantile_fraction"), "0.7 must be"),
    ],
)
def test_a_wrong_entry_is_named_with_its_path(given, path: tuple, reason: str):
    with pytest.raises(KeyProblems) as error:
        read_scheduler(given, "PPG", STOP)
    found = dict(error.value.problems)
    assert path in found, found
    assert re.search(re.escape(reason), found[path]), found[path]
    assert found[path].startswith(".".join(path)) and found[path][-1] in ".?"


def test_every_argument_is_documented():
    for model in MODELS.values():
        assert model.__doc__
        for name, field in model.model_fields.items():
            assert name == "type" or field.description, name
