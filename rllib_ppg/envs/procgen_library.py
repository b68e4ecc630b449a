"""Envs: the installed procgen library: its quiet import, its games and their modes."""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
from functools import cache
from types import ModuleType

from rllib_ppg.errors import UserError

# The library ends the whole process (C++ abort) on a mode that a game lacks, so this must be known
# beforehand. Source: procgen/src/game.cpp, Game::parse_options; easy and hard go everywhere.
EXTREME_GAMES = ("chaser", "dodgeball", "leaper", "starpilot")
MEMORY_GAMES = ("caveflyer", "dodgeball", "heist", "jumper", "maze", "miner")


@cache
def import_procgen() -> ModuleType:
    """Import procgen without the deprecation notice of the old gym package that it needs.

    Returns:
        The module `procgen.env`, which holds `ProcgenGym3Env` and the names of the games.

    Raises:
        UserError: procgen is not installed or does not load on this machine.
    """
    try:
        _import_gym_quietly()
        return importlib.import_module("procgen.env")
    except ImportError as error:
        raise UserError(
            f"Environment 'procgen' needs the procgen library, which does not load: {error}. "
            "Install it: pip install procgen (Python 3.10) or pip install procgen-mirror "
            "(Python 3.11 and 3.12)."
        ) from error


def game_names() -> tuple[str, ...]:
    """Return the games of the installed procgen library, whichever build it is."""
    return tuple(import_procgen().ENV_NAMES)


def mode_names() -> tuple[str, ...]:
    """Return the distribution modes that the installed procgen library knows."""
    return tuple(import_procgen().DISTRIBUTION_MODE_DICT)


def games_of_mode(mode: str) -> tuple[str, ...]:
    """Return the installed games that have a distribution mode."""
    by_mode = {
        "extreme": EXTREME_GAMES,
        "memory": MEMORY_GAMES,
        "exploration": import_procgen().EXPLORATION_LEVEL_SEEDS,
    }
    return tuple(name for name in game_names() if mode not in by_mode or name in by_mode[mode])


def _import_gym_quietly() -> None:
    """Import gym, holding back its notice to move to gymnasium but nothing else it prints.

    gym writes the notice straight to stderr and has no switch for it; for the users of this
    package there is nothing to do about it.
    """
    if "gym" in sys.modules:
        return
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            gym = importlib.import_module("gym")
            notices = importlib.import_module("gym_notices.notices").notices
        notice = notices.get(gym.__version__, "")
    except ImportError:
        notice = ""
    rest = printed.getvalue().replace(notice, "").strip() if notice else printed.getvalue()
    if rest:
        sys.stderr.write(rest + "\n")
