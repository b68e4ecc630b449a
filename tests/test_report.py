"""What is said at the end: results, causes of failure, the next commands."""

import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
from app_helpers import experiment, result, trial
from ray import cloudpickle
from ray.exceptions import RayTaskError

from rllib_ppg.app.progress import Progress
from rllib_ppg.app.report import (
    cause_of,
    closing_lines,
    last_error_line,
    resume_command,
    short_error,
    trial_end,
    without_option,
)

COMMAND = ["train", "-f", "a b.yaml", "--stop", "{timesteps_total: 100}"]


def ended(status: str = "TERMINATED", checkpoint: str | None = "/r/x/0/checkpoint_1", **values):
    saved = SimpleNamespace(path=checkpoint) if checkpoint else None
    progress = Progress({"timesteps_total": 100})
    progress.update(result(3, 100))
    return trial_end(trial(checkpoint=saved, **values), progress, status)


def closing(tmp_path: Path, *ends, **options) -> str:
    given = experiment(tmp_path, stop="{timesteps_total: 100}")
    return "\n".join(closing_lines(given, "/r/x", ends, COMMAND, **options))


def failed_trial(folder: Path, error: Exception) -> object:
    """A trial that failed with this exception, as Tune leaves it."""
    text = f"Traceback ...\n{type(error).__name__}: {error}"
    wrapped = RayTaskError("train", text, error).as_instanceof_cause()
    (folder / "error.pkl").write_bytes(cloudpickle.dumps(wrapped))
    (folder / "error.txt").write_text(text)
    files = {
        "error_file": str(folder / "error.txt"),
        "pickled_error_file": str(folder / "error.pkl"),
    }
    return trial(**files)


def test_a_finished_run_says_where_everything_lies(tmp_path: Path):
    text = closing(tmp_path, ended())
    for part in ("x: done", "100 steps, return 7.25, 3 iterations in 6s", "/results/x/00000",
                 "/r/x/0/checkpoint_1", "/results/x/00000/progress.csv",
                 "tensorboard --logdir /r/x"):  # fmt: skip
        assert part in text, part


def test_a_finished_run_names_the_commands_to_train_longer_and_to_evaluate(tmp_path: Path):
    lines = closing(tmp_path, ended()).split("Next:\n")[1].splitlines()
    words = shlex.split(lines[0])
    assert words == ["rllib", "train", "-f", "a b.yaml", "--restore", "/r/x/0/checkpoint_1",
                     "--stop", '{"timesteps_total": 200}']  # fmt: skip
    assert shlex.split(lines[1]) == ["rllib", "evaluate", "/r/x/0/checkpoint_1"]


def test_to_train_longer_the_algorithms_own_budget_is_raised_too(tmp_path: Path):
    given = experiment(tmp_path, "{budget_env_steps: 100, budget_s: 60.5}")
    lines = closing_lines(given, "/r/x", [ended()], COMMAND)
    words = shlex.split(lines[lines.index("Next:") + 1])
    assert words[-4:] == ["--set", "budget_env_steps=200", "--set", "budget_s=121.0"]


def test_an_interrupted_run_names_the_command_to_go_on(tmp_path: Path):
    text = closing(tmp_path, ended("PAUSED"))
    assert "x: interrupted after a checkpoint" in text
    assert f"rllib {shlex.join(COMMAND)} --resume" in text


def test_an_interruption_before_the_first_checkpoint_says_so(tmp_path: Path):
    text = closing(tmp_path, ended("PENDING", None))
    assert "interrupted without a new checkpoint" in text and "--resume" in text


def test_a_run_stopped_at_once_claims_no_checkpoint(tmp_path: Path):
    text = closing(tmp_path, ended("RUNNING", None), at_once=True)
    assert "x: stopped at once" in text and "none was written" in text and "--resume" in text


def test_a_failed_run_says_why_in_a_line(tmp_path: Path):
    error = FloatingPointError("loss_vf became nan at policy-phase minibatch 3 of 8 (epoch 1)")
    end = trial_end(failed_trial(tmp_path, error), None, "ERROR")
    text = closing(tmp_path, end)
    assert "x: failed" in text and f"FloatingPointError: {error}" in text
    assert "/results/x/00000/error.txt" in text and "Traceback" not in text


def test_several_trials_are_told_apart(tmp_path: Path):
    text = closing(tmp_path, ended(), ended("ERROR", trial_id="abc_00001"))
    assert "x: 2 trials: 1 done, 1 failed" in text and "trial 00001: error" in text


def test_with_other_trials_no_command_to_train_longer_is_given(tmp_path: Path):
    assert "--restore" not in closing(tmp_path, ended(), ended())
    assert "--restore" not in closing(tmp_path, ended(), alone=False)


def test_the_cause_is_that_of_the_trials_own_exception(tmp_path: Path):
    assert (
        cause_of(failed_trial(tmp_path, ValueError("the toy\nbroke")))
        == "ValueError: the toy broke"
    )


def test_without_a_readable_exception_the_text_is_used(tmp_path: Path):
    broken = failed_trial(tmp_path, ValueError("no"))
    (tmp_path / "error.pkl").write_bytes(b"not a pickle")
    assert cause_of(broken) == "ValueError: no"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Traceback\n  File x\nValueError: a\n", "ValueError: a"),
        (
            "ray.exceptions.RayTaskError(OSError): x\nmore",
            "ray.exceptions.RayTaskError(OSError): x",
        ),
        (
            "ModuleNotFoundError: No module\n\nDuring handling\nAttributeError: 'NoneType' object "
            "has no attribute 'enable_rl_module_and_learner'",
            "ModuleNotFoundError: No module",
        ),
        ("just text", "just text"),
        ("", "unknown error"),
    ],
)
def test_the_line_of_a_traceback_that_matters(text: str, line: str):
    assert last_error_line(text) == line


def test_an_error_is_shortened():
    assert short_error("ray.rllib.SomeError: x") == "SomeError: x"
    assert short_error("UserError: give one game") == "give one game"
    assert len(short_error("x" * 1000)) == 400


def test_resuming_leaves_a_restore_out():
    words = ["train", "-f", "x", "--restore", "c", "--resume", "--restore=d"]
    assert resume_command(words) == "rllib train -f x --resume"
    assert without_option(["a", "--x", "1", "b"], "--x") == ["a", "b"]


def test_a_checkpoint_that_was_restored_is_not_called_this_runs(tmp_path: Path):
    end = ended(checkpoint="/other/checkpoint_9", restore_path="/other/checkpoint_9")
    assert end.checkpoint is None


def test_on_a_cluster_the_end_of_the_traceback_is_shown(tmp_path: Path):
    failed = failed_trial(tmp_path, ValueError("melted"))
    failed.path = str(tmp_path)
    end = trial_end(failed, None, "ERROR")
    assert "Traceback" not in closing(tmp_path, end)
    text = closing(tmp_path, end, error_lines=12)
    assert "\n  last lines of the error:\n    Traceback ...\n    ValueError: melted\n" in text
    assert "\n    ValueError: melted\n" in closing(tmp_path, end, error_lines=1)
