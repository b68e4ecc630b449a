"""Rollout workers killed at random moments: no run fails, and nothing is counted twice."""

import os
import random
import signal
import time

import pytest
from fault_runs import Runs, wait_until, workers

NUM_ENVS, STEPS = 4, 16


def kill_a_worker(runs: Runs, generator: random.Random) -> bool:
    """SIGKILL one of the workers that are up; returns whether one was."""
    there = workers(runs.token)
    if not there:
        return False
    try:
        os.kill(generator.choice(there), signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def check_rows(runs: Runs) -> None:
    """Every iteration once; its steps are those of the workers that were not lost then."""
    rows = runs.rows()
    assert [row["training_iteration"] for row in rows] == list(range(1, len(rows) + 1))
    steps, down = 0, set()
    for row in rows:
        if row["iterations_since_restore"] == 1:  # another driver, with workers of its own
            down.clear()
        for text in row["notices"]:
            if text.startswith("The checkpoint holds no state of worker"):
                continue  # it was lost when the checkpoint was written
            worker, _, what = text.removeprefix("Worker ").partition(" ")
            if what.startswith("was lost"):
                down.add(worker)
            else:
                assert what.startswith("is back") and worker in down, text
                down.remove(worker)
        stats = row["info"]["learner"]["default_policy"]["learner_stats"]
        made = row["num_env_steps_sampled_this_iter"]
        if not stats["phase"]["in_aux_phase"]:
            assert stats["lost_workers"] == len(down), row["notices"]
            assert stats["lost_envs"] == len(down) * NUM_ENVS // 2, row["notices"]
            assert made == (NUM_ENVS - stats["lost_envs"]) * STEPS
        steps += made
        assert row["num_env_steps_sampled_lifetime"] == steps


def told(runs: Runs, text: str) -> int:
    """How often a notice of the results says something."""
    return sum(text in notice for row in runs.rows() for notice in row["notices"])


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_thirty_killed_workers_fail_no_run(make_runs):
    seed = random.SystemRandom().randrange(10**6)
    generator = random.Random(seed)
    runs = make_runs(10**6, num_env_runners=2, n_aux_epochs=1)
    process = runs.start()
    wait_until(lambda: len(runs.rows()) >= 3, "results", process)
    for number in range(30):
        time.sleep(generator.uniform(0, 2))
        assert kill_a_worker(runs, generator)
        wait_until(lambda number=number: told(runs, "is back") > number, "its return", process)
    for _ in range(10):  # some of them before they are up again
        time.sleep(generator.uniform(0, 2))
        kill_a_worker(runs, generator)
    there = len(runs.rows())
    wait_until(lambda: len(runs.rows()) >= there + 20, "more results", process)
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 130, runs.output[-3000:]
    check_rows(runs)
    assert told(runs, "was lost") >= 31, f"seed {seed}"
    assert "Traceback" not in runs.output
