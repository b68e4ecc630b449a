"""The experiment files: each is valid, is what its name says, and documents its values."""

import re
from pathlib import Path
from typing import Any

import pytest

from rllib_ppg.app.checks import Checked, check, store_bytes
from rllib_ppg.app.experiment_files import load_experiments
from rllib_ppg.app.flags import TrainFlags

FOLDER = Path(__file__).resolve().parents[1] / "experiments"
# Files of several experiments, challenges and sweeps have tests of their own.
OTHERS = ("ablation_", "challenge_", "sweep_")
FILES = sorted(path for path in FOLDER.glob("*.yaml") if not path.name.startswith(OTHERS))

# What the reference takes by default (github.com/openai/phasic-policy-gradient, train.py).
REFERENCE = {
    "rollout_fragment_length": 256, "gamma": 0.999, "lambda_": 0.95, "n_pi": 32, "n_epoch_pi": 1,
    "n_epoch_vf": 1, "nminibatch": 8, "n_aux_epochs": 6, "lr": 5e-4, "aux_lr": 5e-4,
    "clip_param": 0.2, "kl_penalty": 0, "entropy_coeff": 0.01, "vf_loss_coeff": 0.5,
    "beta_clone": 1, "vf_true_weight": 1, "normalize_rewards": True, "grad_clip": None,
    "value_clip_param": None, "minibatch_unit": "segment",
}  # fmt: skip

DIFFERENCES = {
    "ppg_procgen": {"num_envs": 64, "aux_mbsize": 4},
    "ppg_procgen_hard": {"num_envs": 256, "aux_mbsize": 16},
    "ppg_procgen_single": {"num_envs": 64, "aux_mbsize": 4},
    "ppgkl_procgen": {"num_envs": 64, "aux_mbsize": 4, "clip_param": 0, "kl_penalty": 1},
    "ppo_procgen": {"num_envs": 64, "n_epoch_pi": 3, "n_epoch_vf": 3, "n_aux_epochs": 0},
}
ARCH = {"ppg_procgen_single": "detach", "ppo_procgen": "shared"}
STEPS = {"ppg_procgen_hard": 100_000_000}


def checked(name: str) -> Checked:
    (experiment,) = load_experiments(TrainFlags(files=[str(FOLDER / f"{name}.yaml")]))
    return check(experiment)


def test_the_files_are_those_of_the_readme():
    readme = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`experiments/(\w+\.yaml)` \|", readme))
    assert {path.name for path in FOLDER.glob("*.yaml")} == named


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_is_valid_and_named_like_its_experiment(path: Path):
    found = checked(path.stem)
    assert found.experiment.name == path.stem.replace("_", "-")
    assert found.experiment.keys.stop and found.is_ppg
    assert found.experiment.keys.checkpoint_config.checkpoint_at_end


@pytest.mark.parametrize("name", DIFFERENCES)
def test_a_published_setting_is_the_references(name: str):
    (config,) = checked(name).configs
    expected = {**REFERENCE, **DIFFERENCES[name]}
    assert {key: getattr(config, key) for key in expected} == expected
    network = config.model["custom_model_config"]
    assert network == {
        "arch": ARCH.get(name, "dual"), "widths": [16, 32, 32], "hidden_size": 256, "blocks": 2,
    }  # fmt: skip


@pytest.mark.parametrize("name", DIFFERENCES)
def test_a_published_setting_has_its_budget_mode_and_levels(name: str):
    found = checked(name)
    assert found.experiment.keys.stop == {"timesteps_total": STEPS.get(name, 25_000_000)}
    (config,) = found.configs
    mode = "hard" if name == "ppg_procgen_hard" else "easy"
    assert config.env_config["distribution_mode"] == mode and config.env_config["num_levels"] == 0
    assert found.experiment.config["num_env_runners"] == "auto"
    assert found.experiment.config["num_gpus"] == "auto"
    assert found.experiment.keys.max_failures == 3


@pytest.mark.parametrize(("name", "size"), [("ppg_procgen", 6.44e9), ("ppg_procgen_hard", 25.8e9)])
def test_the_frame_store_is_as_large_as_the_file_says(name: str, size: float):
    assert store_bytes(checked(name).configs[0]) == pytest.approx(size, rel=0.005)
    text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    assert f"{size / 1e9:.1f} GB" in text


@pytest.mark.parametrize("name", DIFFERENCES)
def test_each_value_of_a_published_setting_says_where_it_is_from(name: str):
    text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    assert "arXiv:2009.04416" in text and "7295473" in text
    for key in (
        *REFERENCE,
        "num_envs",
        "arch",
        "widths",
        "hidden_size",
        "blocks",
        "timesteps_total",
    ):
        for line in re.findall(rf"^ +{key}: .*$", text, re.MULTILINE):
            assert "#" in line, line


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_is_read_the_same_by_any_yaml_reader(path: Path):
    import yaml

    from rllib_ppg.app.yaml_reader import read_yaml

    plain = yaml.safe_load(path.read_text(encoding="utf-8"))
    ours = read_yaml(path.read_text(encoding="utf-8"), str(path)).data
    (name,) = plain
    assert with_numbers(plain[name]["config"]) == ours[name]["config"]


def with_numbers(given: Any) -> Any:
    """PyYAML reads 5e-4 as text; PPGConfig takes that too."""
    if isinstance(given, dict):
        return {key: with_numbers(value) for key, value in given.items()}
    if isinstance(given, list):
        return [with_numbers(value) for value in given]
    is_number = isinstance(given, str) and re.fullmatch(r"[0-9.]+e-?[0-9]+", given)
    return float(given) if is_number else given
