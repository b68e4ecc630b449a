"""Small Gymnasium environments whose numbers tell where they come from."""

import random
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete
from ray import cloudpickle

from rllib_ppg.envs.arrays import Transition
from rllib_ppg.envs.procgen import ProcgenVectorEnv

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


class GatedEnv(CodedEnv):
    """A `CodedEnv` whose worker number `gated` waits in every step while the file `gate` exists."""

    def __init__(self, context: Mapping[str, Any]) -> None:
        super().__init__(context)
        self.gate = Path(context["gate"])
        self.gated = context.worker_index == context["gated"]  # type: ignore[attr-defined]

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        while self.gated and self.gate.exists():
            time.sleep(0.01)
        return super().step(action)


class FaultyEnv(GatedEnv):
    """A `GatedEnv` whose workers `faulty` raise in each step while the file `fault` exists.

    With `dead` they cannot be made again either, while it exists; with `in_reset` they raise in
    each reset and not in steps.
    """

    def __init__(self, context: Mapping[str, Any]) -> None:
        gate = {"gate": context.get("gate", ""), "gated": context.get("gated", -1)}
        context.update(gate)  # type: ignore[attr-defined]
        super().__init__(context)
        self.fault, self.in_reset = Path(context["fault"]), context.get("in_reset", False)
        self.faulty = context.worker_index in context.get("faulty", (2,))  # type: ignore[attr-defined]
        if self.faulty and context.get("dead") and self.fault.exists():
            raise OSError("no game here")

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        if self.in_reset and self.faulty and self.fault.exists():
            raise OSError("no level here")
        return super().reset(seed=seed)

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        if not self.in_reset and self.faulty and self.fault.exists():
            raise OSError("the game crashed")
        return super().step(action)


class StackedEnv:
    """An array environment that stacks k frames (environment, episode, step); keeps what it showed.

    Environment n of worker w is number 10 * w + n; its episodes have `length` + n steps.
    """

    action_space = Discrete(3)

    def __init__(self, context: Mapping[str, Any]) -> None:
        self.num_envs = context.num_envs  # type: ignore[attr-defined]
        self.first = 10 * context.worker_index  # type: ignore[attr-defined]
        self.frame_stack = context["frame_stack"]
        self.length, self.truncate = context.get("length", 3), context.get("truncate", False)
        self.observation_space = Box(-np.inf, np.inf, (3 * self.frame_stack,), np.float32)
        self.episode = np.zeros(self.num_envs, int)
        self.count = np.zeros(self.num_envs, int)
        self.shown: list[np.ndarray] = []

    def _stacks(self) -> np.ndarray:
        """By definition: the frame of step max(0, count - age), oldest first."""
        ages = range(self.frame_stack - 1, -1, -1)
        numbers = self.first + np.arange(self.num_envs)
        frames = [[numbers, self.episode, np.maximum(0, self.count - age)] for age in ages]
        return np.array(frames, np.float32).transpose(2, 0, 1).reshape(self.num_envs, -1)

    def _show(self) -> np.ndarray:
        self.shown.append(self._stacks())
        return self.shown[-1]

    def reset(self) -> np.ndarray:
        return self._show()

    def observe(self) -> np.ndarray:
        return self.shown[-1]

    def step(self, actions: np.ndarray) -> Transition:
        self.count += 1
        ends = self.count == self.length + np.arange(self.num_envs)
        last = self._stacks()
        final_obs = {int(n): last[n] for n in np.flatnonzero(ends)} if self.truncate else {}
        self.episode += ends
        self.count[ends] = 0
        none = np.zeros(self.num_envs, bool)
        terminateds, truncateds = (none, ends) if self.truncate else (ends, none)
        rewards = np.ones(self.num_envs, np.float32)
        return Transition(self._show(), rewards, terminateds, truncateds, final_obs)

    def infos(self) -> list[dict[str, Any]]:
        return [{} for _ in range(self.num_envs)]

    def render(self, index: int) -> np.ndarray:
        return np.zeros((1, 1, 3), np.uint8)

    def get_state(self) -> None:
        return None

    def set_state(self, state: Any) -> None:
        pass

    def close(self) -> None:
        pass


class GlobalRandomEnv(StackedEnv):
    """A `StackedEnv` that can save its state, and draws from Python's and numpy's generators."""

    def __init__(self, context: Mapping[str, Any]) -> None:
        context.update(frame_stack=1)  # type: ignore[attr-defined]
        super().__init__(context)

    def reset(self) -> np.ndarray:
        random.random(), np.random.random()  # the first level
        return super().reset()

    def step(self, actions: np.ndarray) -> Transition:
        rewards = np.random.random(self.num_envs).astype(np.float32) + random.random()
        return super().step(actions)._replace(rewards=rewards)

    def get_state(self) -> Any:  # type: ignore[override]
        return self.episode.copy(), self.count.copy()

    def set_state(self, state: Any) -> None:
        self.episode, self.count = (np.array(part) for part in state)


class HeavyEnv(StackedEnv):
    """A `StackedEnv` whose state is larger than any memory."""

    def get_state(self) -> None:
        np.ones(2**50, np.uint8)


class RecordedProcgen(ProcgenVectorEnv):
    """Procgen as workers play it, which keeps copies of all observations that it handed out."""

    def __init__(self, context: Mapping[str, Any]) -> None:
        self.shown: list[np.ndarray] = []
        seed = 7 + context.worker_index  # type: ignore[attr-defined]
        num_envs = context.num_envs  # type: ignore[attr-defined]
        super().__init__(dict(context), num_envs, rand_seed=seed, reuse_arrays=True)

    def reset(self) -> np.ndarray:
        self.shown.append(np.array(super().reset()))
        return self.shown[-1]

    def step(self, actions: np.ndarray) -> Transition:
        transition = super().step(actions)
        self.shown.append(np.array(transition.obs))
        return transition
