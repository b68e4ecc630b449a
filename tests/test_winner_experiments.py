"""The experiment files of the challenge's winners and baselines: sizes and arithmetic by hand."""

import re
from pathlib import Path

import pytest

from rllib_ppg.algorithm.config import PPGConfig
from rllib_ppg.algorithm.model import parameter_count
from rllib_ppg.algorithm.named_environments import spaces
from rllib_ppg.algorithm.settings import DEFAULTS
from rllib_ppg.app.checks import check, store_bytes
from rllib_ppg.app.dry_run import budget_lines
from rllib_ppg.app.experiment_files import load_experiments
from rllib_ppg.app.flags import TrainFlags
from rllib_ppg.app.run_length import best_weights_notes, run_length
from rllib_ppg.envs.procgen_options import parse_options

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


# ---- every number of the winners and of the single file, by hand from their sources

SCHEDULE = [(0, 5e-4), (8_000_000, 5e-5)]
WINNER_A = {
    "num_envs": 112, "rollout_fragment_length": 256, "gamma": 0.996, "lambda_": 0.95,
    "adaptive_gamma": False, "budget_env_steps": 8_000_000, "budget_s": 7200,
    "budget_margin_s": 20, "best_weights": True, "best_weights_min_env_steps": 1_000_000,
    "evaluation_temperature": 0.5, "optimizers": "heads", "lr_schedule": SCHEDULE,
    "aux_lr_schedule": SCHEDULE, "value_lr_schedule": SCHEDULE, "lr_decay": 1,
    "weight_decay": 0, "n_epoch_pi": 1, "n_epoch_vf": 1, "minibatch_unit": "step",
    "mbsize_rows": 896, "num_accumulates": 4, "clip_param": 0.2, "kl_penalty": 0,
    "entropy_coeff": 0.01, "entropy_coeff_schedule": None, "alternate_entropy_coeff": None,
    "vf_loss_coeff": 0.5, "value_clip_param": None, "grad_clip": None,
    "grad_clip_elementwise": None, "grad_clip_adaptive": None, "policy_precision": "float32",
    "n_pi": 32, "aux_skips": 0, "max_aux_phases": 8, "n_aux_epochs": 6,
    "aux_minibatch_unit": "step", "aux_mbsize": 4, "aux_num_accumulates": 2,
    "aux_value_targets": "recomputed", "beta_clone": 1, "vf_true_weight": 1,
    "aux_precision": "float16", "normalize_rewards": True,
    "reward_transform": {"type": "step", "reset": "never"}, "reward_norm_gamma": 0.99,
    "reward_clip": "return_max", "reward_scale": 1, "advantage_std_min": None, "drac_weight": 0,
    "aux_augmentation": {
        "type": "one_of",
        "num_choices": 3,
        "members": [
            {"type": "pad_and_crop", "pad": 10},
            {"type": "tied_cutout_color", "min_size": 10, "max_size": 29},
        ],
    },
}  # fmt: skip
CANDIDATE = {
    "aux_skips": 2, "n_pi": 16, "max_aux_phases": 14, "n_aux_epochs": 7,
    "aux_value_targets": "collected", "best_weights_min_env_steps": 0, "evaluation_temperature": 1,
}  # fmt: skip
WINNER_B = {
    "num_envs": 875, "rollout_fragment_length": 16, "gamma": 0.999, "lambda_": 0.95,
    "adaptive_gamma": False, "budget_env_steps": None, "budget_s": None, "best_weights": False,
    "evaluation_temperature": None, "optimizers": "one", "lr": 5e-4, "lr_schedule": None,
    "lr_decay": 1, "weight_decay": 0, "n_epoch_pi": 1, "n_epoch_vf": 1, "minibatch_unit": "step",
    "mbsize_rows": 1750, "num_accumulates": 1, "shuffle_minibatches": True, "clip_param": 0.2,
    "kl_penalty": 0, "entropy_coeff": 0.01, "alternate_entropy_coeff": 0.02,
    "unique_threshold": 0.9, "vf_loss_coeff": 0.25, "value_clip_param": 0.2,
    "detach_value_head": False, "grad_clip_elementwise": 1, "grad_clip": 1,
    "grad_clip_adaptive": None, "advantage_std_min": 1e-4, "n_pi": 32, "aux_skips": 0,
    "max_aux_phases": None, "n_aux_epochs": 2, "aux_minibatch_unit": "step",
    "aux_mbsize_rows": 1750, "aux_num_accumulates": 1, "aux_value_targets": "collected",
    "beta_clone": 1, "vf_true_weight": 1, "drac_weight": 0, "aux_precision": "float32",
    "aux_augmentation": {"type": "random_translate", "max_shift": 5}, "normalize_rewards": True,
    "reward_transform": {"type": "fragment", "alpha": 0.005, "groups": 7}, "reward_clip": None,
    "reward_scale": 1,
}  # fmt: skip
SINGLE_FILE = {
    "num_envs": 64, "rollout_fragment_length": 256, "gamma": 0.999, "lambda_": 0.95,
    "optimizers": "one", "lr": 5e-4, "lr_schedule": None, "n_epoch_pi": 1, "n_epoch_vf": 1,
    "minibatch_unit": "step", "nminibatch": 8, "clip_param": 0.2, "entropy_coeff": 0.01,
    "vf_loss_coeff": 0.25, "value_clip_param": 0.2, "grad_clip": 0.5, "n_pi": 32,
    "n_aux_epochs": 6, "aux_minibatch_unit": "segment", "aux_mbsize": 4, "aux_num_accumulates": 1,
    "aux_value_targets": "collected", "beta_clone": 1, "vf_true_weight": 1,
    "reward_transform": {"type": "step", "reset": "episode"}, "reward_norm_gamma": 0.999,
    "reward_clip": 10, "aux_augmentation": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("winner_generalization", WINNER_A),
        ("winner_generalization_19f6ab2", {**WINNER_A, **CANDIDATE}),
        ("winner_sample_efficiency", WINNER_B),
        ("cleanrl_ppg", SINGLE_FILE),
    ],
)
def test_each_number_is_its_sources(name: str, expected: dict[str, object]):
    config = config_of(name)
    assert {key: getattr(config, key) for key in expected} == expected


NETWORKS = {
    "winner_generalization": {
        "arch": "detach", "normed_init": True, "widths": [32, 64, 64], "hidden_size": 512,
        "blocks": 2, "frame_differences": True,
    },
    "winner_sample_efficiency": {
        "arch": "shared", "aux_value_head": False, "normed_init": False, "widths": [32, 48, 64],
        "hidden_size": 256, "blocks": 2, "previous_action": True, "dropout": 0.1,
    },
    "starter_kit_ppo": {
        "arch": "shared", "aux_value_head": False, "normed_init": False, "widths": [16, 32, 32],
        "hidden_size": 256, "blocks": 2,
    },
    "cleanrl_ppg": {
        "arch": "detach", "normed_init": True, "widths": [16, 32, 32], "hidden_size": 256,
        "blocks": 2,
    },
}  # fmt: skip
ENVIRONMENTS = {
    "winner_generalization": {"frame_stack": 2, "stale_frame_stack": False, "num_levels": 200},
    "winner_sample_efficiency": {
        "frame_stack": 2, "num_levels": 0, "noop_reward": -0.1, "noop_min_timestep": 10,
        "revisit_reward": 0, "count_states": True,
    },
    "starter_kit_ppo": {"num_levels": 0, "center_agent": True, "paint_vel_info": False},
    "cleanrl_ppg": {"env_name": "starpilot", "num_levels": 0},
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_network_and_environment_are_their_sources(name: str):
    config = config_of(name)
    assert config.model["custom_model_config"] == NETWORKS[name]
    found = parse_options(config.env_config)
    assert found.distribution_mode == "easy"
    expected = ENVIRONMENTS[name]
    assert {key: getattr(found, key) for key in expected} == expected


def test_the_candidates_differ_in_what_their_commits_do():
    first, other = (config_of(f"winner_generalization{end}") for end in ("", "_19f6ab2"))
    differing = {key for key in DEFAULTS if getattr(first, key) != getattr(other, key)}
    assert differing == set(CANDIDATE)
    assert (first.env_config, first.model) == (other.env_config, other.model)


def test_the_stale_frame_stack_is_one_switch():
    flags = TrainFlags(
        files=[str(FOLDER / "winner_generalization.yaml")],
        settings=["env_config.stale_frame_stack=true"],
    )
    (experiment,) = load_experiments(flags)
    (config,) = check(experiment).configs
    assert parse_options(config.env_config).stale_frame_stack
    # Stacks are stored whole then.
    assert store_bytes(config) == pytest.approx(2 * store_bytes(config_of(
        "winner_generalization"
    )), rel=0.02)  # fmt: skip
