"""What the tests of ablations share: a small file of experiments, and results of all of them."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml
from challenge_files import EXPERIMENT, evaluated, trained

from rllib_ppg.app.ablation_file import Ablation, load_ablation
from rllib_ppg.app.ablation_flags import AblationFlags
from rllib_ppg.app.challenge_description import write_challenge
from rllib_ppg.app.challenge_evaluate import evaluation_path

PARTS: dict[str, dict[str, Any]] = {
    "whole": {"value_clip_param": 0.2, "aux_augmentation": "random_translate"},
    "whole-without-value_clip_param": {"value_clip_param": None},
    "whole-without-aux_augmentation": {"aux_augmentation": None},
}
"""Experiments with what each changes of the first."""

# Easy ranges: maze 5 to 10, starpilot 2.5 to 64.
RANGES = {"maze": (5.0, 10.0), "starpilot": (2.5, 64.0)}


def ablation_file(folder: Path, **changes: Any) -> Path:
    """Write a file of three experiments; `changes` are keys of all configurations."""
    content = {}
    for name, own in PARTS.items():
        experiment = deepcopy(EXPERIMENT)
        env = {"env_name": "maze", "num_levels": 200, "distribution_mode": "easy"}
        config = {**experiment["config"], "env_config": env, **PARTS["whole"], **own, **changes}
        content[name] = {**experiment, "stop": {"timesteps_total": 800}, "config": config}
    path = folder / "my_parts.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def flags(folder: Path, **given: Any) -> AblationFlags:
    """The flags of an ablation of two games and two seeds."""
    settings = {"games": "maze,starpilot", "seeds": "1,2", "episodes": 4, "budget_steps": "800"}
    storage = str(folder / "out")
    return AblationFlags(
        file=str(folder / "my_parts.yaml"), storage_path=storage, **{**settings, **given}
    )


def words(folder: Path) -> list[str]:
    """The same flags as words of a command."""
    return [
        "-f", str(folder / "my_parts.yaml"), "-o", str(folder / "out"), "--games",
        "maze,starpilot", "--seeds", "1,2", "--episodes", "4", "--budget-steps", "800",
    ]  # fmt: skip


def loaded(folder: Path, **given: Any) -> Ablation:
    """An ablation, its file written."""
    ablation_file(folder)
    return load_ablation(flags(folder, **given))


def on_disk(folder: Path, scores: dict[str, dict[tuple[str, int], float]]) -> Ablation:
    """Write an ablation whose trials have these scores by experiment; the others are not begun."""
    ablation = loaded(folder)
    for variant in ablation.variants:
        challenge = variant.challenge
        if challenge.name not in scores:
            continue
        challenge.folder.mkdir(parents=True)
        write_challenge(challenge)
        for (game, seed), score in scores[challenge.name].items():
            low, high = RANGES[game]
            mean = low + score * (high - low)
            trial = trained(challenge.folder / "generalization", game, seed, {100: low, 200: mean})
            for levels in ("all", "train"):
                place = evaluation_path(challenge.folder, "generalization", game, seed, levels)
                evaluated(place, trial, mean)
    return ablation
