"""Core: Procgen's games and the constants that turn their returns into scores.

A return is the sum of an episode's rewards, as the game gives them. A score is
(return - R_min) / (R_max - R_min): 0 is what an agent gets that does not see the game, 1 the best
possible, or for some games the best known. The sources disagree on two games and each difficulty
has constants of its own, so constants come in tables and every score belongs to a named one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rllib_ppg.errors import UserError
from rllib_ppg.spelling import did_you_mean

# Source: openai/procgen, procgen/env.py, ENV_NAMES; names and order as there.
PUBLIC_GAMES = (
    "bigfish",
    "bossfight",
    "caveflyer",
    "chaser",
    "climber",
    "coinrun",
    "dodgeball",
    "fruitbot",
    "heist",
    "jumper",
    "leaper",
    "maze",
    "miner",
    "ninja",
    "plunder",
    "starpilot",
)
# The challenge's hidden games. Source: openai/procgen@89d273a, branch contest-envs, src/games.
PRIVATE_GAMES = ("caterpillar", "gemjourney", "hovercraft", "safezone")
GAMES = PUBLIC_GAMES + PRIVATE_GAMES

# The public games of the challenge's second round. Source, here and for the weights: AIcrowd forum,
# topic 3680, and the article on the winners on amazon.science.
ROUND_2_GAMES = ("coinrun", "bigfish", "miner", "plunder", "starpilot", "chaser")
# What each game counts in the second round's score; the weights sum to 1.
ROUND_2_WEIGHTS: Mapping[str, float] = MappingProxyType(
    {game: 1 / 12 for game in ROUND_2_GAMES} | {game: 1 / 8 for game in PRIVATE_GAMES}
)


class ScoreRange(NamedTuple):
    """The returns that score 0 and 1: R_min and R_max of a game."""

    low: float
    high: float


@dataclass(frozen=True)
class ScoreTable:
    """Constants of one source for one difficulty.

    Attributes:
        name: What the table is called in commands and results.
        source: Where the constants were published.
        difficulty: Procgen's `distribution_mode` that they hold for.
        ranges: R_min and R_max by game.
    """

    name: str
    source: str
    difficulty: str
    ranges: Mapping[str, ScoreRange]


# Source: openai/train-procgen@1a2ae21, train_procgen/constants.py, HARD_GAME_RANGES; the same in
# openai/phasic-policy-gradient@7295473, constants.py, and in raphajaner/impoola@1d71110.
_HARD = {
    "bigfish": ScoreRange(0, 40),
    "bossfight": ScoreRange(0.5, 13),
    "caveflyer": ScoreRange(2, 13.4),
    "chaser": ScoreRange(0.5, 14.2),
    "climber": ScoreRange(1, 12.6),
    "coinrun": ScoreRange(5, 10),
    "dodgeball": ScoreRange(1.5, 19),
    "fruitbot": ScoreRange(-0.5, 27.2),
    "heist": ScoreRange(2, 10),
    "jumper": ScoreRange(1, 10),
    "leaper": ScoreRange(1.5, 10),
    "maze": ScoreRange(4, 10),
    "miner": ScoreRange(1.5, 20),
    "ninja": ScoreRange(2, 10),
    "plunder": ScoreRange(3, 30),
    "starpilot": ScoreRange(1.5, 35),
}

# Source: openai/train-procgen@1a2ae21, train_procgen/constants.py, EASY_GAME_RANGES; the same in
# the challenge's starter kit, AIcrowd/neurips2020-procgen-starter-kit@142d095, as "blind" and "max"
# (the challenge's own scoring code is not public). Its jumper and leaper equal the hard values,
# which may be a slip.
_EASY_CHALLENGE_PUBLIC = {
    "bigfish": ScoreRange(1, 40),
    "bossfight": ScoreRange(0.5, 13),
    "caveflyer": ScoreRange(3.5, 12),
    "chaser": ScoreRange(0.5, 13),
    "climber": ScoreRange(2, 12.6),
    "coinrun": ScoreRange(5, 10),
    "dodgeball": ScoreRange(1.5, 19),
    "fruitbot": ScoreRange(-1.5, 32.4),
    "heist": ScoreRange(3.5, 10),
    "jumper": ScoreRange(1, 10),
    "leaper": ScoreRange(1.5, 10),
    "maze": ScoreRange(5, 10),
    "miner": ScoreRange(1.5, 13),
    "ninja": ScoreRange(3.5, 10),
    "plunder": ScoreRange(4.5, 30),
    "starpilot": ScoreRange(2.5, 64),
}

# Source: wulfebw/neurips2020-procgen@e131684, the analysis notebook of the winner on sample
# efficiency, "blind" and "max"; caterpillar also in Dipamc77/procgen-competition@8840da3. The
# maxima but hovercraft's follow from the games' sources. No source has them for hard.
_EASY_PRIVATE = {
    "caterpillar": ScoreRange(8.25, 24),
    "gemjourney": ScoreRange(1.1, 16),
    "hovercraft": ScoreRange(0.2, 18),
    "safezone": ScoreRange(0.2, 10),
}

# Source: raphajaner/impoola@1d71110, easy ranges, and other transcriptions of the table of
# arXiv:1912.01588, for instance RyanNavillus/Syllabus; all other games as above.
_EASY_PAPER_DIFFERENCES = {"jumper": ScoreRange(3, 10), "leaper": ScoreRange(3, 10)}

# Lowest possible return on easy. Source: the starter kit and the notebook named above, first of
# three numbers a game.
EASY_FLOORS: Mapping[str, float] = MappingProxyType(
    {game: -12.0 if game == "fruitbot" else 0.0 for game in GAMES}
)

TABLES: Mapping[str, ScoreTable] = MappingProxyType(
    {
        table.name: table
        for table in (
            ScoreTable(
                "easy_challenge",
                "train-procgen and the NeurIPS 2020 challenge's starter kit; private games from a "
                "winner's notebook",
                "easy",
                MappingProxyType(_EASY_CHALLENGE_PUBLIC | _EASY_PRIVATE),
            ),
            ScoreTable(
                "easy_paper",
                "Cobbe et al. 2020 (arXiv:1912.01588), as transcribed by later work",
                "easy",
                MappingProxyType(_EASY_CHALLENGE_PUBLIC | _EASY_PAPER_DIFFERENCES),
            ),
            ScoreTable(
                "hard",
                "Cobbe et al. 2020 (arXiv:1912.01588), train-procgen and phasic-policy-gradient",
                "hard",
                MappingProxyType(_HARD),
            ),
        )
    }
)


def table_names(difficulty: str | None = None) -> tuple[str, ...]:
    """Return the names of the score tables, all or those of one difficulty.

    Args:
        difficulty: Procgen's `distribution_mode`; modes without a table give an empty tuple.
    """
    return tuple(name for name, table in TABLES.items() if difficulty in (None, table.difficulty))


def get_table(name: str) -> ScoreTable:
    """Return the score table of a name.

    Raises:
        UserError: There is no such table.
    """
    if name not in TABLES:
        raise UserError(_unknown("score table", name, TABLES))
    return TABLES[name]


def score_range(game: str, table: str) -> ScoreRange:
    """Return R_min and R_max of a game in a table.

    Raises:
        UserError: There is no such table or game, or the table lacks the game.
    """
    ranges = get_table(table).ranges
    if game in ranges:
        return ranges[game]
    _check_game(game)
    having = [name for name in TABLES if game in TABLES[name].ranges]
    raise UserError(
        f'Score table "{table}" has no constants for {game}; tables that have them: '
        f"{', '.join(having)}."
    )


def normalized_return(returns: npt.ArrayLike, game: str, table: str) -> npt.NDArray[np.float64]:
    """Scale returns of a game so that 0 is R_min and 1 is R_max.

    Nothing is clipped: an agent worse than one that sees nothing scores below 0, and one better
    than the table's best above 1. NaN, a return that is not known, stays NaN.

    Args:
        returns: Undiscounted returns of episodes or their means, in the game's own rewards; any
            shape.
        game: The game's name, as Procgen takes it.
        table: The table's name, one of `table_names()`.

    Returns:
        Scores, float64 of the same shape.

    Raises:
        UserError: There is no such table or game, or the table lacks the game.

    Source: Cobbe et al. 2020 (arXiv:1912.01588).
    """
    low, high = score_range(game, table)
    return np.asarray((np.asarray(returns, np.float64) - low) / (high - low))


def weighted_score(scores: Mapping[str, float], *, allow_missing: bool = False) -> float:
    """Return the score of the challenge's second round: six public and four private games.

    Args:
        scores: Mean score by game. Games that the second round did not have count nothing.
        allow_missing: Divide by the weights of the games that are there; say `covered_weight` with
            such a score, which is not the challenge's.

    Raises:
        UserError: A name is no game's, a score is not finite, a game of the second round is missing
            and `allow_missing` is false, or all of them are missing.
    """
    for game, score in scores.items():
        _check_game(game)
        if not math.isfinite(score):
            raise UserError(f"The score of {game} is {score}; leave it out or evaluate it again.")
    missing = [game for game in ROUND_2_WEIGHTS if game not in scores]
    if len(missing) == len(ROUND_2_WEIGHTS) or (missing and not allow_missing):
        raise UserError(
            "The challenge's weighted score needs "
            f"{'at least one of these' if allow_missing else 'also these'} games: "
            f"{', '.join(missing)}."
        )
    total = sum(weight * scores.get(game, 0.0) for game, weight in ROUND_2_WEIGHTS.items())
    return float(total / covered_weight(scores))


def covered_weight(games: Iterable[str]) -> float:
    """Return the share of the second round's score that some games make up, from 0 to 1."""
    return math.fsum(ROUND_2_WEIGHTS.get(game, 0.0) for game in set(games))


def _check_game(game: str) -> None:
    if game not in GAMES:
        raise UserError(_unknown("game", game, GAMES))


def _unknown(kind: str, name: str, names: Iterable[str]) -> str:
    """Return what to say about a name that is none of `names`, with the nearest one if any."""
    known = list(names)
    hint = did_you_mean(str(name), known)
    return f'There is no {kind} "{name}".{hint} Give one of: {", ".join(known)}.'
