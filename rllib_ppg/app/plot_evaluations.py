"""App: the scores of `rllib evaluate --out` and `rllib challenge`, from their JSON files.

The two formats are described in docs/plots.md. Keys that are not named there are passed over, so
that a newer release may add some.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rllib_ppg.app.plot_runs import Curve, Note, Origin, origin_of_config, read_params
from rllib_ppg.envs.levels import CUSTOM, UNSEEN
from rllib_ppg.errors import UserError

EVALUATION = "rllib_ppg evaluation"
CHALLENGE = "rllib_ppg challenge"
VERSION = 1
CHALLENGE_FILE = "results.json"
LEVELS = (*UNSEEN, "train")
"""Levels of an evaluation; the first one that all files have is plotted unless one is chosen."""

_LEVEL_OPTIONS = ("env_name", "num_levels", "start_level")


@dataclass(frozen=True)
class Score:
    """What one trained agent scored in evaluation on one game.

    Attributes:
        origin: Which agent.
        returns: Mean return by levels, of `LEVELS`.
    """

    origin: Origin
    returns: Mapping[str, float]


def read_document(path: Path) -> dict[str, Any] | None:
    """Return the content of an evaluation's or a challenge's file, None for any other file.

    Raises:
        UserError: If the file is of a version that is not known.
    """
    if path.suffix != ".json" or not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # training results have several objects; the reader of those judges the file
    if not isinstance(content, dict) or content.get("format") not in (EVALUATION, CHALLENGE):
        return None
    if content.get("version") != VERSION:
        raise UserError(
            f"{path} is of version {content.get('version')!r} of its format; this release reads "
            f"version {VERSION}. Install the release of rllib-ppg that wrote it."
        )
    return content


def find_document(given: str) -> Path | None:
    """Return the evaluation's or challenge's file that a RUN is or, as a folder, holds."""
    path = Path(given).expanduser()
    for candidate in (path, path / CHALLENGE_FILE):
        if read_document(candidate) is not None:
            return candidate
    return None


def read_scores(path: Path, note: Note = lambda text: None) -> list[Score]:
    """Read all scores of an evaluation's or challenge's file.

    Args:
        path: The file.
        note: Told what is left out.

    Raises:
        UserError: If a value is missing or of the wrong kind, or there is no score to plot.
    """
    content = read_document(path)
    if content is None:
        raise UserError(f"{path} is no file of `rllib evaluate --out` or `rllib challenge`.")
    try:
        if content["format"] == EVALUATION:
            games = _of_known_levels(path, content.get("games") or [content], note)
            return [_evaluated(path, content.get("checkpoint"), game) for game in games]
        return [_trained(path, run) for run in content["runs"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise _broken(path, error) from None


def read_challenge_curves(path: Path, x: str) -> list[Curve]:
    """Read the learning curves of a challenge's file.

    Raises:
        UserError: If a value is missing, or the curves do not have the x axis that is wanted.
    """
    content = read_document(path)
    if content is None or content["format"] != CHALLENGE:
        raise UserError(
            f"{path} holds no learning curves; give the folder of the training run, or another "
            "--kind."
        )
    if x != "env_steps":
        raise UserError(f"--x {x}: {path} has its curves by env_steps only.")
    try:
        curves = [_curve(path, run) for run in content["runs"]]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise _broken(path, error) from None
    if not any(len(curve.x) for curve in curves):
        raise UserError(f"{path} holds no learning curve with a known return.")
    return [curve for curve in curves if len(curve.x)]


def _broken(path: Path, error: Exception) -> UserError:
    what = f"key {error} is missing" if isinstance(error, KeyError) else str(error)
    return UserError(f"{path} is not as its format says ({what}); docs/plots.md describes it.")


def _of_known_levels(
    path: Path, games: Sequence[Mapping[str, Any]], note: Note
) -> list[Mapping[str, Any]]:
    """The games of an evaluation whose levels are among `LEVELS`."""
    known = [game for game in games if game["settings"].get("levels") != CUSTOM]
    rest = ", ".join(_game(game["settings"]) for game in games if game not in known)
    if not known:
        raise UserError(
            f"{path}: {rest} was played on levels chosen by number, which compare with nothing; "
            f"evaluate it with --levels {' or '.join(UNSEEN)}."
        )
    if rest:
        note(f"{path}: left out {rest}, played on levels chosen by number.")
    return known


def _game(settings: Mapping[str, Any]) -> str:
    return str(settings.get("game") or settings.get("env") or "unknown game")


def _evaluated(path: Path, checkpoint: str | None, evaluated: Mapping[str, Any]) -> Score:
    settings = evaluated["settings"]
    levels = settings.get("levels", "all")
    if levels not in LEVELS:
        raise UserError(f"{path}: levels {levels!r} are none of {', '.join(LEVELS)}.")
    game = settings.get("game") or settings.get("env")
    origin = replace(
        _origin_of_checkpoint(path, checkpoint),
        game=None if game is None else str(game),
        difficulty=settings.get("distribution_mode"),
        transfer=bool(settings.get("transfer")),
        played=_played(settings),
    )
    return Score(origin, {levels: _mean(path, evaluated["summary"])})


def _played(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What has to be the same in two evaluations of different levels that belong together."""
    options = settings.get("env_config") or {}
    found = {key: value for key, value in options.items() if key not in _LEVEL_OPTIONS}
    names = ("distribution_mode", "policy", "temperature")
    return {**found, **{name: settings[name] for name in names if name in settings}}


def _origin_of_checkpoint(path: Path, checkpoint: str | None) -> Origin:
    """Describe the agent by its trial's configuration if that is still there, else by its name."""
    if not checkpoint:
        return Origin(path, path.stem, agent=str(path.absolute()))
    trial = Path(checkpoint).parent
    if not (trial / "params.json").is_file():
        return Origin(path, trial.parent.name or path.stem, agent=checkpoint)
    origin = origin_of_config(path, read_params(trial / "params.json"))
    return replace(origin, experiment=trial.parent.name, agent=checkpoint)


def _trained(path: Path, run: Mapping[str, Any]) -> Score:
    summaries = {levels: run[levels] for levels in LEVELS if run.get(levels) is not None}
    if not summaries:
        raise UserError(f"{path}: the run of {run.get('game')} has no evaluation.")
    returns = {levels: _mean(path, summary) for levels, summary in summaries.items()}
    return Score(_origin_of_run(path, run), returns)


def _curve(path: Path, run: Mapping[str, Any]) -> Curve:
    curve = run.get("curve") or {"env_steps": [], "return": []}
    x = np.array(curve["env_steps"], np.float64)
    y = np.array([math.nan if value is None else value for value in curve["return"]], np.float64)
    if x.shape != y.shape or x.ndim != 1 or (np.diff(x) <= 0).any():
        raise ValueError(f"the curve of {run.get('game')} has steps that do not increase")
    known = np.isfinite(x) & np.isfinite(y)
    return Curve(_origin_of_run(path, run), x[known], y[known], "return")


def _origin_of_run(path: Path, run: Mapping[str, Any]) -> Origin:
    seed = run.get("seed")
    return Origin(
        path,
        path.absolute().parent.name,
        game=str(run["game"]),
        difficulty=run.get("distribution_mode"),
        label=str(run["label"]) if run.get("label") else None,
        seed=seed if isinstance(seed, int) else None,
        played=_played(run),
    )


def _mean(path: Path, summary: Mapping[str, Any]) -> float:
    value = summary["mean"]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{path}: the mean return is {value!r}; evaluate that agent again.")
    return float(value)
