"""SIGKILL of the driver in the midst of a sweep: `--resume` trains no finished trial again."""

import json
from pathlib import Path
from typing import Any

import pytest
from fault_runs import Runs, kill, left_over, wait_until

STEPS = 2048
PATIENCE_S = 900
"""Each trial is a new process, which a busy machine starts slowly."""
CONFIG: dict[str, Any] = {
    "num_envs": 8, "rollout_fragment_length": 32, "minibatch_unit": "step", "aux_slice_s": 30,
    "num_cpus_for_main_process": 0.5, "lr": {"loguniform": [1e-4, 1e-2]},
    "model": {"custom_model_config": {"hiddens": [16]}},
}  # fmt: skip

SWEEPS: dict[str, dict[str, Any]] = {
    "asha": {
        "num_samples": 6,
        "scheduler": {"type": "asha", "reduction_factor": 2, "grace_period": 512},
        "search": {"type": "random", "seed": 1},
    },
    "hyperband": {
        "num_samples": 6,
        "scheduler": {"type": "hyperband", "max_t": 9},
        "search": {"type": "random", "seed": 1},
    },
    "optuna": {
        "num_samples": 6,
        "max_concurrent_trials": 2,
        "search": {"type": "optuna", "seed": 1, "n_startup_trials": 2},
    },
    "average": {
        "num_samples": 3,
        "max_concurrent_trials": 2,
        "search": {"type": "optuna", "seed": 1, "n_startup_trials": 2},
        "average_over": {"seed": [1, 2]},
    },
    "pbt": {
        "num_samples": 4,
        "scheduler": {
            "type": "pbt", "perturbation_interval": 512,
            "hyperparam_mutations": {"lr": {"loguniform": [1e-4, 1e-2]}},
        },
    },
}  # fmt: skip


def trials(runs: Runs) -> list[Path]:
    """Folders of the trials that have results."""
    return sorted(path.parent for path in runs.storage.glob("faulty/*/result.json"))


def rows(trial: Path) -> list[dict[str, Any]]:
    lines = (trial / "result.json").read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line[-1] == "\n"]


def noted(runs: Runs) -> dict[str, str]:
    """Statuses of the trials in Tune's newest notes, by their ids."""
    newest = max((runs.storage / "faulty").glob("experiment_state-*.json"), key=lambda p: p.name)
    states = [json.loads(state) for state, _ in json.loads(newest.read_text())["trial_data"]]
    return {state["trial_id"]: state["status"] for state in states}


def ended(runs: Runs) -> dict[Path, bytes]:
    """What the trials have written that say that they have ended."""
    return {
        trial: (trial / "result.json").read_bytes()
        for trial in trials(runs)
        if rows(trial) and rows(trial)[-1].get("done")
    }


def copies(runs: Runs) -> int:
    """How often a trial of PBT has copied another one."""
    return sum(len(p.read_text().splitlines()) for p in runs.storage.glob("faulty/*/copies.jsonl"))


def sweep(make_runs, kind: str) -> Runs:
    keys = {
        "env": "CartPole-v1", "stop": {"timesteps_total": STEPS},
        "checkpoint_config": {"checkpoint_frequency": 2}, **SWEEPS[kind],
    }  # fmt: skip
    return make_runs(0, keys, **CONFIG)


def expected(kind: str) -> int:
    over = SWEEPS[kind].get("average_over", {"": [1]})
    return SWEEPS[kind]["num_samples"] * len(next(iter(over.values())))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", SWEEPS)
def test_a_killed_sweep_trains_the_rest_and_nothing_twice(make_runs, kind: str):
    runs = sweep(make_runs, kind)
    count, flags = expected(kind), ()
    for moment in (1, 3):  # trials that have ended, or of PBT that have copied another
        process = runs.start(*flags)
        if kind == "pbt":
            wait_until(
                lambda m=moment, p=process: copies(runs) >= min(m, 2) or p.poll() == 0,
                "copies", limit_s=PATIENCE_S,
            )  # fmt: skip
        else:
            wait_until(lambda m=moment: len(ended(runs)) >= m, "ended trials", process, PATIENCE_S)
        kill(process)
        wait_until(lambda: not left_over(runs.token), "the end of Ray")
        before, flags = ended(runs), ("--resume",)
    assert runs.run("--resume", limit_s=PATIENCE_S) == 0, runs.output
    for trial, content in before.items():
        assert (trial / "result.json").read_bytes() == content, f"{trial} was trained again"
    assert set(noted(runs).values()) == {"TERMINATED"} and len(noted(runs)) == count
    assert len(trials(runs)) == count, "a folder for each trial and no more"
    for trial in trials(runs):
        iterations = [row["training_iteration"] for row in rows(trial)]
        assert len(set(iterations)) == len(iterations)
        assert kind == "pbt" or iterations == list(range(1, len(iterations) + 1))
    if kind in ("optuna", "average", "pbt"):
        assert all(rows(trial)[-1]["timesteps_total"] == STEPS for trial in trials(runs))
    folder = runs.storage / "faulty"
    assert (folder / "best.yaml").is_file() and (folder / "search.png").is_file()
    assert "Traceback" not in runs.output
