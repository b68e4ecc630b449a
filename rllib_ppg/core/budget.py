"""Core: a budget of steps and time, and the best weights within it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_EPISODES = 100  # that a mean return is taken over, at least

Weights = dict[str, Any]


@dataclass(frozen=True)
class BudgetSettings:
    """What a run may use, and how it ends.

    Args:
        env_steps: Environment steps; None sets no limit.
        seconds: Seconds of training; None sets no limit.
        margin_s: Seconds before `seconds` at which the run ends.
        best_weights: End with the weights of the best mean return instead of the last ones.
        min_env_steps: With `best_weights` the run does not end before: early means are lucky.
    """

    env_steps: int | None = None
    seconds: float | None = None
    margin_s: float = 20.0
    best_weights: bool = False
    min_env_steps: int = 1_000_000


class RunBudget:
    """Says when a run has used its budget up, and keeps the best weights.

    The mean raw return is that of the episodes that ended in an iteration, or, where these are
    fewer than 100, of the last 100. Where it is above the best so far, the weights that acted are
    kept. An iteration that crosses the budget still counts here, but is not trained on.

    Attributes:
        best_return: The best mean so far; minus infinity before the first.
        best_steps: Environment steps at which it was reached.
        weights: The weights that reached it; None before.

    Source: Dipamc77/procgen-competition@f473f51, best_reward and best_weights.
    """

    def __init__(self, settings: BudgetSettings) -> None:
        self.settings = settings
        self.best_return = -math.inf
        self.best_steps = 0
        self.weights: Weights | None = None
        self._returns: deque[float] = deque(maxlen=_EPISODES)

    def note(self, returns: Sequence[float], steps: int, weights: Callable[[], Weights]) -> bool:
        """Take the episodes that ended in an iteration into account.

        Args:
            returns: Their raw returns, in order.
            steps: Environment steps so far, this iteration's included.
            weights: Copies the weights that acted; called where they are kept.

        Returns:
            Whether the weights were kept.
        """
        self._returns.extend(returns)
        considered = returns if len(returns) >= _EPISODES else self._returns
        if not self.settings.best_weights or not considered:
            return False
        mean = math.fsum(considered) / len(considered)
        if not mean > self.best_return:
            return False
        self.best_return, self.best_steps, self.weights = mean, steps, weights()
        return True

    def used_up(self, steps: int, elapsed_s: float) -> bool:
        """Return whether the run ends here.

        Args:
            steps: Environment steps so far.
            elapsed_s: Seconds of training so far.
        """
        settings = self.settings
        over = settings.env_steps is not None and steps > settings.env_steps
        if settings.seconds is not None:
            over = over or elapsed_s + settings.margin_s > settings.seconds
        if settings.best_weights:
            return over and steps > settings.min_env_steps and self.weights is not None
        return over

    def told(self) -> str:
        """Say which weights the run ends with, if not the last ones."""
        if self.weights is None:
            return ""
        return (
            f" Its weights are those of the best mean return, {self.best_return:.4g}, at "
            f"{self.best_steps:,} environment steps."
        )

    def get_state(self) -> dict[str, Any]:
        """Return the best weights and what they are judged by."""
        return {
            "best_return": self.best_return,
            "best_steps": self.best_steps,
            "weights": self.weights,
            "returns": list(self._returns),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take the state of `get_state`."""
        self.best_return, self.best_steps = float(state["best_return"]), int(state["best_steps"])
        self.weights = state["weights"]
        self._returns = deque(state["returns"], maxlen=_EPISODES)
