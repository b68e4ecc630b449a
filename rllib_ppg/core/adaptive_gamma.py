"""Core: a discount that follows the length of solved episodes."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

_HELD = 100  # episodes in memory
_RANK = 80  # of the held lengths, shortest first, from 0
_KEEP = 0.98  # of the old discount per policy iteration
_HORIZONS = 3  # an episode's length is to be a third of the discount's horizon


class AdaptiveGamma:
    """Moves gamma towards 1 - 1 / (3 h), h the 81st shortest of the last 100 solved episodes.

    It moves once a policy iteration while 100 lengths are held, with new episodes or without.

    Args:
        gamma: Where it begins.
        return_max: An episode is solved if its raw return is at least this.

    Attributes:
        gamma: The current discount.
        lengths: Lengths of the last 100 solved episodes.

    Source: Dipamc77/procgen-competition@f473f51, adaptive_gamma.
    """

    def __init__(self, gamma: float, return_max: float) -> None:
        self.gamma = gamma
        self.return_max = return_max
        self.lengths: deque[int] = deque(maxlen=_HELD)

    def note(self, returns: Sequence[float], lengths: Sequence[int]) -> None:
        """Remember the episodes that ended in an iteration, in their order."""
        pairs = zip(returns, lengths, strict=True)
        self.lengths.extend(int(length) for total, length in pairs if total >= self.return_max)

    def move(self) -> None:
        """Move gamma, at the end of an iteration and of an auxiliary phase that follows it."""
        if len(self.lengths) == _HELD:
            target = 1 - 1 / (_HORIZONS * sorted(self.lengths)[_RANK])
            self.gamma = _KEEP * self.gamma + (1 - _KEEP) * target

    def get_state(self) -> dict[str, Any]:
        """Return gamma and the lengths."""
        return {"gamma": self.gamma, "lengths": list(self.lengths)}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take the state of `get_state`."""
        self.gamma = float(state["gamma"])
        self.lengths = deque(state["lengths"], maxlen=_HELD)
