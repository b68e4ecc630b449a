"""Envs: the last k frames of every game, stacked on the channel axis."""

from __future__ import annotations

from typing import Any

import numpy as np

_STEPS_AHEAD = 4096  # of a window before it goes back; 12 kB for pixels of three bytes


def newest_frame(stacked: np.ndarray, num_frames: int) -> np.ndarray:
    """Return the newest of the k frames that are stacked on the last axis, not a copy."""
    if num_frames == 1:
        return stacked
    return stacked[..., stacked.shape[-1] - stacked.shape[-1] // num_frames :]


def copy_newest_frame(stacked: np.ndarray, num_frames: int, target: np.ndarray) -> None:
    """Copy the newest of the k frames into `target` (N, ..., C)."""
    if num_frames == 1:
        target[...] = stacked
    else:
        _copy_channels(target, newest_frame(stacked, num_frames))


def _copy_channels(target: np.ndarray, source: np.ndarray) -> None:
    """Copy the few channels (..., C) of a part of a stack.

    NumPy copies along the last axis, which is short here. Channel by channel is five times as fast.
    """
    for channel in range(source.shape[-1]):
        target[..., channel] = source[..., channel]


def older_frames(stacked: np.ndarray, num_frames: int) -> np.ndarray:
    """Copy the frames before the newest one, oldest first.

    Args:
        stacked: Observations (N, ..., k * C).
        num_frames: k.

    Returns:
        The frames (N, k - 1, ..., C); with k = 1 none, (N, 0, ...).
    """
    if num_frames == 1:
        return np.empty((len(stacked), 0, *stacked.shape[1:]), stacked.dtype)
    channels = stacked.shape[-1] // num_frames
    frames = stacked.reshape(*stacked.shape[:-1], num_frames, channels)
    return np.ascontiguousarray(np.moveaxis(frames, -2, 1)[:, :-1])


class FrameStack:
    """Keep the last k frames of N games, oldest first, none from before an episode's start.

    At the start of an episode its first frame fills the whole stack.

    Args:
        num_frames: k, at least 1.
        reuse: Whether the next `push` may overwrite what `push` returned, which saves copies.
    """

    def __init__(self, num_frames: int, *, reuse: bool = False) -> None:
        self.num_frames = num_frames
        self._reuse = reuse
        self._window: _Window | None = None
        self._stacked: np.ndarray | None = None
        self._deferred: list[tuple[np.ndarray, np.ndarray]] = []  # frames and firsts, k at most

    @property
    def stacked(self) -> np.ndarray | None:
        """The stacks (N, H, W, k * C); None with one frame, or before the first.

        Deferred frames are put into them now.
        """
        self._put_deferred()
        return self._stacked

    def push(self, frames: np.ndarray, firsts: np.ndarray) -> np.ndarray:
        """Add the newest frame of every game.

        Args:
            frames: The newest frames (N, H, W, C).
            firsts: True where the frame is the first of an episode, bool (N,).

        Returns:
            The last k frames of each game (N, H, W, k * C), the newest in the last C channels.
        """
        if self.num_frames == 1:
            return frames
        self.defer(frames, firsts)
        self._put_deferred()
        assert self._stacked is not None
        return self._stacked

    def defer(self, frames: np.ndarray, firsts: np.ndarray) -> None:
        """Add the newest frame of every game as `push`, but not before the stacks are read.

        Args:
            frames: The newest frames; they must not change until then, or until `keep_deferred`.
            firsts: True where the frame is the first of an episode.
        """
        # Older ones than the last k would not be seen any more.
        self._deferred = [*self._deferred, (frames, firsts)][-self.num_frames :]

    def keep_deferred(self) -> None:
        """Copy the newest frames if they are still deferred: their memory may be written to now."""
        if self._deferred:
            frames, firsts = self._deferred[-1]
            self._deferred[-1] = frames.copy(), firsts

    def get_state(self) -> Any | None:
        """Return a copy of the stack, or None where there is nothing to keep."""
        stacked = self.stacked
        return None if stacked is None else stacked.copy()

    def set_state(self, state: Any | None) -> None:
        """Go on from what `get_state` returned."""
        self._window, self._stacked, self._deferred = None, None, []
        if state is not None:
            self._window = _Window(state, state.shape[-1] // self.num_frames)
            self._show()

    def _put_deferred(self) -> None:
        """Put deferred frames into the stacks."""
        if self._deferred:
            for frames, firsts in self._deferred:
                self._put(frames, firsts)
            self._deferred = []
            self._show()

    def _put(self, frames: np.ndarray, firsts: np.ndarray) -> None:
        """Put the newest frames into the stacks."""
        if self._window is None:
            self._window = _Window(self._filled(frames), frames.shape[-1])
            return
        stacked = self._window.push(frames)
        for index in np.flatnonzero(firsts).tolist():
            stacked[index] = self._filled(frames[index])

    def _filled(self, frames: np.ndarray) -> np.ndarray:
        """Return stacks that hold k copies of one frame each."""
        return np.tile(frames, self.num_frames)

    def _show(self) -> None:
        """Make the stacks as they are now those that are handed out."""
        assert self._window is not None
        stacked = self._window.stacked
        self._stacked = stacked if self._reuse else stacked.copy()


class StaleFrameStack(FrameStack):
    """A `FrameStack` with the fault of the challenge's generalisation winner.

    Its wrapper filled the stack at the start of an episode, but went on to remember the frames from
    before it. So the second observation of an episode holds the last frame of the one before (of
    the very first episode: zeros). Such observations cannot be put together from single frames.

    Source: Dipamc77/procgen-competition@f473f51.
    """

    def __init__(self, num_frames: int, *, reuse: bool = False) -> None:
        super().__init__(num_frames, reuse=reuse)
        self._remembered: dict[int, np.ndarray] = {}  # of games that show an episode's first frame

    def defer(self, frames: np.ndarray, firsts: np.ndarray) -> None:
        """Add the newest frames at once: here older ones than the last k may still be seen."""
        super().defer(frames, firsts)
        self._put_deferred()

    def _put(self, frames: np.ndarray, firsts: np.ndarray) -> None:
        """Put the newest frames into the stacks."""
        if self._window is None:
            self._window = _Window(np.zeros_like(self._filled(frames)), frames.shape[-1])
        for index, stack in self._remembered.items():
            self._window.stacked[index] = stack
        begun = np.flatnonzero(firsts).tolist()
        self._remembered = {index: self._window.stacked[index].copy() for index in begun}
        stacked = self._window.push(frames)
        for index in begun:
            stacked[index] = self._filled(frames[index])

    def get_state(self) -> Any | None:
        """Return copies of the stack and of what is remembered."""
        if self._stacked is None:
            return None
        remembered = self._stacked.copy()
        for index, stack in self._remembered.items():
            remembered[index] = stack
        return {"stacked": self._stacked.copy(), "remembered": remembered}

    def set_state(self, state: Any | None) -> None:
        """Go on from what `get_state` returned."""
        super().set_state(None if state is None else state["stacked"])
        self._remembered = {}
        if state is not None:
            rows = enumerate(zip(state["stacked"], state["remembered"], strict=True))
            self._remembered = {
                index: remembered.copy()
                for index, (shown, remembered) in rows
                if not np.array_equal(shown, remembered)
            }


class _Window:
    """Stacks (N, ..., k * C) that slide through one piece of memory, C numbers a step.

    Each frame more begins the stacks one frame's channels further on. Every pixel's older frames
    then stand where they have to, the newest comes into the place of the oldest of the pixel behind
    it, and nothing else moves. At the end of the memory the stacks go back to its beginning.

    Args:
        stacked: The stacks; they are copied.
        channels: C.

    Attributes:
        stacked: The stacks, a view of the memory.
    """

    def __init__(self, stacked: np.ndarray, channels: int) -> None:
        self._shape, self._size, self._channels = stacked.shape, stacked.size, channels
        self._memory = np.empty(stacked.size + _STEPS_AHEAD * channels, stacked.dtype)
        self._begin(stacked.reshape(-1))

    def push(self, frames: np.ndarray) -> np.ndarray:
        """Drop the oldest frames, add `frames` (N, ..., C) and return the stacks."""
        at = self._at + self._channels
        if at + self._size > len(self._memory):
            self._begin(np.append(self._memory[at:], frames.reshape(-1)[: self._channels]))
        else:
            self._move(at)
        _copy_channels(self.stacked[..., -self._channels :], frames)
        return self.stacked

    def _begin(self, content: np.ndarray) -> None:
        self._memory[: self._size] = content
        self._move(0)

    def _move(self, at: int) -> None:
        self._at = at
        self.stacked = self._memory[at : at + self._size].reshape(self._shape)
