"""Envs: the registered environment `procgen`: all games of a worker at once, or one by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np

from rllib_ppg._ray_compat import EnvContext
from rllib_ppg.envs.array_wrapper import wrap
from rllib_ppg.envs.arrays import ArrayEnv
from rllib_ppg.envs.procgen_library import game_names
from rllib_ppg.envs.procgen_options import ProcgenOptions, parse_options
from rllib_ppg.envs.procgen_vector import ProcgenVectorEnv, derive_rand_seed
from rllib_ppg.errors import UserError

__all__ = [
    "ProcgenEnv",
    "ProcgenOptions",
    "ProcgenVectorEnv",
    "derive_rand_seed",
    "game_names",
    "make_procgen",
    "make_procgen_array",
    "parse_options",
]


class ProcgenEnv(gymnasium.Env[np.ndarray, np.int64]):
    """One game of Procgen as a Gymnasium environment.

    For algorithms that vectorise by themselves, such as RLlib's PPO. It has the attributes
    `return_min`, `return_blind` and `return_max`, as `ProcgenVectorEnv` has.

    Args:
        options: The options, or an `env_config` to be checked; None takes the defaults.
        rand_seed: Seed for the choice of levels; None takes the options' own.
        render_mode: `"rgb_array"` for large pictures, or None.

    Raises:
        UserError: An option or the render mode is not allowed.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 15}  # noqa: RUF012

    def __init__(
        self,
        options: ProcgenOptions | Mapping[str, Any] | None = None,
        *,
        rand_seed: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            raise UserError(f"render_mode={render_mode!r} is not known; give 'rgb_array' or None.")
        self.render_mode = render_mode
        self._game = self._make(parse_options({}) if options is None else options, rand_seed)
        self.observation_space = self._game.observation_space
        self.action_space = self._game.action_space
        self.return_min, self.return_blind, self.return_max = self._game.options.return_constants()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode, also in the middle of one.

        Args:
            seed: Make the game anew with this `rand_seed`; None plays the game's next level.
            options: Not used.
        """
        super().reset(seed=seed)
        if seed is not None:
            self._game.close()
            rand_seed = seed if seed < 2**31 else derive_rand_seed(seed)
            self._game = self._make(self._game.options, rand_seed)
        return self._game.reset()[0], self._game.infos()[0]

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Step the game.

        At the end of an episode the observation is the previous one: see
        `ProcgenVectorEnv.vector_step`.
        """
        obs, rewards, terminateds, truncateds, infos = self._game.vector_step([action])
        return obs[0], rewards[0], terminateds[0], truncateds[0], infos[0]

    def render(self) -> np.ndarray | None:  # type: ignore[override]
        """Return Procgen's large picture, uint8 (H, W, 3), in render mode `rgb_array`."""
        return None if self.render_mode is None else self._game.render(0)

    def close(self) -> None:
        """Free the game."""
        self._game.close()

    def _make(
        self, options: ProcgenOptions | Mapping[str, Any], rand_seed: int | None
    ) -> ProcgenVectorEnv:
        """Make the library's object for one game."""
        render = self.render_mode is not None
        return ProcgenVectorEnv(options, 1, rand_seed=rand_seed, render=render)


def make_procgen_array(
    options: ProcgenOptions | Mapping[str, Any],
    num_envs: int,
    *,
    rand_seed: int | None = None,
    render: bool = False,
) -> ArrayEnv:
    """Make N games as arrays, with the wrappers that the options name.

    They reuse their arrays, as the protocol allows: who wants to keep one copies it.

    Args, Raises: As `ProcgenVectorEnv`.
    """
    games = ProcgenVectorEnv(
        options, num_envs, rand_seed=rand_seed, render=render, reuse_arrays=True
    )
    return wrap(games, games.options.wrappers)


def make_procgen(ctx: EnvContext) -> ArrayEnv | ProcgenEnv:
    """Make the registered environment `procgen` for a worker.

    The seed of each worker (and of each environment, where RLlib makes them one by one) differs;
    it comes from the option `rand_seed`, else from the attribute `seed` of the context, else from
    fresh entropy. A worker that replaces a failed one plays other levels than that began with.

    Args:
        ctx: `env_config` with RLlib's worker indices. Where it has the attribute `num_envs`, one
            object with that many games is made; `render` (bool) asks for large pictures.

    Returns:
        One object with all games of the worker, or one Gymnasium environment with one game.

    Raises:
        UserError: An option is not allowed.
    """
    options = parse_options(ctx)
    base = options.rand_seed if options.rand_seed is not None else getattr(ctx, "seed", None)
    place = (ctx.worker_index, int(ctx.recreated_worker), ctx.vector_index)
    rand_seed = None if base is None else derive_rand_seed(base, *place)
    render = bool(getattr(ctx, "render", False))
    num_envs = getattr(ctx, "num_envs", None)
    if num_envs is not None:
        return make_procgen_array(options, num_envs, rand_seed=rand_seed, render=render)
    if options.wrappers:
        raise UserError(
            "env_config.wrappers: they wrap environments as arrays, which only PPG steps; leave "
            "them out with another algorithm."
        )
    return ProcgenEnv(options, rand_seed=rand_seed, render_mode="rgb_array" if render else None)
