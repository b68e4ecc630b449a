"""Envs: wrappers around environments as arrays, those of a user's own among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np

from rllib_ppg.dotted_names import blamed, check_options, find_class
from rllib_ppg.envs.arrays import ArrayEnv, Transition
from rllib_ppg.errors import UserError


class ArrayWrapper:
    """Passes everything on to an `ArrayEnv`; subclass it and change what you want.

    A wrapper that changes the observations in a way that a stack's promise does not allow for
    (`ArrayEnv`) sets `frame_stack` to 1.

    Args:
        env: The environments.

    Attributes:
        env: The environments.
        observation_space: That of one environment; replace it where observations change.
        action_space: That of one environment.
        frame_stack: Frames of one observation, k.
        sample_columns: Names and dtypes of the numbers that every transition gives in `columns`.
    """

    def __init__(self, env: ArrayEnv) -> None:
        self.env = env
        self.num_envs = env.num_envs
        self.observation_space: gymnasium.Space[Any] = env.observation_space
        self.action_space: gymnasium.Space[Any] = env.action_space
        self.frame_stack = int(getattr(env, "frame_stack", 1))
        self.sample_columns: Mapping[str, np.dtype[Any]] = getattr(env, "sample_columns", {})

    @property
    def unwrapped(self) -> ArrayEnv:
        """The environments without any wrapper."""
        env: ArrayEnv = getattr(self.env, "unwrapped", self.env)
        return env

    def reset(self) -> np.ndarray:
        """Begin an episode in every environment and return the observations (N, ...)."""
        return self.env.reset()

    def observe(self) -> np.ndarray:
        """Return the current observations (N, ...) without stepping."""
        return self.env.observe()

    def step(self, actions: np.ndarray) -> Transition:
        """Step every environment with its row of `actions` (N, ...)."""
        return self.env.step(actions)

    def infos(self) -> list[dict[str, Any]]:
        """Return the N info dictionaries of the last step (or of the reset)."""
        return self.env.infos()

    def render(self, index: int) -> np.ndarray:
        """Return a picture of environment `index`, uint8 (H, W, 3)."""
        return self.env.render(index)

    def get_state(self) -> Any | None:
        """Return what `set_state` needs to go on identically, or None where that is unknown.

        A wrapper with a state of its own adds it here.
        """
        return self.env.get_state()

    def set_state(self, state: Any | None) -> None:
        """Go on from a state that `get_state` returned; None changes nothing."""
        self.env.set_state(state)

    def reseed(self, seed: int) -> None:
        """Let the next `reset` begin other episodes, where the environments can.

        A wrapper that draws random numbers seeds them here.
        """
        reseed = getattr(self.env, "reseed", None)
        if reseed is not None:
            reseed(seed)

    def close(self) -> None:
        """Free what the environments hold."""
        self.env.close()


def wrap(env: ArrayEnv, settings: Sequence[str | Mapping[str, Any]]) -> ArrayEnv:
    """Put wrappers around an environment, the first one innermost.

    Args:
        env: The environment.
        settings: Each a dotted name of an `ArrayWrapper` in an installed package, or a mapping with
            that name as `type` and the wrapper's options.

    Raises:
        UserError: If there is no such wrapper, or it does not take the options.
    """
    for setting in settings:
        kind, options = find_wrapper(setting)
        with blamed(f"wrapper {wrapper_name(setting)} cannot be made"):
            env = kind(env, **options)
    return env


def wrapper_name(setting: str | Mapping[str, Any]) -> Any:
    """Return the dotted name of a wrapper's setting."""
    return setting if isinstance(setting, str) else setting["type"]


def find_wrapper(setting: str | Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return the class and the options of a wrapper's setting.

    Raises:
        UserError: If there is no such wrapper, or it does not take the options.
    """
    given = {"type": setting} if isinstance(setting, str) else setting
    if not isinstance(given, Mapping) or not isinstance(given.get("type"), str):
        raise UserError(
            f"wrapper {setting!r} must be a dotted name, or a mapping with the name as `type` and "
            "its options."
        )
    name = given["type"]
    options = {key: value for key, value in given.items() if key != "type"}
    kind = find_class(name, ArrayWrapper, "wrapper")
    check_options(f"wrapper {name}", kind, {"env": None, **options})
    return kind, options
