"""`--dry-run`: what a run would be, and that nothing is started for it."""

import json
from pathlib import Path

import pytest
import yaml
from app_helpers import command, experiment

from rllib_ppg import PPGConfig
from rllib_ppg.algorithm import resources
from rllib_ppg.app import measure
from rllib_ppg.app.checks import check
from rllib_ppg.app.dry_run import _defaults, arithmetic, budget_lines, flattened
from rllib_ppg.app.measure import Speeds
from rllib_ppg.app.run_length import RunLength

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
        "after every 2 iterations, 1 epoch of 2 minibatches of 128 rows: 2 optimiser steps",
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


@pytest.mark.parametrize("off", ["n_aux_epochs", "max_aux_phases"])
def test_a_run_without_auxiliary_phases_says_which_key_leaves_them_out(tmp_path: Path, off: str):
    (made,) = check(experiment(tmp_path, f"{{{off}: 0}}", env="procgen")).configs
    (line,) = (line for line in arithmetic(made) if "auxiliary phase" in line)
    assert line.endswith(f" none ({off} 0: PPO)")
    (line,) = (x for x in budget_lines(made, {"timesteps_total": 10**7}) if "auxiliary" in x)
    assert line.endswith(" 0 phases, 0 optimiser steps")


def test_a_wrong_experiment_is_refused_as_by_the_run_itself(capsys: pytest.CaptureFixture[str]):
    run = command(
        capsys, "train", "--run", "PPG", "--env", "CartPole-v1", "--dry-run", "--set", "x=1"
    )
    assert run.code == 2 and 'Unknown config key "x"' in run.err and run.out == ""


def test_another_algorithm_is_shown_without_sizes(capsys: pytest.CaptureFixture[str]):
    words = ["train", "--run", "PPO", "--env", "CartPole-v1", "--set", "num_env_runners=0"]
    run = command(capsys, *words, "--dry-run")
    assert run.code == 0 and "by RLlib as it is" in run.out and "Batch" not in run.out


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


PARTS = """
env_config:
  distribution_mode: easy
  frame_stack: 2
  noop_reward: -0.1
  revisit_reward: -0.01
  count_states: true
num_envs: 4
rollout_fragment_length: 8
n_pi: 2
n_aux_epochs: 1
aux_skips: 1
max_aux_phases: 3
optimizers: heads
value_lr: 1.0e-3
weight_decay: 1.0e-5
minibatch_unit: step
mbsize_rows: 4
num_accumulates: 2
aux_mbsize_rows: 4
aux_num_accumulates: 2
shuffle_minibatches: true
aux_value_targets: recomputed
aux_augmentation: random_translate
aux_precision: bfloat16
grad_clip_elementwise: 1.0
grad_clip_adaptive: {buffer_size: 8}
value_clip_param: 0.2
advantage_std_min: 1.0e-4
alternate_entropy_coeff: 0.02
adaptive_gamma: true
reward_transform: {type: fragment, groups: 2}
reward_clip: return_max
drac_weight: 0.1
drac_augmentation: {type: one_of, members: [random_translate, random_cutout]}
drac_ucb: {}
budget_env_steps: 1000
best_weights: true
evaluation_temperature: 0.5
learner_threads: 1
model:
  custom_model: ppg_impala
  custom_model_config:
    {arch: detach, widths: [4], hidden_size: 8, blocks: 1, previous_action: true, dropout: 0.1,
     frame_differences: true}
"""


def test_every_part_is_measured(tmp_path: Path):
    text = json.dumps(yaml.safe_load(PARTS))  # which is YAML on one line
    (made,) = check(experiment(tmp_path, text, env="procgen")).configs
    speeds = measure.measure(made)
    assert min(speeds.sample, speeds.policy, speeds.record, speeds.aux) > 0


def test_little_is_measured_of_float16_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rows = []
    segments = measure._store

    def noted(policy, frames, count, with_returns):
        rows.append(count)
        return segments(policy, frames, count, with_returns)

    monkeypatch.setattr(measure, "_store", noted)
    for precision in ("float32", "float16"):
        text = f"{{num_envs: 8, rollout_fragment_length: 16, aux_precision: {precision}, "
        text += "learner_threads: 1, model: {custom_model_config: {widths: [2], hidden_size: 4}}}"
        (made,) = check(experiment(tmp_path, text, env="procgen")).configs
        assert measure.measure(made).aux > 0
    assert rows == [64, measure.SLOW_ROWS]


def test_a_part_with_options_is_not_listed_with_its_default_too(tmp_path: Path):
    text = "{reward_transform: {type: step}, model: {custom_model_config: {widths: [2]}}}"
    (made,) = check(experiment(tmp_path, text, env="procgen")).configs
    given = {"reward_transform.type": "step", "model.custom_model_config.widths": [2]}
    rest = _defaults(made, given)
    assert "reward_transform" not in rest and "model.custom_model_config.widths" not in rest
    assert "reward_norm_gamma" in rest and "model.custom_model_config.blocks" in rest


def test_times_of_the_phases_add_up_their_rows():
    made = config(num_envs=8, rollout_fragment_length=16, n_pi=2, n_aux_epochs=3, aux_mbsize=4)
    speeds = Speeds(sample=1.0, value=0.5, policy=2.0, record=0.25, aux=3.0, parameters=1)
    assert speeds.iteration_s(made) == (128.0, 128 * 2.5)
    assert speeds.aux_phase_s(made) == 256 * (0.25 + 9.0)
    assert speeds.aux_phase_s(config(n_aux_epochs=0)) == 0.0
    assert speeds.aux_phase_s(config(max_aux_phases=0)) == 0.0


def test_skipped_iterations_and_the_limit_of_phases_are_in_the_times():
    keys = {"num_envs": 8, "rollout_fragment_length": 16, "n_pi": 2, "aux_mbsize": 4}
    made = config(**keys, n_aux_epochs=1, aux_skips=1, max_aux_phases=2)
    speeds = Speeds(sample=1.0, value=0.0, policy=1.0, record=1.0, aux=2.0, parameters=1)
    iteration, aux = 256.0, 768.0
    assert sum(speeds.iteration_s(made)) == iteration and speeds.aux_phase_s(made) == aux
    cycle = 3 * iteration + aux
    assert speeds.pace(made) == 3 * 128 / cycle
    # Within an auxiliary phase no steps are made; after the last one nothing interrupts them.
    for seconds, iterations in ((cycle - 1, 3), (cycle + 256, 4), (2 * cycle + 10 * 256, 16)):
        assert speeds.steps_within(made, seconds) == iterations * 128
    assert speeds.steps_within(config(**keys, n_aux_epochs=0), 512) == 256
    assert speeds.steps_within(config(**keys, max_aux_phases=0), 512) == 256
    length = RunLength(steps=0, sampled=11, learned=10, aux_phases=2)
    assert speeds.run_s(made, length) == 11 * 128 + 10 * 128 + 2 * aux


def test_a_budget_is_told_with_the_iteration_that_is_not_learned_from():
    made = config(
        num_envs=8, rollout_fragment_length=16, n_pi=2, aux_mbsize=4, budget_env_steps=900
    )
    text = "\n".join(budget_lines(made, {"timesteps_total": 9000}))
    assert "Within 900 environment steps" in text and " 7 iterations, 56 optimiser" in text
    assert "one beyond the budget, which is sampled and not learned from" in text
    assert "3 phases" in text


def test_one_of_a_thing_is_singular():
    made = config(
        num_envs=8, rollout_fragment_length=16, n_pi=2, aux_mbsize=16, n_aux_epochs=1,
        nminibatch=1, max_aux_phases=1,
    )  # fmt: skip
    text = "\n".join([*arithmetic(made), *budget_lines(made, {"timesteps_total": 500})])
    assert "1 joint epoch(s) of 1 minibatch of 128 rows: 1 optimiser step\n" in text
    assert "1 time at most, 1 epoch of 1 minibatch of 256 rows: 1 optimiser step\n" in text
    assert "4 iterations, 4 optimiser steps" in text
    assert text.rstrip().endswith("1 phase, 1 optimiser step")
