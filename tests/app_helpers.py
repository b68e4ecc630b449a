"""What the tests of the command line share: experiments from text, results, and running it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from rllib_ppg.algorithm.metrics import complete, nested
from rllib_ppg.app.cli import main
from rllib_ppg.app.experiment import Experiment
from rllib_ppg.app.experiment_files import load_experiments
from rllib_ppg.app.flags import TrainFlags

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


def trial(number: str = "00000", **values: Any) -> Any:
    """Return what views and reports read of a Tune trial."""
    defaults = {
        "trial_id": f"abcde_{number}", "evaluated_params": {}, "path": f"/results/x/{number}",
        "status": "TERMINATED", "checkpoint": None, "restore_path": None, "error_file": None,
        "pickled_error_file": None,
    }  # fmt: skip
    return SimpleNamespace(**{**defaults, **values})
