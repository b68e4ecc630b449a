"""Core: action distributions with analytic entropy and KL, in float32.

Shape key: B rows, A actions of one choice, K choices, D dimensions of a continuous action. Any
number of leading axes may stand in place of B.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

ActionKind = Literal["categorical", "multi_categorical", "gaussian"]


class Distribution(ABC):
    """A batch of action distributions.

    The numbers are computed in float32 whatever the network's precision: a KL of nearly equal
    policies is lost in half precision.
    """

    @abstractmethod
    def logp(self, actions: Tensor) -> Tensor:
        """Return the log-probability (or log-density) of `actions`, float32 (B,)."""

    @abstractmethod
    def entropy(self) -> Tensor:
        """Return the (differential) entropy in nats, float32 (B,)."""

    @abstractmethod
    def kl(self, other: Distribution) -> Tensor:
        """Return KL(self || other) in nats, float32 (B,); `other` is of the same class."""

    @abstractmethod
    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Draw one action a row."""

    @abstractmethod
    def mode(self) -> Tensor:
        """Return the most probable action of each row."""


class Categorical(Distribution):
    """One choice out of A.

    Args:
        inputs: Unnormalised log-probabilities (B, A). Actions are int64 (B,).
    """

    def __init__(self, inputs: Tensor) -> None:
        self.log_probs = torch.log_softmax(inputs.float(), dim=-1)

    def logp(self, actions: Tensor) -> Tensor:
        """Return the log-probability of `actions` (B,)."""
        return self.log_probs.gather(-1, actions.long().unsqueeze(-1)).squeeze(-1)

    def entropy(self) -> Tensor:
        """Return the entropy (B,)."""
        return -(self.log_probs.exp() * self.log_probs).sum(dim=-1)

    def kl(self, other: Distribution) -> Tensor:
        """Return KL(self || other) (B,)."""
        assert isinstance(other, Categorical), "KL needs two categorical distributions"
        return (self.log_probs.exp() * (self.log_probs - other.log_probs)).sum(dim=-1)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Draw actions, int64 (B,)."""
        # Gumbel-max: no checks, no synchronisation, one pass.
        noise = torch.empty_like(self.log_probs).exponential_(generator=generator)
        return (self.log_probs - noise.log_()).argmax(dim=-1)

    def mode(self) -> Tensor:
        """Return the most probable actions, int64 (B,)."""
        return self.log_probs.argmax(dim=-1)


class MultiCategorical(Distribution):
    """K independent choices.

    Args:
        inputs: The choices' unnormalised log-probabilities side by side (B, sum(sizes)).
            Actions are int64 (B, K).
        sizes: Number of actions of each choice.
    """

    def __init__(self, inputs: Tensor, sizes: tuple[int, ...]) -> None:
        self.parts = [Categorical(part) for part in torch.split(inputs, list(sizes), dim=-1)]

    def logp(self, actions: Tensor) -> Tensor:
        """Return the joint log-probability of `actions` (B,)."""
        return self._sum(lambda k: self.parts[k].logp(actions[..., k]))

    def entropy(self) -> Tensor:
        """Return the joint entropy (B,)."""
        return self._sum(lambda k: self.parts[k].entropy())

    def kl(self, other: Distribution) -> Tensor:
        """Return KL(self || other) (B,)."""
        assert isinstance(other, MultiCategorical), "KL needs two multi-categorical distributions"
        theirs = other.parts
        return self._sum(lambda k: self.parts[k].kl(theirs[k]))

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Draw actions, int64 (B, K)."""
        return torch.stack([part.sample(generator) for part in self.parts], dim=-1)

    def mode(self) -> Tensor:
        """Return the most probable actions, int64 (B, K)."""
        return torch.stack([part.mode() for part in self.parts], dim=-1)

    def _sum(self, term: Callable[[int], Tensor]) -> Tensor:
        return torch.stack([term(k) for k in range(len(self.parts))]).sum(dim=0)


class DiagGaussian(Distribution):
    """A normal distribution with independent dimensions.

    Args:
        inputs: Means, then logarithms of standard deviations (B, 2 D). Actions are float32 (B, D).
    """

    def __init__(self, inputs: Tensor) -> None:
        self.mean, self.log_std = inputs.float().chunk(2, dim=-1)

    def logp(self, actions: Tensor) -> Tensor:
        """Return the log-density of `actions` (B,)."""
        distance = (actions.float() - self.mean) * torch.exp(-self.log_std)
        terms = -0.5 * distance.square() - self.log_std - 0.5 * math.log(2 * math.pi)
        return terms.sum(dim=-1)

    def entropy(self) -> Tensor:
        """Return the differential entropy (B,)."""
        return (self.log_std + 0.5 * math.log(2 * math.pi * math.e)).sum(dim=-1)

    def kl(self, other: Distribution) -> Tensor:
        """Return KL(self || other) (B,)."""
        assert isinstance(other, DiagGaussian), "KL needs two Gaussian distributions"
        log_ratio = self.log_std - other.log_std
        shift = (self.mean - other.mean) * torch.exp(-other.log_std)
        terms = 0.5 * (torch.exp(2 * log_ratio) + shift.square() - 1) - log_ratio
        return terms.sum(dim=-1)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Draw actions, float32 (B, D)."""
        noise = torch.empty_like(self.mean).normal_(generator=generator)
        return self.mean + noise * torch.exp(self.log_std)

    def mode(self) -> Tensor:
        """Return the means, float32 (B, D)."""
        return self.mean


@dataclass(frozen=True)
class ActionSpec:
    """The kind and size of an action.

    Args:
        kind: "categorical", "multi_categorical" or "gaussian".
        sizes: (A,) for categorical, (A_1, ..., A_K) for multi_categorical, (D,) for gaussian.

    Raises:
        ValueError: For an unknown kind or impossible sizes.
    """

    kind: ActionKind
    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        allowed = get_args(ActionKind)
        if self.kind not in allowed:
            raise ValueError(
                f"action kind {self.kind!r} is unknown; use one of {', '.join(allowed)}."
            )
        if not self.sizes or min(self.sizes) < 1:
            raise ValueError(f"action sizes {self.sizes} must be one or more positive numbers.")
        if self.kind != "multi_categorical" and len(self.sizes) != 1:
            raise ValueError(f"a {self.kind} action has one size, not {self.sizes}.")

    @property
    def num_inputs(self) -> int:
        """Number of network outputs that describe one distribution."""
        return sum(self.sizes) * (2 if self.kind == "gaussian" else 1)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one action: (), (K,) or (D,)."""
        if self.kind == "categorical":
            return ()
        return (len(self.sizes),) if self.kind == "multi_categorical" else self.sizes

    def distribution(self, inputs: Tensor) -> Distribution:
        """Make the distributions that the network's outputs (B, num_inputs) describe."""
        if self.kind == "categorical":
            return Categorical(inputs)
        if self.kind == "multi_categorical":
            return MultiCategorical(inputs, self.sizes)
        return DiagGaussian(inputs)
