"""Wrappers of a user's own are stepped a little, before workers are started with them."""

from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, MultiDiscrete

from rllib_ppg.algorithm.named_environments import spaces
from rllib_ppg.envs.array_wrapper import ArrayWrapper
from rllib_ppg.errors import UserError


class Own(ArrayWrapper):
    """Does one thing wrong, or nothing."""

    def __init__(self, env: Any, wrong: str = "") -> None:
        super().__init__(env)
        self.wrong = wrong
        if wrong == "constructor":
            raise RuntimeError("no room")
        if wrong == "whole":
            self.frame_stack = 1

    def reset(self) -> np.ndarray:
        return self._shown(self.env.reset())

    def step(self, actions: np.ndarray) -> Any:
        if self.wrong == "step":
            raise RuntimeError("no step")
        transition = self.env.step(actions)
        return transition._replace(obs=self._shown(transition.obs))

    def set_state(self, state: Any) -> None:
        self.env.set_state(state["outer"] if self.wrong == "state" else state)

    def _shown(self, obs: np.ndarray) -> np.ndarray:
        obs = obs.copy()
        if self.wrong in ("older", "whole"):
            obs[..., :3] = 0
        if self.wrong == "alike":
            obs[:, :8] = 0
        return obs[:, ::2] if self.wrong == "shape" else obs


class Joined(ArrayWrapper):
    """Takes two numbers for an action, and shows what it sees as shares."""

    def __init__(self, env: Any, dtype: str = "float64") -> None:
        super().__init__(env)
        self.dtype = dtype
        self.action_space = MultiDiscrete([3, 5], start=[0, 1])
        self.observation_space = Box(0, 1, env.observation_space.shape)

    def reset(self) -> np.ndarray:
        return (self.env.reset() / 255).astype(self.dtype)

    def step(self, actions: np.ndarray) -> Any:
        transition = self.env.step(5 * actions[:, 0] + actions[:, 1] - 1)
        return transition._replace(obs=(transition.obs / 255).astype(self.dtype))


def test_actions_are_of_the_wrapper_s_space_and_floats_may_be_long():
    config = {"frame_stack": 2, "wrappers": [f"{__name__}.Joined"]}
    assert spaces("procgen", config).actions == MultiDiscrete([3, 5], start=[0, 1])
    config["wrappers"] = [{"type": f"{__name__}.Joined", "dtype": "uint8"}]
    with pytest.raises(
        UserError, match=r"of uint8, .* of float32; give them with .astype\(np.float32"
    ):
        spaces("procgen", config)


def tried(*wrong: str) -> Any:
    wrappers = [{"type": f"{__name__}.Own", "wrong": each} for each in wrong]
    config = {"env_name": "coinrun", "frame_stack": 2, "wrappers": wrappers}
    return spaces("procgen", config)


def test_sound_wrappers_pass():
    assert tried("", "alike").frame_stack == 2
    assert tried("whole").frame_stack == 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("constructor", "cannot be made: RuntimeError: no room"),
        ("step", "fails: RuntimeError: no step"),
        ("state", "fails: KeyError: 'outer'"),
        ("shape", r"gives observations \(1, 32, 64, 6\) of uint8, and its observation_space says"),
        ("older", "shows other older frames .* or set self.frame_stack = 1 in its constructor"),
    ],
)
def test_a_wrapper_that_would_fail_is_one_sentence(wrong: str, message: str):
    with pytest.raises(UserError, match=rf"^wrapper \S+\.Own {message}") as error:
        tried("", wrong)
    assert "\n" not in str(error.value)
