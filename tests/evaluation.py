"""What the tests of evaluation share: policies of small networks, and environments that count."""

from typing import Any

import gymnasium as gym
import numpy as np

from rllib_ppg import PPGConfig
from rllib_ppg.algorithm.policy import PPGTorchPolicy

SMALL_MODEL = {"custom_model_config": {"widths": [4], "hidden_size": 8, "blocks": 1}}


def config_of(env: str, env_config: dict[str, Any], **keys: Any) -> PPGConfig:
    """Return a configuration of a small network."""
    config = PPGConfig().environment(env, env_config=env_config)
    if env == "procgen":
        config = config.training(model=SMALL_MODEL)
    return config.update_from_dict({"seed": 1, **keys})


def procgen_policy(env_config: dict[str, Any] | None = None, **keys: Any) -> PPGTorchPolicy:
    """Return an untrained policy for Procgen, starpilot on easy unless said otherwise."""
    options = {"env_name": "starpilot", "distribution_mode": "easy", **(env_config or {})}
    settings = config_of("procgen", options, **keys).to_dict()
    images = gym.spaces.Box(0, 255, (64, 64, 3), np.uint8)
    return PPGTorchPolicy(images, gym.spaces.Discrete(15), settings)


class Clock(gym.Env):
    """Episodes of 1, 2, 3, 1, 2, 3, ... steps, each step worth 1.

    The first one is drawn by the seed.
    """

    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(3, start=5)

    def __init__(self, config: Any = None) -> None:
        """Make it; RLlib gives every class its `env_config`."""

    def reset(
        self, *, seed: int | None = None, options: Any = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.length = int(self.np_random.integers(3))
        self.length, self.steps = self.length % 3 + 1, 0
        return np.zeros(2, np.float32), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        self.steps += 1
        return np.zeros(2, np.float32), 1.0, self.steps == self.length, False, {}
