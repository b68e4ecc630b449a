"""Core: clipping of a gradient, element by element and by its norm, without waiting for it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class AdaptiveClip:
    """A limit of the gradient's norm that follows the norms of the last steps.

    Args:
        percentile: Of these norms, the limit, in percent.
        buffer_size: How many are held; until then `grad_clip` is the limit.
        min: Smallest limit.
        max: Largest limit.

    Raises:
        ValueError: If a number is out of its range.

    Source: wulfebw/neurips2020-procgen@e131684, grad_clip mode "adaptive".
    """

    percentile: float = 97.0
    buffer_size: int = 128
    min: float = 1.0
    max: float = 5.0

    def __post_init__(self) -> None:
        if not 0 <= self.percentile <= 100:
            raise ValueError(f"percentile={self.percentile} must be in 0 to 100.")
        if self.buffer_size < 1:
            raise ValueError(f"buffer_size={self.buffer_size} must be at least 1.")
        if not 0 < self.min <= self.max:
            raise ValueError(f"min={self.min} must be above 0 and at most max={self.max}.")


class GradientClip:
    """Clips the gradient of one step after the other; both phases share one.

    Args:
        device: Where the parameters stand.
        elementwise: Every entry is held within +- this first; None does not.
        adaptive: Replaces the limit of the norm once enough steps were made; None does not.

    Attributes:
        limit: The limit of the newest step, 0-dim on the device; infinite without one.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        elementwise: float | None = None,
        adaptive: AdaptiveClip | None = None,
    ) -> None:
        self.elementwise = elementwise
        self.adaptive = adaptive
        self.limit = torch.tensor(math.inf, device=device)
        size = adaptive.buffer_size if adaptive else 0
        self._norms = torch.zeros(size, device=device)
        self._count = torch.zeros((), dtype=torch.int64, device=device)

    def __call__(self, parameters: Sequence[nn.Parameter], grad_clip: float | None) -> Tensor:
        """Clip `.grad` in place, element by element, then as a whole.

        Args:
            parameters: Those with a gradient.
            grad_clip: Largest norm of the whole; None does not clip it.

        Returns:
            The norm before, 0-dim on the device.
        """
        limit = math.inf if grad_clip is None else grad_clip
        if self.elementwise is None and self.adaptive is None:
            return nn.utils.clip_grad_norm_(parameters, limit).detach()
        gradients = [p.grad for p in parameters if p.grad is not None]
        raw = nn.utils.get_total_norm(gradients)
        norm = raw
        if self.elementwise is not None:
            torch._foreach_clamp_min_(gradients, -self.elementwise)
            torch._foreach_clamp_max_(gradients, self.elementwise)
            norm = nn.utils.get_total_norm(gradients)
        self.limit = torch.full_like(self.limit, limit)
        if self.adaptive is not None:
            self._adapt(self.adaptive, norm, torch.isfinite(raw))
        # As torch's own clip_grad_norm_.
        torch._foreach_mul_(gradients, torch.clamp(self.limit / (norm + 1e-6), max=1.0))
        return raw

    def _adapt(self, adaptive: AdaptiveClip, norm: Tensor, finite: Tensor) -> None:
        """Set the limit by the norms of earlier steps, then remember this one."""
        percentile = torch.quantile(self._norms, adaptive.percentile / 100)
        full = self._count >= len(self._norms)
        self.limit = torch.where(full, percentile.clamp(adaptive.min, adaptive.max), self.limit)
        place = torch.arange(len(self._norms), device=norm.device) == self._count % len(self._norms)
        self._norms = torch.where(place & finite, norm, self._norms)
        self._count = self._count + finite

    def get_state(self) -> dict[str, Any]:
        """Return the norms that are held; empty without an adaptive limit."""
        if self.adaptive is None:
            return {}
        return {"norms": self._norms.cpu().numpy().copy(), "count": int(self._count)}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take the state of `get_state`.

        Raises:
            ValueError: If it holds another number of norms.
        """
        if self.adaptive is None:
            return
        norms = torch.from_numpy(np.array(state["norms"], np.float32))
        if norms.shape != self._norms.shape:
            raise ValueError(
                f"the state has {len(norms)} gradient norms, grad_clip_adaptive.buffer_size is "
                f"{len(self._norms)}."
            )
        self._norms.copy_(norms)
        self._count.fill_(int(state["count"]))
