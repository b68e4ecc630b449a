"""Core: the weight of the entropy bonus, which may rise where observations repeat."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass
class EntropyCoefficient:
    """Chooses between two weights before each policy minibatch.

    u is the mean, over the minibatch, of the share of an episode's observations so far that were
    new. Below the threshold the alternate weight holds, else the base.

    Args:
        base: The usual weight, which a schedule may move.
        alternate: The other weight; None always takes the base.
        threshold: Of u.

    Attributes:
        repeating: Whether the alternate weight holds at present.
        fraction_unique: u of the newest minibatch; NaN without counts.

    Source: wulfebw/neurips2020-procgen@e131684, adaptive entropy.
    """

    base: float
    alternate: float | None = None
    threshold: float = 0.9
    repeating: bool = False
    fraction_unique: float = math.nan

    @property
    def current(self) -> float:
        """The weight that holds."""
        return self.alternate if self.repeating and self.alternate is not None else self.base

    def observe(
        self, num_unique_states: npt.NDArray[Any] | None, episode_step: npt.NDArray[Any] | None
    ) -> float:
        """Choose for a minibatch.

        Args:
            num_unique_states: Different observations of the episode so far, that after the step
                included (M,); None leaves the choice as it is.
            episode_step: Steps of the episode before this one (M,).

        Returns:
            The weight.
        """
        self.fraction_unique = math.nan
        if num_unique_states is not None:
            assert episode_step is not None
            share = num_unique_states / (np.asarray(episode_step, np.float64) + 2)
            self.fraction_unique = float(share.mean())
            if self.alternate is not None:
                self.repeating = self.fraction_unique < self.threshold
        return self.current

    def get_state(self) -> dict[str, Any]:
        """Return the base weight and, with an alternate one, which of them holds."""
        state: dict[str, Any] = {"entropy_coeff": self.base}
        return state if self.alternate is None else {**state, "repeating": self.repeating}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take the state of `get_state`."""
        self.base = float(state["entropy_coeff"])
        self.repeating = bool(state.get("repeating", False))
