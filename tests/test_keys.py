import re
from typing import Any

import pytest

from rllib_ppg import PPGConfig
from rllib_ppg.algorithm.keys import (
    HONOURED,
    OUTDATED,
    RECURRENT,
    UNUSED,
    check_keys,
    check_model_keys,
    key_problem,
    own_keys,
    rllib_defaults,
)
from rllib_ppg.algorithm.model import ImpalaSettings, MLPSettings
from rllib_ppg.algorithm.settings import DEFAULTS
from rllib_ppg.errors import UserError


def refusal(config: dict[str, Any]) -> str:
    with pytest.raises(UserError) as error:
        check_keys(config)
    return str(error.value)


# ---- outdated and unused names


@pytest.mark.parametrize("name", OUTDATED)
def test_an_outdated_key_gives_its_new_name(name: str):
    assert refusal({name: "something"}) == f'Unknown config key "{name}": use {OUTDATED[name]}.'


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("num_sgd_iter", "n_epoch_pi"),
        ("sgd_minibatch_size", "nminibatch"),
        ("num_workers", "num_env_runners"),
        ("num_rollout_workers", "num_env_runners"),
        ("num_envs_per_worker", "num_envs_per_env_runner"),
        ("num_cpus_per_worker", "num_cpus_per_env_runner"),
        ("use_pytorch", "torch"),
        ("kl_coeff", "kl_penalty"),
        ("vf_clip_param", "value_clip_param"),
        ("sample_batch_size", "rollout_fragment_length"),
        ("checkpoint_freq", "checkpoint_frequency"),
    ],
)
def test_the_names_of_old_experiment_files_are_known(old: str, new: str):
    assert new in refusal({old: 3})


@pytest.mark.parametrize("name", OUTDATED)
def test_a_new_name_is_a_key_that_is_allowed(name: str):
    allowed = own_keys() | HONOURED | set(MLPSettings.model_fields) | {"model", "framework"}
    new = OUTDATED[name]
    if "not supported" in new or "checkpoint_config" in new:
        return
    words = set(re.findall(r"[a-z_]{2,}", new))
    first = re.match(r"[a-z_]+", new)
    assert first and first.group() in allowed, f"{name}: {words - allowed}"


@pytest.mark.parametrize("name", UNUSED)
def test_a_key_without_a_meaning_here_gives_the_reason(name: str):
    message = refusal({name: "something"})
    assert name in message and "not used by PPG" in message and UNUSED[name] in message


# ---- misspelt names at every level


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("gama", "gamma"),
        ("aux_mb_size", "aux_mbsize"),
        ("n_aux_epoch", "n_aux_epochs"),
        ("betaclone", "beta_clone"),
        ("num_env_runer", "num_env_runners"),
        ("train_batch_sizee", "train_batch_size"),
        ("rollout_fragment_lenght", "rollout_fragment_length"),
        ("env_confg", "env_config"),
        ("sample_timeout", "sample_timeout_s"),
        ("Gamma", "gamma"),
    ],
)
def test_a_misspelt_key_gives_the_nearest(wrong: str, right: str):
    assert refusal({wrong: 1}) == f'Unknown config key "{wrong}". Did you mean "{right}"?'


def test_a_key_like_no_other_is_refused_without_a_guess():
    assert refusal({"xyzzy": 1}) == 'Unknown config key "xyzzy".'


def test_all_wrong_keys_are_named_at_once():
    message = refusal({"gama": 1, "lr": 1e-3, "num_workers": 2, "kl_target": 0.01})
    assert [line.split('"')[1] for line in message.splitlines()] == [
        "gama",
        "num_workers",
        "kl_target",
    ]


@pytest.mark.parametrize(
    ("section", "wrong", "right"),
    [
        ({"model": {"custom_modell": "ppg_mlp"}}, "custom_modell", "custom_model"),
        ({"model": {"custom_model_confg": {}}}, "custom_model_confg", "custom_model_config"),
        (
            {"model": {"custom_model": "ppg_mlp", "custom_model_config": {"hidens": [3]}}},
            "hidens",
            "hiddens",
        ),
        (
            {"model": {"custom_model": "ppg_impala", "custom_model_config": {"width": [3]}}},
            "width",
            "widths",
        ),
        ({"model": {"custom_model_config": {"wdths": [3]}}}, "wdths", "widths"),
        ({"env_config": {"num_level": 3}}, "num_level", "num_levels"),
        ({"env_config": {"env_name": "coinrunn"}}, "coinrunn", "coinrun"),
    ],
)
def test_a_misspelt_nested_key_gives_the_nearest(section: dict, wrong: str, right: str):
    config = PPGConfig().environment("procgen")
    with pytest.raises(UserError, match=wrong) as error:
        config.update_from_dict(section)
        config.validate()
    assert f'"{right}"' in str(error.value) or f"'{right}'" in str(error.value)


def test_a_network_key_is_checked_for_other_environments_too(ray_local):
    config = PPGConfig().environment("CartPole-v1")
    config.update_from_dict({"model": {"custom_model_config": {"hidens": [3]}}})
    with pytest.raises(UserError, match=r'hidens.*Did you mean "hiddens"'):
        config.build_algo()


# ---- RLlib's own keys

UNUSED_BY_PPG = {
    "observation_filter": "MeanStdFilter",
    "output": "/tmp/somewhere",
    "input_": "dataset",
    "batch_mode": "complete_episodes",
    "compress_observations": True,
    "num_learners": 2,
    "remote_worker_envs": True,
    "offline_evaluation_interval": 1,
    "render_env": True,
    "clip_rewards": True,
    "grad_clip_by": "value",
    "optimizer": {"eps": 1e-5},
    "learner_config_dict": {"a": 1},
    "num_gpus_per_learner": 1,
    "offline_sampling": True,
    "shuffle_buffer_size": 7,
    "synchronize_filters": False,
    "postprocess_inputs": True,
    "restart_failed_sub_environments": True,
}


@pytest.mark.parametrize("name", UNUSED_BY_PPG)
def test_a_key_of_rllib_that_ppg_does_not_use_is_refused_when_set(name: str):
    assert name in rllib_defaults(), "Ray does not know it any more"
    message = refusal({name: UNUSED_BY_PPG[name]})
    assert message.startswith(f'Config key "{name}" is ')
    assert "remove it" in message


@pytest.mark.parametrize("name", sorted(set(rllib_defaults()) - set(DEFAULTS)))
def test_a_key_of_rllib_passes_at_its_default(name: str):
    assert key_problem(name, rllib_defaults()[name]) is None


def test_every_honoured_key_exists_in_ray():
    assert set(rllib_defaults()) >= HONOURED


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("explore", "True,", "true or false"),
        ("explore", 1, "true or false"),
        ("num_cpus_per_env_runner", "two", "a number, not negative, or auto"),
        ("num_cpus_per_env_runner", True, "a number, not negative, or auto"),
        ("num_cpus_per_env_runner", -1, "a number, not negative, or auto"),
        ("min_time_s_per_iteration", "x", "a number, not negative"),
        ("log_level", "LOUD", "'DEBUG' or 'INFO' or 'WARN' or 'WARNING' or 'ERROR' or None"),
        ("env_config", [1], "a mapping"),
        ("model", "ppg_mlp", "a mapping"),
        ("restart_failed_env_runners", "yes", "true or false"),
        ("num_cpus_per_env_runner", None, "a number, not negative, or auto"),
        ("delay_between_env_runner_restarts_s", float("inf"), "at most 2147483647"),
        ("max_num_env_runner_restarts", 0.5, "a whole number"),
        ("max_num_env_runner_restarts", "x", "a whole number, not negative"),
        ("sample_timeout_s", 0, "a number, more than 0, or null for no limit"),
        ("sample_timeout_s", -5, "a number, more than 0, or null for no limit"),
        ("observation_space", 3, "a Gymnasium space, which only Python can give; leave it out"),
        ("algo_class", "PPG", "a class, which only Python can give; leave it out"),
        ("callbacks", 3, "a callback class, or its path package.module.Class"),
        ("exploration_config", {"type": 5}, "a mapping with type: StochasticSampling"),
        (
            "custom_resources_per_env_runner",
            {"a": -1},
            "a mapping of names to numbers, not negative; CPUs and GPUs have keys of their own",
        ),
        (
            "custom_resources_for_main_process",
            {"CPU": 1},
            "a mapping of names to numbers, not negative; CPUs and GPUs have keys of their own",
        ),
        (
            "extra_python_environs_for_worker",
            {"A": 1},
            "a mapping of names to text (in quotes where it looks like a number)",
        ),
    ],
)
def test_a_wrong_type_of_an_honoured_key_is_refused(name: str, value: Any, expected: str):
    assert refusal({name: value}) == f"{name}={value!r}: must be {expected}."


@pytest.mark.parametrize("name", ["sample_timeout_s", "env_runner_health_probe_timeout_s"])
def test_a_timeout_may_be_none_which_waits_without_limit(name: str):
    assert check_keys({name: None}) == {name: None}
    assert check_keys({name: "0.5"}) == {name: 0.5}


def test_number_strings_of_rllibs_keys_are_numbers_too():
    parsed = check_keys({"num_cpus_per_env_runner": "2", "min_time_s_per_iteration": None})
    assert parsed == {"num_cpus_per_env_runner": 2, "min_time_s_per_iteration": None}
    assert type(parsed["num_cpus_per_env_runner"]) is int


def test_lambda_may_be_written_without_the_underscore():
    assert check_keys({"lambda": 0.9}) == {"lambda_": 0.9}


# ---- model keys


def test_the_default_model_section_passes():
    check_model_keys(rllib_defaults()["model"])
    check_model_keys({"custom_model": "ppg_mlp", "custom_model_config": {}})


@pytest.mark.parametrize("name", sorted(RECURRENT))
def test_recurrent_networks_are_refused_by_name(name: str):
    value = 7 if rllib_defaults()["model"][name] is not True else False
    with pytest.raises(UserError, match=rf'"model\.{name}": PPG has no recurrent networks'):
        check_model_keys({name: value})


@pytest.mark.parametrize("name", ["fcnet_hiddens", "conv_filters", "vf_share_layers", "framestack"])
def test_settings_of_rllibs_own_networks_are_refused(name: str):
    with pytest.raises(UserError, match=rf'"model\.{name}" is RLlib\'s.*custom_model_config'):
        check_model_keys({name: [[1, 2, 3]]})


def test_the_networks_settings_beside_their_section_are_refused():
    for name in ImpalaSettings.model_fields:
        with pytest.raises(UserError, match=name):
            check_model_keys({name: 1})
