"""What the tests of the command line share: experiments from text, results, and running it."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from ray.train._internal.checkpoint_manager import _CheckpointManager
from ray.tune import CheckpointConfig

from rllib_ppg.algorithm.checkpoint_files import write_manifest
from rllib_ppg.algorithm.metrics import complete, nested
from rllib_ppg.app.cli import main
from rllib_ppg.app.experiment import Experiment
from rllib_ppg.app.experiment_files import load_experiments
from rllib_ppg.app.flags import TrainFlags
from rllib_ppg.app.result_files import ResultFiles

SMALL = {
    "num_envs": 8, "rollout_fragment_length": 16, "nminibatch": 4, "n_pi": 2, "n_aux_epochs": 1,
    "aux_mbsize": 8, "num_env_runners": 0,
}  # fmt: skip
"""Sizes with which an iteration takes a moment."""

SET_SMALL = [word for name, value in SMALL.items() for word in ("--set", f"{name}={value}")]


class Run(NamedTuple):
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str


def command(capsys: pytest.CaptureFixture[str], *words: str) -> Run:
    """Run `rllib WORDS` in this process."""
    capsys.readouterr()
    code = main(list(words))
    return Run(code, *capsys.readouterr())


def experiments(text: str, folder: Path, **flags: Any) -> list[Experiment]:
    """Return the experiments of a YAML text, written to `folder`."""
    path = folder / "e.yaml"
    path.write_text(text)
    return load_experiments(TrainFlags(files=[str(path)], **flags))


def experiment(
    folder: Path, config: str = "{}", env: str = "CartPole-v1", **flags: Any
) -> Experiment:
    """Return one PPG experiment with a configuration given as YAML."""
    text = f"x:\n  run: PPG\n  env: {env}\n  config: {config}\n"
    return experiments(text, folder, **flags)[0]


def result(iteration: int = 1, steps: int = 100, **stats: float) -> dict[str, Any]:
    """Return a training result as PPG makes it; `stats` are metrics with `__` for `/`."""
    named = {name.replace("__", "/"): value for name, value in stats.items()}
    position = {"n_pi": 4, "in_aux_phase": 0, "aux_epochs": 2, "policy_iterations": 0}
    position |= {"aux_phases": 0}
    known = {**{f"phase/{name}": value for name, value in position.items()}, **named}
    return {
        "training_iteration": iteration,
        "iterations_since_restore": iteration,
        "timesteps_total": steps,
        "num_env_steps_sampled_lifetime": steps,
        "num_env_steps_sampled_this_iter": 100,
        "time_total_s": 2.0 * iteration,
        "time_this_iter_s": 2.0,
        "env_runners": {"episode_return_mean": 7.25, "episode_len_mean": 33.0},
        "info": {"learner": {"default_policy": {"learner_stats": nested(complete(known))}}},
    }


def evaluated(iteration: int = 1, steps: int = 100, **numbers: float) -> dict[str, Any]:
    """Return a training result with an evaluation; `numbers` have `__` for `/`."""
    named = {name.replace("__", "/"): value for name, value in numbers.items()}
    return {**result(iteration, steps), "evaluation": nested({"time_s": 0.5, **named})}


def trial(number: str = "00000", **values: Any) -> Any:
    """Return what views and reports read of a Tune trial."""
    defaults = {
        "trial_id": f"abcde_{number}", "evaluated_params": {}, "path": f"/results/x/{number}",
        "status": "TERMINATED", "checkpoint": None, "restore_path": None, "error_file": None,
        "pickled_error_file": None, "relative_logdir": number, "trainable_name": "other",
        "config": {}, "experiment_tag": number, "last_result": None, "storage": SimpleNamespace(
            experiment_driver_staging_path="/none", experiment_fs_path="/none"
        ),
    }  # fmt: skip
    return SimpleNamespace(**{**defaults, **values})


def resumable(
    folder: Path,
    checkpoints: Sequence[int],
    rows: Sequence[int] = (),
    keep: int | None = None,
    score: str | None = None,
) -> Any:
    """Return a PPG trial of an earlier process: what lies in its folder, and Ray's notes on it.

    Args:
        folder: The trial's folder.
        checkpoints: Their iterations; the folder's number is one less.
        rows: Iterations of its result.json.
        keep: Checkpoints that Ray keeps.
        score: By which it chooses them; None for the newest.
    """
    for iteration in checkpoints:
        place = folder / f"checkpoint_{iteration - 1:06}"
        place.mkdir()
        (place / "weights").write_bytes(bytes(100))
        write_manifest(place, {"counters": {"training_iteration": iteration}})
    files = ResultFiles(folder, {})
    for iteration in rows:
        files.write({**result(iteration, 100 * iteration), "done": iteration == rows[-1]})
    manager = _CheckpointManager(CheckpointConfig(keep, score))
    metadata = SimpleNamespace(checkpoint_manager=manager, error_filename=None)
    one = trial(
        path=str(folder), status="PENDING", trainable_name="PPG", run_metadata=metadata,
        should_stop=lambda flat: any(flat[k] >= v for k, v in one.stopping_criterion.items()),
        stopping_criterion={"training_iteration": rows[-1]} if rows else {},
    )  # fmt: skip
    return one
