"""What the tests of plots share: results folders as Tune writes them, and files of evaluations."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

RETURN = "env_runners/episode_return_mean"
STEPS = "num_env_steps_sampled_lifetime"
COLUMNS = (RETURN, STEPS, "training_iteration", "time_total_s")


def write_csv(
    path: Path, rows: Sequence[Sequence[object]], columns: Sequence[str] = COLUMNS
) -> Path:
    """Write a CSV as Tune does, with all line ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def rows(returns: Sequence[object], step: int = 100) -> list[list[object]]:
    """Return a row an iteration, each of `step` environment steps and half an hour."""
    return [[y, k * step, k, k * 1800.0] for k, y in enumerate(returns, start=1)]


def trial(
    folder: Path,
    returns: Sequence[object],
    *,
    seed: int = 0,
    game: str = "coinrun",
    step: int = 100,
    **config: Any,
) -> Path:
    """Write a trial of Procgen on easy into `folder` and return its folder."""
    env = {"env_name": game, "distribution_mode": "easy"}
    path = folder / f"PPG_procgen_{seed}_{game}"
    write_csv(path / "progress.csv", rows(returns, step))
    params = {"env": "procgen", "env_config": env, "seed": seed, **config}
    (path / "params.json").write_text(json.dumps(params))
    return path


def evaluation(
    path: Path, mean: float, *, checkpoint: str, levels: str, game: str, **settings: Any
) -> Path:
    """Write a file as `rllib evaluate --out` does."""
    content = {
        "format": "rllib_ppg evaluation",
        "version": 1,
        "checkpoint": checkpoint,
        "settings": {"env": "procgen", "game": game, "levels": levels, **settings},
        "summary": {"mean": mean, "stderr": 0.1},
        "episodes": [],
    }
    path.write_text(json.dumps(content))
    return path


def challenge(path: Path, runs: Sequence[Mapping[str, Any]]) -> Path:
    """Write a `results.json` as `rllib challenge` does into the folder `path`."""
    path.mkdir(parents=True, exist_ok=True)
    content = {"format": "rllib_ppg challenge", "version": 1, "track": "generalization"}
    (path / "results.json").write_text(json.dumps({**content, "runs": list(runs)}))
    return path / "results.json"


def challenge_run(
    label: str, game: str, seed: int, train: float, test: float, **more: Any
) -> dict[str, Any]:
    """Return one run of a challenge."""
    scores = {"train": {"mean": train}, "test": {"mean": test}}
    return {"label": label, "game": game, "seed": seed, **scores, **more}
