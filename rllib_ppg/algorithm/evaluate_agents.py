"""Algorithm: who plays in an evaluation: a trained policy at a temperature, or random actions.

An agent travels to workers, so it holds the network on the CPU and nothing of RLlib.
"""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import torch

from rllib_ppg.algorithm.actions import start, to_env_actions
from rllib_ppg.algorithm.policy import PPGTorchPolicy
from rllib_ppg.core.distributions import ActionSpec
from rllib_ppg.core.networks import PhasicNetwork
from rllib_ppg.core.temperature import check_temperature, tempered

Act = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Agent(Protocol):
    """Somebody who plays."""

    def begin(self, space: gym.Space[Any], seed: int) -> Act:
        """Return what gives actions (N, ...) for observations (N, ...).

        It takes the actions before them too, (N, ...), in an episode's beginning the first action
        of the space.

        Args:
            space: One environment's action space.
            seed: Seed of the actions.
        """


@dataclass(frozen=True)
class TrainedAgent:
    """A policy's network.

    Attributes:
        network: On the CPU, in evaluation mode.
        spec: Its actions.
        mapping: How the policy's actions become the environment's: `normalize_actions` and
            `clip_actions`.
        temperature: As `core.temperature` says; 0 takes the most probable action.
    """

    network: PhasicNetwork
    spec: ActionSpec
    mapping: Mapping[str, Any]
    temperature: float

    def begin(self, space: gym.Space[Any], seed: int) -> Act:
        """Return what gives the network's actions."""
        generator = torch.Generator().manual_seed(seed)
        config = SimpleNamespace(**self.mapping)

        def act(obs: np.ndarray, before: np.ndarray) -> np.ndarray:
            own = before - start(space) if self.network.takes_prev_actions else None
            # The rollout worker's own mapping, so that both play alike.
            return to_env_actions(self._choose(obs, own, generator), space, config)

        return act

    @torch.inference_mode()
    def _choose(
        self, obs: np.ndarray, before: np.ndarray | None, generator: torch.Generator
    ) -> np.ndarray:
        rows = torch.from_numpy(np.ascontiguousarray(obs))
        logits, _ = self.network.policy(rows, None if before is None else torch.from_numpy(before))
        if not self.temperature:
            return np.asarray(self.spec.distribution(logits).mode())
        inputs = tempered(self.spec, logits.float(), self.temperature)
        return np.asarray(self.spec.distribution(inputs).sample(generator))


@dataclass(frozen=True)
class RandomAgent:
    """Uniformly random actions."""

    def begin(self, space: gym.Space[Any], seed: int) -> Act:
        """Return what gives random actions."""
        if isinstance(space, gym.spaces.Discrete):
            generator = np.random.default_rng(seed)
            return lambda obs, before: generator.integers(space.n, size=len(obs)) + space.start
        own = deepcopy(space)
        own.seed(seed)
        return lambda obs, before: np.stack([own.sample() for _ in range(len(obs))])


def default_temperature(config: Mapping[str, Any]) -> float:
    """The temperature at which a policy acts outside of its training.

    Args:
        config: The policy's configuration: `evaluation_temperature`, else 1 where it explores, or
            0.
    """
    given = config.get("evaluation_temperature")
    return float(bool(config.get("explore", True)) if given is None else given)


def trained_agent(policy: PPGTorchPolicy, temperature: float | None = None) -> TrainedAgent:
    """Make an agent of a policy, whose network is copied to the CPU.

    Args:
        policy: A policy.
        temperature: Of its actions; None is the policy's own.

    Raises:
        UserError: If the temperature makes no sense.
    """
    check_temperature(temperature)
    if temperature is None:
        temperature = default_temperature(policy.config)
    mapping = {name: policy.config[name] for name in ("normalize_actions", "clip_actions")}
    network = deepcopy(policy.network).to("cpu").eval()
    return TrainedAgent(network, policy.action_spec, mapping, float(temperature))
