"""Core: the rollouts stored for an auxiliary phase, and minibatches over segments.

A segment is one environment's T steps of one iteration. Shape key: T steps, S segments stored,
k frames of a stacked observation.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rllib_ppg.core.frames import Frames, StackIndex, oldest_frames
from rllib_ppg.core.stored_returns import StoredReturns

IndexArray = npt.NDArray[np.int64]

_HOST = torch.device("cpu")

logger = logging.getLogger(__name__)


def policy_chunks(permutation: IndexArray, nminibatch: int) -> list[IndexArray]:
    """Cut a permutation into at most `nminibatch` equal pieces, the last one maybe shorter.

    The pieces have ceil(len / nminibatch) entries, as those of `torch.chunk`: 6 entries and 4
    minibatches make three pieces of two.

    Source: openai/phasic-policy-gradient@7295473, minibatch_optimize.py.
    """
    if nminibatch < 1:
        raise ValueError(f"nminibatch={nminibatch} must be at least 1.")
    return aux_pieces(permutation, max(1, -(-len(permutation) // nminibatch)))


def aux_pieces(permutation: IndexArray, size: int) -> list[IndexArray]:
    """Cut a permutation into pieces of `size` entries; a shorter last piece is kept."""
    if size < 1:
        raise ValueError(f"a piece of {size} entries is too small; use at least 1.")
    return [permutation[start : start + size] for start in range(0, len(permutation), size)]


def shuffled(pieces: list[IndexArray], permutation: IndexArray) -> list[IndexArray]:
    """Return the pieces in the order of a permutation, so that a short one may come anywhere."""
    return [pieces[i] for i in permutation]


def segment_rows(segments: IndexArray, num_steps: int) -> IndexArray:
    """Return the flat row numbers of whole segments, (len(segments) * T,), steps in order."""
    rows = np.asarray(segments, np.int64)[:, None] * num_steps + np.arange(num_steps)
    return rows.reshape(-1)


class SegmentStore:
    """Observations and value targets of one phase, kept once, in the environment's own dtype.

    Where an observation is a stack of k frames, each frame is kept once too: a segment holds its T
    newest frames and the k - 1 before them, and stacks are made again when they are read.

    Memory is reserved on creation. On the host the system hands it out as it is written, so an
    unused store costs nothing.

    Args:
        capacity: Most segments it holds, S.
        num_steps: Steps of a segment, T.
        obs_shape: Shape of one observation, with all its k frames.
        obs_dtype: Its dtype; uint8 for images.
        frame_stack: k; the last axis of `obs_shape` is k times a frame's.
        devices: Where the frames stand; on several devices there is a copy on each.
        pin_memory: Keep the host's frames in memory that a GPU can copy from without waiting.
        with_prev_actions: Keep the action before each step too.
        with_returns: Keep what value targets are computed anew from.

    Attributes:
        obs_shape: Shape of one observation.
        returns: Rewards and ends of episodes; None without them.
        value_targets: float32 (S, T).
        prev_actions: int64 (S, T), 0 where an episode begins; None without them.
        env: Environment of each segment, int64 (S,).
        iteration: Position of each segment's iteration within the phase, int64 (S,).
        count: Segments stored so far.

    Raises:
        ValueError: If a size is not positive or the last axis is no multiple of `frame_stack`.
    """

    def __init__(
        self,
        capacity: int,
        num_steps: int,
        obs_shape: Sequence[int],
        obs_dtype: npt.DTypeLike = np.uint8,
        *,
        frame_stack: int = 1,
        devices: Sequence[torch.device] = (torch.device("cpu"),),
        pin_memory: bool = False,
        with_prev_actions: bool = False,
        with_returns: bool = False,
    ) -> None:
        if capacity < 1 or num_steps < 1:
            raise ValueError(f"capacity={capacity} and num_steps={num_steps} must be at least 1.")
        self.capacity = capacity
        self.obs_shape = tuple(obs_shape)
        self.num_steps = num_steps
        self.frame_stack = frame_stack
        shape = (capacity, num_steps + frame_stack - 1, *frame_shape(obs_shape, frame_stack))
        self._frames = {device: _empty(shape, obs_dtype, device) for device in devices}
        if pin_memory:
            _pin(self._frames[_HOST])
        self._oldest = np.zeros((capacity, num_steps), np.int64) if frame_stack > 1 else None
        self.value_targets = np.empty((capacity, num_steps), np.float32)
        self.prev_actions = np.empty((capacity, num_steps), np.int64) if with_prev_actions else None
        self.returns = StoredReturns(capacity, num_steps) if with_returns else None
        self.env = np.empty(capacity, np.int64)
        self.iteration = np.empty(capacity, np.int64)
        self.count = 0
        self._iterations = 0

    @staticmethod
    def bytes_needed(
        capacity: int,
        num_steps: int,
        obs_shape: Sequence[int],
        obs_dtype: npt.DTypeLike = np.uint8,
        frame_stack: int = 1,
        with_prev_actions: bool = False,
        with_returns: bool = False,
    ) -> int:
        """Return the bytes of a full store on one device, without making one."""
        frame = math.prod(frame_shape(obs_shape, frame_stack)) * np.dtype(obs_dtype).itemsize
        step = 4 + 8 * (frame_stack > 1) + 8 * with_prev_actions
        returns = StoredReturns.bytes_needed(capacity, num_steps) if with_returns else 0
        segment = (num_steps + frame_stack - 1) * frame + num_steps * step + 2 * 8
        return capacity * segment + returns

    @property
    def nbytes(self) -> int:
        """Bytes of this store when full, on one device."""
        arrays: list[npt.NDArray[Any]] = [self.value_targets, self.env, self.iteration]
        arrays += [array for array in (self._oldest, self.prev_actions) if array is not None]
        if self.returns is not None:
            arrays += vars(self.returns).values()
        return next(iter(self._frames.values())).nbytes + sum(array.nbytes for array in arrays)

    @property
    def obs(self) -> npt.NDArray[Any]:
        """The frames in host memory (S, T + k - 1, ...), not a copy.

        Raises:
            ValueError: If they stand on another device.
        """
        if _HOST not in self._frames:
            raise ValueError("the frames of this store do not stand in host memory.")
        return self._frames[_HOST].numpy()

    def append(self, envs: npt.ArrayLike) -> slice:
        """Reserve the next rows for one iteration's segments; the caller then fills them.

        Args:
            envs: The environment of each segment; some may be missing.

        Returns:
            The rows, in the order of `envs`, for `write` and `value_targets`.

        Raises:
            ValueError: If they do not fit, or an environment stands there twice.
        """
        envs = np.asarray(envs, np.int64)
        rows = slice(self.count, self.count + len(envs))
        if rows.stop > self.capacity:
            raise ValueError(
                f"{len(envs)} segments do not fit: {self.count} of {self.capacity} are taken."
            )
        if len(np.unique(envs)) != len(envs):
            raise ValueError(f"an environment stands twice in {envs.tolist()}.")
        self.env[rows] = envs
        self.iteration[rows] = self._iterations
        self.count = rows.stop
        self._iterations += 1
        return rows

    def write(
        self,
        rows: slice,
        frames: npt.NDArray[Any],
        *,
        history: npt.NDArray[Any] | None = None,
        firsts: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        """Copy the frames of some segments into the store; the only copy that is made of them.

        Args:
            rows: Some of the rows that `append` gave.
            frames: The newest frame of each step (n, T, ...).
            history: The k - 1 frames before them, oldest first (n, k - 1, ...); with k > 1.
            firsts: True where a step's observation is the first of an episode (n, T); with k > 1.
        """
        older = self.frame_stack - 1
        for place in self._frames.values():
            if history is not None:
                _copy(history, place[rows, :older])
            _copy(frames, place[rows, older:])
        if self._oldest is not None:
            assert firsts is not None, "stacks need to know where episodes begin"
            self._oldest[rows] = oldest_frames(firsts, self.frame_stack)

    def frames(self, rows: slice | None = None) -> Frames:
        """Return the observations of some segments, all stored ones by default, by flat row."""
        rows = slice(0, self.count) if rows is None else rows
        frames = {device: place[rows].flatten(0, 1) for device, place in self._frames.items()}
        before, stacks = None, None
        if self.prev_actions is not None:
            actions = torch.from_numpy(self.prev_actions[rows]).flatten()
            before = {device: actions.to(device) for device in frames}
        if self._oldest is not None:
            oldest = torch.from_numpy(self._oldest[rows])
            stacks = {device: StackIndex(oldest.to(device), self.frame_stack) for device in frames}
        return Frames(frames, stacks, before)

    def get_state(self) -> dict[str, Any]:
        """Return all but the frames, in numpy and plain Python."""
        rows = slice(0, self.count)
        return {
            "iterations": self._iterations,
            "env": self.env[rows].copy(),
            "iteration": self.iteration[rows].copy(),
            "value_targets": self.value_targets[rows].copy(),
            "oldest": None if self._oldest is None else self._oldest[rows].copy(),
            "prev_actions": None if self.prev_actions is None else self.prev_actions[rows].copy(),
            "returns": None if self.returns is None else self.returns.get_state(self.count),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take the state of `get_state`; the frames must be set separately.

        Raises:
            ValueError: If it belongs to a store of another shape, or does not fit.
        """
        targets = state["value_targets"]
        if len(targets) > self.capacity or targets.shape[1:] != self.value_targets.shape[1:]:
            raise ValueError(
                f"the stored segments {targets.shape} do not fit a store of {self.capacity} "
                f"segments of {self.num_steps} steps."
            )
        if (state["oldest"] is None) != (self._oldest is None):
            raise ValueError("the stored segments have another frame_stack.")
        if (state.get("prev_actions") is None) != (self.prev_actions is None):
            raise ValueError("previous actions are kept in the stored segments, or here, alone.")
        if self.returns is not None and state.get("returns") is None:
            raise ValueError("the stored segments have no rewards to compute value targets from.")
        self.count = len(targets)
        rows = slice(0, self.count)
        self._iterations = int(state["iterations"])
        self.env[rows] = state["env"]
        self.iteration[rows] = state["iteration"]
        self.value_targets[rows] = targets
        if self._oldest is not None:
            self._oldest[rows] = state["oldest"]
        if self.prev_actions is not None:
            self.prev_actions[rows] = state["prev_actions"]
        if self.returns is not None:
            self.returns.set_state(state["returns"])

    def read_frames(self, rows: slice) -> npt.NDArray[Any]:
        """Return the frames of some segments (n, T + k - 1, ...) on the host.

        No copy where they stand there.
        """
        return next(iter(self._frames.values()))[rows].cpu().numpy()

    def write_frames(self, rows: slice, frames: npt.NDArray[Any]) -> None:
        """Set the frames of some segments (n, T + k - 1, ...)."""
        for place in self._frames.values():
            _copy(frames, place[rows])

    def drop(self, rows: slice) -> None:
        """Forget the segments that were appended last."""
        self.count = rows.start
        self._iterations -= 1

    def clear(self) -> None:
        """Forget all segments; the memory is kept."""
        self.count = 0
        self._iterations = 0

    def pairs(self) -> IndexArray:
        """Return the stored rows in the reference's order: by environment, then by iteration."""
        keys = (self.iteration[: self.count], self.env[: self.count])
        return np.asarray(np.lexsort(keys), np.int64)


def frame_shape(obs_shape: Sequence[int], frame_stack: int) -> tuple[int, ...]:
    """Return the shape of one of the frames that an observation stacks on its last axis.

    Raises:
        ValueError: If that axis does not hold `frame_stack` frames.
    """
    if frame_stack == 1:
        return tuple(obs_shape)
    if frame_stack < 1 or not obs_shape or obs_shape[-1] % frame_stack:
        raise ValueError(f"observations {tuple(obs_shape)} do not stack {frame_stack} frames.")
    return (*obs_shape[:-1], obs_shape[-1] // frame_stack)


def _empty(shape: Sequence[int], dtype: npt.DTypeLike, device: torch.device) -> Tensor:
    if device == _HOST:  # by numpy: torch fills what it allocates in its deterministic mode
        return torch.from_numpy(np.empty(shape, dtype))
    return torch.empty(shape, dtype=torch.from_numpy(np.empty(0, dtype)).dtype, device=device)


def _pin(frames: Tensor) -> None:
    """Pin memory that stands already: torch's own allocator would round it up to a power of two."""
    cuda = torch.cuda.cudart()
    error = cuda.cudaHostRegister(frames.data_ptr(), frames.nbytes, 0)
    if int(error):
        logger.warning(
            "%.1f GB of frames cannot be pinned (%s); copies to the GPU will wait for each other.",
            frames.nbytes / 1e9,
            cuda.cudaGetErrorString(error),
        )


def _copy(source: npt.NDArray[Any], target: Tensor) -> None:
    """Copy an array, maybe a read-only one, to any device; to a GPU by way of pinned memory."""
    source = source.reshape(target.shape)
    if target.device == _HOST:
        target.numpy()[...] = source
        return
    pinned = target.device.type == "cuda"
    for row in range(len(target)):  # one segment at a time keeps the pinned memory small
        staging = torch.empty(target.shape[1:], dtype=target.dtype, pin_memory=pinned)
        staging.numpy()[...] = source[row]
        target[row].copy_(staging, non_blocking=True)
