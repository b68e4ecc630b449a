"""The shape of an experiment: its top-level keys, and what may not stand in it."""

from typing import Any

import pytest
from app_helpers import experiments

from rllib_ppg.app.experiment import OUTDATED, TOP_LEVEL_KEYS, RawExperiment, Source, check_shape
from rllib_ppg.app.yaml_reader import read_yaml
from rllib_ppg.errors import UserError


def raw(text: str) -> RawExperiment:
    """Return the experiment `x` of a YAML text."""
    document = read_yaml(text, "f.yaml")
    places = {path[1:]: f"f.yaml:{line}" for path, line in document.lines.items()}
    return RawExperiment("x", document.data["x"], Source("x", "f.yaml", places))


def refusal(text: str) -> str:
    with pytest.raises(UserError) as error:
        check_shape(raw(text))
    return str(error.value)


def test_a_plain_experiment_keeps_its_values():
    text = "x:\n  run: PPG\n  env: procgen\n  stop: {timesteps_total: 1e6}\n  config: {lr: 5e-4}"
    experiment = check_shape(raw(text))
    assert experiment.config == {"env": "procgen", "lr": 5e-4}
    assert experiment.keys.stop == {"timesteps_total": 1e6}
    assert experiment.keys.checkpoint_config.checkpoint_at_end is True


def test_env_may_stand_in_config():
    assert check_shape(raw("x: {run: PPG, config: {env: a}}")).config["env"] == "a"


def test_two_different_envs_are_refused():
    assert "keep one" in refusal("x: {run: PPG, env: a, config: {env: b}}")


def test_a_missing_algorithm_is_named_with_the_experiment():
    message = refusal("x:\n  env: procgen\n")
    assert message.startswith('f.yaml:1: experiment "x": "run" is missing')


@pytest.mark.parametrize("name", OUTDATED)
def test_an_outdated_key_is_answered_with_what_to_do(name: str):
    message = refusal(f"x:\n  run: PPG\n  {name}: 1\n")
    assert message.startswith("f.yaml:3: ") and OUTDATED[name] in message


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("confg: {}", '"config"'),
        ("stopp: {}", '"stop"'),
        ("lr: 1", "stand in config"),
        ("checkpoint_config: {checkpoint_freqency: 1}", '"checkpoint_frequency"'),
        ("checkpoint_config: {keep_checkpoints_num: 1}", "num_to_keep"),
        ("num_samples: 0", "greater than or equal to 1"),
        ("num_samples: true", "not a boolean"),
        ("max_failures: often", "number"),
        ("stop: 5", "a mapping"),
        ("config: [1]", "a mapping"),
        ("checkpoint_config: {checkpoint_at_end: 'True,'}", "true or false"),
        ("time_budget_s: -1", "greater than 0"),
        ("storage_path: 5", "text"),
        ("storage_path: '://x'", "an address such as s3://bucket/folder"),
        ("storage_path: ~nobody-here/x", "the name of no user here"),
        (f"restore: {'a' * 300}", "no folder can have such a name"),
    ],
)
def test_a_wrong_key_or_value_is_named_with_its_line(line: str, hint: str):
    message = refusal(f"x:\n  run: PPG\n  {line}\n")
    assert message.startswith('f.yaml:3: experiment "x": ') and hint in message


def test_all_wrong_keys_are_named_at_once():
    message = refusal("x:\n  confg: {}\n  checkpoint_freq: 1\n")
    assert len(message.splitlines()) == 3


def test_numbers_may_be_written_as_strings():
    keys = check_shape(raw("x: {run: PPG, num_samples: '2', time_budget_s: '1e3'}")).keys
    assert (keys.num_samples, keys.time_budget_s) == (2, 1000.0)


@pytest.mark.parametrize("where", ["config: {lr: {eval: '1'}}", "config: {a: [{b: {eval: x}}]}"])
def test_python_code_is_never_run(where: str):
    assert "never run" in refusal(f"x: {{run: PPG, {where}}}")


@pytest.mark.parametrize(
    "where",
    [
        "stop: {timesteps_total: {grid_search: [1]}}",
        "num_samples: {grid_search: [1]}",
        "config: {grid_search: [1]}",
    ],
)
def test_a_grid_can_only_stand_in_config(where: str):
    assert "only stand in config" in refusal(f"x: {{run: PPG, {where}}}")


@pytest.mark.parametrize("node", ["[]", "5", "[1], extra: 2"])
def test_a_grid_has_values(node: str):
    assert "grid_search: [value" in refusal(
        f"x: {{run: PPG, config: {{lr: {{grid_search: {node}}}}}}}"
    )


def test_a_grid_over_environments_is_allowed():
    experiment = check_shape(raw("x: {run: PPG, env: {grid_search: [a, b]}}"))
    assert experiment.config["env"] == {"grid_search": ["a", "b"]}


@pytest.mark.parametrize("name", ["a/b", "..", "", "a\nb", "a" * 101])
def test_a_name_that_cannot_be_a_folder_is_refused(name: str):
    with pytest.raises(UserError, match="folder"):
        check_shape(RawExperiment(name, {"run": "PPG"}, Source(name, "f.yaml")))


def test_a_place_is_that_of_the_key_or_of_what_it_stands_in():
    places: dict[Any, str] = {(): "f:1", ("config",): "f:4", ("config", "lr"): "f:5"}
    source = Source("x", "f", places)
    assert source.at("config", "lr") == "f:5"
    assert source.at("config", "model", "deep") == "f:4"
    assert source.at("stop") == "f:1"
    assert Source("x", "the command line").at("stop") == "the command line"


def test_no_key_is_both_current_and_outdated():
    assert set(TOP_LEVEL_KEYS) & set(OUTDATED) == set()


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("run: PPG", (10, 3)),
        ("run: PPG, checkpoint_config: {num_to_keep: 5}", (10, 5)),
        ("run: PPG, checkpoint_config: {checkpoint_frequency: 0}", (0, None)),
        ("run: PPG, checkpoint_config: {checkpoint_frequency: 2}", (2, None)),
        ("run: PPG, scheduler: pbt", (10, None)),
        ("run: PPO", (0, None)),
    ],
)
def test_a_ppg_run_that_says_nothing_loses_no_more_than_a_few_iterations(tmp_path, keys, expected):
    (found,) = experiments(f"x: {{{keys}, env: CartPole-v1}}", tmp_path)
    checkpoint = found.keys.checkpoint_config
    assert (checkpoint.checkpoint_frequency, checkpoint.num_to_keep) == expected
