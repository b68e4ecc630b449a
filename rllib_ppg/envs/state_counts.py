"""Envs: how often every environment has shown its frame in the episode that it plays.

Shape key: N environments, C slots of each environment's table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]

_SLOTS = 256  # at first; an environment's table is never more than half full
_WORD = 8  # bytes
_HALF = 4
_EMPTY = np.uint64(0)
_FOLD = np.uint64(0x9E3779B97F4A7C15)  # odd: multiplying by it loses nothing


NUM_UNIQUE_STATES, EPISODE_STEP = STATE_COLUMNS = ("num_unique_states", "episode_step")
"""The counts that a sample batch can have as columns."""


class Counts(NamedTuple):
    """What one step of N environments showed; int64 (N,) each, and bool (N,).

    Attributes:
        occupancy_count: Visits of the frame after the step in its episode, this one included; the
            reset's frame counts as a visit.
        num_unique_states: Different frames of the episode until then.
        matches_previous_obs: Whether the frame is that of before the step.
        episode_step: The step's number in its episode, from 0 (t).
    """

    occupancy_count: npt.NDArray[np.int64]
    num_unique_states: npt.NDArray[np.int64]
    matches_previous_obs: npt.NDArray[np.bool_]
    episode_step: npt.NDArray[np.int64]


class StateCounts:
    """Counts the frames of N environments, for each of them and for each episode by itself.

    A frame is known by a hash of 64 bits. The memory is a table of hashes an environment, which
    grows with the longest episode met and is emptied when an episode ends.

    Source: wulfebw/neurips2020-procgen@e131684.

    Args:
        frames: The frames (N, ...) that all episodes begin with.
    """

    def __init__(self, frames: np.ndarray) -> None:
        num_envs = len(frames)
        self._weights = np.random.default_rng(0).integers(
            0, 2**64, (2, -(-frames[0].nbytes // _WORD)), dtype=np.uint64
        ) | np.uint64(1)
        self._keys = np.zeros(num_envs * _SLOTS, np.uint64)  # the tables (N, C), flat
        self._visits = np.zeros(num_envs * _SLOTS, np.int64)
        self._unique = np.zeros(num_envs, np.int64)
        self._steps = np.zeros(num_envs, np.int64)
        self._all = np.arange(num_envs)
        self._previous = self._hashes(frames)
        self._visit(self._all, self._previous)

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
        now = self._hashes(frames)
        last = self._previous if last_frames is None else self._hashes(last_frames)
        after = np.where(dones, last, now)
        occupancy = self._visit(self._all, after)
        counts = Counts(occupancy, self._unique.copy(), after == self._previous, self._steps.copy())
        self._steps += 1
        ended = np.flatnonzero(dones)
        if len(ended):
            self._keys.reshape(len(now), -1)[ended] = _EMPTY
            self._unique[ended], self._steps[ended] = 0, 0
            self._visit(ended, now[ended])
        self._previous = now
        return counts

    def get_state(self) -> dict[str, Any]:
        """Return all that the next counts depend on."""
        names = ("keys", "visits", "unique", "steps", "previous")
        return {name: getattr(self, f"_{name}").copy() for name in names}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `get_state` returned."""
        for name, value in state.items():
            setattr(self, f"_{name}", value.copy())

    def _hashes(self, frames: np.ndarray) -> Hashes:
        """Return a hash of each frame, uint64 (N,), never 0.

        Two sums of words times random odd numbers, modulo 2^64. The words of the second begin half
        a word later: what a product loses of a word's high bytes is in its low ones.
        """
        rows = np.ascontiguousarray(frames).reshape(len(frames), -1).view(np.uint8)
        spare = -rows.shape[1] % _WORD
        if spare:
            rows = np.pad(rows, ((0, 0), (0, spare)))
        words, shifted = rows.view(np.uint64), rows[:, _HALF:-_HALF].view(np.uint64)
        first = np.einsum("nw,w->n", words, self._weights[0])
        second = np.einsum("nw,w->n", shifted, self._weights[1, : shifted.shape[1]])
        folded: Hashes = first + (second ^ (second >> np.uint64(32))) * _FOLD
        folded ^= folded >> np.uint64(29)
        return np.maximum(folded * _FOLD, np.uint64(1))

    def _visit(self, envs: npt.NDArray[np.int64], hashes: Hashes) -> npt.NDArray[np.int64]:
        """Count a visit of a frame in each of some environments; return its visits (len(envs),)."""
        # Flat indices and few calls: at 64 environments the calls themselves are the cost.
        places = self._find(envs, hashes)
        visits = self._visits[places]
        new = self._keys[places] == _EMPTY
        visits[new] = 0  # what stands there is of an earlier episode
        visits += 1
        self._visits[places] = visits
        self._keys[places] = hashes
        self._unique[envs] += new
        if 2 * int(self._unique.max()) > self._slots:
            self._grow()
        return visits

    @property
    def _slots(self) -> int:
        """C."""
        return len(self._keys) // len(self._all)

    def _find(self, envs: npt.NDArray[np.int64], hashes: Hashes) -> npt.NDArray[np.int64]:
        """Return each hash's place in its environment's table, or the empty one for it."""
        size = self._slots
        first = envs * size
        slots = (hashes >> np.uint64(65 - size.bit_length())).astype(np.int64)
        places = first + slots
        found = self._keys[places]
        taken = (found != _EMPTY) & (found != hashes)
        while taken.any():
            slots = np.where(taken, (slots + 1) % size, slots)
            places = first + slots
            found = self._keys[places]
            taken = (found != _EMPTY) & (found != hashes)
        return places

    def _grow(self) -> None:
        """Double the tables."""
        keys, visits = (a.reshape(len(self._all), -1) for a in (self._keys, self._visits))
        self._keys = np.zeros(2 * keys.size, np.uint64)
        self._visits = np.zeros(2 * keys.size, np.int64)
        for column in range(keys.shape[1]):
            envs = np.flatnonzero(keys[:, column])
            places = self._find(envs, keys[envs, column])
            self._keys[places] = keys[envs, column]
            self._visits[places] = visits[envs, column]


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
        late = counts.episode_step > self.noop_min_timestep
        shaping = np.where(counts.matches_previous_obs & late, self.noop_reward, 0.0)
        shaping += self.revisit_reward * (counts.occupancy_count - 1)
        return np.where(dones, 0.0, shaping).astype(np.float32)
