"""Core: choosing among image transforms by upper confidence bounds of what they bring."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

RewardMode = Literal["return", "advantage"]


@dataclass(frozen=True)
class ChoiceSettings:
    """How the bounds are computed.

    Args:
        c: Weight of the bonus for transforms that were chosen seldom.
        q_alpha: Step of the values towards the newest reward.
        trace_decay: What of a transform's share in a choice is left after the next choice.
        reward: "return" takes the mean reward, "advantage" what it is above its moving mean.
        mean_alpha: Step of that moving mean, which begins at 0.

    Raises:
        ValueError: If a number or the mode makes no sense.
    """

    c: float = 0.02
    q_alpha: float = 0.01
    trace_decay: float = 0.25
    reward: RewardMode = "return"
    mean_alpha: float = 0.05

    def __post_init__(self) -> None:
        if self.reward not in get_args(RewardMode):
            raise ValueError(f"reward={self.reward!r} must be return or advantage.")
        if self.c < 0:
            raise ValueError(f"c={self.c} must not be negative.")
        for name in ("q_alpha", "trace_decay", "mean_alpha"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} must be in 0 to 1.")


class TransformChoice:
    """Picks the transform with the highest bound, once a policy iteration.

    Args:
        count: Number of transforms.
        settings: How the bounds are computed.

    Attributes:
        choice: The chosen transform; None before the first choice.
        q: Value of each transform.
        chosen: How often each was chosen.
        traces: Share of each in what the newest reward was earned with.
        scores: The bounds of the newest choice.

    Source: wulfebw/neurips2020-procgen@e131684, after Raileanu et al. 2020 (arXiv:2006.12862).
    """

    def __init__(self, count: int, settings: ChoiceSettings) -> None:
        self.settings = settings
        self.choice: int | None = None
        self.q = np.zeros(count)
        self.chosen = np.zeros(count, np.int64)
        self.traces = np.zeros(count)
        self.scores = np.zeros(count)
        self.mean_reward = 0.0

    def update(self, reward: float) -> int:
        """Credit the transforms with a reward, and choose one.

        Args:
            reward: Mean of the (normalised) rewards since the last choice.
        """
        settings = self.settings
        credit = reward - self.mean_reward if settings.reward == "advantage" else reward
        self.mean_reward += settings.mean_alpha * (reward - self.mean_reward)
        self.q += settings.q_alpha * self.traces * (credit - self.q)
        choices = int(self.chosen.sum()) + 1
        self.scores = self.q + settings.c * np.sqrt(math.log(choices) / (self.chosen + 1e-8))
        choice = int(np.argmax(self.scores))
        self.chosen[choice] += 1
        self.traces *= settings.trace_decay
        self.traces[choice] += 1
        self.choice = choice
        return choice

    def get_state(self) -> dict[str, Any]:
        """Return all that decides on the next choices."""
        return {
            "choice": self.choice,
            "q": self.q.copy(),
            "chosen": self.chosen.copy(),
            "traces": self.traces.copy(),
            "mean_reward": self.mean_reward,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take the state of `get_state`.

        Raises:
            ValueError: If it belongs to another number of transforms.
        """
        if len(state["q"]) != len(self.q):
            raise ValueError(
                f"the state has values of {len(state['q'])} transforms, not of {len(self.q)}."
            )
        self.choice = None if state["choice"] is None else int(state["choice"])
        self.q, self.traces = np.array(state["q"]), np.array(state["traces"])
        self.chosen = np.array(state["chosen"])
        self.mean_reward = float(state["mean_reward"])
