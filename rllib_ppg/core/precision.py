"""Core: the number formats of the network's passes.

Losses, KL included, are computed in float32 whatever the format, as are weights, gradients and
optimiser states.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, get_args

import torch
from torch import Tensor

Precision = Literal["float32", "bfloat16", "float16"]

_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}

# float16 holds gradients down to 6e-8 only, so the loss is scaled up; usual values.
_FIRST_SCALE = 2.0**16
_GROW_AFTER = 2000
_FACTOR = 2.0
_LEAST_SCALE = 1.0


def check_precision(precision: str) -> None:
    """Refuse an unknown number format.

    Raises:
        ValueError: If it is none of `Precision`.
    """
    if precision not in get_args(Precision):
        allowed = ", ".join(get_args(Precision))
        raise ValueError(f"precision {precision!r} is unknown; use one of {allowed}.")


class MixedPrecision:
    """Autocast to a format and, for float16, a loss scale that adapts on the device.

    Args:
        precision: The format of the network's passes.
        device: Where the scale stands, that of the network that is trained.
    """

    def __init__(self, precision: Precision, device: torch.device) -> None:
        check_precision(precision)
        self.precision = precision
        self.scaled = precision == "float16"
        self._scale = torch.tensor(_FIRST_SCALE, device=device)
        self._good_steps = torch.tensor(0.0, device=device)

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """Return a context in which a network on `device` runs in the format."""
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(device.type, dtype=_DTYPES[self.precision])

    def scale(self, loss: Tensor) -> Tensor:
        """Return the loss as it is to be differentiated."""
        if not self.scaled:
            return loss
        return loss * self._scale.to(loss.device, non_blocking=True)

    def unscale(self, gradients: list[Tensor]) -> None:
        """Undo the scaling in the gradients, in place."""
        if self.scaled:
            torch._foreach_mul_(gradients, self._scale.reciprocal())

    def blamed(self, broken: Tensor) -> Tensor:
        """Return whether the scale is to blame for a gradient that is not finite.

        False where the loss is not scaled, or the scale is at its least already.

        Args:
            broken: Whether a gradient was not finite, bool (0-dim).
        """
        return broken & (self._scale > _LEAST_SCALE) if self.scaled else torch.zeros_like(broken)

    def adapt(self, broken: Tensor, frozen: Tensor | None = None) -> None:
        """Halve a scaled loss's scale after an overflow, double it after many steps without.

        Nothing waits for the device.

        Args:
            broken: Whether a gradient was not finite, bool (0-dim).
            frozen: Leave the scale as it is where this is true, bool (0-dim).
        """
        steps = torch.where(broken, 0.0, self._good_steps + 1)
        grown = torch.where(steps >= _GROW_AFTER, self._scale * _FACTOR, self._scale)
        scale = torch.where(self.blamed(broken), self._scale / _FACTOR, grown)
        steps = torch.where(steps >= _GROW_AFTER, 0.0, steps)
        if frozen is not None:
            scale = torch.where(frozen, self._scale, scale)
            steps = torch.where(frozen, self._good_steps, steps)
        self._scale, self._good_steps = scale, steps

    def get_state(self) -> dict[str, float]:
        """Return the loss scale and the steps since it changed."""
        return {"scale": self._scale.item(), "good_steps": self._good_steps.item()}

    def set_state(self, state: Mapping[str, float]) -> None:
        """Take the state of `get_state`."""
        self._scale.fill_(state["scale"])
        self._good_steps.fill_(state["good_steps"])
