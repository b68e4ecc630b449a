"""Soak test: random kills of workers and of the driver for a while (`make soak`).

    python tests/faults/soak.py --minutes 20 [--seed N]

Two kinds of runs take turns. Where only the driver is killed, the final state must equal that of an
undisturbed run bit for bit. Where workers are killed too, the environments that are lost make it
another run; then every iteration must be there once, with the steps of the workers that were left,
and the run must come to its end.
"""

import argparse
import random
import secrets
import shutil
import sys
import tempfile
import time
from pathlib import Path

from fault_runs import ITERATIONS, Runs, kill, left_over, wait_until
from test_driver_kills import check_equal, last
from test_worker_kills import check_rows, kill_a_worker

LONG = 400
"""Iterations of a run whose workers are killed too."""


def disturbed(runs: Runs, generator: random.Random, *, kill_workers: bool) -> dict[str, int]:
    """Run to the end through kills at random moments; returns how many there were of each kind."""
    kills = {"driver": 0, "worker": 0}
    while True:
        process = runs.start(*runs.resume)
        if generator.random() < 0.8:  # else the driver may die before it trains
            there = last(runs)
            wait_until(lambda n=there, p=process: last(runs) > n or p.poll() is not None, "results")
        end = time.monotonic() + generator.uniform(0, 40 if kill_workers else 6)
        while time.monotonic() < end and process.poll() is None:
            time.sleep(generator.uniform(0.1, 6))
            if kill_workers:
                kills["worker"] += kill_a_worker(runs, generator)
        if kills["driver"] == 3 or process.poll() is not None:
            code = process.wait(900)
            assert code == 0, runs.output[-4000:]
            return kills
        kill(process)
        kills["driver"] += 1
        wait_until(lambda: not left_over(runs.token), "the end of Ray")


def soak(minutes: float, seed: int, folder: Path) -> None:
    """Disturb runs until the time is over; raises where one does not end as it should."""
    generator = random.Random(seed)
    end = time.monotonic() + 60 * minutes
    undisturbed = Runs(folder / "undisturbed", ITERATIONS, num_env_runners=2)
    assert undisturbed.run() == 0, undisturbed.output
    number = 0
    while time.monotonic() < end:
        kill_workers = bool(number % 2)
        iterations = LONG if kill_workers else ITERATIONS
        runs = Runs(folder / str(number), iterations, num_env_runners=2)
        try:
            kills = disturbed(runs, generator, kill_workers=kill_workers)
            if kill_workers:
                check_rows(runs)
                assert last(runs) == iterations
            else:
                check_equal(runs, undisturbed)
            assert "Traceback" not in runs.output, runs.output
        finally:
            runs.end()
        wait_until(lambda runs=runs: not left_over(runs.token), "the end of all processes")
        print(f"run {number}, killed: driver {kills['driver']}, workers {kills['worker']}: good")
        number += 1


def main() -> None:
    """Read the command line and soak."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    arguments = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)
    print(f"seed {arguments.seed}")
    folder = Path(tempfile.mkdtemp(prefix="soak"))
    print(f"runs in {folder}, which stays if one of them is not as it should be")
    soak(arguments.minutes, arguments.seed, folder)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
