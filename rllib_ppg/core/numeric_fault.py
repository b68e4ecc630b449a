"""Core: numbers that are not finite where training cannot go on, and what is known of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

FaultKind = Literal["minibatch", "sample"]


@dataclass(frozen=True)
class Evidence:
    """What a dump needs to show a fault again.

    Attributes:
        kind: "minibatch" for a loss or gradient, "sample" for what an environment gave.
        facts: Where it was and which settings it was made with, as plain JSON.
        tensors: The numbers, on the host: a minibatch's rows, or the rows around a step.
    """

    kind: FaultKind
    facts: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)


class NumericFault(FloatingPointError):
    """A number that is not finite; it comes again however often the run is restarted.

    Attributes:
        evidence: What is known of it; it travels with the exception from process to process.
    """

    def __init__(self, message: str, evidence: Evidence | None = None) -> None:
        super().__init__(message)
        self.evidence = evidence


class BrokenStep(NumericFault):
    """An optimiser step of a pass whose loss or gradient is not finite.

    Attributes:
        index: Which step of the pass, from 0.
    """

    def __init__(self, message: str, index: int = 0) -> None:
        super().__init__(message)
        self.index = index


class FaultFlag:
    """Whether a step of a pass was broken; it stands on the device, and nothing waits for it.

    Once it is raised no later step of the pass changes anything, so that weights and optimisers
    stay as they were before the broken step. Which step it was is read from the pass's statistics.

    Args:
        device: That of the network that is trained.
    """

    def __init__(self, device: torch.device) -> None:
        self.raised = torch.zeros((), dtype=torch.bool, device=device)

    def note(self, broken: Tensor) -> Tensor:
        """Raise the flag where `broken` (0-dim bool) is true; returns it."""
        self.raised = self.raised | broken
        return self.raised


def with_evidence(error: BrokenStep, gather: Callable[[int], Evidence]) -> BrokenStep:
    """Add what `gather` finds for the broken step, unless that fails: the error counts more."""
    try:
        error.evidence = gather(error.index)
    except (RuntimeError, MemoryError) as problem:
        error.args = (f"{error} (The minibatch could not be kept: {problem})",)
    return error
