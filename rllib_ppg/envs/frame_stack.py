"""Envs: the last k frames of every game, stacked on the channel axis."""

from __future__ import annotations

from typing import Any

import numpy as np


def newest_frame(stacked: np.ndarray, num_frames: int) -> np.ndarray:
    """Return the newest of the k frames that are stacked on the last axis, not a copy."""
    if num_frames == 1:
        return stacked
    return stacked[..., stacked.shape[-1] - stacked.shape[-1] // num_frames :]


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

    At the start of an episode its first frame fills the whole stack. `push` returns a new array
    each time, so a caller may keep what it got.

    Args:
        num_frames: k, at least 1.
    """

    def __init__(self, num_frames: int) -> None:
        self.num_frames = num_frames
        self._stacked: np.ndarray | None = None

    @property
    def stacked(self) -> np.ndarray | None:
        """What the last `push` returned; None with one frame, or before the first."""
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
        if self._stacked is None:
            self._stacked = self._filled(frames)
            return self._stacked
        stacked = _shifted(self._stacked, frames)
        if firsts.any():
            stacked[firsts] = self._filled(frames[firsts])
        self._stacked = stacked
        return stacked

    def get_state(self) -> Any | None:
        """Return a copy of the stack, or None where there is nothing to keep."""
        return None if self._stacked is None else self._stacked.copy()

    def set_state(self, state: Any | None) -> None:
        """Go on from what `get_state` returned."""
        self._stacked = None if state is None else state.copy()

    def _filled(self, frames: np.ndarray) -> np.ndarray:
        """Return stacks that hold k copies of one frame each."""
        return np.tile(frames, self.num_frames)


class StaleFrameStack(FrameStack):
    """A `FrameStack` with the fault of the challenge's generalisation winner.

    Its wrapper filled the stack at the start of an episode, but went on to remember the frames from
    before it. So the second observation of an episode holds the last frame of the one before (of
    the very first episode: zeros). Such observations cannot be put together from single frames.

    Source: Dipamc77/procgen-competition@f473f51.
    """

    def __init__(self, num_frames: int) -> None:
        super().__init__(num_frames)
        self._remembered: np.ndarray | None = None

    def push(self, frames: np.ndarray, firsts: np.ndarray) -> np.ndarray:
        """Add the newest frame of every game, as `FrameStack.push`."""
        if self._remembered is None:
            self._remembered = np.zeros_like(self._filled(frames))
        going, stacked = ~firsts, self._filled(frames)
        shifted = _shifted(self._remembered, frames)
        stacked[going] = shifted[going]
        self._remembered[going] = shifted[going]
        self._stacked = stacked
        return stacked

    def get_state(self) -> Any | None:
        """Return copies of the stack and of what is remembered."""
        if self._stacked is None or self._remembered is None:
            return None
        return {"stacked": self._stacked.copy(), "remembered": self._remembered.copy()}

    def set_state(self, state: Any | None) -> None:
        """Go on from what `get_state` returned."""
        state = state or {}
        self._stacked, self._remembered = (
            None if state.get(name) is None else state[name].copy()
            for name in ("stacked", "remembered")
        )


def _shifted(stacked: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Return stacks with their oldest frame dropped and the newest added.

    Moving the flat memory by one frame's channels moves every pixel; the newest frame then
    overwrites what slid in from the next pixel. Both are long copies: five times as fast as joining
    slices of few channels.
    """
    channels = frames.shape[-1]
    shifted = np.empty_like(stacked)
    shifted.reshape(-1)[:-channels] = stacked.reshape(-1)[channels:]
    for channel in range(channels):
        shifted[..., channel - channels] = frames[..., channel]
    return shifted
