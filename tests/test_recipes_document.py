"""docs/recipes.md: every part has a row, and what it shows as code runs as it stands."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rllib_ppg.algorithm.learning_settings import LearningSettings
from rllib_ppg.algorithm.model_settings import ImpalaSettings
from rllib_ppg.app.checks import check
from rllib_ppg.app.experiment_files import load_experiments
from rllib_ppg.app.flags import TrainFlags
from rllib_ppg.core.augment_setting import AUGMENTATIONS
from rllib_ppg.core.optimizers import make_adam
from rllib_ppg.core.returns import standardize
from rllib_ppg.core.reward_norm import REWARD_TRANSFORMS
from rllib_ppg.envs.procgen_options import LIBRARY_OPTIONS, ProcgenOptions

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")

# What plain PPG and PPO have themselves, and no recipe brings.
PLAIN = {
    "gamma", "lambda_", "lr", "aux_lr", "clip_param", "kl_penalty", "entropy_coeff",
    "vf_loss_coeff", "normalize_rewards", "bootstrap_on_truncation", "n_pi", "n_epoch_pi",
    "n_epoch_vf", "nminibatch", "n_aux_epochs", "aux_mbsize", "beta_clone", "vf_true_weight",
    "aux_slice_s",
}  # fmt: skip
# Parts that stand among the settings of machines and evaluations.
ELSEWHERE = {"policy_precision", "aux_precision", "evaluation_temperature"}

PARTS = {
    "keys": set(LearningSettings.model_fields) - PLAIN
    | ELSEWHERE,
    "networks": set(ImpalaSettings.model_fields),
    "environment": set(ProcgenOptions.model_fields) - {*LIBRARY_OPTIONS, "rand_seed"},
}  # fmt: skip


def rows(header: str) -> list[list[str]]:
    """The cells of all tables whose header begins so, their heads left out."""
    found = []
    for table in re.findall(r"(?:^\|.*\n)+", TEXT, re.MULTILINE):
        head, _, *lines = table.splitlines()
        if head.startswith(f"| {header} |"):
            found += [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return found


def names(cells: list[list[str]]) -> list[str]:
    return [name for first, *_ in cells for name in re.findall(r"`(\w+)`", first)]


@pytest.mark.parametrize("kind", PARTS)
def test_each_part_has_a_row_with_its_meaning_source_and_cost(kind: str):
    table = rows("Key")
    assert not PARTS[kind] - set(names(table))
    assert all(len(row) == 4 and all(row) for row in table)


def test_no_row_is_of_a_key_that_does_not_exist_or_stands_twice():
    found = names(rows("Key"))
    known = set().union(*PARTS.values())
    assert not set(found) - known
    # `return_max` is a key and an option of the environment.
    assert sorted(found) == sorted([*set(found), "return_max"])


def test_each_augmentation_and_reward_transform_has_a_row():
    assert sorted(names(rows("Name"))) == sorted(AUGMENTATIONS)
    assert sorted(names(rows("Transform"))) == sorted(REWARD_TRANSFORMS)


def test_what_is_said_to_be_left_out_is_not_there():
    (left_out,) = re.findall(r"## Left out\n(.*?)\n## ", TEXT, re.DOTALL)
    known = {*REWARD_TRANSFORMS, *AUGMENTATIONS, *set().union(*PARTS.values()), *PLAIN}
    named = set(re.findall(r"`(\w+)[:`]", left_out))
    there = {"drac_weight", "aux_augmentation", "normalize_rewards", "fragment"}
    assert named & known == there and named - known == {
        "aux_loss_start_after_num_steps", "simple", "openai", "mean_std", "running_mean_std",
        "env_rew_norm", "none", "running_return",
    }  # fmt: skip
    adam = make_adam([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    assert adam.defaults["eps"] == 1e-8 and "(it is 1e-8 here" in left_out
    spread = standardize(np.array([[0.0, 0.0], [2.0, 6.0]], np.float32))
    assert spread.mean() == pytest.approx(0, abs=1e-6) and abs(spread[0].mean()) > 0.5


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_an_augmentations_defaults_are_those_of_the_code(name: str):
    import inspect

    (row,) = (row for row in rows("Name") if f"`{name}`" in row[0])
    for option, value in re.findall(r"`(\w+)` \(([\d.]+)\)", row[1]):
        assert inspect.signature(AUGMENTATIONS[name]).parameters[option].default == float(value)


def test_places_in_the_code_exist():
    for *_, code in rows("Place"):
        for name in re.findall(r"`([\w/.]+)`", code):
            assert (ROOT / "rllib_ppg" / name).is_file(), name


# ---- code


def block(after: str, kind: str) -> str:
    """The code of a kind that follows on some words."""
    found = re.findall(rf"{re.escape(after)}:\n\n```{kind}\n(.*?)```", TEXT, re.DOTALL)
    assert len(found) == 1, after
    return str(found[0])


@pytest.fixture
def my_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The document's package, where PYTHONPATH leads to."""
    modules = re.findall(r"`my_package/(\w+)\.py`", TEXT)
    assert sorted(modules) == ["augment", "nets", "rewards", "wrappers"]
    folder = tmp_path / "my_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    for module in modules:
        (folder / f"{module}.py").write_text(block(f"`my_package/{module}.py`", "python"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return folder


def experiments(text: str, folder: Path, *settings: str) -> list[Any]:
    path = folder / "my_recipe.yaml"
    path.write_text(text)
    return load_experiments(TrainFlags(files=[str(path)], settings=list(settings)))


def test_the_recipe_with_parts_of_ones_own_trains_through_both_phases(my_package, ray_local):
    small = ("num_envs=4", "rollout_fragment_length=8", "n_pi=1", "n_aux_epochs=1",
             "nminibatch=2", "aux_mbsize=2")  # fmt: skip
    (experiment,) = experiments(block("`my_recipe.yaml`", "yaml"), my_package, *small)
    (config,) = check(experiment).configs
    algorithm = config.build_algo()
    for _ in range(3):
        algorithm.train()
    assert algorithm._totals["aux_phases"] == 1
    algorithm.stop()


def test_what_the_package_holds_does_what_the_text_says(my_package):
    import torch
    from my_package.augment import Darken
    from my_package.rewards import Largest

    frames = torch.full((5, 4, 4, 3), 200, dtype=torch.uint8)
    dark = Darken()(frames, np.random.default_rng(0))
    assert dark.dtype == torch.uint8 and int(dark.min()) >= 100 and int(frames.min()) == 200
    assert len(dark.flatten(1).unique(dim=0)) == 5  # each frame by another share
    transform = Largest(2, gamma=0.99)
    firsts, envs = np.zeros((1, 2), bool), np.arange(2)
    assert transform(np.array([[4.0, -2.0]]), firsts, envs).tolist() == [[1, -0.5]]
    other = Largest(2, gamma=0.99)
    other.set_state(transform.get_state())
    assert other(np.array([[1.0, 0.0]]), firsts, envs).tolist() == [[0.25, 0]]


def test_the_sticky_wrapper_repeats_and_goes_on_where_it_was(my_package):
    from my_package.wrappers import Sticky

    done: list[np.ndarray] = []

    class Games:
        num_envs, observation_space, action_space = 100, None, None

        def step(self, actions: np.ndarray) -> None:
            done.append(actions)

        def get_state(self) -> str:
            return "games"

        def set_state(self, state: str) -> None:
            assert state == "games"

    first, second = Sticky(Games(), p=0.5), Sticky(Games(), p=0.5)
    first.step(np.full(100, 7))
    assert set(done[0].tolist()) == {0, 7}
    second.set_state(first.get_state())
    for env in (first, second):
        env.step(np.arange(100) + 1000)
    assert np.array_equal(done[1], done[2]) and (done[1] < 10).any() and (done[1] > 10).any()


def test_the_ablation_of_ones_own_has_two_parts_switched_off(tmp_path: Path):
    text = block("For a file of your own, YAML's anchors save writing everything again", "yaml")
    first, *others = experiments(text, tmp_path)
    assert [each.name.removeprefix("mine-without-") for each in others] == [
        "aux_augmentation", "value_clip_param",
    ]  # fmt: skip
    for each in others:
        (config,) = check(each).configs
        key = each.name.removeprefix("mine-without-")
        assert getattr(config, key) is None and first.config[key] is not None


@pytest.mark.parametrize("line", re.findall(r"^    (rllib .*)$", TEXT, re.MULTILINE))
def test_a_command_of_the_document_names_files_that_exist(line: str):
    for name in re.findall(r"experiments/\w+\.yaml", line):
        assert (ROOT / name).is_file(), line
