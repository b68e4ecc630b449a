"""App: the learning curves of training runs, from the folders and files that Tune writes.

Nothing of Ray is needed to read them, so any RLlib run can be plotted, of whatever release.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from rllib_ppg.app.plot_tables import (
    ITERATION,
    FloatArray,
    ResultTable,
    flat,
    nearest_columns,
    read_table,
)
from rllib_ppg.errors import UserError

RESULT_FILES = ("progress.csv", "result.json")
"""A trial's results; the first one that is there is read."""

STEP_COLUMNS = (
    "num_env_steps_sampled_lifetime",
    "env_runners/num_env_steps_sampled_lifetime",
    "num_env_steps_sampled",
    "timesteps_total",
)
RETURN_COLUMNS = (
    "env_runners/episode_return_mean",
    "env_runners/episode_reward_mean",
    "episode_return_mean",
    "episode_reward_mean",
    "sampler_results/episode_reward_mean",
)
"""Where releases of RLlib put steps and mean return; the first one that has numbers is taken."""

X_COLUMNS: Mapping[str, tuple[Sequence[str], float]] = {
    "env_steps": (STEP_COLUMNS, 1.0),
    "hours": (("time_total_s",), 1 / 3600),
    "iterations": ((ITERATION,), 1.0),
}
"""Columns of each --x, and what one of their units is."""

REFERENCE = " (reference)"
"""What the name of a published curve ends in."""

Note = Callable[[str], None]


@dataclass(frozen=True)
class Origin:
    """Where results come from, and which agent they are of.

    Attributes:
        path: The file that was read.
        experiment: Name of the experiment's folder.
        game: The game of Procgen, or the environment; None where not known.
        difficulty: Procgen's `distribution_mode`; None where not known.
        config: The trial's configuration, nested keys with dots; None where not known.
        label: Name of its group, where the file says one.
        seed: The trial's seed; None where not known.
        agent: What tells trained agents apart that share all of the above: a checkpoint.
        reference: Whether it was published elsewhere; such runs are never mixed with others.
        transfer: Whether the game, or its difficulty, is not the one of the agent's training.
        played: How the agent was evaluated, but for game and levels; scores have a mean only where
            it is the same.
    """

    path: Path
    experiment: str
    game: str | None = None
    difficulty: str | None = None
    config: Mapping[str, Any] | None = None
    label: str | None = None
    seed: int | None = None
    agent: str = ""
    reference: bool = False
    transfer: bool = False
    played: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Curve:
    """A learning curve of one run.

    Attributes:
        origin: Which run.
        x: Environment steps, hours or iterations, increasing (K,).
        y: The metric there, all known (K,).
        metric: What `y` is.
    """

    origin: Origin
    x: FloatArray
    y: FloatArray
    metric: str


@dataclass(frozen=True)
class Reading:
    """How to read runs.

    Attributes:
        x: One of `X_COLUMNS`.
        y: A column; None for the mean return.
        partial: Leave out lines that are not whole.
        note: Takes what the user should know.
    """

    x: str = "env_steps"
    y: str | None = None
    partial: bool = False
    note: Note = field(default=print)


def find_results(given: str) -> list[Path]:
    """Return the results files of a RUN: a file itself, else one a trial.

    Args:
        given: A results file, a trial's folder, an experiment's, or one with experiments.

    Raises:
        UserError: If there is nothing.
    """
    path = Path(given).expanduser()
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"There is no run {given}: give a folder of results or a file in it.")
    for pattern in ("", "*/", "*/*/"):
        found = {
            file.parent: file
            for name in reversed(RESULT_FILES)
            for file in path.glob(pattern + name)
        }
        if found:
            return [found[folder] for folder in sorted(found)]
    raise UserError(
        f"{given} holds no results: no {' or '.join(RESULT_FILES)} in it or in its trials' folders."
    )


def read_runs(given: str, reading: Reading) -> list[Curve]:
    """Read the curves of a RUN.

    Trials of a folder that have no point yet are left out with a note.

    Raises:
        UserError: If nothing is there, a file is broken, or it lacks the metric.
    """
    files = find_results(given)
    started = [path for path in files if path.stat().st_size > 0]
    if not started:
        raise UserError(f"{given} holds no training iteration yet ({files[0].name} is empty).")
    for path in set(files) - set(started):
        reading.note(f"{path} is empty: left out.")
    curves = [read_curve(path, reading) for path in started]
    whole = [curve for curve in curves if len(curve.x)]
    if not whole:
        raise UserError(
            f"{given}: no point of {curves[0].metric} is known yet; perhaps no episode has ended."
        )
    for curve in curves:
        if not len(curve.x):
            reading.note(f"{curve.origin.path} has no point of {curve.metric} yet: left out.")
    return whole


def read_curve(path: Path, reading: Reading) -> Curve:
    """Read one results file; the curve has no points where its metric is never known.

    Raises:
        UserError: If the file is broken or lacks the columns.
    """
    table = read_table(path, partial=reading.partial)
    if table.left_out:
        which = ", ".join(map(str, table.left_out[:5])) + ", ..." * (len(table.left_out) > 5)
        reading.note(f"{path}: left out lines that are not whole ({which}).")
    table = table.current()
    columns, unit = X_COLUMNS[reading.x]
    x_name, x = _first_known(table, columns, f"--x {reading.x}")
    if reading.y is None:
        y_name, y = _first_known(table, RETURN_COLUMNS, "the mean return", hint="--y METRIC")
    else:
        y_name = metric_column(table, reading.y)
        y = table.column(y_name)
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known] * unit, y[known]
    if (np.diff(x) < 0).any():
        raise UserError(f'{path}: column "{x_name}" goes back; choose another --x.')
    last = np.append(np.diff(x) > 0, True)[: len(x)]  # slices of an auxiliary phase add no steps
    return Curve(read_origin(path), x[last], y[last], y_name)


def _first_known(
    table: ResultTable, names: Sequence[str], what: str, hint: str = ""
) -> tuple[str, FloatArray]:
    """The first of some columns that has a number, else the first that is there."""
    there = [name for name in names if name in table.names]
    if not there:
        near = nearest_columns(names[0], table.names)
        say = f" The nearest: {', '.join(near)}." if near else ""
        do = f" Choose one with {hint}." if hint else ""
        raise UserError(
            f"{table.path} has no column for {what} (looked for {', '.join(names)}).{say}{do}"
        )
    columns = {name: table.column(name) for name in there}
    found = next((name for name in there if np.isfinite(columns[name]).any()), there[0])
    return found, columns[found]


def metric_column(table: ResultTable, metric: str) -> str:
    """Return the column that `metric` names, whole or by the end of its path.

    Raises:
        UserError: If there is none or there are several.
    """
    if metric in table.names:
        return metric
    ends = [name for name in table.names if name.endswith(f"/{metric}")]
    if len(ends) == 1:
        return ends[0]
    if ends:
        raise UserError(
            f"--y {metric}: {table.path} has several: {', '.join(ends)}. Give one whole."
        )
    near = nearest_columns(metric, table.names)
    say = f" The nearest: {', '.join(near)}." if near else " Its first line names all columns."
    raise UserError(f"--y {metric}: no such column in {table.path}.{say}")


def read_origin(path: Path) -> Origin:
    """Describe the trial that a results file belongs to, from the `params.json` beside it."""
    folder = path.absolute().parent
    params = folder / "params.json"
    if path.name not in RESULT_FILES or not params.is_file():
        name = path.stem if path.name not in RESULT_FILES else folder.name
        return Origin(path, name)
    return replace(origin_of_config(path, read_params(params)), experiment=folder.parent.name)


def read_params(path: Path) -> dict[str, Any]:
    """Read a trial's configuration.

    Raises:
        UserError: If it is no JSON object.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}).") from None
    if not isinstance(config, dict):
        raise UserError(f"{path} holds no configuration.")
    return config


def origin_of_config(path: Path, config: Mapping[str, Any]) -> Origin:
    """Describe a trial by its configuration; the experiment is the file's name."""
    env_config = config.get("env_config")
    env_config = env_config if isinstance(env_config, Mapping) else {}
    is_procgen = config.get("env") == "procgen"
    game = env_config.get("env_name", "coinrun") if is_procgen else config.get("env")
    seed = config.get("seed")
    return Origin(
        path,
        path.stem,
        game=None if game is None else str(game),
        difficulty=str(env_config.get("distribution_mode", "hard")) if is_procgen else None,
        config=dict(flat(config, ".")),
        seed=seed if isinstance(seed, int) and not math.isnan(seed) else None,
    )
