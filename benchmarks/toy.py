"""A cheap environment with the frames of Procgen: random bytes, no game."""

from __future__ import annotations

import sys
from typing import Any

import gymnasium
import numpy as np
from ray import cloudpickle
from ray.tune.registry import register_env

from rllib_ppg._ray_compat import EnvContext, VectorEnv
from rllib_ppg.envs.arrays import Transition

NAME = "random_frames"

# A worker's process does not find this folder, so the class travels whole.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


class RandomFrames(VectorEnv):
    """N environments that show random bytes (64, 64, 3), behind RLlib's and our interface."""

    def __init__(self, num_envs: int) -> None:
        super().__init__(
            observation_space=gymnasium.spaces.Box(0, 255, (64, 64, 3), np.uint8),
            action_space=gymnasium.spaces.Discrete(15),
            num_envs=num_envs,
        )
        self._rng = np.random.default_rng(0)
        self._obs = self._draw()

    def _draw(self) -> np.ndarray:
        return self._rng.integers(0, 256, (self.num_envs, 64, 64, 3), dtype=np.uint8)

    def reset(self) -> np.ndarray:
        """Return the current frames."""
        return self._obs

    def observe(self) -> np.ndarray:
        """Return the current frames."""
        return self._obs

    def step(self, actions: np.ndarray) -> Transition:
        """Draw new frames; no episode ever ends."""
        self._obs = self._draw()
        never = np.zeros(self.num_envs, bool)
        return Transition(self._obs, np.ones(self.num_envs, np.float32), never, never, {})

    def infos(self) -> list[dict[str, Any]]:
        """Return nothing for each."""
        return [{} for _ in range(self.num_envs)]

    def render(self, index: int) -> np.ndarray:
        """Return a frame."""
        return self._obs[index]

    def get_state(self) -> None:
        """Return that there is none."""

    def set_state(self, state: Any | None) -> None:
        """Take None."""

    def close(self) -> None:
        """Nothing is held."""


def create(context: EnvContext) -> RandomFrames:
    """Make the environments of a worker."""
    return RandomFrames(getattr(context, "num_envs", 1))


def register() -> None:
    """Make `random_frames` known to Ray."""
    register_env(NAME, create)
