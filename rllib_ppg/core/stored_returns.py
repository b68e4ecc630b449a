"""Core: what value targets of stored segments are computed from anew.

Shape key: T steps, S segments stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt


class StoredReturns:
    """Rewards and ends of episodes of a phase's segments, beside their observations.

    Args:
        capacity: Most segments, S.
        num_steps: Steps of a segment, T.

    Attributes:
        rewards: After normalisation; where a time limit ended an episode and its value is
            bootstrapped, with the discounted value of that time, float32 (S, T).
        dones: Whether the episode ended with the step, bool (S, T).
        bootstrap: Value of the observation after the last step, when it was collected, float32
            (S,).
        begins: Whether the first step begins an episode, bool (S,).
    """

    def __init__(self, capacity: int, num_steps: int) -> None:
        self.rewards = np.empty((capacity, num_steps), np.float32)
        self.dones = np.empty((capacity, num_steps), bool)
        self.bootstrap = np.empty(capacity, np.float32)
        self.begins = np.empty(capacity, bool)

    @staticmethod
    def bytes_needed(capacity: int, num_steps: int) -> int:
        """Return the bytes of the arrays, without making them."""
        return capacity * (num_steps * 5 + 5)

    def write(self, rows: slice, **columns: npt.NDArray[Any]) -> None:
        """Set the attributes of some segments, all of them."""
        for name in vars(self):
            vars(self)[name][rows] = columns[name]

    def get_state(self, count: int) -> dict[str, npt.NDArray[Any]]:
        """Return copies of the first `count` segments'."""
        return {name: array[:count].copy() for name, array in vars(self).items()}

    def set_state(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take the state of `get_state`."""
        self.write(slice(0, len(state["bootstrap"])), **state)
