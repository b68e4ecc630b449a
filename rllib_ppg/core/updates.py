"""Core: one optimiser step over a minibatch, and the statistics of a phase.

A minibatch's rows are shared out to the replicas, which work through their shares in micro-batches;
the gradients add up to the minibatch's. Shape key: K optimiser steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rllib_ppg.core.clipping import GradientClip
from rllib_ppg.core.frames import Rows
from rllib_ppg.core.numeric_fault import BrokenStep, FaultFlag
from rllib_ppg.core.precision import MixedPrecision
from rllib_ppg.core.replicas import Replica, Replicas
from rllib_ppg.core.segments import IndexArray, segment_rows

MinibatchUnit = Literal["segment", "step"]
StepStats = dict[str, Tensor]

# The rows of a minibatch that each replica takes.
Minibatch = list[Rows]

# Takes a replica and the rows of a micro-batch; gives the loss, a mean over them, and detached
# statistics.
LossFunction = Callable[[Replica, Rows], tuple[Tensor, StepStats]]

# Rows of a pass without gradient where no micro-batch size is given.
_NO_GRAD_ROWS = 1024


def check_unit(unit: str) -> None:
    """Refuse an unknown minibatch unit.

    Raises:
        ValueError: If it is neither "segment" nor "step".
    """
    if unit not in ("segment", "step"):
        raise ValueError(f'minibatch_unit {unit!r} is unknown; use "segment" or "step".')


def check_sizes(mbsize_rows: int | None, num_accumulates: int, unit: str) -> None:
    """Refuse sizes of minibatches that make no sense.

    Raises:
        ValueError: Naming them.
    """
    if (mbsize_rows is not None and mbsize_rows < 1) or num_accumulates < 1:
        raise ValueError(
            f"mbsize_rows={mbsize_rows} and num_accumulates={num_accumulates} must be at least 1."
        )
    if mbsize_rows is not None and unit != "step":
        raise ValueError('mbsize_rows needs the minibatch unit "step".')


class Updater:
    """Makes optimiser steps on a network, and passes without gradient.

    Args:
        replicas: The network and its replicas, which share a minibatch's rows.
        micro_batch_size: Most rows in one forward and backward pass; None takes all that a replica
            has. The update is the same up to rounding; only memory and speed differ.

    Raises:
        ValueError: If `micro_batch_size` is not positive.
    """

    def __init__(self, replicas: Replicas, micro_batch_size: int | None) -> None:
        if micro_batch_size is not None and micro_batch_size < 1:
            raise ValueError(f"micro_batch_size={micro_batch_size} must be at least 1, or None.")
        self.replicas = replicas
        self.micro_batch_size = micro_batch_size

    @property
    def device(self) -> torch.device:
        """Where the network that is trained stands."""
        return self.replicas[0].device

    def on_devices(self, tensor: Tensor) -> dict[torch.device, Tensor]:
        """Return a tensor on each device that has a replica."""
        return {replica.device: tensor.to(replica.device) for replica in self.replicas}

    def minibatches(self, pieces: Sequence[IndexArray], num_steps: int) -> list[Minibatch]:
        """Turn an epoch's pieces into row numbers for each replica, moved to its device once.

        Args:
            pieces: Segments of each minibatch, or flat rows with `num_steps` 1.
            num_steps: Steps of a segment, T.
        """
        rows = torch.from_numpy(segment_rows(np.concatenate(pieces), num_steps))
        lengths = [len(piece) * num_steps for piece in pieces]
        copies = {device: torch.split(t, lengths) for device, t in self.on_devices(rows).items()}
        return [
            self._shares(host, {device: parts[i] for device, parts in copies.items()})
            for i, host in enumerate(torch.split(rows, lengths))
        ]

    def _shares(self, host: Tensor, copies: dict[torch.device, Tensor]) -> Minibatch:
        """Cut a minibatch's rows into equal shares, one for each replica that gets any."""
        count = min(len(self.replicas), len(host))
        moved = {device: torch.tensor_split(rows, count) for device, rows in copies.items()}
        shares = zip(torch.tensor_split(host, count), self.replicas, strict=False)
        return [Rows(share, moved[replica.device][i]) for i, (share, replica) in enumerate(shares)]

    def map(
        self,
        function: Callable[[Replica, Rows], Tensor],
        start: int,
        stop: int,
        precision: MixedPrecision,
    ) -> Tensor:
        """Compute something without gradient for the rows from `start` to `stop`.

        Args:
            function: Takes a replica and some rows; gives a result for each of them.
            start: The first row.
            stop: One past the last row.
            precision: Format of the network's passes.

        Returns:
            The results in float32 (stop - start, ...), on the network's device.
        """
        # Made where they are needed: an upload from ordinary memory would wait for the device.
        devices = {replica.device for replica in self.replicas}
        rows = {device: torch.arange(start, stop, device=device) for device in devices}
        shares = self._shares(torch.arange(start, stop), rows)
        parts = self.replicas.run(partial(self._no_grad, function, precision), shares)
        return torch.cat([part.to(self.device) for part in parts])

    def _no_grad(
        self,
        function: Callable[[Replica, Rows], Tensor],
        precision: MixedPrecision,
        replica: Replica,
        share: Rows,
    ) -> Tensor:
        replica.network.eval()
        with torch.no_grad(), precision.autocast(replica.device):
            pieces = micro_batches(share, self.micro_batch_size or _NO_GRAD_ROWS)
            return torch.cat([function(replica, rows).float() for rows in pieces])

    def update(
        self,
        optimizers: Sequence[torch.optim.Optimizer],
        minibatches: Sequence[Minibatch],
        loss_function: LossFunction,
        clip: GradientClip,
        grad_clip: float | None,
        precision: MixedPrecision,
        fault: FaultFlag | None = None,
        before_clip: Callable[[], None] | None = None,
    ) -> StepStats:
        """Make one optimiser step on the mean over the minibatches of their mean losses.

        A step whose loss, gradient or statistics are not finite changes nothing. It is decided on
        the device, without waiting for it; the step's statistics tell.

        Args:
            optimizers: They step together; parameters that get no gradient are not moved.
            minibatches: The rows of each, by replica. All count the same, a shorter one too.
            loss_function: Computes a micro-batch's loss and statistics.
            clip: Clips the gradient.
            grad_clip: Largest L2 norm of the whole gradient; None does not clip.
            precision: Format of the network's passes.
            fault: The pass's flag: where it is raised the step changes nothing either.
            before_clip: Called when the gradient stands.

        Returns:
            Statistics, their means over the minibatches, and `grad_norm` (before clipping), 0-dim
            on the device; with a scaled loss also `overflow`, whether the step was left out to
            lower the scale.
        """
        stats = self.gradient(minibatches, loss_function, precision)
        finite = torch.isfinite(_all(stats)).all()
        if before_clip is not None:
            before_clip()
        stats["grad_norm"] = clip(self.replicas[0].parameters, grad_clip)
        overflow = ~torch.isfinite(stats["grad_norm"])
        blamed = precision.blamed(overflow)
        raised = (fault or FaultFlag(self.device)).note(~finite | (overflow & ~blamed))
        for optimizer in optimizers:
            _step_unless(optimizer, overflow | raised)
        if precision.scaled:
            stats["overflow"] = blamed
            precision.adapt(overflow, raised)
        self.replicas.broadcast()
        return stats

    def gradient(
        self,
        minibatches: Sequence[Minibatch],
        loss_function: LossFunction,
        precision: MixedPrecision,
    ) -> StepStats:
        """Compute the gradient of the minibatches' mean loss; the network's `.grad` has it.

        Args:
            minibatches: The rows of each, by replica. All count the same, a shorter one too.
            loss_function: Computes a micro-batch's loss and statistics.
            precision: Format of the network's passes.

        Returns:
            Statistics, their means over the minibatches, 0-dim on the device.
        """
        # Right here, so that nothing left in .grad by anyone else enters.
        self.replicas.zero_grad()
        stats: StepStats = {}
        for minibatch in minibatches:
            total = sum(len(share.host) for share in minibatch) * len(minibatches)
            backward = partial(self._backward, loss_function, total, precision)
            for terms in self.replicas.run(backward, minibatch):
                _add(stats, terms, self.device)
        self.replicas.reduce_gradients()
        gradients = (p.grad for p in self.replicas[0].parameters)
        precision.unscale([gradient for gradient in gradients if gradient is not None])
        return stats

    def _backward(
        self,
        loss_function: LossFunction,
        total: int,
        precision: MixedPrecision,
        replica: Replica,
        share: Rows,
    ) -> StepStats:
        """Accumulate a replica's gradient over its share of a minibatch; a row counts 1 / total."""
        replica.network.train()
        stats: StepStats = {}
        for rows in micro_batches(share, self.micro_batch_size):
            with precision.autocast(replica.device):
                loss, terms = loss_function(replica, rows)
            weight = len(rows.host) / total
            torch.autograd.backward(precision.scale(loss * weight))
            _add(stats, {name: value * weight for name, value in terms.items()}, replica.device)
        return stats


def in_steps(pieces: Sequence[Any], num_accumulates: int) -> list[Sequence[Any]]:
    """Group minibatches by the optimiser step that they make together; the last may have fewer."""
    starts = range(0, len(pieces), num_accumulates)
    return [pieces[start : start + num_accumulates] for start in starts]


def micro_batches(share: Rows, size: int | None) -> list[Rows]:
    """Cut rows into the fewest pieces of at most `size` rows, all of nearly the same length."""
    count = 1 if size is None else max(1, -(-len(share.host) // size))
    pieces = zip(*(torch.tensor_split(rows, count) for rows in share), strict=True)
    return [Rows(*piece) for piece in pieces]


def _step_unless(optimizer: torch.optim.Optimizer, broken: Tensor) -> None:
    """Make an optimiser step; a fused optimiser leaves it out where `broken` (0-dim) is true."""
    if optimizer.defaults.get("fused"):
        optimizer.found_inf = broken.float()  # type: ignore[attr-defined]
    optimizer.step()


def _add(sums: StepStats, terms: StepStats, device: torch.device) -> None:
    for name, value in terms.items():
        value = value.to(device, non_blocking=True)
        sums[name] = sums[name] + value if name in sums else value


def _all(stats: StepStats) -> Tensor:
    """All statistics in one tensor; one kernel to look at them."""
    values = [value.float() for value in stats.values()]
    return torch.stack(values) if values else torch.zeros(1)


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
        BrokenStep: If a statistic is NaN or infinite: which, and at which step first.
    """
    if not steps:
        return PhaseStats({name: np.empty(0, np.float32) for name in names})
    missing = torch.full((), math.nan, device=steps[0]["grad_norm"].device)
    columns = [*names, "overflow"]
    lines = [torch.stack([step.get(name, missing).float() for name in columns]) for step in steps]
    table = torch.stack(lines).cpu().numpy()  # (K, columns)
    overflow, table = table[:, -1] == 1, table[:, :-1]
    made = np.array([[name in step for name in names] for step in steps])
    made[overflow, list(names).index("grad_norm")] = False
    table[~made] = math.nan
    broken = made & ~np.isfinite(table)
    if broken.any():
        first = int(broken.any(axis=1).argmax())
        terms = [f"{names[i]} became {table[first, i]}" for i in np.flatnonzero(broken[first])]
        raise BrokenStep(
            f"{', '.join(terms)} at {where(first)}. Neither this step nor a later one was made. "
            "Go on from the last checkpoint, with a smaller lr or with grad_clip.",
            first,
        )
    return PhaseStats({name: table[:, i].copy() for i, name in enumerate(names)})
