"""Core: observations read by row, from where they stand to the device that needs them.

Shape key: R rows (steps of segments), S segments, T steps, F frames kept, k frames of a stack,
B rows of one read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


class Rows(NamedTuple):
    """Flat row numbers int64 (B,), on the host and on the device that reads them."""

    host: Tensor
    device: Tensor


class Inputs(NamedTuple):
    """What a pass of the network takes, in the order of its arguments.

    Attributes:
        obs: Observations (B, ...).
        prev_actions: The actions before them, the policy's own, int64 (B,); 0 where an episode
            begins. None where the network does not take them.
        kept: What dropout keeps, by name; None for a pass without dropout.
    """

    obs: Tensor
    prev_actions: Tensor | None = None
    kept: Mapping[str, Tensor] | None = None


def as_tensor(array: npt.NDArray[Any] | Tensor) -> Tensor:
    """Return an array as a host tensor, without a copy where it is writable and contiguous."""
    if isinstance(array, Tensor):
        return array
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


class StackIndex:
    """Says which frames make a stacked observation.

    A segment of T steps keeps T + k - 1 frames: the k - 1 older ones of its first observation,
    then one a step. At an episode's start all k are its first frame, so a stack never reaches back
    over `oldest`.

    Args:
        oldest: Position in its segment of the oldest frame that a step's stack may show, from 0,
            int64 (S, T).
        num_frames: k.
    """

    def __init__(self, oldest: Tensor, num_frames: int) -> None:
        self.oldest = oldest
        self.num_frames = num_frames

    def of(self, rows: Tensor) -> Tensor:
        """Return the numbers of the frames of each row, oldest first, int64 (B, k)."""
        steps = self.oldest.shape[1]
        segment = torch.div(rows, steps, rounding_mode="floor")
        window = torch.arange(self.num_frames, device=rows.device)
        position = (rows - segment * steps)[:, None] + window
        position = torch.maximum(position, self.oldest.flatten()[rows][:, None])
        return segment[:, None] * (steps + self.num_frames - 1) + position


def oldest_frames(firsts: npt.NDArray[np.bool_], num_frames: int) -> npt.NDArray[np.int64]:
    """Return `StackIndex`'s `oldest` (S, T).

    Args:
        firsts: True where a step's observation is the first of an episode (S, T).
        num_frames: k.
    """
    position = np.arange(firsts.shape[1]) + num_frames - 1
    return np.maximum.accumulate(np.where(firsts, position, 0), axis=1)


class Frames:
    """The observations of R rows; each frame stands there once.

    Args:
        frames: The frames (F, ...), one copy for each place that they are read from.
        stacks: Which frames make an observation, for each place; None where each row is one.
        prev_actions: The action before each row (R,), for each place; None where none is needed.
    """

    def __init__(
        self,
        frames: Mapping[torch.device, Tensor],
        stacks: Mapping[torch.device, StackIndex] | None,
        prev_actions: Mapping[torch.device, Tensor] | None = None,
    ) -> None:
        self._frames = frames
        self._stacks = stacks
        self._prev_actions = prev_actions
        self._first = next(iter(frames))

    @classmethod
    def of(
        cls,
        observations: npt.NDArray[Any] | Tensor,
        prev_actions: npt.NDArray[np.int64] | Tensor | None = None,
    ) -> Frames:
        """Wrap observations (R, ...), and the actions before them (R,), that stand in one array.

        They may be tensors on any device.
        """
        tensor = as_tensor(observations)
        if prev_actions is None:
            return cls({tensor.device: tensor}, None)
        return cls({tensor.device: tensor}, None, {tensor.device: as_tensor(prev_actions)})

    def __len__(self) -> int:
        stacks = self._stacks
        return (
            len(self._frames[self._first]) if stacks is None else stacks[self._first].oldest.numel()
        )

    @property
    def obs_shape(self) -> tuple[int, ...]:
        """Shape of one observation, with all its frames."""
        shape = tuple(self._frames[self._first].shape[1:])
        if self._stacks is None:
            return shape
        return (*shape[:-1], shape[-1] * self._stacks[self._first].num_frames)

    def read(self, rows: Rows, device: torch.device) -> Tensor:
        """Return the observations (B, ...) of some rows on `device`, in their own dtype."""
        if device in self._frames:
            return self._gather(device, rows.host if device.type == "cpu" else rows.device)
        observations = self._gather(self._first, rows.host)
        return observations.to(device) if device.type != "cuda" else _upload(observations, device)

    def inputs(self, rows: Rows, device: torch.device) -> Inputs:
        """Return all that the network takes for some rows, on `device`."""
        return Inputs(self.read(rows, device), self._read_prev_actions(rows, device))

    def _read_prev_actions(self, rows: Rows, device: torch.device) -> Tensor | None:
        if self._prev_actions is None:
            return None
        if device in self._prev_actions:
            return self._prev_actions[device][rows.host if device.type == "cpu" else rows.device]
        return self._prev_actions[self._first][rows.host].to(device)

    def _gather(self, place: torch.device, rows: Tensor) -> Tensor:
        frames = self._frames[place]
        if self._stacks is None:
            return _select(frames, rows)
        index = self._stacks[place].of(rows)
        stacks = _select(frames, index.flatten()).unflatten(0, index.shape)  # (B, k, ..., C)
        return stacks.movedim(1, -2).flatten(-2)


def _select(frames: Tensor, index: Tensor) -> Tensor:
    """Gather frames; those of pinned memory into pinned memory, for an upload without waiting."""
    if not frames.is_pinned():
        return frames.index_select(0, index)
    out = torch.empty((len(index), *frames.shape[1:]), dtype=frames.dtype, pin_memory=True)
    return torch.index_select(frames, 0, index, out=out)


_upload_streams: dict[torch.device, torch.cuda.Stream] = {}


def _upload(observations: Tensor, device: torch.device) -> Tensor:
    """Copy to a GPU beside its computations, which wait for this copy only."""
    if device not in _upload_streams:
        _upload_streams[device] = torch.cuda.Stream(device)
    stream = _upload_streams[device]
    source = observations if observations.is_pinned() else observations.pin_memory()
    with torch.cuda.stream(stream):
        moved = source.to(device, non_blocking=True)
    current = torch.cuda.current_stream(device)
    current.wait_stream(stream)
    moved.record_stream(current)
    return moved
