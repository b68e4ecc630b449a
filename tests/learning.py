"""Two settings that learn quickly, and how to let them."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import yaml

from rllib_ppg import PPGConfig

EXPERIMENT = Path(__file__).parents[1] / "experiments" / "ppg_cartpole.yaml"
CARTPOLE = yaml.safe_load(EXPERIMENT.read_text(encoding="utf-8"))["ppg-cartpole"]["config"]

PENDULUM = {
    "num_envs": 8, "rollout_fragment_length": 200, "gamma": 0.9, "entropy_coeff": 0.0,
    "minibatch_unit": "step", "nminibatch": 16, "n_epoch_pi": 6, "n_epoch_vf": 6, "lr": 1e-3,
    "n_pi": 8, "n_aux_epochs": 4, "aux_mbsize": 8, "aux_lr": 1e-3,
}  # fmt: skip


def train(
    env: str, config: Mapping[str, Any], *, target: float, seconds: float, steps: float = np.inf
) -> float:
    """Train until the mean return is `target`, or a limit is met; return the mean return."""
    algorithm = PPGConfig().environment(env).update_from_dict(config).build_algo()
    begin = time.monotonic()
    while True:
        result = algorithm.train()
        reached = result["env_runners"]["episode_return_mean"]
        spent = result["num_env_steps_sampled_lifetime"]
        if reached >= target or spent >= steps or time.monotonic() - begin > seconds:
            algorithm.stop()
            print(f"{env}: {reached:.0f}, {spent} steps, {time.monotonic() - begin:.0f} s")
            return float(reached)


def random_return(name: str, episodes: int = 20) -> float:
    """Mean return of a policy that acts at random."""
    env = gymnasium.make(name)
    env.action_space.seed(0)
    total = 0.0
    for episode in range(episodes):
        env.reset(seed=episode)
        over = False
        while not over:
            _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            total += float(reward)
            over = terminated or truncated
    return total / episodes
