"""The trial killed, the run interrupted, checkpoints damaged: it goes on from the newest whole one.

All faults of a test hit one run, one after the other, since most of the time is Ray's start.
"""

import os
import signal
import subprocess
import time

import pytest
from fault_runs import (
    ITERATIONS,
    Runs,
    differences,
    kill,
    left_over,
    state_of,
    trial_process,
    wait_until,
)

from rllib_ppg.algorithm.checkpoint_files import check_checkpoint, newest_whole
from rllib_ppg.app.experiment_state import KEPT, kept_notes


def wait_for_rows(runs: Runs, count: int) -> None:
    wait_until(lambda: len(runs.rows()) >= count, f"{count} results", runs.processes[-1])


def interrupt(
    runs: Runs, number: signal.Signals, process: subprocess.Popen[bytes] | None = None
) -> int:
    process = process or runs.processes[-1]
    process.send_signal(number)
    return process.wait(120)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_interrupted_damaged_and_killed_runs_end_as_undisturbed_ones(make_runs, undisturbed):
    runs = make_runs(ITERATIONS, {"max_failures": 1})
    runs.start()
    wait_for_rows(runs, 8)
    assert interrupt(runs, signal.SIGINT) == 130, runs.output
    newest = runs.checkpoints()[-1]
    assert check_checkpoint(newest)["training_iteration"] == len(runs.rows()), "a final checkpoint"

    with (newest / "frames").open("r+b") as file:
        file.truncate(10)
    done = len(runs.rows())
    runs.start("--resume")
    wait_for_rows(runs, done + 8)
    assert f"The checkpoint {newest} is broken: frames is truncated" in runs.output
    assert "Going on from checkpoint_" in runs.output
    assert interrupt(runs, signal.SIGTERM) == 143, runs.output
    whole = newest_whole(runs.trial)
    assert check_checkpoint(whole.path)["training_iteration"] == len(runs.rows())

    done = len(runs.rows())
    process = runs.start("--resume")
    wait_for_rows(runs, done + 8)
    os.kill(trial_process(runs.token), signal.SIGKILL)
    assert process.wait(240) == 0, runs.output
    assert "going on from its last checkpoint" in runs.output

    final, expected = newest_whole(runs.trial).path, undisturbed.checkpoints()[-1]
    assert differences(state_of(final), state_of(expected)) == []
    assert [row["training_iteration"] for row in runs.rows()] == list(range(1, ITERATIONS + 1))
    assert "Traceback" not in runs.output


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_without_a_whole_checkpoint_a_run_begins_again(make_runs, undisturbed):
    runs = make_runs(12)
    assert runs.run() == 0, runs.output
    for checkpoint in runs.checkpoints():
        (checkpoint / "rllib_ppg.json").unlink()
    assert runs.run("--resume", "--stop", '{"training_iteration": 20}') == 0, runs.output
    assert "Going on from the beginning" in runs.output
    assert [row["training_iteration"] for row in runs.rows()] == list(range(1, 21))
    stats, expected = (
        r.rows()[13]["info"]["learner"]["default_policy"]["learner_stats"]["policy_phase"]
        for r in (runs, undisturbed)
    )
    assert differences(stats, expected) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_signal_to_the_whole_process_group_ends_it_and_it_can_be_resumed(make_runs, undisturbed):
    runs = make_runs(ITERATIONS)
    process = runs.start()
    wait_for_rows(runs, 8)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(60) == 143, runs.output
    wait_until(lambda: not left_over(runs.token), "the end of Ray")
    assert runs.run("--resume") == 0, runs.output
    final, expected = newest_whole(runs.trial).path, undisturbed.checkpoints()[-1]
    assert differences(state_of(final), state_of(expected)) == []


@pytest.mark.slow
def test_a_signal_before_the_training_ends_it_with_its_exit_code(make_runs):
    runs = make_runs(ITERATIONS)
    for delay in (2.0, 4.0, 6.0):
        process = runs.start()
        time.sleep(delay)
        process.terminate()
        # Before Python runs our code the signal itself ends it, which a shell reports as 143 too.
        assert process.wait(60) in (143, -signal.SIGTERM), runs.output
        wait_until(lambda: not left_over(runs.token), "the end of Ray")
    assert "Traceback" not in runs.output


@pytest.mark.slow
def test_two_processes_do_not_train_in_one_folder(make_runs):
    runs = make_runs(10**6)
    process = runs.start()
    wait_for_rows(runs, 3)
    assert runs.run("--resume") == 2, runs.output
    assert f"another process (process {process.pid} on " in runs.output
    assert interrupt(runs, signal.SIGINT, process) == 130


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_lost_notes_of_ray_are_mended_or_said(make_runs, undisturbed):
    runs = make_runs(ITERATIONS)
    process = runs.start()
    wait_for_rows(runs, 20)
    kill(process)
    wait_until(lambda: not left_over(runs.token), "the end of Ray")
    for pattern in ("experiment_state-*.json", "basic-variant-state-*.json", "tuner.pkl"):
        for path in runs.trial.parent.glob(pattern):
            path.write_bytes(path.read_bytes()[:100])
    assert runs.run("--resume") == 0, runs.output
    final, expected = newest_whole(runs.trial).path, undisturbed.checkpoints()[-1]
    assert differences(state_of(final), state_of(expected)) == []
    for path in [*runs.trial.parent.glob("*experiment_state-*"), runs.trial.parent / KEPT]:
        path.unlink()
    assert runs.run("--resume") == 2
    assert f"--restore {final}" in runs.output


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_finished_run_is_not_trained_again(make_runs):
    runs = make_runs(16)
    assert runs.run() == 0, runs.output
    folder, results = runs.trial.parent, (runs.trial / "result.json").read_bytes()
    assert runs.run("--resume") == 0, runs.output
    # A kill between the last result and the last notes leaves those of before.
    for name, note in kept_notes(folder).items():
        (folder / name).write_bytes(note.data)
    assert runs.run("--resume") == 0, runs.output
    assert (runs.trial / "result.json").read_bytes() == results
    assert "Traceback" not in runs.output
