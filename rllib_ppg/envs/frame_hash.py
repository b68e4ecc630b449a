"""Envs: frames as numbers of 64 bits, by which equal ones are found."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]

_WORD = 8  # bytes
_GROUPS = 4  # NumPy adds up long groups twice as fast as the same words in many short ones
_SMALL, _SMALL_GROUPS = 256, 16  # words of a frame so small that it costs nothing
_HALF = np.uint64(32)  # bits


class FrameHash:
    """Hashes frames of one size; shape key: N frames, G groups of L neighbouring words of 64 bits.

    Each group is added up, every word times a fixed random odd number modulo 2^64, and then the G
    sums in the same way. The frames are read once, in order.

    How likely is it that two different frames have the same hash? Odd numbers lose nothing, so a
    group in which one word differs has another sum. Where several words of a group differ, the
    weighted differences cancel with a chance of about 2^-(63 - z), z being the zero bits below the
    lowest bit that differs, and every group with differences has to cancel. The chance is large,
    2^-7 or more, only if nothing but the last bytes of words differs (z >= 56). What changes in
    pictures are pixels side by side: of the six bytes of two neighbours one at least is among the
    first three of its word (z < 24), so that even two pixels in two places change the hash but for
    a chance of about 2^-40; a group being sixteen rows of Procgen's 64 x 64 x 3 frames, larger
    things touch several. No product carries a high bit to a lower one; the upper half of each sum
    is therefore mixed into its lower one before the second round, which merges different sums with
    a chance of about 2^-63. An episode of 1000 frames has 2^19 pairs of them.

    Args:
        frame_bytes: Bytes of a frame.
    """

    def __init__(self, frame_bytes: int) -> None:
        words = -(-frame_bytes // _WORD)
        groups = _GROUPS if words > _SMALL else min(words, _SMALL_GROUPS)
        length = -(-words // groups)
        self._bytes = groups * length * _WORD
        random = np.random.default_rng(0)
        self._first = random.integers(0, 2**64, (groups, length), np.uint64) | np.uint64(1)
        self._second = random.integers(0, 2**64, groups, np.uint64) | np.uint64(1)

    def __call__(self, frames: np.ndarray) -> Hashes:
        """Return the hashes (N,) of frames (N, ...)."""
        content = np.ascontiguousarray(frames).reshape(len(frames), -1).view(np.uint8)
        spare = self._bytes - content.shape[1]
        if spare:
            content = np.pad(content, ((0, 0), (0, spare)))
        words = content.view(np.uint64).reshape(len(frames), *self._first.shape)
        sums = np.einsum("ngl,gl->ng", words, self._first)
        sums ^= sums >> _HALF
        hashes: Hashes = sums @ self._second
        return hashes
