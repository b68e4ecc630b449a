"""What the tests of challenges share: a small challenge file, and results as trials leave them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from rllib_ppg.algorithm.checkpoint_files import write_manifest

PROTOCOL = {
    "track": "both", "games": ["starpilot"], "seeds": [1, 2], "budget_steps": 800,
    "budget_seconds": 120, "episodes": 4, "threshold": 0.5,
}  # fmt: skip

EXPERIMENT = {
    "run": "PPG",
    "env": "procgen",
    "checkpoint_config": {"checkpoint_frequency": 1, "num_to_keep": 2},
    "config": {
        "num_env_runners": 0, "num_envs": 8, "rollout_fragment_length": 16, "nminibatch": 4,
        "n_pi": 2, "n_aux_epochs": 1, "aux_mbsize": 8,
        "model": {"custom_model_config": {"widths": [4], "hidden_size": 8, "blocks": 1}},
    },
}  # fmt: skip
"""Six iterations and two auxiliary phases within the budget of `PROTOCOL`."""


def challenge_file(folder: Path, experiment: Any = None, **protocol: Any) -> Path:
    """Write a challenge named `tiny` with changes of its protocol."""
    path = folder / "tiny.yaml"
    content = {"protocol": {**PROTOCOL, **protocol}, "experiment": experiment or EXPERIMENT}
    path.write_text(yaml.safe_dump({"tiny": content}))
    return path


def trained(
    folder: Path,
    game: str,
    seed: int,
    returns: Mapping[int, float],
    *,
    done: bool = True,
    checkpoint: bool = True,
) -> Path:
    """Write a trial's folder into a track's; `returns` are mean returns by environment steps."""
    path = folder / f"PPG_procgen_{game}_{seed}"
    path.mkdir(parents=True)
    env = {"env_name": game, "distribution_mode": "easy"}
    params = {"env": "procgen", "env_config": env, "seed": seed}
    (path / "params.json").write_text(json.dumps(params))
    rows = [
        {
            "training_iteration": number,
            "timesteps_total": steps,
            "num_env_steps_sampled_lifetime": steps,
            "time_total_s": 10.0 * number,
            "env_runners": {"episode_return_mean": value},
            "info": {
                "learner": {"default_policy": {"learner_stats": {"phase": {"aux_phases": 2}}}}
            },
            "done": done and number == len(returns),
        }
        for number, (steps, value) in enumerate(returns.items(), start=1)
    ]
    (path / "result.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if checkpoint:
        place = path / f"checkpoint_{len(returns) - 1:06}"
        place.mkdir()
        (place / "weights").write_bytes(bytes(100))
        write_manifest(place, {"counters": {"training_iteration": len(returns)}})
    return path


def evaluated(path: Path, trial: Path, mean: float, **changes: Any) -> None:
    """Write the evaluation of a trial's last checkpoint; its levels are the end of its name."""
    game = json.loads((trial / "params.json").read_text())["env_config"]["env_name"]
    levels = path.stem.rsplit("-", 1)[-1]
    steps = json.loads((trial / "result.json").read_text().splitlines()[-1])["timesteps_total"]
    content = {
        "format": "rllib_ppg evaluation",
        "version": 1,
        "checkpoint": str(trial / "checkpoint_000001"),
        "env_steps_trained": steps,
        "versions": {"rllib_ppg": "0.1"},
        "settings": {"game": game, "levels": levels, "seed": 0, "temperature": 1.0},
        "summary": {"mean": mean, "stderr": 0.1, "num_episodes": 4, "length_mean": 50.0},
        "episodes": [],
        **changes,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
