"""App: the results of a challenge: every run with its scores and curve, and what they come to.

docs/challenge.md defines the numbers, docs/plots.md the part of the format that is plotted.

Shape key: R runs (seeds), M games.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rllib_ppg.app.challenge_disk import Trained, find_trained
from rllib_ppg.app.challenge_evaluate import (
    Evaluation,
    evaluation_path,
    read_evaluation,
    why_missing,
)
from rllib_ppg.app.challenge_protocol import BOTH, DIFFICULTY, Protocol, levels_of
from rllib_ppg.app.plot_evaluations import CHALLENGE, CHALLENGE_FILE, VERSION
from rllib_ppg.app.plot_scores import NUM_RESAMPLES
from rllib_ppg.app.run_folder import VERSIONS
from rllib_ppg.core.intervals import bootstrap_interval, interquartile_mean, mean
from rllib_ppg.core.learning_curves import area_under_curve, steps_to_threshold
from rllib_ppg.core.scores import (
    ROUND_2_WEIGHTS,
    covered_weight,
    get_table,
    normalized_return,
    score_range,
    weighted_score,
)

Json = dict[str, Any]

SCORED = "all"
"""The levels that are scored, on both tracks."""


class Collected(NamedTuple):
    """What there is of a challenge.

    Attributes:
        runs: The runs with all their evaluations.
        missing: Those without, each with the reason.
        evaluated_with: The different versions that the runs were evaluated with.
    """

    runs: list[Json]
    missing: list[Json]
    evaluated_with: list[Json]


def collect(folder: Path, name: str, protocol: Protocol) -> Collected:
    """Read what there is of a challenge."""
    runs: list[Json] = []
    missing: list[Json] = []
    evaluated_with: list[Json] = []
    for track in protocol.tracks:
        trained = find_trained(folder / track)
        for key in ((game, seed) for game in protocol.games for seed in protocol.seeds):
            one = trained.get(key)
            scores, why = (
                ({}, "not trained") if one is None else _read(folder, track, one, protocol)
            )
            if one is None or why:
                missing.append({"track": track, "game": key[0], "seed": key[1], "reason": why})
                continue
            label = f"{name}, {track.replace('_', ' ')}" if protocol.track == BOTH else name
            runs.append(_run(folder, track, label, one, scores))
            evaluated_with += [content.versions for content in scores.values()]
    return Collected(runs, missing, distinct(evaluated_with))


def _read(
    folder: Path, track: str, one: Trained, protocol: Protocol
) -> tuple[dict[str, Evaluation], str]:
    """A trial's evaluations by levels, and why one is missing; empty where none is."""
    if not one.done:
        return {}, f"training ended after {one.env_steps:,} steps, before its budget"
    found: dict[str, Evaluation] = {}
    reasons = []
    for levels in levels_of(track):
        path = evaluation_path(folder, track, one.game, one.seed, levels)
        content = read_evaluation(path)
        reasons.append(why_missing(content, path, one, levels, protocol))
        if content is not None:
            found[levels] = content
    return found, "; ".join(filter(None, reasons))


def _run(
    folder: Path, track: str, label: str, one: Trained, scores: Mapping[str, Evaluation]
) -> Json:
    first = scores[SCORED]
    return {
        "track": track,
        "game": one.game,
        "seed": one.seed,
        "label": label,
        "distribution_mode": DIFFICULTY,
        "env_steps_trained": one.env_steps,
        "train_seconds": one.seconds,
        "aux_phases": one.aux_phases,
        "trial": str(one.folder.relative_to(folder)),
        "checkpoint": Path(first.checkpoint).name,
        "evaluation_seed": first.settings.seed,
        "temperature": first.settings.temperature,
        **{levels: content.summary.model_dump() for levels, content in scores.items()},
        "curve": one.curve(),
    }


def trained_with(folder: Path) -> list[Json]:
    """The different versions that a track was trained with: a resume may bring others.

    Args:
        folder: The track's folder; none are known where its `versions.json` is gone or broken.
    """
    try:
        launches = json.loads((folder / VERSIONS).read_text(encoding="utf-8"))
        return distinct([{k: v for k, v in each.items() if k != "time"} for each in launches])
    except (OSError, ValueError, AttributeError, TypeError):
        return []


def distinct(found: Sequence[Json]) -> list[Json]:
    """The different ones of some versions, in their order."""
    return [each for index, each in enumerate(found) if each not in found[:index]]


def make_results(folder: Path, name: str, protocol: Protocol, versions: Json, budget: Json) -> Json:
    """Return the content of results.json.

    Args:
        folder: The challenge's folder.
        name: The challenge's name.
        protocol: Which tracks, games and seeds count, and how they are scored.
        versions: Of this process, which scores.
        budget: What the trials had.
    """
    runs, missing, evaluated_with = collect(folder, name, protocol)
    table = get_table(protocol.score_table)
    for run in runs:
        run["score"] = _score(run[SCORED]["mean"], run["game"], table.name)
    summaries = {}
    for track in protocol.tracks:
        own = [run for run in runs if run["track"] == track]
        if own:
            summaries[track] = _track(own, protocol)
    ranges = {game: list(score_range(game, table.name)) for game in protocol.games}
    return {
        "format": CHALLENGE,
        "version": VERSION,
        "track": protocol.track,
        "name": name,
        "score_table": {"name": table.name, "source": table.source, "ranges": ranges},
        "threshold": protocol.threshold,
        "budget": budget,
        "versions": {
            "training": {track: trained_with(folder / track) for track in protocol.tracks},
            "evaluation": evaluated_with,
            "scoring": versions,
        },
        "summary": summaries,
        "missing": missing,
        "runs": runs,
    }


def _score(value: float, game: str, table: str) -> float:
    return float(normalized_return(value, game, table))


def _track(runs: Sequence[Json], protocol: Protocol) -> Json:
    """Summarise the runs of one track, learning speed filled into each run."""
    _add_speed(runs, protocol)
    games = {game: [r for r in runs if r["game"] == game] for game in protocol.games}
    games = {game: found for game, found in games.items() if found}
    scores = {game: [run["score"] for run in found] for game, found in games.items()}
    matrix = score_matrix(list(scores.values()))
    means = {game: float(np.mean(values)) for game, values in scores.items()}
    weighted = None
    if any(game in ROUND_2_WEIGHTS for game in means):
        weighted = {
            "score": weighted_score(means, allow_missing=True),
            "covered_weight": covered_weight(means),
            "games": [game for game in means if game in ROUND_2_WEIGHTS],
        }
    return {
        "levels": SCORED,
        "num_games": len(games),
        "num_runs": len(runs),
        "runs_per_game": len(matrix),
        "mean": interval(matrix, mean),
        "iqm": interval(matrix, interquartile_mean),
        "weighted": weighted,
        "area_under_curve": _area(list(games.values())),
        "games": {game: _game(found) for game, found in games.items()},
    }


def score_matrix(columns: Sequence[Sequence[float]]) -> np.ndarray:
    """Scores (R, M), with as many runs of each game as the game with the fewest has."""
    runs = min(map(len, columns))
    return np.array([column[:runs] for column in columns], np.float64).T


def interval(matrix: np.ndarray, aggregate: Any) -> Json:
    """Return an aggregate of scores (R, M) and its interval, without bounds from a single run."""
    found = bootstrap_interval(matrix, aggregate, num_resamples=NUM_RESAMPLES)
    return {
        "estimate": found.estimate,
        "low": _known(found.low),
        "high": _known(found.high),
        "confidence": 0.95,
        "num_resamples": NUM_RESAMPLES,
    }


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _add_speed(runs: Sequence[Json], protocol: Protocol) -> None:
    """Put area and steps to the threshold into each run, over a range that all runs cover."""
    curves = [run["curve"]["env_steps"] for run in runs]
    start = max((steps[0] for steps in curves if steps), default=0)
    end = min((steps[-1] for steps in curves if steps), default=0)
    for run in runs:
        steps = run["curve"]["env_steps"]
        heights = normalized_return(run["curve"]["return"], run["game"], protocol.score_table)
        inside = bool(steps) and start < end
        area = area_under_curve(steps, heights, start=start, end=end) if inside else math.nan
        run["area_under_curve"] = {"score": _known(area), "start": start, "end": end}
        run["steps_to_threshold"] = _known(steps_to_threshold(steps, heights, protocol.threshold))


def _area(games: Sequence[Sequence[Json]]) -> Json | None:
    """The mean over games of the areas, where every run has one."""
    columns = [[run["area_under_curve"]["score"] for run in runs] for runs in games]
    if any(value is None for column in columns for value in column):
        return None
    first = games[0][0]["area_under_curve"]
    found = interval(score_matrix(columns), mean)
    return {**found, "start": first["start"], "end": first["end"]}


def _game(runs: Sequence[Json]) -> Json:
    scores = np.array([[run["score"]] for run in runs])
    reached = [run["steps_to_threshold"] for run in runs if run["steps_to_threshold"] is not None]
    areas = [run["area_under_curve"]["score"] for run in runs]
    known = [area for area in areas if area is not None]
    found: Json = {
        "num_runs": len(runs),
        "return": float(np.mean([run[SCORED]["mean"] for run in runs])),
        "score": interval(scores, mean),
        "area_under_curve": float(np.mean(known)) if known else None,
        "steps_to_threshold": {
            "reached": len(reached),
            "mean": float(np.mean(reached)) if reached else None,
        },
    }
    if all("train" in run for run in runs):
        found["train_return"] = float(np.mean([run["train"]["mean"] for run in runs]))
        found["gap"] = found["train_return"] - found["return"]
    return found


def results_path(folder: Path) -> Path:
    """The results' file in a challenge's folder."""
    return folder / CHALLENGE_FILE
