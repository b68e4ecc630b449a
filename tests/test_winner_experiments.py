"""The experiment files of the challenge's winners and baselines: sizes and arithmetic by hand."""

import re
from pathlib import Path

import pytest

from rllib_ppg.algorithm.config import PPGConfig
from rllib_ppg.algorithm.model import parameter_count
from rllib_ppg.algorithm.named_environments import spaces
from rllib_ppg.app.checks import check, store_bytes
from rllib_ppg.app.dry_run import budget_lines
from rllib_ppg.app.experiment_files import load_experiments
from rllib_ppg.app.flags import TrainFlags
from rllib_ppg.app.run_length import best_weights_notes, run_length

FOLDER = Path(__file__).resolve().parents[1] / "experiments"
FILES = ("winner_generalization", "winner_generalization_19f6ab2", "winner_sample_efficiency",
         "starter_kit_ppo", "cleanrl_ppg", "random_agent")  # fmt: skip


def config_of(name: str) -> PPGConfig:
    (experiment,) = load_experiments(TrainFlags(files=[str(FOLDER / f"{name}.yaml")]))
    (config,) = check(experiment).configs
    return config


def parameters(config: PPGConfig) -> int:
    found = spaces(config.env, config.env_config)
    model = config.model
    settings = model.get("custom_model_config") or {}
    count = parameter_count(model["custom_model"], settings, found.observations, found.actions)
    # It counts a policy head of one output.
    code = settings["hidden_size"] + 15 * bool(settings.get("previous_action"))
    return count + 14 * (code + 1)


@pytest.mark.parametrize("name", FILES)
def test_each_value_says_where_it_is_from(name: str):
    text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    body = text[text.index("  config:") :].splitlines()[1:]
    spared = "env_config|model|custom_model|custom_model_config|aux_augmentation|type|members"
    spared += "|num_env_runners|num_gpus|n_aux_epochs|normalize_rewards"
    plain = re.compile(rf"^ +({spared})\b")
    for line in body:
        assert not line.strip() or plain.match(line) or "#" in line, line


@pytest.mark.parametrize(
    ("name", "skipped", "phases", "epochs", "n_pi"),
    [("winner_generalization", 0, 8, 6, 32), ("winner_generalization_19f6ab2", 2, 14, 7, 16)],
)
def test_the_generalisation_winners_arithmetic(name, skipped, phases, epochs, n_pi):
    config = config_of(name)
    assert config.train_batch_size == 28_672
    assert config.policy_minibatches() / config.num_accumulates == 8
    assert config.mbsize_rows * config.num_accumulates == 3584
    assert config.aux_minibatches() * 1024 == n_pi * 28_672
    assert config.aux_minibatches() // config.aux_num_accumulates == n_pi * 14  # 448 of 32
    assert (config.aux_skips, config.max_aux_phases) == (skipped, phases)
    assert config.n_aux_epochs == epochs
    assert parameters(config) == 2_496_849
    assert config.evaluation_temperature == (0.5 if name == "winner_generalization" else 1)
    assert [config.scheduled("lr", step) for step in (0, 4_000_000, 8_000_000)] == pytest.approx(
        [5e-4, 2.75e-4, 5e-5]
    )


def test_the_sample_efficiency_winners_arithmetic():
    config = config_of("winner_sample_efficiency")
    assert config.train_batch_size == 14_000
    assert config.policy_minibatches() == 8
    assert config.aux_minibatches() * config.n_aux_epochs == 512
    assert parameters(config) == 1_368_208
    assert store_bytes(config) == pytest.approx(5.9e9, rel=0.01)


# Policy iterations that are learned from and sampled, auxiliary phases, and the updates of both.
LENGTHS = {
    "winner_generalization": (279, 280, 8, 2_232, 21_504),
    "winner_generalization_19f6ab2": (279, 280, 14, 2_232, 21_952),
    "winner_sample_efficiency": (572, 572, 17, 4_576, 8_704),
    "cleanrl_ppg": (1_504, 1_505, 47, 12_032, 144_384),
    "starter_kit_ppo": (435, 435, 0, 11_745, 0),
}


@pytest.mark.parametrize("name", LENGTHS)
def test_a_whole_runs_iterations_phases_and_updates_are_the_published_ones(name: str):
    (experiment,) = load_experiments(TrainFlags(files=[str(FOLDER / f"{name}.yaml")]))
    checked = check(experiment)
    learned, sampled, phases, policy, aux = LENGTHS[name]
    (config,) = checked.configs
    length = run_length(config, checked.experiment.keys.stop)
    assert (length.learned, length.sampled, length.aux_phases) == (learned, sampled, phases)
    found = " ".join(budget_lines(config, checked.experiment.keys.stop))
    assert f"{learned:,} iterations, {policy:,} optimiser steps" in found
    assert f"{phases:,} phases, {aux:,} optimiser steps" in found
    assert not list(best_weights_notes(config, checked.experiment.keys.stop))


def test_the_starter_kits_arithmetic():
    config = config_of("starter_kit_ppo")
    assert config.train_batch_size == 18_432
    assert config.policy_minibatches() == 9


@pytest.mark.parametrize("name", ["starter_kit_ppo", "winner_sample_efficiency"])
def test_what_learned_with_rllibs_ppo_has_its_standardisation(name: str):
    assert config_of(name).advantage_std_min == 1e-4  # of RLlib's `standardized`


def test_the_starter_kits_settings():
    config = config_of("starter_kit_ppo")
    expected = {
        "gamma": 0.999, "lambda_": 0.95, "lr": 5e-4, "n_epoch_pi": 3, "n_epoch_vf": 3,
        "kl_penalty": 0, "vf_loss_coeff": 0.5, "value_clip_param": 0.2, "entropy_coeff": 0.01,
        "clip_param": 0.2, "grad_clip": 0.5, "normalize_rewards": False, "n_aux_epochs": 0,
        "num_envs": 72, "rollout_fragment_length": 256, "minibatch_unit": "step",
    }  # fmt: skip
    assert {key: getattr(config, key) for key in expected} == expected


def test_the_single_files_arithmetic():
    config = config_of("cleanrl_ppg")
    assert config.train_batch_size // config.nminibatch == 2048
    assert config.aux_mbsize * config.rollout_fragment_length == 1024
