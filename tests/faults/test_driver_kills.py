"""SIGKILL of the driver: `--resume` goes on as if nothing had happened."""

import contextlib
import csv
import random
import subprocess

import pytest
from fault_runs import ITERATIONS, Runs, differences, kill, left_over, state_of, wait_until

from rllib_ppg.algorithm.checkpoint_files import check_checkpoint, newest_whole

FEW = 16
"""Iterations of the quick test: a phase, its auxiliary phase, and the beginning of the next."""


def newest_iteration(runs: Runs) -> int:
    """Iteration of the newest whole checkpoint, 0 where there is none."""
    try:
        newest = newest_whole(runs.trial).path
    except (FileNotFoundError, ValueError):
        return 0
    return check_checkpoint(newest)["training_iteration"] if newest else 0


def killed_once(runs: Runs, rows: int, delay: float, *flags: str) -> tuple[bool, int]:
    """Start, wait for some more results and a moment, and kill.

    Returns:
        Whether it was still running, and the iterations that will be repeated.
    """
    process = runs.start(*flags)
    target = newest_iteration(runs) + rows
    wait_until(lambda: last(runs) >= target or process.poll() is not None, "more results")
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(delay)
        return False, 0
    kill(process)
    wait_until(lambda: not left_over(runs.token), "the end of Ray")
    return True, last(runs) - newest_iteration(runs)


def last(runs: Runs) -> int:
    """The last iteration that was written down."""
    return max([row["training_iteration"] for row in runs.rows()], default=0)


def check_equal(runs: Runs, undisturbed: Runs, iterations: int = ITERATIONS) -> None:
    """The same final state, and each iteration once in all files, with the same numbers."""
    newest, expected = runs.checkpoints()[-1], undisturbed.checkpoints()[-1]
    found = differences(state_of(newest), state_of(expected))
    assert found == [], f"{found[:5]} in {newest}"
    rows, wanted = runs.rows(), undisturbed.rows()
    assert [row["training_iteration"] for row in rows] == list(range(1, iterations + 1))
    for name in ("num_env_steps_sampled_lifetime", "timesteps_total"):
        assert [row[name] for row in rows] == [row[name] for row in wanted]
    learner = [row["info"]["learner"]["default_policy"]["learner_stats"] for row in rows]
    original = [row["info"]["learner"]["default_policy"]["learner_stats"] for row in wanted]
    for key in ("policy_phase", "aux_phase", "phase"):
        assert differences([s[key] for s in learner], [s[key] for s in original]) == []
    with (runs.trial / "progress.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [int(row["training_iteration"]) for row in table] == list(range(1, iterations + 1))


def test_a_killed_run_goes_on_as_if_nothing_had_happened(make_runs):
    undisturbed, runs = make_runs(FEW), make_runs(FEW)
    assert undisturbed.run() == 0, undisturbed.output
    running, repeated = killed_once(runs, 6, 0.05)
    assert running and 0 <= repeated <= 2
    assert runs.run("--resume") == 0, runs.output
    check_equal(runs, undisturbed, FEW)
    assert "Traceback" not in runs.output


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_thirty_kills_at_random_moments(make_runs, undisturbed):
    seed = random.SystemRandom().randrange(10**6)
    generator = random.Random(seed)
    kills = 0
    while kills < 30:
        runs, flags = make_runs(ITERATIONS), ()
        running = True
        while running:
            running, repeated = killed_once(
                runs, generator.randrange(6), generator.uniform(0, 1.5), *flags
            )
            kills += running
            assert 0 <= repeated <= 2, f"seed {seed}"
            flags = runs.resume
        assert runs.processes[-1].returncode == 0, f"seed {seed}\n{runs.output}"
        check_equal(runs, undisturbed)
        assert "Traceback" not in runs.output, f"seed {seed}"
