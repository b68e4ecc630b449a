"""Whether trials fit, how many at once, and the line that says what each gets."""

import json
from pathlib import Path

import pytest
from app_helpers import experiments

from rllib_ppg.algorithm import resources
from rllib_ppg.app import cluster
from rllib_ppg.app.cluster import RaySettings
from rllib_ppg.app.fit import fits_at_once
from rllib_ppg.app.flags import TrainFlags
from rllib_ppg.app.plan import make_plan
from rllib_ppg.errors import UserError


@pytest.mark.parametrize(
    ("bundles", "nodes", "most", "expected"),
    [
        ([{"CPU": 0.5}], [{"CPU": 2.0}], 12, 4),
        ([{"CPU": 0.5}], [{"CPU": 2.0}], 3, 3),
        ([{"CPU": 1}, {"CPU": 1}], [{"CPU": 2.0}, {"CPU": 3.0}], 12, 2),
        ([{"CPU": 1, "GPU": 0.25}], [{"CPU": 8.0, "GPU": 1.0}], 12, 4),
        ([{"CPU": 4}], [{"CPU": 2.0}], 12, 1),
        ([{"CPU": 0}], [{"CPU": 2.0}], 12, 12),
        ([], [{"CPU": 2.0}], 12, 12),
    ],
)
def test_as_many_trials_run_at_once_as_there_is_room_for(bundles, nodes, most, expected):
    assert fits_at_once(bundles, nodes, most) == expected


def notes(folder: Path, monkeypatch: pytest.MonkeyPatch, *lines: str, cpus=8.0, gpus=1.0) -> str:
    """The notes of the plan of an experiment on a machine of this size."""
    monkeypatch.setattr(cluster, "nodes", lambda settings: [{"CPU": cpus, "GPU": gpus}])
    monkeypatch.setattr(resources, "free_memory", lambda: 200_000_000_000)
    text = "".join(f"  {line}\n" for line in ("stop: {timesteps_total: 9}", *lines))
    (experiment,) = experiments(f"x:\n  run: PPG\n  env: procgen\n{text}", folder)
    return "\n".join(make_plan(experiment, RaySettings(), TrainFlags()).notes)


AUTO = "num_env_runners: auto, num_gpus: auto, num_envs: 64"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            ["config: {num_env_runners: 0, num_gpus: auto}"],
            "x: learner 1 CPU, 1 GPU (auto), which samples too on this machine",
        ),
        (
            [f"config: {{{AUTO}}}"],
            "x: learner 1 CPU, 1 GPU (auto), 4 workers (auto) of 1 CPU each on this machine",
        ),
        (
            [f"config: {{{AUTO}, lr: {{choice: [1e-3, 1e-4]}}}}", "num_samples: 8",
             "max_concurrent_trials: 2"],
            "x: learner 1 CPU, 0.5 GPU (auto), 2 workers (auto) of 1 CPU each; 2 of 8 trials at "
            "once on",
        ),
        (
            ["config: {num_env_runners: 16, num_cpus_per_env_runner: auto, "
             "placement_strategy: SPREAD}"],
            "16 workers of 0.43 CPU (auto) each, SPREAD on",
        ),
        (
            ["config: {num_env_runners: 4, num_gpus_per_env_runner: auto}"],
            "4 workers of 1 CPU, 0.25 GPU (auto) each on",
        ),
    ],
)  # fmt: skip
def test_one_line_says_what_a_trial_gets_and_what_of_it_was_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str], expected: str
):
    assert expected in notes(tmp_path, monkeypatch, *lines)


def test_nothing_is_said_where_nothing_was_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert notes(tmp_path, monkeypatch, "config: {num_env_runners: 2}") == ""


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ("{num_gpus: 3}", "it needs 3 GPUs (there 1 GPU)"),
        ("{num_env_runners: 32}", "it needs 33 CPUs (there 8 CPUs)"),
        (
            "{num_env_runners: 4, custom_resources_per_env_runner: {tpu: 1}}",
            "it needs 4 tpu (there 0 tpu)",
        ),
        (
            "{num_env_runners: 4, placement_strategy: STRICT_SPREAD}",
            "its 5 parts do not fit on as many nodes of this machine (1 there)",
        ),
    ],
)
def test_what_can_never_start_is_refused_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: str, why: str
):
    with pytest.raises(UserError) as error:
        notes(tmp_path, monkeypatch, f"config: {config}")
    assert why in str(error.value) and f"{tmp_path}/e.yaml:5: " in str(error.value)


@pytest.mark.parametrize(
    ("config", "key"),
    [
        ({"num_gpus": 3}, "num_gpus"),
        ({"num_env_runners": 4, "num_gpus_per_env_runner": 1}, "num_gpus_per_env_runner"),
        ({"num_env_runners": 32}, "num_env_runners"),
        (
            {"evaluation_num_env_runners": 9, "evaluation_interval": 1},
            "evaluation_num_env_runners",
        ),
        (
            {"num_env_runners": 4, "custom_resources_per_env_runner": {"tpu": 1}},
            "custom_resources_per_env_runner",
        ),
        (
            {"custom_resources_for_main_process": {"head": 1}},
            "custom_resources_for_main_process",
        ),
        ({"num_env_runners": 4, "num_cpus_per_env_runner": 5}, "num_env_runners"),
    ],
)
def test_what_can_never_start_is_told_with_its_key_also_where_it_shall_wait_on_one_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: dict, key: str
):
    monkeypatch.setattr(cluster, "nodes", lambda settings: [{"CPU": 8.0, "GPU": 1.0}])
    settings = [f"{name}={json.dumps(value)}" for name, value in config.items()]
    (single,) = experiments("x: {run: PPG, env: CartPole-v1}", tmp_path, settings=settings)
    flags = TrainFlags(wait_for_resources=True)  # this machine never grows
    with pytest.raises(UserError, match=rf"--set {key}: .* can never start"):
        make_plan(single, RaySettings(), flags)


def test_trials_at_once_must_fit_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    lines = ["num_samples: 8", "config: {num_cpus_for_main_process: 1, lr: {uniform: [0.1, 1]}}"]
    monkeypatch.setattr(cluster, "nodes", lambda settings: [{"CPU": 8.0}])
    monkeypatch.setattr(resources, "free_memory", lambda: 20_000_000_000)
    text = "".join(f"  {line}\n" for line in lines)
    (experiment,) = experiments(f"x:\n  run: PPG\n  env: procgen\n{text}", tmp_path)
    with pytest.raises(UserError, match=r"8 trials at once need .* set max_concurrent_trials: 2"):
        make_plan(experiment, RaySettings(), TrainFlags())
