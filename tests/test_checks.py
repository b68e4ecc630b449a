"""What stands in an experiment: algorithm, environment, configuration, stop keys."""

import re
from pathlib import Path

import pytest
from app_helpers import experiment, experiments

from rllib_ppg.algorithm import resources
from rllib_ppg.algorithm.checkpoint_files import write_manifest
from rllib_ppg.app.checks import check, check_memory, check_ppg, memory_needs, store_bytes
from rllib_ppg.errors import UserError


def refusal(folder: Path, config: str = "{}", env: str = "CartPole-v1", **flags) -> str:
    with pytest.raises(UserError) as error:
        check(experiment(folder, config, env, **flags))
    return str(error.value)


def test_a_sound_experiment_gives_a_configuration_for_every_variant(tmp_path: Path):
    checked = check(experiment(tmp_path, "{lr: {grid_search: [1e-3, 1e-4]}, num_envs: 16}"))
    assert [config.lr for config in checked.configs] == [1e-3, 1e-4]
    assert all(config.num_envs == 16 for config in checked.configs)


def test_every_variant_is_checked(tmp_path: Path):
    message = refusal(tmp_path, "{nminibatch: {grid_search: [8, 7]}}")
    assert "nminibatch=7 does not divide" in message


def test_wrong_keys_are_named_with_their_lines(tmp_path: Path):
    text = (
        "x:\n  run: PPG\n  env: procgen\n  config:\n    gama: 0.9\n    lr: 1e-3\n"
        "    num_sgd_iter: 3\n"
    )
    (wrong,) = experiments(text, tmp_path)
    with pytest.raises(UserError) as error:
        check(wrong)
    first, second = str(error.value).splitlines()
    assert first.startswith(f"{tmp_path}/e.yaml:5: ") and '"gamma"' in first
    assert second.startswith(f"{tmp_path}/e.yaml:7: ") and "n_epoch_pi" in second


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ("env_config:\n      num_levels: 2\n      env_nam: coinrun", 7),
        ("lr: 1e-3\n    env_config:\n      env_name: coinrum", 7),
        ("model:\n      custom_model_config:\n        arc: dual", 7),
        ("lr: 1e-3\n    explore: True,", 6),
        ("nminibatch: 8\n    num_envs: 9", 5),
    ],
)
def test_a_nested_key_is_named_with_its_line(tmp_path: Path, config: str, line: int):
    text = f"x:\n  run: PPG\n  env: procgen\n  config:\n    {config}\n"
    (wrong,) = experiments(text, tmp_path)
    with pytest.raises(UserError) as error:
        check(wrong)
    assert str(error.value).startswith(f"{tmp_path}/e.yaml:{line}: ")


@pytest.mark.parametrize(
    ("env", "hint"),
    [
        ("Procgen", '"procgen"'),
        ("CartPol-v1", '"CartPole-v1"'),
        ("nowhere.module.Class", "cannot be imported"),
        ("null", "env is missing"),
    ],
)
def test_an_unknown_environment_is_answered_with_the_nearest(tmp_path: Path, env: str, hint: str):
    assert hint in refusal(tmp_path, env=env)


def test_an_environment_that_ppg_cannot_use_is_refused(tmp_path: Path):
    assert "PPG takes Box or Discrete observations" in refusal(tmp_path, env="Blackjack-v1")


@pytest.mark.parametrize(
    ("config", "env", "words"),
    [
        ("{aux_augmentation: random_translate}", "CartPole-v1", "have the shape (4,)"),
        ("{aux_augmentation: {type: random_cutout, max_size: 99}}", "procgen", "max_size=99 does"),
        ("{aux_augmentation: {type: pad_and_crop, size: 32}}", "procgen", "makes (32, 32, 3)"),
        (
            "{drac_weight: 0.1, drac_augmentation: {type: pad_and_crop, size: 32}}",
            "procgen",
            "drac_augmentation: pad_and_crop makes",
        ),
    ],
)
def test_an_augmentation_that_does_not_fit_the_frames_is_refused(
    tmp_path: Path, config: str, env: str, words: str
):
    message = refusal(tmp_path, config, env)
    assert words in message and len(message.splitlines()) == 1


def test_an_unknown_algorithm_is_answered_with_the_nearest(tmp_path: Path):
    (wrong,) = experiments("x: {run: PGP, env: CartPole-v1}", tmp_path)
    with pytest.raises(UserError, match="unknown algorithm") as error:
        check(wrong)
    assert "PPO" in str(error.value) and "SAC" in str(error.value)


def test_another_algorithm_is_run_as_it_is(tmp_path: Path):
    text = "x: {run: PPO, env: CartPole-v1, stop: {whatever: 1}, config: {any_key: 1}}"
    checked = check(experiments(text, tmp_path)[0])
    assert not checked.is_ppg and checked.configs == []
    (wrong,) = experiments("x: {run: PPO, env: CartPol-v1}", tmp_path)
    with pytest.raises(UserError, match="CartPole-v1"):
        check(wrong)


def test_unknown_stop_and_score_keys_are_refused(tmp_path: Path):
    message = refusal(
        tmp_path, stop="{timesteps_totl: 1, time_total_s: x}", checkpoint_score_attr="retrn"
    )
    assert '"timesteps_total"' in message and "time_total_s='x' must be a number" in message
    assert "checkpoint_score_attribute" in message


def test_stop_is_flat_and_holds_numbers_afterwards(tmp_path: Path):
    given = experiment(tmp_path, stop="{env_runners: {episode_return_mean: '475'}}")
    assert check(given).experiment.keys.stop == {"env_runners/episode_return_mean": 475}


def test_a_model_nobody_registered_is_refused(tmp_path: Path):
    assert '"ppg_mlp"' in refusal(tmp_path, "{model: {custom_model: ppg_mpl}}")


def test_a_restore_folder_without_checkpoint_is_answered_with_one_inside(tmp_path: Path):
    for number in (3, 4, 5):
        (tmp_path / "trial" / f"checkpoint_00000{number}").mkdir(parents=True)
    for number in (3, 4):
        write_manifest(tmp_path / "trial" / f"checkpoint_00000{number}", {})
    message = refusal(tmp_path, restore=str(tmp_path))
    assert "no checkpoint folder" in message and "checkpoint_000004." in message


def test_a_store_larger_than_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    checked = check(experiment(tmp_path, "{num_envs: 64}", env="procgen"))
    assert store_bytes(checked.configs[0]) == pytest.approx(6.44e9, rel=0.01)
    monkeypatch.setattr(resources, "free_memory", lambda: 8_000_000_000)
    check_memory(checked)
    monkeypatch.setattr(resources, "free_memory", lambda: 4_000_000_000)
    with pytest.raises(UserError, match=r"6\.44 GB.*4\.00 GB"):
        check_memory(checked)


def test_a_store_that_may_stand_on_a_gpu_is_left_to_the_trial(tmp_path: Path):
    with resources.assume(4, 1):
        made = [
            check(experiment(tmp_path, f"{{num_gpus: 1, store_device: {place}}}", env="procgen"))
            for place in ("auto", "cuda", "cpu")
        ]
    assert ["frame store" in memory_needs(each.configs[0]) for each in made] == [
        False,
        False,
        True,
    ]


def test_frame_stacking_hardly_makes_the_store_larger(tmp_path: Path):
    config = "{env_config: {frame_stack: 4}}"
    stacked = check(experiment(tmp_path, config, env="procgen")).configs[0]
    single = check(experiment(tmp_path, env="procgen")).configs[0]
    assert store_bytes(single) < store_bytes(stacked) < 1.02 * store_bytes(single)


def test_a_network_that_does_not_fit_in_memory_is_refused_before_it_is_made(tmp_path: Path):
    text = "{model: {custom_model_config: {hiddens: [65536, 65536, 65536]}}}"
    found = check(experiment(tmp_path, text))
    # Two layers of 65536 x 65536 weights in each of two networks, 20 bytes a weight.
    assert memory_needs(found.configs[0])["network"] == pytest.approx(4 * 65536**2 * 20, rel=0.01)
    with pytest.raises(UserError, match=r"Training needs 34\d\.\d\d GB of memory \(.*network"):
        check_memory(found)


@pytest.mark.parametrize(
    ("model", "why"),
    [
        ("{custom_model_config: {arch: double}}", "arch='double': must be 'dual', 'detach'"),
        ("{custom_model: ppg_impala}", "ppg_impala takes images"),
        ("{custom_model: 5}", "model.custom_model=5: must be the name of a model"),
        ("{custom_model_config: 5}", "model.custom_model_config=5: must be a mapping"),
    ],
)
def test_a_model_that_the_observations_decide_is_checked_too(tmp_path: Path, model: str, why: str):
    with pytest.raises(UserError, match=re.escape(why)):
        check(experiment(tmp_path, f"{{model: {model}}}"))


def test_the_checks_cannot_be_left_out(tmp_path: Path):
    with pytest.raises(UserError, match="everything is checked here"):
        check(experiment(tmp_path, "{_validate_config: false}"))


@pytest.mark.parametrize(
    ("config", "key", "why"),
    [
        ("{}", "evaluation/test_return", "set evaluation_interval"),
        ("{evaluation_interval: 2}", "evaluation/gap", r"which make: .*train_return"),
        ("{evaluation_interval: 2}", "evaluation/train_return", None),
    ],
)
def test_a_stop_key_of_evaluations_is_one_that_the_run_makes(tmp_path, config, key, why):
    levels = "" if config == "{}" else "    evaluation_levels: train\n"
    interval = "    evaluation_interval: 2\n" if levels else "    lr: 1e-3\n"
    text = (
        f"x:\n  run: PPG\n  env: procgen\n  stop:\n    {key}: 3\n  config:\n"
        f"    env_config: {{num_levels: 5}}\n{interval}{levels}"
    )
    (found,) = experiments(text, tmp_path)
    if why is None:
        check(found)
        return
    with pytest.raises(UserError, match=why) as error:
        check(found)
    assert str(error.value).startswith(f"{tmp_path}/e.yaml:5: ")


@pytest.mark.parametrize(
    ("env", "options"),
    [("CartPole-v1", {}), ("procgen", {"wrappers": ["rllib_ppg.envs.array_wrapper.ArrayWrapper"]})],
)
def test_what_does_not_count_is_refused_before_anything_starts(env, options):
    with pytest.raises(UserError, match=r"count num_unique_states, and .* does not; leave it out"):
        check_ppg({"env": env, "env_config": options, "alternate_entropy_coeff": 0.02})
