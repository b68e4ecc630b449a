"""Experiments from files and flags: the forms of the command, and what overrides what."""

from pathlib import Path
from typing import Any

import pytest

from rllib_ppg.app.experiment import Experiment
from rllib_ppg.app.experiment_files import load_experiments
from rllib_ppg.app.flags import TrainFlags
from rllib_ppg.errors import UserError

FILE = """\
first:
  run: PPG
  env: procgen
  stop: {timesteps_total: 100, time_total_s: 50}
  config:
    lr: 5e-4
    env_config: {env_name: coinrun, num_levels: 200}
second:
  run: PPG
  env: CartPole-v1
  config:
    gamma: {grid_search: [0.9, 0.99]}
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "experiment.yaml"
    path.write_text(FILE)
    return str(path)


def load(**flags: Any) -> list[Experiment]:
    return load_experiments(TrainFlags(**flags))


def refusal(**flags: Any) -> str:
    with pytest.raises(UserError) as error:
        load(**flags)
    return str(error.value)


def test_a_file_holds_experiments_in_order(file: str):
    assert [e.name for e in load(files=[file])] == ["first", "second"]


@pytest.mark.parametrize("form", ["file", "plain"])
def test_a_file_may_be_given_by_position(file: str, form: str):
    words = ["file", file] if form == "file" else [file]
    assert [e.name for e in load(words=words)] == ["first", "second"]


def test_flags_alone_make_an_experiment():
    (experiment,) = load(run="PPG", env="CartPole-v1", config='{"lr": 1e-3}', stop="{a: 1}")
    assert experiment.name == "ppg-cartpole-v1"
    assert experiment.config == {"env": "CartPole-v1", "lr": 1e-3}
    assert experiment.keys.stop == {"a": 1}


def test_flags_override_every_experiment_of_a_file(file: str):
    first, second = load(
        files=[file],
        env="Acrobot-v1",
        config='{"env_config": {"num_levels": 0}, "lr": 1}',
        seed=7,
        num_samples=3,
        checkpoint_freq=5,
        keep_checkpoints_num=2,
        checkpoint_at_end=False,
        max_failures=4,
        storage_path="/tmp/x",
    )
    for experiment in (first, second):
        assert experiment.config["env"] == "Acrobot-v1"
        assert experiment.config["seed"] == 7 and experiment.config["lr"] == 1
        keys = experiment.keys
        assert (keys.num_samples, keys.max_failures, keys.storage_path) == (3, 4, "/tmp/x")
        checkpoint = keys.checkpoint_config
        assert (checkpoint.checkpoint_frequency, checkpoint.num_to_keep) == (5, 2)
        assert checkpoint.checkpoint_at_end is False
    # --config is merged into the file's mappings.
    assert first.config["env_config"] == {"env_name": "coinrun", "num_levels": 0}


def test_stop_replaces_the_files(file: str):
    assert load(files=[file], stop="{training_iteration: 2}")[0].keys.stop == {
        "training_iteration": 2
    }


def test_env_replaces_one_that_stands_in_config(tmp_path: Path):
    path = tmp_path / "e.yaml"
    path.write_text("x: {run: PPG, config: {env: a}}")
    assert load(files=[str(path)], env="b")[0].config["env"] == "b"


@pytest.mark.parametrize(
    ("setting", "path", "value"),
    [
        ("lr=1e-3", ("lr",), 1e-3),
        ("explore=false", ("explore",), False),
        ("env_config.env_name=starpilot", ("env_config", "env_name"), "starpilot"),
        ("model.a.b=[8, 16]", ("model", "a", "b"), [8, 16]),
        ("gamma={grid_search: [0.5]}", ("gamma",), {"grid_search": [0.5]}),
        ("env_config={}", ("env_config",), {}),
    ],
)
def test_set_reaches_any_key_of_config(file: str, setting: str, path: tuple, value: object):
    node: Any = load(files=[file], settings=[setting])[0].config
    for name in path:
        node = node[name]
    assert node == value


def test_set_reaches_top_level_keys_and_merges_stop(file: str):
    settings = ["stop.time_total_s=9", "num_samples=2", "checkpoint_config.num_to_keep=1"]
    keys = load(files=[file], settings=settings)[0].keys
    assert keys.stop == {"timesteps_total": 100, "time_total_s": 9}
    assert keys.num_samples == 2 and keys.checkpoint_config.num_to_keep == 1


def test_the_last_set_wins_and_set_beats_config(file: str):
    first = load(files=[file], config="{lr: 1}", settings=["lr=2", "lr=3"])[0]
    assert first.config["lr"] == 3


def test_a_grid_is_replaced_whole(file: str):
    assert load(files=[file], settings=["gamma=0.5"])[1].config["gamma"] == 0.5
    assert load(files=[file], config="{gamma: 0.5}")[1].config["gamma"] == 0.5


def test_a_message_about_an_overridden_key_names_the_flag(file: str):
    message = refusal(files=[file], settings=["num_samples=x"])
    assert message.startswith('--set num_samples: experiment "first"')
    first = load(files=[file], settings=["lr=2"])[0]
    assert first.source.at("config", "lr") == "--set lr"
    assert first.source.at("config", "env_config", "env_name") == f"{file}:7"


def test_scheduler_and_its_arguments():
    (experiment,) = load(run="PPG", scheduler="asha", scheduler_config="{max_t: 9}")
    assert experiment.keys.scheduler == {"type": "asha", "max_t": 9}


@pytest.mark.parametrize(("given", "order"), [("training_iteration", "max"), ("min-a/b", "min")])
def test_checkpoint_score_takes_the_old_prefix(given: str, order: str):
    (experiment,) = load(run="PPG", checkpoint_score_attr=given)
    checkpoint = experiment.keys.checkpoint_config
    assert checkpoint.checkpoint_score_attribute == given.removeprefix("min-")
    assert checkpoint.checkpoint_score_order == order


def test_a_name_is_for_one_experiment(file: str):
    assert "first, second" in refusal(files=[file], experiment_name="mine")
    (experiment,) = load(run="PPG", experiment_name="mine")
    assert experiment.name == experiment.source.name == "mine"


def test_the_same_name_twice_is_refused(file: str):
    assert 'name "first"' in refusal(files=[file, file])


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "empty"),
        ("run: PPG\nenv: procgen\n", "has no name"),
        ("[1, 2]", "an experiment is a mapping"),
        ("x:\n  run: PPG\ny: 5\n", ":3: an experiment is a mapping"),
        ("x: [1", "broken YAML"),
        ("x: {run: PPG}\nx: {run: PPG}", "stands twice"),
    ],
)
def test_a_file_of_another_form_is_refused_with_its_name(tmp_path: Path, content: str, why: str):
    path = tmp_path / "e.yaml"
    path.write_text(content)
    message = refusal(files=[str(path)])
    assert message.startswith(str(path)) and why in message


def test_a_missing_file_is_answered_with_a_similar_one(file: str):
    missing = file.replace("experiment.yaml", "experimnt.yml")
    assert refusal(files=[missing]) == f"There is no file {missing}. Did you mean {file}?"


def test_a_folder_a_python_file_and_a_binary_are_refused(tmp_path: Path):
    assert "is a folder" in refusal(files=[str(tmp_path)])
    assert "Python files" in refusal(files=["x.py"])
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    assert "not a text file" in refusal(files=[str(tmp_path / "b.yaml")])


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        ({}, "Nothing to train"),
        ({"words": ["file"]}, "after it"),
        ({"words": ["fil", "x"]}, 'Did you mean "file"?'),
        ({"run": "PPG", "config": "{a: 1"}, "--config:1:"),
        ({"run": "PPG", "config": "[1]"}, "--config takes a mapping"),
        ({"run": "PPG", "stop": "5"}, "--stop takes a mapping"),
        ({"run": "PPG", "settings": ["lr"]}, "KEY=VALUE"),
        ({"run": "PPG", "settings": ["=5"]}, "KEY=VALUE"),
        ({"run": "PPG", "settings": ["a..b=5"]}, "KEY=VALUE"),
        ({"run": "PPG", "settings": ["lr=[1"]}, "--set lr:1:"),
        ({"run": "PPG", "settings": ["run.x=1"]}, "takes no keys"),
    ],
)
def test_flags_that_cannot_be_read_are_named(flags: dict, why: str):
    assert why in refusal(**flags)
