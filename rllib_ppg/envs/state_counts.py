"""Envs: how often every environment has shown its frame in the episode that it plays."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rllib_ppg.envs.frame_hash import FrameHash, Hashes

NUM_UNIQUE_STATES, EPISODE_STEP = STATE_COLUMNS = ("num_unique_states", "episode_step")
"""The counts that a sample batch can have as columns."""

MOST_FRAMES = 10_000
"""Different frames of an episode that are remembered. Procgen's longest have 6,000 steps, but an
episode over sequential levels ends only where one is lost."""

FRAME_BYTES = 112
"""Memory for one of them at most, from some 500 on: 48 for the hash as a number, the rest for its
place in a dictionary, which is fullest just before it grows (measured 102 just after)."""


class Counts(NamedTuple):
    """What one step of N environments showed; int64 (N,) each, and bool (N,).

    Attributes:
        occupancy_count: Visits of the frame after the step in its episode, this one included; the
            reset's frame counts as a visit. 0 where visits are not counted.
        num_unique_states: Different frames of the episode until then; 1 where visits are not
            counted.
        matches_previous_obs: Whether the frame is that of before the step.
        episode_step: The step's number in its episode, from 0 (t).
    """

    occupancy_count: npt.NDArray[np.int64]
    num_unique_states: npt.NDArray[np.int64]
    matches_previous_obs: npt.NDArray[np.bool_]
    episode_step: npt.NDArray[np.int64]


class StateCounts:
    """Counts the frames of N environments, for each of them and for each episode by itself.

    A frame is known by its hash (`FrameHash`). Each environment has a table of the frames of its
    current episode, one entry a different frame, `MOST_FRAMES` at most: behind them, each frame
    that is not in the table counts as new whenever it is shown.

    Source: wulfebw/neurips2020-procgen@e131684.

    Args:
        frames: The frames (N, ...) that all episodes begin with.
        count_visits: Whether to keep the tables; whether a frame is the one before it is known
            without.
    """

    def __init__(self, frames: np.ndarray, *, count_visits: bool = True) -> None:
        self._hash = FrameHash(frames[0].nbytes)
        self._steps = np.zeros(len(frames), np.int64)
        self._unique = np.ones(len(frames), np.int64)
        self._previous = self._hash(frames)
        self._count_visits = count_visits
        self._visits = self._begun(self._previous)

    def step(
        self, frames: np.ndarray, dones: np.ndarray, last_frames: np.ndarray | None = None
    ) -> Counts:
        """Count one step.

        Args:
            frames: What the environments show now (N, ...); where an episode ended, the first frame
                of the next one.
            dones: Whether an episode ended with this step (N,).
            last_frames: The frames after the step (N, ...), read where an episode ended. By default
                an ended episode shows its frame before the step once more, as Procgen's Gym
                interface does: its last frame is not handed out.
        """
        now = self._hash(frames)
        ended = np.flatnonzero(dones).tolist()
        after = now
        if ended:
            last = self._previous if last_frames is None else self._hash(last_frames)
            after = np.where(dones, last, now)
        occupancy = self._visit(after) if self._count_visits else np.zeros(len(now), np.int64)
        self._unique = self._unique + (occupancy == 1)  # the old arrays are handed out
        counts = Counts(occupancy, self._unique, after == self._previous, self._steps)
        self._steps = self._steps + 1
        if ended:
            self._unique = self._unique.copy()
        for index, visits in zip(ended, self._begun(now[ended]), strict=True):
            self._visits[index] = visits
            self._steps[index], self._unique[index] = 0, 1
        self._previous = now
        return counts

    def get_state(self) -> dict[str, np.ndarray]:
        """Return all that the next counts depend on."""
        return {
            "keys": np.array([key for visits in self._visits for key in visits], np.uint64),
            "visits": np.array([n for visits in self._visits for n in visits.values()], np.int64),
            "unique": self._unique.copy(),
            "steps": self._steps.copy(),
            "previous": self._previous.copy(),
        }

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from what `get_state` returned."""
        pairs = zip(state["keys"].tolist(), state["visits"].tolist(), strict=True)
        self._unique = state["unique"].copy()
        held = np.minimum(self._unique, MOST_FRAMES).tolist()
        self._visits = [dict(islice(pairs, count)) for count in held]
        self._steps, self._previous = state["steps"].copy(), state["previous"].copy()

    def _begun(self, hashes: Hashes) -> list[dict[int, int]]:
        """Return the tables of episodes that begin with some frames."""
        return [{key: 1} if self._count_visits else {} for key in hashes.tolist()]

    def _visit(self, hashes: Hashes) -> npt.NDArray[np.int64]:
        """Count a visit of a frame in each environment; return its visits (N,)."""
        # Half a microsecond for an environment's step of 20. Tables as arrays need so many calls of
        # NumPy that they are slower at 64 environments.
        counts = []
        for visits, key in zip(self._visits, hashes.tolist(), strict=True):
            count = visits.get(key, 0) + 1
            if count > 1 or len(visits) < MOST_FRAMES:
                visits[key] = count
            counts.append(count)
        return np.array(counts, np.int64)


class Penalties(NamedTuple):
    """What steps that change nothing cost, in the units of the raw rewards.

    Attributes:
        noop_reward: Where the frame did not change, but in the first steps of an episode.
        noop_min_timestep: That one counts only for steps after this one, from 0.
        revisit_reward: For each earlier visit of the frame in the episode.

    Source: wulfebw/neurips2020-procgen@e131684.
    """

    noop_reward: float = 0.0
    noop_min_timestep: int = 10
    revisit_reward: float = 0.0

    def __call__(self, counts: Counts, dones: np.ndarray) -> npt.NDArray[np.float32]:
        """Return what is added to the rewards of a step, float32 (N,); 0 where an episode ends."""
        # In float64, and as float32 at the end.
        shaping: npt.NDArray[np.float64] = np.zeros(len(dones))
        if self.noop_reward:
            unchanged = counts.matches_previous_obs & (counts.episode_step > self.noop_min_timestep)
            shaping = np.multiply(unchanged, self.noop_reward)
        if self.revisit_reward:
            shaping += np.multiply(counts.occupancy_count - 1, self.revisit_reward)
        return np.multiply(shaping, ~dones, dtype=np.float32, casting="same_kind")
