"""App: the result of an evaluation: its summary, its JSON file, its table.

docs/evaluation.md defines the numbers and docs/plots.md the format.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from rllib_ppg.algorithm.evaluate_episodes import EpisodeStatistics
from rllib_ppg.algorithm.evaluate_levels import Task
from rllib_ppg.algorithm.evaluate_scores import score
from rllib_ppg.algorithm.policy_export import plain
from rllib_ppg.app.out_file import write_out
from rllib_ppg.app.plot_evaluations import EVALUATION, VERSION
from rllib_ppg.core.scores import score_range
from rllib_ppg.envs.levels import CUSTOM

Json = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What was played on one game, and what came of it.

    Attributes:
        task: What was played.
        episodes: Its episodes.
        table: Name of the score table; None where returns are not normalised.
    """

    task: Task
    episodes: EpisodeStatistics
    table: str | None

    @property
    def score(self) -> tuple[float, float] | None:
        """Mean normalised return and its standard error."""
        return score(self.task, self.episodes, self.table)


def document(outcomes: Sequence[Outcome], settings: Mapping[str, Any], **more: Any) -> Json:
    """Return the content of the file.

    Args:
        outcomes: At least one game's; of one game its keys stand at the top, several are listed in
            `games`.
        settings: What all games were played with.
        more: Further keys of the top: checkpoint, versions and the like.
    """
    games = [_game(outcome, settings) for outcome in outcomes]
    head = {"format": EVALUATION, "version": VERSION, **more}
    if len(games) == 1:
        return {**head, **games[0]}
    return {**head, "summary": overall(outcomes), "games": games}


def overall(outcomes: Sequence[Outcome]) -> Json:
    """Summarise several games, those that are transfer apart."""
    trained, transfer = by_transfer(outcomes)
    return {**_mean_score(trained), "transfer": _mean_score(transfer)}


def by_transfer(outcomes: Sequence[Outcome]) -> tuple[list[Outcome], list[Outcome]]:
    """The games that are no transfer, and those that are: they never share a mean."""
    return (
        [outcome for outcome in outcomes if not outcome.task.transfer],
        [outcome for outcome in outcomes if outcome.task.transfer],
    )


def _mean_score(outcomes: Sequence[Outcome]) -> Json:
    """The mean over games of their mean normalised returns.

    Returns of different games have no common scale, so there is none where a game has no score, or
    where they are by different tables.
    """
    scores = [outcome.score for outcome in outcomes]
    known = [score for score in scores if score is not None]
    tables = {outcome.table for outcome in outcomes}
    summary: Json = {"num_games": len(outcomes), "normalised": None}
    if known and len(known) == len(scores) and len(tables) == 1:
        mean = sum(score for score, _ in known) / len(known)
        # Games are played independently of each other.
        stderr = math.sqrt(sum(error**2 for _, error in known)) / len(known)
        summary["normalised"] = {"table": tables.pop(), "mean": mean, "stderr": _number(stderr)}
    return summary


def _game(outcome: Outcome, settings: Mapping[str, Any]) -> Json:
    task, played = outcome.task, outcome.episodes
    own = {
        "env": task.env if isinstance(task.env, str) else task.name,
        "game": task.name,
        "distribution_mode": task.distribution_mode,
        "levels": task.levels,
        "transfer": task.transfer,
        "env_config": plain(task.env_config),
    }
    if task.levels is None:
        del own["levels"]
    levels = [None] * len(played.returns) if played.level_seeds is None else played.level_seeds
    columns = zip(
        played.returns.tolist(), played.lengths.tolist(), map(_whole, levels), played.envs.tolist(),
        strict=True,
    )  # fmt: skip
    names = ("return", "length", "level_seed", "env")
    return {
        "settings": {**own, **settings},
        "summary": _summary(outcome),
        "episodes": [dict(zip(names, row, strict=True)) for row in columns],
    }


def _summary(outcome: Outcome) -> Json:
    played = outcome.episodes
    normalised = None
    if outcome.table is not None and outcome.score is not None:
        low, high = score_range(outcome.task.name, outcome.table)
        mean, stderr = outcome.score
        normalised = {
            "table": outcome.table, "mean": mean, "stderr": _number(stderr), "low": low,
            "high": high,
        }  # fmt: skip
    return {
        "mean": played.mean,
        "stderr": _number(played.stderr),
        "num_episodes": len(played.returns),
        "length_mean": float(played.lengths.mean()),
        "env_steps": played.env_steps,
        "normalised": normalised,
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)


def write(path: Path, content: Json) -> None:
    """Write a file so that it is there whole or not at all.

    Raises:
        UserError: If it cannot be written.
    """
    write_out(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def print_table(outcomes: Sequence[Outcome]) -> None:
    """Print the games with their numbers, and mean scores, those of transfer games apart."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("game")
    scored = any(outcome.table for outcome in outcomes)
    columns = ("levels", "episodes", "length", "return", *["score"] * scored)
    for name in columns:
        table.add_column(name, justify="left" if name == "levels" else "right", no_wrap=True)
    for outcome in outcomes:
        played, task = outcome.episodes, outcome.task
        table.add_row(
            task.name + (" (transfer)" if task.transfer else ""),
            _levels(task),
            f"{len(played.returns)}",
            f"{played.lengths.mean():.1f}",
            _with_error(played.mean, played.stderr, 2),
            *[_with_error(*outcome.score, 3) if outcome.score else ""] * scored,
        )
    for found, kind in zip(by_transfer(outcomes), ("", "transfer "), strict=True):
        mean = _mean_score(found)["normalised"]
        if len(found) > 1 and mean is not None:
            score = _with_error(mean["mean"], mean["stderr"] or math.nan, 3)
            table.add_row(f"mean of {len(found)} {kind}games", "", "", "", "", score)
    Console().print(table)
    print("+- is the standard error of the mean over episodes of this one agent.")
    names = sorted({outcome.table for outcome in outcomes if outcome.table})
    if names:
        print(f"score: normalised return by {', '.join(names)}; 0 plays blindly, 1 is the best.")
    if any(outcome.task.transfer for outcome in outcomes):
        print("(transfer): a game or difficulty that the agent was not trained on.")


def _levels(task: Task) -> str:
    if task.levels != CUSTOM:
        return task.levels or "-"
    start, count = task.env_config["start_level"], task.env_config["num_levels"]
    return f"{start} to {start + count - 1}" if count else "all"


def _with_error(mean: float, stderr: float, digits: int) -> str:
    error = f" +- {stderr:.{digits}f}" if math.isfinite(stderr) else ""
    return f"{mean:.{digits}f}{error}"
