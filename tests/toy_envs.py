"""Small Gymnasium environments whose numbers tell where they come from."""

import sys
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete
from ray import cloudpickle

# Rollout workers do not find the folder of the tests, so these classes travel whole.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

FLOAT_OBS = Box(-np.inf, np.inf, (3,), np.float32)


def reward_of(obs: np.ndarray) -> np.ndarray:
    """The reward of a step taken from observations (..., 3) of `CodedEnv`; never twice the same."""
    env, episode, step = np.moveaxis(np.asarray(obs, np.float64), -1, 0)
    return env * 1e-2 + episode + step * 1e-1


class CodedEnv(gymnasium.Env):
    """An observation is (environment, episode, step), and `reward_of` it is the reward.

    Environment v of worker w is number 10 * w + v. An episode has `length` + v steps and ends by a
    time limit where `truncate` is set.
    """

    observation_space = FLOAT_OBS
    action_space = Discrete(3)

    def __init__(self, context: Mapping[str, Any]) -> None:
        worker, index = context.worker_index, context.vector_index  # type: ignore[attr-defined]
        self.number = 10 * worker + index
        self.length = context.get("length", 4) + index
        self.truncate = context.get("truncate", False)
        self.episode, self.count = -1, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        if seed is None:  # RLlib seeds an environment by a reset of its own, which is no episode
            self.episode += 1
        self.count = 0
        return self._obs(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        reward = float(reward_of(self._obs()))
        self.count += 1
        end = self.count == self.length
        info = {"action": int(action), "count": self.count}
        return self._obs(), reward, end and not self.truncate, end and self.truncate, info

    def _obs(self) -> np.ndarray:
        return np.array([self.number, self.episode, self.count], np.float32)


class EchoEnv(gymnasium.Env):
    """Keeps the actions it is given; a constant observation and no end before `length` steps.

    The reward is `reward` plus the sum of the action.
    """

    def __init__(self, context: Mapping[str, Any]) -> None:
        self.action_space = context.get("action_space", Discrete(2))
        self.observation_space = context.get("observation_space", FLOAT_OBS)
        self.length = context.get("length", 8)
        self.rewards = iter(context.get("rewards", ()))
        self.actions: list[Any] = []

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.count = 0
        return self._obs(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        self.actions.append(np.array(action))
        self.count += 1
        reward = next(self.rewards, float(np.sum(action)))
        return self._obs(), reward, self.count == self.length, False, {}

    def _obs(self) -> Any:
        space = self.observation_space
        return 0 if isinstance(space, Discrete) else np.zeros(space.shape, space.dtype)
