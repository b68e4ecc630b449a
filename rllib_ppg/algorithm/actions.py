"""Algorithm: action spaces, and RLlib's view of the action distributions in `core`."""

import math
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from rllib_ppg._ray_compat import TorchDistributionWrapper, TorchModelV2, unsquash_action
from rllib_ppg.core.distributions import ActionSpec
from rllib_ppg.errors import UserError


def action_spec(space: Any) -> ActionSpec:
    """The action distribution for an action space.

    Raises:
        UserError: If the space is not Discrete, MultiDiscrete or a one-dimensional float Box.
    """
    if isinstance(space, gym.spaces.Discrete):
        return ActionSpec("categorical", (int(space.n),))
    if isinstance(space, gym.spaces.MultiDiscrete) and space.nvec.ndim == 1:
        return ActionSpec("multi_categorical", tuple(int(n) for n in space.nvec))
    if isinstance(space, gym.spaces.Box) and np.issubdtype(space.dtype, np.floating):
        return ActionSpec("gaussian", (math.prod(space.shape),))
    raise UserError(
        f"PPG takes Discrete, MultiDiscrete or float Box actions, this environment has {space}."
    )


def start(space: gym.Space) -> Any:
    """The first value of a (Multi)Discrete space, which networks count from 0; else 0."""
    return getattr(space, "start", 0)


def first_actions(space: Any, count: int) -> np.ndarray:
    """The action taken for the one before an episode: the first category, or 0; (count, ...)."""
    dtype = space.dtype if isinstance(space, gym.spaces.Box) else np.int64
    return np.zeros((count, *space.shape), dtype) + np.asarray(start(space), dtype)


def to_env_actions(actions: np.ndarray, space: Any, config: Any) -> np.ndarray:
    """Map the policy's actions to the environments' (RLlib's `normalize_actions`).

    Args:
        actions: What the policy gives (N, ...), categories from 0.
        space: One environment's action space.
        config: Says how Box actions are mapped (`normalize_actions`, `clip_actions`).
    """
    actions = actions.reshape(len(actions), *space.shape)
    if not isinstance(space, gym.spaces.Box):
        return actions + start(space)
    if config.normalize_actions:
        return unsquash_action(actions, space).astype(space.dtype)
    if config.clip_actions:
        return np.clip(actions, space.low, space.high)
    return actions


class PhasicDistribution(TorchDistributionWrapper):
    """RLlib's wrapper around the one implementation of the action distribution, in `core`.

    RLlib's exploration samples through it (`compute_single_action` and the like), so that acting
    and training cannot disagree. Actions here have the space's shape and start, as RLlib expects.
    """

    space: Any
    spec: ActionSpec

    def __init__(self, inputs: torch.Tensor, model: TorchModelV2) -> None:
        # The parent's constructor would only convert the inputs.
        self.inputs = inputs
        self.model = model
        self.dist = self.spec.distribution(inputs)
        self.last_sample: torch.Tensor | None = None

    @classmethod
    def required_model_output_shape(cls, action_space: gym.Space, model_config: Any) -> int:
        """Number of network outputs."""
        return cls.spec.num_inputs

    def sample(self) -> torch.Tensor:
        """Draw actions from torch's global generator."""
        self.last_sample = self._to_space(self.dist.sample())
        return self.last_sample

    def deterministic_sample(self) -> torch.Tensor:
        """Return the most likely actions."""
        self.last_sample = self._to_space(self.dist.mode())
        return self.last_sample

    def logp(self, actions: torch.Tensor) -> torch.Tensor:
        """Log-probabilities (B,) of actions."""
        flat = (actions - self._start(actions)).reshape(len(actions), *self.spec.shape)
        return self.dist.logp(flat)

    def sampled_action_logp(self) -> torch.Tensor:
        """Log-probabilities (B,) of the last sample."""
        assert self.last_sample is not None, "sample() has to come first"
        return self.logp(self.last_sample)

    def entropy(self) -> torch.Tensor:
        """Entropies (B,)."""
        return self.dist.entropy()

    def kl(self, other: Any) -> torch.Tensor:
        """KL(self, other) (B,)."""
        return self.dist.kl(other.dist)

    def _to_space(self, actions: torch.Tensor) -> torch.Tensor:
        return actions.reshape(-1, *self.space.shape) + self._start(actions)

    def _start(self, like: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(start(self.space), dtype=like.dtype, device=like.device)


def distribution_class(space: gym.Space) -> type[PhasicDistribution]:
    """Return the `PhasicDistribution` for one action space."""
    attributes = {"space": space, "spec": action_spec(space)}
    return type("PhasicDistribution", (PhasicDistribution,), attributes)
