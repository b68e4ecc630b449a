"""App: what is said at the end of an experiment: results, causes of failure, what to type next."""

import json
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray import cloudpickle
from ray.exceptions import OutOfMemoryError, RayError

from rllib_ppg.algorithm.out_of_memory import killed_for_memory
from rllib_ppg.app.experiment import Experiment
from rllib_ppg.app.progress import Progress, show, show_count, show_time
from rllib_ppg.app.run_folder import free_megabytes
from rllib_ppg.app.view import label_of
from rllib_ppg.errors import OutOfMemory

_STEP_BUDGETS = ("timesteps_total", "num_env_steps_sampled_lifetime")
_BUDGETS = ("budget_env_steps", "budget_s")


def error_of(trial: Any) -> BaseException | None:
    """The exception of a failed trial, or None where it is not known.

    Tune's own `get_pickled_error` looks where files only arrive some time later.
    """
    path = trial.pickled_error_file
    if path is None or not Path(path).is_file():
        return None
    try:
        with open(path, "rb") as file:
            error = cloudpickle.load(file)
    except Exception:  # an exception class that this process does not have
        return None
    found: BaseException = getattr(error, "cause", None) or error
    return found


def cause_of(trial: Any) -> str:
    """The error of a failed trial in one line."""
    error = error_of(trial)
    if isinstance(error, OutOfMemoryError):
        return f"OutOfMemory: {killed_for_memory('the trial')}."
    if isinstance(error, FloatingPointError | OutOfMemory):  # told whole: it ends in what to do
        return short_error(f"{type(error).__name__}: {error}", limit=2000)
    if error is not None and not isinstance(error, RayError):
        return short_error(f"{type(error).__name__}: {error}")
    path = trial.error_file
    text = Path(path).read_text(errors="replace") if path and Path(path).is_file() else str(error)
    return short_error(last_error_line(text))


def last_error_line(text: str) -> str:
    """The last line of a traceback that names an exception, else the last line."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in text.splitlines()]
    lines = [line for line in lines if line]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Exit)\b.*:", line)]
    # Algorithm.__repr__ fails in this way where its __init__ failed before.
    named = [line for line in named if "'enable_rl_module_and_learner'" not in line]
    return (named or lines or ["unknown error"])[-1]


def short_error(text: str, limit: int = 400) -> str:
    """An error's text on one line, without the module path of its class, cut at `limit`."""
    line = " ".join(text.split())
    line = re.sub(r"^(ray\.exceptions\.)?RayTaskError\((\w+)\)", r"\2", line)
    line = re.sub(r"^([a-z_]\w*\.)+(?=[A-Z])", "", line)
    line = re.sub(r"^UserError: ", "", line)
    return line if len(line) <= limit else line[: limit - 3] + "..."


@dataclass(frozen=True)
class TrialEnd:
    """How a trial ended.

    Attributes:
        name: Its name.
        status: Tune's word for it: TERMINATED, ERROR, PAUSED, RUNNING, PENDING.
        folder: Its results folder.
        checkpoint: Its last checkpoint, or None.
        cause: Why it failed, or empty.
        progress: Where it stood.
        unsaved: Its last checkpoint could not be written.
        config: Its configuration.
    """

    name: str
    status: str
    folder: str
    checkpoint: str | None
    cause: str
    progress: Progress
    unsaved: bool = False
    config: Mapping[str, Any] = field(default_factory=dict)


def trial_end(
    trial: Any, progress: Progress | None, status: str, *, unsaved: bool = False
) -> TrialEnd:
    """Read off Tune's trial how it ended.

    Args:
        trial: The trial.
        progress: Where it stood.
        status: Tune's word for its end.
        unsaved: Its last checkpoint could not be written.
    """
    checkpoint = trial.checkpoint
    made_here = checkpoint is not None and checkpoint.path != trial.restore_path
    return TrialEnd(
        name=label_of(trial),
        status=status,
        folder=trial.path,
        checkpoint=checkpoint.path if made_here else None,
        cause=cause_of(trial) if status == "ERROR" else "",
        progress=progress or Progress(),
        unsaved=unsaved,
        config=dict(trial.config),
    )


def closing_lines(
    experiment: Experiment,
    folder: str,
    ends: Sequence[TrialEnd],
    command: Sequence[str],
    *,
    at_once: bool = False,
    alone: bool = True,
    error_lines: int = 0,
    ranking: Sequence[str] = (),
    best: TrialEnd | None = None,
) -> list[str]:
    """What to say when an experiment has ended or was interrupted.

    Args:
        experiment: The experiment.
        folder: Its results folder.
        ends: How its trials ended.
        command: The words of the command line after `rllib`.
        at_once: It was interrupted twice, so that no checkpoint was written at the end.
        alone: The command names no other experiment.
        error_lines: Last lines of a failed trial's traceback to show, for those who cannot look
            into its folder.
        ranking: The best configurations of a sweep, as lines, in place of all its trials.
        best: The best trial of a sweep.
    """
    headline = "stopped at once" if at_once else _headline(ends)
    lines = ["", f"{experiment.name}: {headline}"]
    for end in ends:
        if not ranking or end.cause or end.unsaved:
            lines += _trial_lines(end, single=len(ends) == 1)
        lines += _traceback_lines(end, error_lines)
    lines += ranking
    if len(ends) != 1:
        lines.append(_field("results", folder))
    lines.append(_field("", f"tensorboard --logdir {shlex.quote(folder)}"))
    commands = next_commands(experiment, ends, command, alone=alone and len(ends) == 1, best=best)
    return [*lines, "", "Next:", *(f"  {line}" for line in commands)]


def _headline(ends: Sequence[TrialEnd]) -> str:
    interrupted = [end for end in ends if end.status not in ("TERMINATED", "ERROR")]
    saved = sum(end.checkpoint is not None and not end.unsaved for end in interrupted)
    counts = {
        "done": sum(end.status == "TERMINATED" for end in ends),
        "failed": sum(end.status == "ERROR" for end in ends),
        "interrupted after a checkpoint": saved,
        "interrupted without a new checkpoint": len(interrupted) - saved,
    }
    if len(ends) == 1:
        return next(word for word, number in counts.items() if number)
    parts = [f"{number} {word}" for word, number in counts.items() if number]
    return f"{len(ends)} trials: {', '.join(parts)}"


def _trial_lines(end: TrialEnd, *, single: bool) -> list[str]:
    progress = end.progress
    numbers = (
        f"{show_count(progress.steps)} steps, return "
        f"{show(progress.number('env_runners/episode_return_mean'), '.4g')}, "
        f"{progress.iteration} iterations in {show_time(progress.seconds)}"
    )
    lines = [] if single else [f"  trial {end.name}: {end.status.lower()}"]
    if progress.iteration:
        lines.append(_field("reached", numbers))
    if end.cause:
        lines.append(_field("failed", end.cause))
        lines.append(_field("error", str(Path(end.folder) / "error.txt")))
    if single:
        lines.append(_field("results", end.folder))
    lines.append(_field("checkpoint", end.checkpoint or "none was written"))
    if end.unsaved:
        free = free_megabytes(Path(end.folder))
        full = f" ({free:.0f} MB free there)" if free < 1000 else ""
        lines.append(_field("", f"a newer one could not be written{full}"))
    if single and progress.iteration:
        lines.append(_field("curves", str(Path(end.folder) / "progress.csv")))
    return lines


def _traceback_lines(end: TrialEnd, count: int) -> list[str]:
    path = Path(end.folder) / "error.txt"
    if not end.cause or not count or not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()[-count:]
    return ["  last lines of the error:", *(f"    {line}" for line in lines)]


def _field(name: str, value: str) -> str:
    return f"  {name:<11} {value}"


def next_commands(
    experiment: Experiment,
    ends: Sequence[TrialEnd],
    command: Sequence[str],
    *,
    alone: bool,
    best: TrialEnd | None = None,
) -> list[str]:
    """The commands to type next: to go on, to train longer (one trial alone), to evaluate."""
    going_on = [end for end in ends if end.status != "TERMINATED"]
    saved = [end for end in ends if end.checkpoint]
    lines = []
    if going_on:
        lines.append(resume_command(command))
    elif saved and alone:
        lines.append(longer_command(experiment, saved[0], command))
    if saved and experiment.keys.run == "PPG":
        chosen = best if best and best.checkpoint else max(saved, key=_return_of)
        lines.append(shlex.join(["rllib", "evaluate", str(chosen.checkpoint)]))
    return lines or [f"rllib {shlex.join(command)}"]


def _return_of(end: TrialEnd) -> float:
    mean = end.progress.number("env_runners/episode_return_mean")
    return -math.inf if math.isnan(mean) else mean


def resume_command(command: Sequence[str]) -> str:
    """The same command with `--resume`, which goes on with the run."""
    words = [word for word in command if word not in ("--resume", "--no-resume")]
    return f"rllib {shlex.join([*without_option(words, '--restore'), '--resume'])}"


def longer_command(experiment: Experiment, end: TrialEnd, command: Sequence[str]) -> str:
    """A command that trains on from the last checkpoint with twice the steps."""
    words = [word for word in command if word not in ("--resume", "--no-resume")]
    for option in ("--restore", "--stop", "-s"):
        words = without_option(words, option)
    budget = {k: v for k, v in experiment.keys.stop.items() if k in _STEP_BUDGETS}
    name, steps = next(iter(budget.items()), ("timesteps_total", end.progress.steps))
    stop = json.dumps({name: int(2 * steps)}) if steps == steps else '{"timesteps_total": N}'
    words += ["--restore", str(end.checkpoint), "--stop", stop]
    for name in _BUDGETS:
        value = experiment.config.get(name)
        if isinstance(value, int | float):
            words += ["--set", f"{name}={2 * value}"]
    return f"rllib {shlex.join(words)}"


def without_option(words: Sequence[str], option: str) -> list[str]:
    """Words of a command line without an option and its value."""
    kept: list[str] = []
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word == option:
            skip = True
        elif not word.startswith(f"{option}="):
            kept.append(word)
    return kept
