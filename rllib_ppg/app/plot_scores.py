"""App: from the scores of evaluation to numbers with intervals, by group and game.

Shape key: R runs (seeds), M games.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rllib_ppg.app.plot_aggregate import AGGREGATE_NAMES, interval_of
from rllib_ppg.app.plot_evaluations import LEVELS, Score
from rllib_ppg.app.plot_runs import Note, Origin
from rllib_ppg.app.plot_tables import FloatArray
from rllib_ppg.core.intervals import Interval
from rllib_ppg.envs.levels import UNSEEN
from rllib_ppg.errors import UserError

NUM_RESAMPLES = 10_000

ByGame = Mapping[str, FloatArray]
"""The scores (R,) of each game; different games may have different numbers of runs."""

TRANSFER = " (transfer)"
"""What the name of a game ends in where its agents were not trained on it, or not so difficult."""


@dataclass(frozen=True)
class Cell:
    """A number of a group, with its interval.

    Attributes:
        group: The group's name.
        game: The game, or what the number is over.
        interval: The number and its bounds; NaN without an interval.
        num_runs: Runs of each game.
    """

    group: str
    game: str
    interval: Interval
    num_runs: int


def merge(name: str, scores: Sequence[Score]) -> list[Score]:
    """Put evaluations of one agent on different levels together.

    Raises:
        UserError: If an agent was evaluated twice on the same levels, which is no other seed, or a
            game in different ways, which have no mean.
    """
    _check_alike(name, scores)
    agents: dict[tuple[object, ...], Score] = {}
    for score in scores:
        origin = score.origin
        own = origin.agent or (str(origin.path), origin.label, origin.seed)
        known = agents.get((own, origin.game))
        if known is None:
            agents[own, origin.game] = score
            continue
        twice = sorted(known.returns.keys() & score.returns.keys())
        if twice:
            raise UserError(
                f"{name}: {known.origin.path} and {origin.path} evaluate the same agent on "
                f"{origin.game}, {twice[0]} levels; give one of them, or tell them apart with "
                "--label."
            )
        agents[own, origin.game] = replace(known, returns={**known.returns, **score.returns})
    return list(agents.values())


def _check_alike(name: str, scores: Sequence[Score]) -> None:
    """Refuse a group in which a game was played in different ways."""
    first: dict[str | None, Origin] = {}
    for other in (score.origin for score in scores):
        one = first.setdefault(other.game, other)
        differing = [
            f"{key} {one.played[key]} and {other.played[key]}"
            for key in one.played
            if key in other.played and one.played[key] != other.played[key]
        ]
        if differing:
            raise UserError(
                f"{name}: {one.path} and {other.path} play {other.game} in different ways "
                f"({', '.join(differing)}), which have no mean; --group auto keeps them apart."
            )


def game_name(score: Score) -> str:
    """What the game of a score is called; transfer never is the trained game."""
    return f"{score.origin.game or 'unknown game'}{TRANSFER * score.origin.transfer}"


def is_transfer(game: str) -> bool:
    """Whether a name of `game_name` is of a transfer game."""
    return game.endswith(TRANSFER)


def choose_levels(scores: Sequence[Score], wanted: str | None) -> str:
    """Return the levels to plot: those wanted, else the first of `LEVELS` that all scores have.

    Raises:
        UserError: If a score lacks them.
    """
    for levels in [wanted] if wanted else LEVELS:
        if all(levels in score.returns for score in scores):
            return levels
    lacking = next(s for s in scores if (wanted or "test") not in s.returns)
    raise UserError(
        f"{lacking.origin.path} has scores on {', '.join(lacking.returns)} levels only; "
        + (f"--levels {wanted} needs others." if wanted else "the files share none.")
    )


def gap_levels(scores: Sequence[Score]) -> str:
    """Return what to compare train levels with: test levels, else all.

    Raises:
        UserError: If a score lacks either.
    """
    for levels in UNSEEN:
        if all({"train", levels} <= score.returns.keys() for score in scores):
            return levels
    lacking = next(s for s in scores if not {"train", "test"} <= s.returns.keys())
    raise UserError(
        f"{lacking.origin.path} has scores on {', '.join(lacking.returns)} levels only; a gap "
        "needs train and test (or all) of every agent: evaluate it on both, and give both files."
    )


def by_game(scores: Sequence[Score], levels: str) -> dict[str, FloatArray]:
    """Return the scores on some levels by game, in the order in which games come first."""
    games: dict[str, list[float]] = {}
    for score in scores:
        games.setdefault(game_name(score), []).append(score.returns[levels])
    return {game: np.array(values) for game, values in games.items()}


def common_games(groups: Mapping[str, ByGame], note: Note) -> list[str]:
    """Return the games that every group has, in the first group's order.

    Raises:
        UserError: If there is none.
    """
    first = next(iter(groups.values()))
    games = [game for game in first if all(game in found for found in groups.values())]
    every = dict.fromkeys(game for found in groups.values() for game in found)
    if not games:
        raise UserError("The groups have no game in common, so that they cannot be compared.")
    if len(games) < len(every):
        rest = ", ".join(game for game in every if game not in games)
        note(f"Left out of what is over all games, since not every group has them: {rest}.")
    return games


def matrix(name: str, games: ByGame, chosen: Sequence[str], note: Note) -> FloatArray:
    """Return the scores of some games, (R, M), with as many runs of each as the fewest."""
    counts = [len(games[game]) for game in chosen]
    if min(counts) < max(counts):
        note(f"{name}: {min(counts)} runs of every game are used; some games have more.")
    return np.stack([games[game][: min(counts)] for game in chosen], axis=1)


def cells(groups: Mapping[str, ByGame], interval: str) -> list[Cell]:
    """Return the mean of each group and game."""
    return [
        Cell(name, game, interval_of(values[:, None], "mean", interval, NUM_RESAMPLES), len(values))
        for name, games in groups.items()
        for game, values in games.items()
    ]


def overall(groups: Mapping[str, ByGame], aggregate: str, interval: str, note: Note) -> list[Cell]:
    """Return each group's aggregate over the games that all groups have, transfer games apart.

    There is none over a single game.
    """
    common = common_games(groups, note)
    trained = [game for game in common if not is_transfer(game)]
    transfer = [game for game in common if is_transfer(game)]
    return [
        _over(name, scores, games, aggregate, interval, note)
        for games in (trained, transfer)
        if len(games) > 1
        for name, scores in groups.items()
    ]


def _over(
    name: str, scores: ByGame, games: Sequence[str], aggregate: str, interval: str, note: Note
) -> Cell:
    kind = "transfer games" if is_transfer(games[0]) else "games"
    title = f"{AGGREGATE_NAMES[aggregate]} of {len(games)} {kind}"
    array = matrix(name, scores, games, note)
    return Cell(name, title, interval_of(array, aggregate, interval, NUM_RESAMPLES), len(array))
