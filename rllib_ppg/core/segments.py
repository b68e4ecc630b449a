"""Core: the rollouts stored for an auxiliary phase, and minibatches over segments.

A segment is one environment's T steps of one iteration. Shape key: T steps, S segments stored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

IndexArray = npt.NDArray[np.int64]


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


def segment_rows(segments: IndexArray, num_steps: int) -> IndexArray:
    """Return the flat row numbers of whole segments, (len(segments) * T,), steps in order."""
    rows = np.asarray(segments, np.int64)[:, None] * num_steps + np.arange(num_steps)
    return rows.reshape(-1)


class SegmentStore:
    """Observations and value targets of one phase, kept once, in the environment's own dtype.

    Memory is reserved on creation but taken from the system only when it is written, so an unused
    store costs nothing.

    Args:
        capacity: Most segments it holds, S.
        num_steps: Steps of a segment, T.
        obs_shape: Shape of one observation.
        obs_dtype: Its dtype; uint8 for images.

    Attributes:
        obs: (S, T, *obs_shape).
        value_targets: float32 (S, T).
        env: Environment of each segment, int64 (S,).
        iteration: Position of each segment's iteration within the phase, int64 (S,).
        count: Segments stored so far.

    Raises:
        ValueError: If a size is not positive.
    """

    def __init__(
        self,
        capacity: int,
        num_steps: int,
        obs_shape: Sequence[int],
        obs_dtype: npt.DTypeLike = np.uint8,
    ) -> None:
        if capacity < 1 or num_steps < 1:
            raise ValueError(f"capacity={capacity} and num_steps={num_steps} must be at least 1.")
        self.capacity = capacity
        self.num_steps = num_steps
        self.obs: npt.NDArray[Any] = np.empty((capacity, num_steps, *obs_shape), obs_dtype)
        self.value_targets = np.empty((capacity, num_steps), np.float32)
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
    ) -> int:
        """Return the bytes of a full store, without making one."""
        step = math.prod(obs_shape) * np.dtype(obs_dtype).itemsize + 4
        return capacity * (num_steps * step + 2 * 8)

    @property
    def nbytes(self) -> int:
        """Bytes of this store when full."""
        return self.bytes_needed(self.capacity, self.num_steps, self.obs.shape[2:], self.obs.dtype)

    def append(self, envs: npt.ArrayLike) -> slice:
        """Reserve the next rows for one iteration's segments; the caller then fills them.

        Args:
            envs: The environment of each segment; some may be missing.

        Returns:
            The rows, in the order of `envs`, to write `obs` and `value_targets` to.

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

    def clear(self) -> None:
        """Forget all segments; the memory is kept."""
        self.count = 0
        self._iterations = 0

    def pairs(self) -> IndexArray:
        """Return the stored rows in the reference's order: by environment, then by iteration."""
        keys = (self.iteration[: self.count], self.env[: self.count])
        return np.asarray(np.lexsort(keys), np.int64)
