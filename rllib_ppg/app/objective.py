"""App: the number by which a sweep compares its trials."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rllib_ppg.app.variants import value_at
from rllib_ppg.core.scores import TABLES, normalized_return, table_names
from rllib_ppg.errors import UserError

RETURNS = (
    "episode_return_mean", "episode_return_min", "episode_return_max", "episode_reward_mean",
    "train_return", "test_return", "all_return",
)  # fmt: skip
"""Ends of the names of metrics that score tables normalise."""


def is_return(metric: str) -> bool:
    """Whether a metric is a return of episodes."""
    return metric.rsplit("/", 1)[-1] in RETURNS


def can_be_averaged_over_games(metric: str) -> bool:
    """Whether a metric is one that games have on one scale, once it is normalised."""
    return is_return(metric) or metric.endswith("_score")


@dataclass(frozen=True)
class Objective:
    """A result key, whether more of it is better, and whether returns are normalised first.

    A trial's objective is the newest value of the key that is a number: a return is none until the
    first episode has ended, and an evaluation's numbers stand in some results only.

    Attributes:
        metric: The result key.
        mode: `max` or `min`.
        over_games: Whether it is a mean over games, so that returns are normalised.
    """

    metric: str
    mode: str = "max"
    over_games: bool = False

    def of(self, result: Mapping[str, Any], config: Mapping[str, Any]) -> float:
        """The objective of one result, or NaN.

        Args:
            result: The result, flat (`a/b`) or nested.
            config: The trial's configuration.
        """
        value = number_in(result, self.metric)
        if math.isnan(value) or not (self.over_games and is_return(self.metric)):
            return value
        game, mode = game_of(config)
        return float(normalized_return(value, game, score_table(game, mode)))

    def newest(self, results: Iterable[Mapping[str, Any]], config: Mapping[str, Any]) -> float:
        """The objective of a trial by all its results, oldest first."""
        found = math.nan
        for result in results:
            value = self.of(result, config)
            found = found if math.isnan(value) else value
        return found

    def order(self, value: float) -> float:
        """A number by which sorting puts the best first, and what is not known last."""
        if math.isnan(value):
            return math.inf
        return -value if self.mode == "max" else value

    @property
    def name(self) -> str:
        """What a table calls it."""
        short = self.metric.rsplit("/", 1)[-1]
        if not self.over_games:
            return short
        return f"mean normalised {short}" if is_return(self.metric) else f"mean {short}"


def number_in(result: Mapping[str, Any], key: str) -> float:
    """A number of a result by its path, or NaN."""
    node: Any = result.get(key)
    if node is None:
        node = result
        for name in key.split("/"):
            node = node.get(name) if isinstance(node, Mapping) else None
    is_number = isinstance(node, int | float) and not isinstance(node, bool)
    return float(node) if is_number else math.nan


def game_of(config: Mapping[str, Any]) -> tuple[str, str]:
    """A configuration's game and its `distribution_mode`."""
    game = value_at(config, ("env_config", "env_name"), "coinrun")
    return str(game), str(value_at(config, ("env_config", "distribution_mode"), "hard"))


def score_table(game: str, mode: str) -> str:
    """The score table that normalises a game's returns: the first that has it.

    Raises:
        UserError: If there is none.
    """
    found = [name for name in table_names(mode) if game in TABLES[name].ranges]
    if not found:
        raise UserError(f"no score table has {game} in distribution_mode {mode}")
    return found[0]
