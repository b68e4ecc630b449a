"""`auto` becomes numbers once, before a run starts."""

from pathlib import Path

import pytest
from app_helpers import experiment

from rllib_ppg.algorithm import resources
from rllib_ppg.algorithm.settings import DEFAULTS
from rllib_ppg.app.checks import check
from rllib_ppg.app.resolve import DERIVED, complete, param_space


def resolved(folder: Path, config: str, cpus: int = 5, gpus: int = 0) -> dict:
    with resources.assume(cpus, gpus):
        return param_space(check(experiment(folder, config, env="procgen")))


def test_auto_workers_fill_the_machine_and_divide_the_environments(tmp_path: Path):
    space = resolved(tmp_path, "{num_env_runners: auto, num_envs: 64}")
    assert (space["num_env_runners"], space["num_envs"]) == (4, 64)


def test_auto_takes_the_gpu_that_there_is(tmp_path: Path):
    assert resolved(tmp_path, "{num_gpus: auto}", gpus=0)["num_gpus"] == 0
    assert resolved(tmp_path, "{num_gpus: auto}", gpus=2)["num_gpus"] == 1


def test_on_one_cpu_the_learner_samples_itself(tmp_path: Path):
    assert resolved(tmp_path, "{num_env_runners: auto}", cpus=1)["num_env_runners"] == 0


def test_a_grid_over_environments_gets_workers_that_divide_all(tmp_path: Path):
    config = "{num_env_runners: auto, num_envs: {grid_search: [48, 64]}, nminibatch: 8}"
    space = resolved(tmp_path, config, cpus=9)
    assert space["num_env_runners"] in (1, 2, 4, 8) and 48 % space["num_env_runners"] == 0
    assert space["num_envs"] == {"grid_search": [48, 64]}


def test_auto_within_a_grid_is_resolved_there(tmp_path: Path):
    config = "{num_env_runners: {grid_search: [0, auto]}}"
    assert resolved(tmp_path, config)["num_env_runners"] == {"grid_search": [0, 4]}


def test_what_the_user_gave_stays(tmp_path: Path):
    space = resolved(tmp_path, "{lr: 1e-3, env_config: {env_name: bigfish}, num_env_runners: 2}")
    assert space["lr"] == 1e-3 and space["num_env_runners"] == 2
    assert space["env_config"] == {"env_name": "bigfish"}


@pytest.mark.parametrize("config", ["{}", "{lambda: 0.9}", "{gamma: {grid_search: [0.9, 1]}}"])
def test_the_complete_configuration_is_valid_by_itself(tmp_path: Path, config: str):
    checked = check(experiment(tmp_path, config))
    whole = complete(checked, param_space(checked))
    assert set(DEFAULTS) - set(DERIVED) - set(whole) <= {"lambda_"}
    again = check(experiment(tmp_path, str(whole).replace("None", "null").replace("'", '"')))
    assert len(again.configs) == len(checked.configs)
    assert again.configs[0].lambda_ == checked.configs[0].lambda_
