"""Envs: what sets of Procgen's levels are called, wherever they are played, written or plotted."""

from rllib_ppg.errors import UserError
from rllib_ppg.spelling import did_you_mean

LEVELS = ("train", "test", "all")
"""The training's own, those that it never has, and every one that there is."""

UNSEEN = ("test", "all")
"""Those that stand for unseen ones; the first that is there counts."""

CUSTOM = "custom"
"""Levels that are known by their numbers only."""


def check_levels(levels: str | None) -> None:
    """Refuse a name that is none of `LEVELS`.

    Raises:
        UserError: With the nearest name.
    """
    if levels is not None and levels not in LEVELS:
        hint = did_you_mean(str(levels), LEVELS)
        raise UserError(f"levels={levels}: unknown.{hint} Give one of {', '.join(LEVELS)}.")
