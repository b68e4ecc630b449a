"""`--dry-run`: what a run would be, and that nothing is started for it."""

from pathlib import Path

import pytest
from app_helpers import command, experiment

from rllib_ppg import PPGConfig
from rllib_ppg.algorithm import resources
from rllib_ppg.app import measure
from rllib_ppg.app.checks import check
from rllib_ppg.app.dry_run import (
    arithmetic,
    aux_updates,
    flattened,
    phases,
    policy_updates,
    steps_of,
)
from rllib_ppg.app.measure import Speeds

SIZES = ["--set", "num_envs=8", "--set", "rollout_fragment_length=16", "--set", "n_pi=2",
         "--set", "n_aux_epochs=1", "--set", "aux_mbsize=8"]  # fmt: skip


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(measure, "SECONDS", 0.05)


def config(**keys) -> PPGConfig:
    made = PPGConfig().environment("CartPole-v1").update_from_dict(keys)
    made.validate()
    return made


def test_it_tells_configuration_sizes_memory_and_time(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    words = ["train", "--run", "PPG", "--env", "CartPole-v1", *SIZES, "--set", "lr=1e-3"]
    words += ["--stop", "{timesteps_total: 1000}", "--set", "num_env_runners=auto"]
    words += ["--storage-path", str(tmp_path / "r"), "--ray-num-cpus", "3"]
    run = command(capsys, *words, "--dry-run")
    assert run.code == 0, run.err
    for part in (
        "0.001",
        "(auto)",
        "stop.timesteps_total",
        "gamma 0.999",
        "hiddens [64, 64]",
        "rollout workers  1 x 1 CPU, 8 environments each",
        "8 x 16 = 128 environment steps",
        "1 joint epoch(s) of 8 minibatches of 16 rows: 8 optimiser steps",
        "after every 2 iterations, 1 epochs of 2 minibatches of 128 rows: 2 optimiser steps",
        "8 iterations, 64 optimiser steps",
        "3 phases, 6 optimiser steps",
        "frame store",
        "9,220 parameters",
        "whole run",
        "Nothing was started",
    ):
        assert part in run.out, part
    assert not (tmp_path / "r").exists()


def test_what_does_not_fit_in_memory_is_refused_as_by_the_run_itself(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(resources, "free_memory", lambda: 1000)
    words = ["train", "--run", "PPG", "--env", "CartPole-v1", *SIZES]
    dry, real = command(capsys, *words, "--dry-run"), command(capsys, *words)
    assert dry.code == real.code == 2 and dry.out == ""
    assert dry.err == real.err and "(frame store " in dry.err


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, "64 rows a pass"),
        ({"num_gpus": 1, "aux_mbsize": 32}, "4,096 rows a pass"),
        ({"num_gpus": 1, "_fake_gpus": True}, "64 rows a pass"),
        ({"num_gpus": 1, "aux_mbsize": 1}, "whole minibatches"),
    ],
)
def test_rows_of_a_pass_are_those_of_the_learners_device_and_minibatch(
    tmp_path: Path, keys: dict, expected: str
):
    with resources.assume(4, 4):
        (made,) = check(experiment(tmp_path, repr(keys), env="procgen")).configs
    assert any(expected in line for line in arithmetic(made))


def test_a_wrong_experiment_is_refused_as_by_the_run_itself(capsys: pytest.CaptureFixture[str]):
    run = command(
        capsys, "train", "--run", "PPG", "--env", "CartPole-v1", "--dry-run", "--set", "x=1"
    )
    assert run.code == 2 and 'Unknown config key "x"' in run.err and run.out == ""


def test_another_algorithm_is_shown_without_sizes(capsys: pytest.CaptureFixture[str]):
    words = ["train", "--run", "PPO", "--env", "CartPole-v1", "--set", "num_env_runners=0"]
    run = command(capsys, *words, "--dry-run")
    assert run.code == 0 and "by RLlib as it is" in run.out and "Batch" not in run.out


@pytest.mark.parametrize(
    ("keys", "policy", "aux"),
    [
        ({}, 8, 6 * 512),
        ({"n_epoch_pi": 3, "n_epoch_vf": 3, "n_aux_epochs": 0}, 24, 0),
        ({"n_epoch_pi": 2, "n_epoch_vf": 1, "aux_mbsize": 16}, 24, 6 * 128),
    ],
)
def test_optimiser_steps_are_those_of_the_learner(keys: dict, policy: int, aux: int):
    made = config(**keys)
    assert (policy_updates(made), aux_updates(made)) == (policy, aux)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (1, (1, 0)),
        (16_384, (1, 0)),
        (16_385, (2, 0)),
        (32 * 16_384, (32, 0)),
        (33 * 16_384, (33, 1)),
    ],
)
def test_phases_within_a_budget(steps: int, expected: tuple):
    # The run ends with the result that meets the budget, before the phase that would follow.
    assert phases(config(), steps) == expected


def test_without_auxiliary_epochs_there_are_no_phases():
    assert phases(config(n_aux_epochs=0), 10_000_000)[1] == 0


def test_the_smallest_budget_in_steps_counts():
    assert steps_of({"timesteps_total": 5, "num_env_steps_sampled_lifetime": 3}) == 3
    assert steps_of({"training_iteration": 5}) is None


def test_a_configuration_is_flattened_but_for_grids():
    nested = {"a": {"b": 1, "c": {}}, "g": {"grid_search": [1]}}
    assert dict(flattened(nested)) == {"a.b": 1, "a.c": {}, "g": {"grid_search": [1]}}


@pytest.mark.parametrize("env", ["CartPole-v1", "procgen"])
def test_measured_speeds_are_those_of_real_passes(env: str, tmp_path: Path):
    text = "{num_envs: 4, rollout_fragment_length: 8, n_pi: 2, aux_mbsize: 2, nminibatch: 2, "
    text += "learner_threads: 1}"
    made = check(experiment(tmp_path, text, env=env)).configs[0]
    speeds = measure.measure(made)
    assert min(speeds.sample, speeds.value, speeds.policy, speeds.record, speeds.aux) > 0
    assert speeds.parameters == {"CartPole-v1": 9220, "procgen": 1_248_657}[env]
    # A pass without gradient, through one of the two networks, is the quicker one.
    assert speeds.record < speeds.aux


def test_times_of_the_phases_add_up_their_rows():
    made = config(num_envs=8, rollout_fragment_length=16, n_pi=2, n_aux_epochs=3, aux_mbsize=4)
    speeds = Speeds(sample=1.0, value=0.5, policy=2.0, record=0.25, aux=3.0, parameters=1)
    assert speeds.iteration_s(made) == (128.0, 128 * 2.5)
    assert speeds.aux_phase_s(made) == 256 * (0.25 + 9.0)
    assert speeds.aux_phase_s(config(n_aux_epochs=0)) == 0.0
