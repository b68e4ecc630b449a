"""App: the environments of a video's cells: which games and levels, with pictures."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from rllib_ppg.algorithm.evaluate_levels import tasks_beside
from rllib_ppg.algorithm.named_environments import make_array_env
from rllib_ppg.algorithm.policy_export import env_name
from rllib_ppg.app.video_play import Cell
from rllib_ppg.envs.arrays import ArrayEnv
from rllib_ppg.envs.procgen import derive_rand_seed, make_procgen_array
from rllib_ppg.errors import UserError

PROCGEN_FPS, OTHER_FPS = 15, 30


def game_options(
    env: Any, env_config: Mapping[str, Any], games: Sequence[str], levels: str | None
) -> list[tuple[str, dict[str, Any]]]:
    """The names and configurations of the games of a video.

    Args:
        env: The environment of the checkpoint.
        env_config: Its configuration.
        games: Games of Procgen; none are the checkpoint's own.
        levels: Levels of Procgen, `train`, `test` or `all`; None for the training's.

    Raises:
        UserError: A game is unknown, or the environment is not Procgen and has no games or levels.
    """
    if env == "procgen":
        levels = levels or "train"
    tasks = tasks_beside(env, env_config, games=games or None, levels=levels)
    return [(task.name, dict(task.env_config)) for task in tasks]


def make_env(
    env: Any, env_config: Mapping[str, Any], seed: int, *, render: bool = True
) -> ArrayEnv:
    """Make one environment, behind the array interface, that makes pictures.

    Raises:
        UserError: It cannot be made, or makes none.
    """
    if env == "procgen":
        return make_procgen_array(env_config, 1, rand_seed=seed, render=render)
    options = {**env_config, "render_mode": "rgb_array"} if render else env_config
    try:
        made = make_array_env(env, options, 1, seed)
    except UserError as error:
        raise UserError(f"{error} (A video makes it with render_mode='rgb_array'.)") from None
    if made.num_envs != 1:
        raise UserError(
            f"Environment {env_name(env)} made {made.num_envs} environments at once where a video "
            "needs 1 (num_envs of the EnvContext)."
        )
    return made


def make_cells(
    env: Any, games: list[tuple[str, dict[str, Any]]], quotas: np.ndarray, seed: int
) -> list[Cell]:
    """Make the cells; each has its own levels and its own chance, both by seed and place.

    Args:
        env: The environment.
        games: Names and configurations, as `game_options` gives them; neighbouring cells get the
            same one.
        quotas: Episodes of each cell (N,), N at least the number of games.
        seed: The same seed makes the same episodes begin.

    Raises:
        UserError: An environment cannot be made.
    """
    cells: list[Cell] = []
    try:
        for index, quota in enumerate(quotas):
            name, options = games[index * len(games) // len(quotas)]
            own = derive_rand_seed(seed, index)
            generator = torch.Generator().manual_seed(own)
            cells.append(Cell(make_env(env, options, own), name, int(quota), generator))
    except BaseException:
        for cell in cells:
            cell.env.close()
        raise
    return cells


def default_fps(env: Any, made: ArrayEnv) -> int:
    """Frames a second at which an environment is meant to be seen."""
    if env == "procgen":
        return PROCGEN_FPS
    first = next(iter(getattr(made, "envs", [])), made)
    given = (getattr(first, "metadata", None) or {}).get("render_fps")
    return max(1, round(given)) if isinstance(given, int | float) else OTHER_FPS
