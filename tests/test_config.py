import copy
import re
from typing import Any

import numpy as np
import pytest
from ray import tune
from ray.tune.search.variant_generator import generate_variants
from toy_envs import CodedEnv

from rllib_ppg import PPGConfig
from rllib_ppg._ray_compat import RLlibCallback
from rllib_ppg.algorithm import resources
from rllib_ppg.algorithm.settings import DEFAULTS, PPGSettings
from rllib_ppg.errors import UserError


def config(**changes: Any) -> PPGConfig:
    return PPGConfig().environment("CartPole-v1").update_from_dict(changes)


def valid(**changes: Any) -> PPGConfig:
    made = config(**changes)
    made.validate()
    return made


def refusal(**changes: Any) -> str:
    with pytest.raises(UserError) as error:
        valid(**changes)
    return str(error.value)


# ---- setting keys


def test_every_own_key_is_an_attribute_with_its_default():
    fresh = PPGConfig()
    assert {name: getattr(fresh, name) for name in DEFAULTS} == DEFAULTS


@pytest.mark.parametrize("name", PPGSettings.model_fields)
def test_every_own_key_stands_in_the_documentation_of_training(name: str):
    assert re.search(rf"^ +{name}: ", PPGConfig.training.__doc__ or "", re.MULTILINE)


def test_the_three_setters_and_a_dict_do_the_same():
    by_methods = (
        PPGConfig()
        .environment("CartPole-v1")
        .training(lr="5e-4", gamma=0.9, model={"custom_model_config": {"hiddens": [8]}})
        .env_runners(num_envs=8, num_env_runners=2, explore=False)
        .resources(num_gpus=0)
    )
    by_dict = config(
        lr="5e-4",
        gamma=0.9,
        model={"custom_model_config": {"hiddens": [8]}},
        num_envs=8,
        num_env_runners=2,
        explore=False,
        num_gpus=0,
    )
    assert by_methods.to_dict() == by_dict.to_dict()
    assert by_methods.lr == 5e-4 and by_methods.explore is False


def test_a_setter_refuses_at_once():
    with pytest.raises(UserError, match="gamma=2"):
        PPGConfig().training(gamma=2)
    with pytest.raises(UserError, match=r'"gama".*"gamma"'):
        PPGConfig().training(gama=0.9)
    with pytest.raises(UserError, match="num_env_runners"):
        PPGConfig().env_runners(num_workers=2)
    with pytest.raises(UserError, match=r"num_gpus=1\.5"):
        PPGConfig().resources(num_gpus=1.5)


def test_an_attribute_is_checked_when_the_configuration_is():
    made = config()
    made.gamma = "0.9"
    made.validate()
    assert made.gamma == 0.9
    made = config()
    made.gamma = 3
    with pytest.raises(UserError, match="gamma=3"):
        made.validate()


def test_a_misspelt_attribute_is_refused_when_the_configuration_is_checked():
    made = config()
    made.gama = 0.9
    with pytest.raises(UserError, match=r'"gama".*"gamma"'):
        made.validate()


def test_lambda_has_two_spellings():
    assert config(**{"lambda": "0.9"}).lambda_ == 0.9
    assert config(lambda_=0.9).lambda_ == 0.9


def test_a_whole_configuration_round_trips():
    first = valid(num_envs=8, lr="1e-3", env_config={"a": 1})
    again = PPGConfig().update_from_dict(first.to_dict())
    again.validate()
    assert again.to_dict() == first.to_dict()


def test_a_fresh_configuration_round_trips():
    again = PPGConfig().update_from_dict(config().to_dict())
    again.validate()
    assert again.to_dict() == valid().to_dict()


def test_a_built_algorithms_configuration_round_trips(ray_local):
    made = config(num_envs=8, rollout_fragment_length=8, model={"custom_model": "ppg_mlp"})
    built = made.build_algo().config.to_dict()
    again = PPGConfig().update_from_dict(built)
    again.validate()
    assert again.num_envs == 8 and again.model["custom_model"] == "ppg_mlp"


def test_checking_twice_changes_nothing():
    made = valid(num_envs=8)
    before = made.to_dict()
    made.validate()
    assert made.to_dict() == before


def test_building_leaves_the_given_configuration_as_it_was(ray_local):
    made = config(num_envs=8, rollout_fragment_length=8)
    before = copy.deepcopy(made.to_dict())
    made.build_algo()
    assert made.to_dict() == before


def test_tunes_search_spaces_are_taken_and_checked_once_they_are_numbers():
    made = PPGConfig().environment("CartPole-v1")
    made.training(lr=tune.grid_search(["1e-3", 2e-3]), gamma=tune.uniform(0.9, 0.99))
    made.env_runners(explore=tune.grid_search([True]))
    with pytest.raises(UserError, match="lr="):
        made.copy().validate()
    variants = [variant for _, variant in generate_variants(made.to_dict())]
    resolved = [PPGConfig().update_from_dict(variant) for variant in variants]
    for one in resolved:
        one.validate()
    assert [one.lr for one in resolved] == [1e-3, 2e-3]
    assert all(0.9 <= one.gamma <= 0.99 for one in resolved)
    with pytest.raises(UserError, match="gama"):
        made.training(gama=tune.grid_search([0.9]))


# ---- environments, workers, batch


def test_the_batch_follows_from_environments_and_steps():
    assert valid(num_envs=8, rollout_fragment_length=32).train_batch_size == 256
    assert valid().train_batch_size == 64 * 256
    assert valid(train_batch_size=64 * 256).train_batch_size == 64 * 256


def test_a_batch_size_that_contradicts_them_is_refused():
    message = refusal(num_envs=8, rollout_fragment_length=32, train_batch_size=4000)
    assert message.startswith("train_batch_size=4000") and "8 x 32 = 256" in message


def counts(**changes: Any) -> tuple[int, int, int]:
    made = valid(nminibatch=1, aux_mbsize=1, **changes)
    return made.num_envs, made.num_env_runners, made.num_envs_per_env_runner


def test_environments_are_divided_among_the_workers(monkeypatch: pytest.MonkeyPatch):
    assert counts(num_envs=12) == (12, 0, 12)
    assert counts(num_envs=12, num_env_runners=3) == (12, 3, 4)
    assert counts(num_env_runners=3, num_envs_per_env_runner=4) == (12, 3, 4)
    monkeypatch.setattr(resources, "available", lambda: {"CPU": 4.0, "GPU": 0.0})
    assert counts(num_envs=24, num_env_runners="auto") == (24, 3, 8)
    assert counts(num_envs=24, num_env_runners="auto", num_cpus_per_env_runner=2) == (24, 1, 24)
    assert counts(num_envs=24, num_env_runners="auto", num_cpus_for_main_process=3) == (24, 1, 24)


def test_counts_that_do_not_multiply_are_refused_with_those_that_do():
    message = refusal(num_envs=12, num_env_runners=5)
    assert "num_env_runners=5 does not divide num_envs=12" in message and "4, 6" in message
    message = refusal(num_envs=12, num_env_runners=3, num_envs_per_env_runner=5)
    assert "num_envs_per_env_runner=5" in message and "= 15" in message


def test_sizes_that_do_not_divide_are_refused_with_those_that_do():
    assert refusal(num_envs=12, nminibatch=8) == (
        "nminibatch=8 does not divide num_envs = 12; use 1, 2, 3, 4, 6, 12."
    )
    message = refusal(num_envs=12, nminibatch=4, n_pi=2, aux_mbsize=5)
    assert message.startswith("aux_mbsize=5 does not divide n_pi x num_envs = 24; use ")


def test_step_minibatches_may_be_finer_than_environments():
    valid(num_envs=4, rollout_fragment_length=32, nminibatch=16, minibatch_unit="step")
    message = refusal(num_envs=4, rollout_fragment_length=32, nminibatch=24, minibatch_unit="step")
    assert "num_envs x rollout_fragment_length = 128" in message


def test_without_auxiliary_phases_their_sizes_do_not_matter():
    valid(num_envs=12, nminibatch=4, n_pi=2, aux_mbsize=5, n_aux_epochs=0)
    valid(num_envs=12, nminibatch=4, n_pi=2, aux_mbsize=5, max_aux_phases=0)


# ---- what PPG does not support


class Postprocess(RLlibCallback):
    def on_postprocess_trajectory(self, **kwargs: Any) -> None:
        pass


class Learn(RLlibCallback):
    def on_learn_on_batch(self, **kwargs: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"framework": "tf2"}, "torch"),
        ({"model": {"use_lstm": True}}, "recurrent"),
        ({"model": {"use_attention": True}}, "recurrent"),
        ({"observation_filter": "MeanStdFilter"}, "observation_filter"),
        ({"output": "/tmp/out"}, "output"),
        ({"input_": "dataset"}, "input_"),
        ({"exploration_config": {"type": "EpsilonGreedy"}}, "EpsilonGreedy"),
        ({"exploration_config": {"type": "Random"}}, "Random"),
        ({"evaluation_parallel_to_training": True}, "evaluation_parallel_to_training"),
        ({"evaluation_duration": "auto"}, "evaluation_duration"),
        ({"evaluation_duration_unit": "timesteps"}, "favour short episodes"),
        ({"custom_evaluation_function": print}, "on_train_result"),
        ({"callbacks": Postprocess}, "on_postprocess_trajectory"),
        ({"callbacks": Learn}, "on_learn_on_batch"),
        ({"callbacks": [RLlibCallback, RLlibCallback]}, "one class"),
        ({"enable_rl_module_and_learner": True}, "old API stack"),
        ({"enable_env_runner_and_connector_v2": True}, "old API stack"),
        ({"_disable_preprocessor_api": False}, "raw observations"),
        ({"model": {"custom_preprocessor": "x"}}, "custom_preprocessor"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(changes: dict[str, Any], says: str):
    assert says in refusal(**changes)


def test_multi_agent_policies_are_refused():
    made = config().multi_agent(policies={"a", "b"}, policy_mapping_fn=lambda *a, **k: "a")
    with pytest.raises(UserError, match=r'"policies": PPG is for one agent'):
        made.validate()
    with pytest.raises(UserError, match=r'"multiagent".* one agent'):
        config(multiagent={"policies": {"a": None}})


def test_callback_functions_are_refused_with_the_way_to_do_it():
    made = config().callbacks(on_episode_end=lambda **kwargs: None)
    with pytest.raises(UserError, match=r"callbacks_on_episode_end.*RLlibCallback class"):
        made.validate()


def test_supported_settings_of_rllib_pass():
    class Callbacks(RLlibCallback):
        def on_sample_end(self, **kwargs: Any) -> None:
            pass

    made = valid(
        callbacks=Callbacks,
        explore=False,
        normalize_actions=False,
        clip_actions=True,
        exploration_config={"type": "StochasticSampling"},
        min_time_s_per_iteration=1,
        metrics_num_episodes_for_smoothing=10,
        num_cpus_per_env_runner="0.5",
        restart_failed_env_runners=False,
        ignore_env_runner_failures=True,
    )
    assert made.explore is False and made.num_cpus_per_env_runner == 0.5


def test_procgens_options_are_checked_before_anything_starts():
    made = PPGConfig().environment("procgen", env_config={"env_name": "coinrun", "num_levels": -1})
    with pytest.raises(UserError, match="num_levels"):
        made.validate()
    PPGConfig().environment("procgen", env_config={"env_name": "starpilot"}).validate()


def test_sections_have_to_be_mappings():
    for name in ("env_config", "model"):
        made = config()
        setattr(made, name, [1])
        with pytest.raises(UserError, match=f"{name}=.*mapping"):
            made.validate()


# ---- what follows from the keys


def test_the_learners_settings_are_the_configurations():
    made = valid(
        n_epoch_pi=2, n_epoch_vf=3, nminibatch=4, clip_param=0.1, kl_penalty=0.3,
        entropy_coeff=0.02, vf_loss_coeff=0.7, value_clip_param=0.4, grad_clip=0.6, lr=1e-3,
        minibatch_unit="step", n_aux_epochs=5, aux_mbsize=2, beta_clone=0.8, vf_true_weight=0.9,
        aux_lr=2e-3, policy_precision="bfloat16", aux_precision="float16",
        aux_augmentation="random_translate",
    )  # fmt: skip
    policy, aux = made.policy_phase_settings(), made.aux_phase_settings()
    for phase, settings in (("policy", policy), ("aux", aux)):
        for name, value in vars(settings).items():
            key = f"{phase}_{name}" if name in ("precision", "augmentation") else name
            assert value == getattr(made, key), name


def test_schedules_count_environment_steps():
    made = valid(lr_schedule=[[0, 1e-3], [1000, 0.0]], entropy_coeff_schedule=[["1e3", 0.5]])
    assert [made.scheduled("lr", s) for s in (0, 500, 2000)] == [1e-3, 5e-4, 0.0]
    assert made.scheduled("entropy_coeff", 0) == 0.5
    assert made.scheduled("aux_lr", 10**6) == made.aux_lr
    assert made.policy_phase_settings().lr == 1e-3


def test_the_store_holds_a_phase_or_an_iteration_where_there_is_no_auxiliary_phase():
    frame = ((64, 64, 3), np.uint8)
    assert valid().store_bytes(*frame) == pytest.approx(6.44e9, rel=0.01)
    assert valid(num_envs=256).store_bytes(*frame) == pytest.approx(25.8e9, rel=0.01)
    assert valid().store_segments() == 64 * 32
    for ppo in (valid(n_aux_epochs=0), valid(max_aux_phases=0)):
        assert ppo.store_segments() == 64
        assert ppo.store_bytes(*frame) * 32 == valid().store_bytes(*frame)


def test_rows_of_a_pass_depend_on_observations_and_device_as_documented():
    text = PPGSettings.model_fields["micro_batch_size"].description or ""
    cpu, gpu = (
        int(n) for n in re.search(r"(\d+) for images on a CPU, (\d+) on a GPU", text).groups()
    )
    auto, hundred = valid(), valid(micro_batch_size=100)
    assert auto.rows_per_pass(images=True, gpu=False) == cpu
    assert auto.rows_per_pass(images=True, gpu=True) == gpu
    assert auto.rows_per_pass(images=False, gpu=False) is None
    assert auto.rows_per_pass(images=False, gpu=True) is None
    assert hundred.rows_per_pass(images=False, gpu=True) == 100


def test_a_micro_batch_larger_than_every_minibatch_is_refused_with_what_fits():
    sizes = {"num_envs": 8, "rollout_fragment_length": 16, "nminibatch": 2, "aux_mbsize": 2}
    assert valid(**sizes, micro_batch_size=64).rows_per_pass(images=True, gpu=False) == 64
    message = refusal(**sizes, micro_batch_size=65)
    assert message == (
        "micro_batch_size=65 is more than the 64 rows of the largest minibatch; use at most 64, "
        "or auto."
    )
    # The auxiliary phase's minibatches may be the larger ones, where there are any.
    assert valid(**{**sizes, "aux_mbsize": 8}, micro_batch_size=128).minibatch_rows() == 128
    assert "64 rows" in refusal(**{**sizes, "aux_mbsize": 8}, micro_batch_size=128, n_aux_epochs=0)


def test_overlap_needs_remote_workers():
    message = refusal(overlap_aux=True)
    assert "overlap_aux=True needs remote workers" in message and "1 or more" in message
    assert valid(overlap_aux=True, num_env_runners=1).overlap_aux


def test_frames_of_a_stack_are_stored_once():
    shape, dtype = (64, 64, 12), np.uint8
    one = valid().store_bytes((64, 64, 3), dtype)
    assert one < valid().store_bytes(shape, dtype, 4) < 1.02 * one
    assert valid().store_bytes(shape, dtype) > 3.9 * one


def test_reserved_cpus_are_the_learners_and_the_workers():
    assert valid().reserved_cpus() == 1
    assert valid(num_env_runners=2).reserved_cpus() == 3
    assert valid(num_env_runners=4, num_cpus_per_env_runner=0.5).reserved_cpus() == 3


def test_an_environment_class_is_taken_as_it_is():
    made = PPGConfig().environment(CodedEnv, env_config={"length": 3})
    made.validate()
    assert made.env is CodedEnv


def test_more_gpus_than_rows_of_a_minibatch_are_refused():
    sizes = {"num_envs": 8, "rollout_fragment_length": 4, "nminibatch": 2, "aux_mbsize": 2}
    config = PPGConfig().environment("CartPole-v1").update_from_dict({**sizes, "num_gpus": 8})
    config.validate()
    config.num_gpus = 9
    with pytest.raises(UserError, match=r"num_gpus=9 is more than the 8 rows.*use at most 8"):
        config.validate()


def test_keys_that_would_have_no_effect_are_refused():
    alone = PPGConfig().environment("CartPole-v1").training(store_device="cuda")
    with pytest.raises(UserError, match="store_device='cuda' needs a learner on a GPU"):
        alone.validate()


# ---- the compiler and the learner's device


def test_an_unknown_compiler_backend_is_refused_before_anything_is_compiled():
    key = "torch_compile_learner_dynamo_backend"
    assert f"{key}='inductr': torch knows no such backend." in refusal(**{key: "inductr"})
    assert 'Did you mean "inductor"?' in refusal(**{key: "inductr"})
    assert "Use one of" in refusal(**{key: 5})
    assert getattr(valid(**{key: "eager"}), key) == "eager"


@pytest.mark.parametrize(
    ("keys", "expected"),
    [({}, False), ({"num_gpus": 1}, True), ({"num_gpus": 1, "_fake_gpus": True}, False)],
)
def test_the_learner_uses_a_gpu_unless_it_is_a_fake(keys: dict, expected: bool):
    assert valid(**keys).uses_gpu is expected


def test_policies_of_several_agents_are_refused_whatever_their_type():
    for policies in (None, True, 3, ["a"], {"a": 1}):
        assert '"policies": PPG is for one agent' in refusal(policies=policies)
