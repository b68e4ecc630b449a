"""Core: a budget of steps and seconds, and the best weights within it."""

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
        seconds: Seconds of the run; None sets no limit.
        margin_s: Seconds before `seconds` at which the run ends.
        best_weights: End with the weights of the best mean return instead of the last ones.
        min_env_steps: With no more steps than these it ends with the last ones all the same: early
            means are lucky.
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
        """Return whether the run ends here, without learning from its last iteration.

        Args:
            steps: Environment steps so far, that iteration's included.
            elapsed_s: Seconds of the run so far.
        """
        most = self.settings.env_steps
        return self.time_is_up(elapsed_s) or (most is not None and steps > most)

    def time_is_up(self, elapsed_s: float) -> bool:
        """Return whether no seconds are left after so many."""
        settings = self.settings
        return settings.seconds is not None and elapsed_s + settings.margin_s > settings.seconds

    def reached(self, steps: int) -> bool:
        """Return whether no more environment steps are left.

        Args:
            steps: Environment steps that the run has learned from.
        """
        return self.settings.env_steps is not None and steps >= self.settings.env_steps

    def handed_in(self, steps: int) -> Weights | None:
        """Return the weights that a run which ends here hands in, None for its last ones.

        Args:
            steps: Environment steps of the run.
        """
        allowed = self.settings.best_weights and steps > self.settings.min_env_steps
        return self.weights if allowed else None

    def told(self, steps: int) -> str:
        """Say which weights a run that ends here hands in."""
        if self.handed_in(steps) is not None:
            return (
                f"Its weights are those of the best mean return, {self.best_return:.4g}, at "
                f"{self.best_steps:,} environment steps."
            )
        if not self.settings.best_weights:
            return "Its weights are the last ones."
        if self.weights is None:
            return "Its weights are the last ones, for no episode has ended."
        return (
            f"Its weights are the last ones, for it had no more than "
            f"{self.settings.min_env_steps:,} environment steps (best_weights_min_env_steps)."
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
