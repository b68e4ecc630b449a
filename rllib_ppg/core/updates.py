"""Core: one optimiser step over a minibatch in micro-batches, and the statistics of a phase.

Shape key: R rows of a minibatch, K optimiser steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from rllib_ppg.core.segments import IndexArray, segment_rows

MinibatchUnit = Literal["segment", "step"]
StepStats = dict[str, Tensor]


class Rows(NamedTuple):
    """Flat row numbers int64 (R,) of a minibatch, on the host and on the device."""

    host: Tensor
    device: Tensor


# Takes the rows of a micro-batch; gives the loss, a mean over them, and detached statistics.
LossFunction = Callable[[Rows], tuple[Tensor, StepStats]]


def as_tensor(array: npt.NDArray[Any] | Tensor) -> Tensor:
    """Return an array as a host tensor, without a copy where it is writable and contiguous."""
    if isinstance(array, Tensor):
        return array
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


def check_unit(unit: str) -> None:
    """Refuse an unknown minibatch unit.

    Raises:
        ValueError: If it is neither "segment" nor "step".
    """
    if unit not in ("segment", "step"):
        raise ValueError(f'minibatch_unit {unit!r} is unknown; use "segment" or "step".')


class Updater:
    """Makes optimiser steps on a network, and moves rows to its device.

    Args:
        network: The network whose parameters all optimisers hold.
        device: Where it stands.
        micro_batch_size: Most rows in one forward and backward pass; None takes whole minibatches.
            The update is the same up to rounding; only memory and speed differ.

    Raises:
        ValueError: If `micro_batch_size` is not positive.
    """

    def __init__(
        self, network: nn.Module, device: torch.device, micro_batch_size: int | None
    ) -> None:
        if micro_batch_size is not None and micro_batch_size < 1:
            raise ValueError(f"micro_batch_size={micro_batch_size} must be at least 1, or None.")
        self.network = network
        self.device = device
        self.micro_batch_size = micro_batch_size
        self.parameters = [parameter for _, parameter in network.named_parameters()]

    def gather(self, source: Tensor, index: Tensor) -> Tensor:
        """Return rows of a host tensor on the device, in the source's dtype."""
        if self.device.type != "cuda":
            return source.index_select(0, index).to(self.device)
        # From pinned memory the copy runs beside the device's work and the host goes on.
        staging = torch.empty((len(index), *source.shape[1:]), dtype=source.dtype, pin_memory=True)
        torch.index_select(source, 0, index, out=staging)
        return staging.to(self.device, non_blocking=True)

    def minibatches(self, pieces: Sequence[IndexArray], num_steps: int) -> list[Rows]:
        """Turn an epoch's pieces into row numbers, moved to the device once.

        Args:
            pieces: Segments of each minibatch, or flat rows with `num_steps` 1.
            num_steps: Steps of a segment, T.
        """
        rows = torch.from_numpy(segment_rows(np.concatenate(pieces), num_steps))
        lengths = [len(piece) * num_steps for piece in pieces]
        host, moved = torch.split(rows, lengths), torch.split(rows.to(self.device), lengths)
        return [Rows(*pair) for pair in zip(host, moved, strict=True)]

    def micro_batches(self, rows: Rows) -> Iterator[Rows]:
        """Cut a minibatch's rows into micro-batches."""
        size = self.micro_batch_size or len(rows.host)
        for start in range(0, len(rows.host), size):
            yield Rows(rows.host[start : start + size], rows.device[start : start + size])

    def update(
        self,
        optimizer: torch.optim.Optimizer,
        rows: Rows,
        loss_function: LossFunction,
        grad_clip: float | None,
    ) -> StepStats:
        """Make one optimiser step on the mean loss over `rows`.

        Args:
            optimizer: Holds all parameters; those that get no gradient are not moved.
            rows: The minibatch.
            loss_function: Computes a micro-batch's loss and statistics.
            grad_clip: Largest L2 norm of the whole gradient; None does not clip.

        Returns:
            Statistics over the minibatch and `grad_norm` (before clipping), 0-dim on the device.
        """
        stats: StepStats = {}
        # None, not zero: Adam would move a parameter that has a zero gradient. And right here, so
        # that nothing left in .grad by anyone else enters.
        optimizer.zero_grad(set_to_none=True)
        for micro in self.micro_batches(rows):
            loss, terms = loss_function(micro)
            weight = len(micro.host) / len(rows.host)
            torch.autograd.backward(loss * weight)
            for name, value in terms.items():
                stats[name] = stats[name] + value * weight if name in stats else value * weight
        limit = math.inf if grad_clip is None else grad_clip
        stats["grad_norm"] = nn.utils.clip_grad_norm_(self.parameters, limit).detach()
        optimizer.step()
        return stats


class PhaseStats(dict[str, npt.NDArray[np.float32]]):
    """Statistics by name, one entry for each optimiser step (K,); NaN where a step made none."""

    def means(self) -> dict[str, float]:
        """Return the mean of each statistic over the steps that made it; NaN if none did."""
        made = {name: values[~np.isnan(values)] for name, values in self.items()}
        return {name: float(v.mean()) if len(v) else math.nan for name, v in made.items()}


def collect_stats(
    names: Sequence[str], steps: Sequence[StepStats], where: Callable[[int], str]
) -> PhaseStats:
    """Move the statistics of several steps to the host at once, and check that they are finite.

    Args:
        names: All statistics of the phase.
        steps: What each step made.
        where: Describes the i-th step for the error message.

    Raises:
        FloatingPointError: If a statistic is NaN or infinite: which, and at which step first.
    """
    if not steps:
        return PhaseStats({name: np.empty(0, np.float32) for name in names})
    missing = torch.full((), math.nan, device=steps[0]["grad_norm"].device)
    lines = [torch.stack([step.get(name, missing).float() for name in names]) for step in steps]
    table = torch.stack(lines).cpu().numpy()  # (K, names)
    made = np.array([[name in step for name in names] for step in steps])
    broken = made & ~np.isfinite(table)
    if broken.any():
        first = int(broken.any(axis=1).argmax())
        terms = [f"{names[i]} became {table[first, i]}" for i in np.flatnonzero(broken[first])]
        raise FloatingPointError(
            f"{', '.join(terms)} at {where(first)}. The network is no longer usable: go on from "
            "the last checkpoint, with a smaller lr or with grad_clip."
        )
    return PhaseStats({name: table[:, i].copy() for i, name in enumerate(names)})
