"""Keys without effect: refused, or named in a line where a part was switched off."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from app_helpers import command
from toy_envs import CodedEnv

from rllib_ppg import PPGConfig
from rllib_ppg.algorithm.idle_keys import AUX_KEYS, idle_notes
from rllib_ppg.app.checks import Checked, check
from rllib_ppg.app.experiment_files import load_experiments
from rllib_ppg.app.flags import TrainFlags
from rllib_ppg.errors import UserError

FOLDER = Path(__file__).resolve().parents[1] / "experiments"
OTHERS = ("ablation_", "challenge_")
FILES = sorted(p.stem for p in FOLDER.glob("*.yaml") if not p.name.startswith(OTHERS))
STEP = {"minibatch_unit": "step"}
DRAC = {"drac_weight": 0.1, "drac_augmentation": "random_translate"}


def make(**keys: Any) -> PPGConfig:
    config = PPGConfig().environment("procgen").update_from_dict(keys)
    config.validate()
    return config


def network(**settings: Any) -> dict[str, Any]:
    return {"model": {"custom_model": "ppg_impala", "custom_model_config": settings}}


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"unique_threshold": 0.5}, "unique_threshold has no effect with alternate_entropy_coeff"),
        ({"drac_value_weight": 2}, "drac_value_weight has no effect with drac_weight=0"),
        ({"drac_policy_weight": 2}, "drac_policy_weight has no effect with drac_weight=0"),
        ({"drac_augmentation": "random_translate"}, "drac_augmentation has no effect with drac_we"),
        ({"drac_ucb": {}}, "drac_ucb has no effect with drac_weight=0"),
        ({"return_max": 7}, "return_max=7 has no effect without reward_clip: return_max or adapti"),
        (
            {**DRAC, "drac_value_weight": 0, "drac_policy_weight": 0},
            "drac_weight=0.1 has no effect with drac_value_weight=0 and drac_policy_weight=0",
        ),
        ({"best_weights_min_env_steps": 5}, "best_weights_min_env_steps has no effect with best_w"),
        ({"budget_margin_s": 5}, "budget_margin_s has no effect with budget_s=None; set budget_s"),
        ({"lr": 1e-3, "lr_schedule": [[0, 1e-4], [9, 0]]}, "lr=0.001 has no effect with lr_sched"),
        (
            {"entropy_coeff": 0.1, "entropy_coeff_schedule": [[0, 0.2]]},
            "entropy_coeff=0.1 has no effect with entropy_coeff_schedule",
        ),
        ({**STEP, "mbsize_rows": 64, "nminibatch": 4}, "nminibatch=4 has no effect with mbsize_ro"),
        ({**STEP, "aux_mbsize_rows": 64, "aux_mbsize": 8}, "aux_mbsize=8 has no effect with aux_m"),
        ({"optimizers": "one", "aux_lr": 1e-3}, "aux_lr has no effect with optimizers=one"),
        (
            {"optimizers": "one", "aux_lr_schedule": [[0, 1e-3]]},
            "aux_lr_schedule has no effect with optimizers=one, where the auxiliary phase has none",
        ),
        ({"value_lr": 1e-3}, "value_lr has no effect with optimizers=phases"),
        ({"optimizers": "one", "value_lr_schedule": [[0, 1e-3]]}, "value_lr_schedule has no effec"),
        (
            {"reward_transform": {"type": "fragment"}, "reward_norm_gamma": 0.9},
            "reward_norm_gamma has no effect with reward_transform: fragment",
        ),
        (
            {"env_config": {"noop_min_timestep": 3}},
            "noop_min_timestep=3 has no effect without noop_reward",
        ),
    ],
)
def test_a_key_without_effect_is_refused_in_a_sentence(keys: dict[str, Any], words: str):
    with pytest.raises(UserError) as error:
        make(**keys)
    message = str(error.value)
    assert words in message and "\n" not in message
    assert "leave" in message


@pytest.mark.parametrize(
    "keys",
    [
        {"optimizers": "one", "lr": 1e-3, "aux_lr": 1e-3},
        {"lr": 1e-3, "lr_schedule": [[0, 1e-3], [1000, 0]]},
        {"lr_schedule": [[0, 1e-3], [1000, 0]]},
        {**DRAC, "drac_value_weight": 2},
        {**DRAC, "drac_value_weight": 0},
        {"return_max": 7, "adaptive_gamma": True},
        {"return_max": 7, "reward_clip": "return_max"},
        {"budget_s": 100, "budget_margin_s": 5},
        {"reward_transform": "fragment"},
    ],
)
def test_what_has_an_effect_or_says_the_same_passes_without_a_word(keys: dict[str, Any]):
    assert idle_notes(make(**keys)) == []


@pytest.mark.parametrize(
    ("keys", "names"),
    [
        ({"aux_lr": 1e-3}, "aux_lr has"),
        ({"aux_precision": "bfloat16"}, "aux_precision has"),
        ({"aux_minibatch_unit": "step"}, "aux_minibatch_unit has"),
        ({"aux_skips": 1, "max_aux_phases": 2}, "aux_skips, max_aux_phases have"),
        ({"aux_augmentation": "random_translate"}, "aux_augmentation has"),
        ({"aux_value_targets": "recomputed", "n_pi": 4}, "n_pi, aux_value_targets have"),
        ({"overlap_aux": True, "num_env_runners": 1}, "overlap_aux has"),
        (network(dropout=0.1), "dropout has"),
        ({"optimizers": "one", "aux_lr": 1e-3}, "aux_lr has"),
    ],
)
def test_a_line_names_what_an_auxiliary_phase_left_out_would_have_used(keys, names: str):
    config = make(n_aux_epochs=0, **keys)
    assert idle_notes(config) == [
        f"n_aux_epochs=0 leaves the auxiliary phase out, so {names} no effect."
    ]
    assert not config.recomputes_targets


def test_no_auxiliary_phases_leave_out_the_same_as_no_epochs():
    config = make(max_aux_phases=0, n_aux_epochs=3, aux_skips=1, aux_value_targets="recomputed")
    assert idle_notes(config) == [
        "max_aux_phases=0 leaves the auxiliary phase out, so n_aux_epochs, aux_value_targets, "
        "aux_skips have no effect."
    ]
    assert not config.recomputes_targets
    assert idle_notes(make(max_aux_phases=0)) == idle_notes(make(n_aux_epochs=0)) == []


def test_dropout_is_used_by_drac_too():
    assert idle_notes(make(n_aux_epochs=0, **DRAC, **network(dropout=0.1))) == []


def test_a_line_names_what_rewards_as_they_are_do_not_use():
    config = make(normalize_rewards=False, reward_transform="step", reward_clip="return_max")
    assert idle_notes(config) == [
        "normalize_rewards=False leaves rewards as they are, so reward_transform, reward_clip have "
        "no effect."
    ]


LINE = "n_aux_epochs=0 leaves the auxiliary phase out, so aux_lr has no effect."


def test_the_line_is_printed_by_the_command(capsys):
    shown = command(
        capsys, "train", "--dry-run", "--run", "PPG", "--env", "CartPole-v1", "--config",
        "{num_envs: 8, rollout_fragment_length: 16, nminibatch: 4}", "--set", "n_aux_epochs=0",
        "--set", "aux_lr=1e-3", "--stop", "{timesteps_total: 1000}",
    )  # fmt: skip
    assert shown.code == 0 and shown.out.count(LINE) == 1


def test_the_line_is_logged_without_a_command(caplog, ray_local):
    config = PPGConfig().environment(CodedEnv).env_runners(num_envs=8)
    with caplog.at_level(logging.WARNING):
        config.training(n_aux_epochs=0, aux_lr=1e-3).build_algo().stop()
    assert caplog.text.count(LINE) == 1


# ---- shipped files stay usable with one override


def changed(name: str, *overrides: str) -> Checked:
    flags = TrainFlags(files=[str(FOLDER / f"{name}.yaml")], settings=list(overrides))
    (experiment,) = load_experiments(flags)
    return check(experiment)


@pytest.mark.parametrize("name", FILES)
def test_a_file_as_it_is_has_no_key_without_effect(name: str):
    assert not [note for note in changed(name).notes if "no effect" in note]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("override", ["n_aux_epochs=0", "normalize_rewards=false"])
def test_a_part_of_a_file_is_switched_off_by_one_override(name: str, override: str):
    changed(name, override)


@pytest.mark.parametrize(
    ("name", "override"),
    [
        *[("winner_generalization", word) for word in (
            "optimizers=phases", "optimizers=one", "best_weights=false", "budget_s=null",
            "aux_augmentation=null", "aux_value_targets=collected", "lr_schedule=null",
            "max_aux_phases=null", "reward_clip=10", "adaptive_gamma=true",
            "model.custom_model_config.frame_differences=false",
        )],
        *[("winner_sample_efficiency", word) for word in (
            "alternate_entropy_coeff=null", "aux_augmentation=null", "reward_transform=rollout",
            "env_config.noop_reward=0", "grad_clip_elementwise=null", "optimizers=phases",
            "model.custom_model_config.dropout=0", "value_clip_param=null",
        )],
    ],
)  # fmt: skip
def test_each_part_of_a_winner_is_switched_by_one_override(name: str, override: str):
    changed(name, override)


def test_one_adam_reports_the_rate_that_it_has_in_both_phases():
    config = make(optimizers="one", lr=1e-3)
    assert config.rates(0, 1) == (1e-3, 1e-3, 1e-3)
    assert make(lr=1e-3, aux_lr=2e-3).rates(0, 1) == (1e-3, 2e-3, 1e-3)


# Every key of the auxiliary phase with another value than the first training's.
OTHERWISE: dict[str, dict[str, Any]] = {
    "n_aux_epochs": {"n_aux_epochs": 0},
    "n_pi": {"n_pi": 6},
    "aux_lr": {"aux_lr": 1e-3},
    "aux_lr_schedule": {"aux_lr_schedule": [[0, 1e-3]]},
    "aux_mbsize": {"aux_mbsize": 2},
    "aux_mbsize_rows": {"aux_mbsize_rows": 8, "aux_minibatch_unit": "step"},
    "aux_minibatch_unit": {"aux_minibatch_unit": "step"},
    "aux_num_accumulates": {"aux_num_accumulates": 2},
    "beta_clone": {"beta_clone": 2},
    "vf_true_weight": {"vf_true_weight": 2},
    "aux_augmentation": {"aux_augmentation": "random_translate"},
    "aux_value_targets": {"aux_value_targets": "recomputed"},
    "aux_skips": {"aux_skips": 1},
    "max_aux_phases": {"max_aux_phases": 1},
    "aux_slice_s": {"aux_slice_s": 1},
    "aux_precision": {"aux_precision": "bfloat16"},
    "dropout": network(widths=[4], hidden_size=8, blocks=1, dropout=0.0),
}


def two_iterations(**keys: Any) -> torch.Tensor:
    """The weights after two policy iterations, before any auxiliary phase."""
    sizes = {"num_envs": 4, "rollout_fragment_length": 8, "n_pi": 4, "nminibatch": 2, "seed": 3}
    aux = {"n_aux_epochs": 2, "num_env_runners": 0}
    part = network(widths=[4], hidden_size=8, blocks=1, dropout=0.1)
    algorithm = make(**{**sizes, **aux, **part, **keys}).build_algo()
    for _ in range(2):
        algorithm.train()
    found = [each.detach().flatten() for each in algorithm.get_policy().network.parameters()]
    algorithm.stop()
    return torch.cat(found).clone()


@pytest.fixture(scope="module")
def trained(ray_local: None) -> torch.Tensor:
    return two_iterations()


@pytest.mark.parametrize("key", OTHERWISE)
def test_before_the_first_auxiliary_phase_its_keys_change_nothing(trained: torch.Tensor, key: str):
    assert torch.equal(two_iterations(**OTHERWISE[key]), trained)


def test_all_keys_of_the_auxiliary_phase_are_tried(trained: torch.Tensor):
    # overlap_aux needs remote workers, whose sampling it moves while a phase runs.
    assert set(OTHERWISE) == {*AUX_KEYS, "n_aux_epochs", "dropout"} - {"overlap_aux"}
    assert not torch.equal(two_iterations(lr=1e-3), trained)
