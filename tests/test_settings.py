import math
from typing import Any, get_args

import numpy as np
import pytest
import torch
from toy_envs import CodedEnv

from rllib_ppg import PPGConfig
from rllib_ppg.algorithm.setting_types import interpolate, parse_integer, parse_number
from rllib_ppg.algorithm.settings import (
    DEFAULTS,
    PPGSettings,
    Precision,
    check_settings,
)
from rllib_ppg.core import precision
from rllib_ppg.core.augment import Augmentation
from rllib_ppg.errors import UserError

# ---- numbers


@pytest.mark.parametrize(
    ("text", "number"),
    [("5e-4", 5e-4), ("1e6", 1e6), ("0.5", 0.5), (" 3 ", 3.0), ("-2", -2.0), (7, 7), (0.25, 0.25)],
)
def test_number_strings_are_numbers(text: Any, number: float):
    assert parse_number(text) == number


@pytest.mark.parametrize("value", ["True,", "true", "", "5e", "1,000", True, False])
def test_what_is_no_number_is_refused(value: Any):
    with pytest.raises(ValueError, match="must be a number"):
        parse_number(value)


@pytest.mark.parametrize(("value", "number"), [("1e6", 1_000_000), (64.0, 64), ("64", 64), (3, 3)])
def test_whole_numbers_may_be_written_as_floats(value: Any, number: int):
    assert parse_integer(value) == number and type(parse_integer(value)) is int


@pytest.mark.parametrize("value", [0.5, "0.5", True, "True,", math.nan, math.inf, "inf"])
def test_what_is_no_whole_number_is_refused(value: Any):
    with pytest.raises(ValueError, match="must be a"):
        parse_integer(value)


# ---- checks

BAD_VALUES = {
    "gamma": [1.5, -0.1, "high", True, math.nan, None],
    "lr": [0, -1e-3, 2, "True,", math.inf],
    "n_pi": [0, -3, 2.5, "many", True],
    "n_aux_epochs": [-1, 0.5],
    "max_aux_phases": [-1, 0.5],
    "num_envs": [0, -64, 10**9, "auto"],
    "num_env_runners": [-1, "automatic", 1.5],
    "num_gpus": [-1, 1.5, "yes", 5000],
    "policy_precision": ["float64", 16],
    "aux_precision": ["half", None],
    "store_device": ["gpu", "cuda:0"],
    "overlap_aux": ["yes", 1],
    "normalize_rewards": ["True,", "True", 1, 0, None],
    "minibatch_unit": ["segments", 3],
    "seed": [-1, 2**31, 0.5],
    "lr_schedule": [[], 3, [[0, 1e-3], [0, 1e-4]], [[10, 1e-3], [5, 1e-4]], [[0, -1.0]], [[0]]],
    "reward_norm_gamma": [1.0],
    "value_clip_param": [0],
    "micro_batch_size": [0, "big"],
}
CASES = [(name, value) for name, values in BAD_VALUES.items() for value in values]


@pytest.mark.parametrize(("name", "value"), CASES)
def test_a_bad_value_is_refused_by_name_with_what_was_given(name: str, value: Any):
    with pytest.raises(UserError) as error:
        check_settings({name: value})
    message = str(error.value)
    assert message.startswith(f"{name}=") and str(value)[:10] in message and "must" in message
    assert "pydantic" not in message and "\n" not in message


def test_all_bad_values_are_named_at_once():
    with pytest.raises(UserError) as error:
        check_settings({"gamma": 2, "n_pi": 0, "lr": 1e-3})
    assert "gamma=2" in str(error.value) and "n_pi=0" in str(error.value)
    assert "lr" not in str(error.value)


def test_a_long_value_is_shortened_in_the_message():
    with pytest.raises(UserError) as error:
        check_settings({"lr_schedule": [[i, -1.0] for i in range(1000)]})
    assert len(str(error.value)) < 300


def test_values_are_parsed_and_other_keys_stay_away():
    given = {"lr": "5e-4", "n_pi": "1e2", "num_envs": 8.0, "lr_schedule": [["1e3", "1e-4"]]}
    assert check_settings(given) == {
        "lr": 5e-4,
        "n_pi": 100,
        "num_envs": 8,
        "lr_schedule": [(1000, 1e-4)],
    }


def test_the_defaults_are_allowed_values():
    assert check_settings(DEFAULTS) == DEFAULTS


def test_the_defaults_are_the_references():
    # Cobbe et al. 2020, appendix A, and the defaults of openai/phasic-policy-gradient.
    reference = {
        "gamma": 0.999, "lambda_": 0.95, "rollout_fragment_length": 256, "nminibatch": 8,
        "lr": 5e-4, "aux_lr": 5e-4, "entropy_coeff": 0.01, "clip_param": 0.2, "kl_penalty": 0.0,
        "n_pi": 32, "n_epoch_pi": 1, "n_epoch_vf": 1, "n_aux_epochs": 6, "beta_clone": 1.0,
        "vf_true_weight": 1.0, "aux_mbsize": 4, "vf_loss_coeff": 0.5, "reward_norm_gamma": 0.99,
        "reward_clip": 10.0, "minibatch_unit": "segment", "grad_clip": None,
        "value_clip_param": None,
    }  # fmt: skip
    assert {name: DEFAULTS[name] for name in reference} == reference


def test_every_key_is_explained():
    for name, field in PPGSettings.model_fields.items():
        assert field.description and field.description.endswith("."), name


def test_a_schedule_is_linear_between_its_points_and_constant_beyond():
    schedule = [(100, 1.0), (200, 0.5), (400, 0.0)]
    at = [0, 100, 150, 200, 300, 400, 10**9]
    assert [interpolate(schedule, step) for step in at] == [1.0, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0]


# ---- every key does something


class Hidden(Augmentation):
    """Shows nothing of an observation."""

    def draw(self, shape, generator):
        return {"nothing": np.zeros(shape[0])}

    def apply(self, frames, draws):
        return torch.zeros_like(frames)


STEPS = 8
BASE = {
    "seed": 3, "num_envs": 4, "rollout_fragment_length": STEPS, "n_pi": 2, "nminibatch": 2,
    "aux_mbsize": 2, "n_aux_epochs": 1, "n_epoch_pi": 2, "n_epoch_vf": 2, "kl_penalty": 0.1,
    "model": {"custom_model_config": {"hiddens": [8]}},
}  # fmt: skip

SHARED = {"model": {"custom_model_config": {"hiddens": [8], "arch": "shared"}}}
HIDE = f"{__name__}.Hidden"

# Another value of each key, and what else has to be set for it to matter.
CHANGES: dict[str, dict[str, Any]] = {
    "num_envs": {"num_envs": 8},
    "num_envs_per_env_runner": {"num_envs": None, "num_envs_per_env_runner": 8},
    "rollout_fragment_length": {"rollout_fragment_length": 12},
    "seed": {"seed": 4},
    "gamma": {"gamma": 0.9},
    "lambda_": {"lambda_": 0.5},
    "lr": {"lr": 1e-3},
    "lr_schedule": {"lr_schedule": [[0, 1e-3]]},
    "aux_lr": {"aux_lr": 1e-3},
    "aux_lr_schedule": {"aux_lr_schedule": [[0, 1e-3]]},
    "clip_param": {"clip_param": 1e-4},
    "kl_penalty": {"kl_penalty": 1.0},
    "entropy_coeff": {"entropy_coeff": 0.1},
    "entropy_coeff_schedule": {"entropy_coeff_schedule": [[0, 0.1]]},
    "vf_loss_coeff": {"vf_loss_coeff": 1.0, "grad_clip": 0.1},
    "value_clip_param": {"value_clip_param": 1e-4},
    "grad_clip": {"grad_clip": 0.1},
    "normalize_rewards": {"normalize_rewards": False},
    "reward_norm_gamma": {"reward_norm_gamma": 0.5},
    "reward_clip": {"reward_clip": 0.1},
    "bootstrap_on_truncation": {"bootstrap_on_truncation": False},
    "n_pi": {"n_pi": 4},
    "n_epoch_pi": {"n_epoch_pi": 1},
    "n_epoch_vf": {"n_epoch_vf": 1},
    "nminibatch": {"nminibatch": 4},
    "n_aux_epochs": {"n_aux_epochs": 2},
    "aux_mbsize": {"aux_mbsize": 4},
    "beta_clone": {"beta_clone": 10.0},
    "vf_true_weight": {"vf_true_weight": 0.0},
    "minibatch_unit": {"minibatch_unit": "step"},
    "value_lr": {"value_lr": 1e-3, "optimizers": "heads"},
    "value_lr_schedule": {"value_lr_schedule": [[0, 1e-3]], "optimizers": "heads"},
    "lr_decay": {"lr_decay": 0.5},
    "optimizers": {"optimizers": "one"},
    "weight_decay": {"weight_decay": 0.1},
    "advantage_std_min": {"advantage_std_min": 10.0},
    "detach_value_head": {"detach_value_head": True, **SHARED},
    "grad_clip_elementwise": {"grad_clip_elementwise": 1e-3},
    "grad_clip_adaptive": {"grad_clip_adaptive": {"buffer_size": 1, "min": 1e-3, "max": 1e-3}},
    "drac_value_weight": {"drac_value_weight": 9.0, "drac_weight": 1.0, "drac_augmentation": HIDE},
    "drac_policy_weight": {
        "drac_policy_weight": 9.0,
        "drac_weight": 1.0,
        "drac_augmentation": HIDE,
    },
    "drac_ucb": {
        "drac_ucb": {},
        "drac_weight": 1.0,
        "drac_augmentation": {"type": "one_of", "members": [HIDE, HIDE], "num_choices": 4},
    },
    "reward_transform": {"reward_transform": "step"},
    "reward_scale": {"reward_scale": 0.5},
    "aux_minibatch_unit": {"aux_minibatch_unit": "step"},
    "mbsize_rows": {"mbsize_rows": 8, "nminibatch": 8, "minibatch_unit": "step"},
    "aux_mbsize_rows": {"aux_mbsize_rows": 4, "aux_mbsize": 4, "aux_minibatch_unit": "step"},
    "num_accumulates": {"num_accumulates": 2},
    "aux_num_accumulates": {"aux_num_accumulates": 2},
    "shuffle_minibatches": {"shuffle_minibatches": True},
    "aux_value_targets": {"aux_value_targets": "recomputed"},
    "aux_skips": {"aux_skips": 1},
    "policy_precision": {"policy_precision": "bfloat16"},
    "aux_precision": {"aux_precision": "float16"},
    "aux_augmentation": {"aux_augmentation": f"{__name__}.Hidden"},
}
# These change no number of the training, or need more than one process; what each does change has
# a test of its own: below, in test_hardware.py, test_store_place.py and test_sampling.py.
NEUTRAL = {
    "num_env_runners", "num_gpus", "train_batch_size", "aux_slice_s", "micro_batch_size",
    "learner_threads", "store_device", "overlap_aux", "checkpoint_store",
    # These need more episodes or steps, environments that count, or each other; see test_parts.py
    # and the golden tests.
    "drac_weight", "drac_augmentation", "return_max", "adaptive_gamma", "alternate_entropy_coeff",
    "unique_threshold", "max_aux_phases", "best_weights", "best_weights_min_env_steps",
    "budget_env_steps", "budget_s", "budget_margin_s",
    *(name for name in PPGSettings.model_fields if name.startswith("evaluation_")),
}  # fmt: skip


def build(**changes: Any):
    config = PPGConfig().environment(CodedEnv, env_config={"truncate": True})
    config.update_from_dict({**BASE, **changes})
    return config.build_algo()


def learner_stats(result: dict[str, Any]) -> dict[str, Any]:
    return result["info"]["learner"]["default_policy"]["learner_stats"]


def train_two_phases(**changes: Any) -> torch.Tensor:
    """All weights after two whole phases."""
    algorithm = build(**changes)
    while algorithm._totals["aux_phases"] < 2:
        algorithm.train()
    network = algorithm.get_policy().network
    algorithm.stop()
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


@pytest.fixture(scope="module")
def base_weights(ray_local) -> torch.Tensor:
    return train_two_phases()


def test_every_key_has_a_test_of_its_effect():
    assert set(CHANGES) | NEUTRAL == set(PPGSettings.model_fields)
    assert not set(CHANGES) & NEUTRAL


def test_without_a_change_the_weights_are_the_same(base_weights: torch.Tensor):
    assert torch.equal(train_two_phases(), base_weights)


@pytest.mark.parametrize("name", CHANGES)
def test_a_key_has_an_effect_on_the_weights(base_weights: torch.Tensor, name: str):
    change = CHANGES[name]
    assert name in change
    rest = {k: v for k, v in change.items() if k != name and v is not None}
    before = train_two_phases(**rest) if rest else base_weights
    after = train_two_phases(**change)
    assert not torch.equal(before, after)
    assert torch.isfinite(after).all()


def test_micro_batches_bound_the_rows_of_a_pass_and_leave_the_losses(ray_local):
    algorithm = build(micro_batch_size=5)
    rows: list[int] = []
    algorithm.get_policy().network.policy_head.register_forward_hook(
        lambda module, inputs, output: rows.append(len(output)) if torch.is_grad_enabled() else None
    )
    stats, whole = learner_stats(algorithm.train()), learner_stats(build().train())
    # Two epochs of two minibatches of 2 x 8 rows, each in equal pieces of at most five.
    assert rows == [4, 4, 4, 4] * 4
    for name in ("loss_pi", "loss_vf", "entropy", "grad_norm"):
        assert stats["policy_phase"][name] == pytest.approx(whole["policy_phase"][name], rel=1e-3)


def test_learner_threads_are_used_while_learning_and_given_back(ray_local):
    before = torch.get_num_threads()
    algorithm = build(learner_threads=3)
    seen: set[int] = set()
    algorithm.get_policy().network.value_head.register_forward_hook(
        lambda module, inputs, output: seen.add(torch.get_num_threads())
    )
    algorithm.train()
    assert seen == {3} and torch.get_num_threads() == before
    while algorithm._totals["aux_phases"] < 1:
        seen.clear()
        algorithm.train()
    assert seen == {3} and torch.get_num_threads() == before


def test_a_short_aux_slice_reports_more_often_and_changes_no_weight(base_weights: torch.Tensor):
    algorithm = build(aux_slice_s=1e-9)
    kinds = []
    while algorithm._totals["aux_phases"] < 2:
        kinds.append(learner_stats(algorithm.train())["phase"])
    # 2 x 4 segments in minibatches of 2: four for the old policy, four to train.
    assert [kind["in_aux_phase"] for kind in kinds] == [0, 0, *[1] * 8] * 2
    weights = [p.detach().flatten() for p in algorithm.get_policy().network.parameters()]
    assert torch.equal(torch.cat(weights), base_weights)


def test_a_train_batch_size_may_only_repeat_what_follows(ray_local):
    config = build(train_batch_size=4 * STEPS).config
    assert config.train_batch_size == 4 * STEPS
    with pytest.raises(UserError, match=r"train_batch_size=33 contradicts .* 4 x 8 = 32"):
        build(train_batch_size=33)


def test_gpus_are_reserved_where_asked_for():
    from rllib_ppg import PPG

    config = PPGConfig().environment(CodedEnv)
    for gpus in (0, 0.5, 1, 4):
        config.update_from_dict({**BASE, "num_gpus": gpus})
        required = PPG.default_resource_request(config.to_dict()).required_resources
        assert required.get("GPU", 0) == gpus


def test_workers_are_reserved_one_cpu_each():
    from rllib_ppg import PPG

    config = PPGConfig().environment(CodedEnv)
    for workers in (0, 1, 2):
        config.update_from_dict({**BASE, "num_env_runners": workers})
        request = PPG.default_resource_request(config.to_dict())
        assert request.required_resources["CPU"] == 1 + workers


def test_the_numbers_of_a_run_are_independent_of_numpys_global_generator(base_weights):
    np.random.seed(12345)
    assert torch.equal(train_two_phases(), base_weights)


def test_the_number_formats_are_those_of_the_learner():
    assert get_args(Precision) == get_args(precision.Precision)
