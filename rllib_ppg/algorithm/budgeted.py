"""Algorithm: the part of `PPG` that ends a run at its budget, and keeps its best weights."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from rllib_ppg._ray_compat import NUM_ENV_STEPS_SAMPLED
from rllib_ppg.algorithm import parts
from rllib_ppg.algorithm.resumable import Resumable
from rllib_ppg.algorithm.rollout import Rollout
from rllib_ppg.core.run_clock import RunClock


class Budgeted(Resumable):
    """The budget of environment steps and seconds, whatever else may end the run."""

    def _begin_budget(self) -> None:
        """Begin to count, when workers and learner are up."""
        self._budget = parts.run_budget(self.config)
        self._clock = RunClock()
        self._finished = False

    @property
    def _env_steps(self) -> int:
        return int(self._counters[NUM_ENV_STEPS_SAMPLED])

    def _is_over(self) -> bool:
        """Whether nothing is left of the budget, or the run has ended before."""
        steps = self._env_steps
        over = self._budget.reached(steps) or self._budget.used_up(steps, self._clock.elapsed_s)
        return over or self._finished

    def _look_ahead(self) -> None:
        """End the run here if the time may not suffice for another training iteration."""
        slice_s = self.config.aux_slice_s if self.config.has_aux_phases else 0.0
        then = self._clock.elapsed_s + self._clock.ahead_s(slice_s)
        if not self._finished and self._budget.time_is_up(then):
            self._finish(self._env_steps)

    def _note_episodes(
        self, rollouts: Sequence[Rollout], acting: dict[str, Any] | None, steps: int
    ) -> None:
        """Take the episodes that ended into account.

        Args:
            rollouts: Where they ended.
            acting: The weights that acted, where they are not those of now.
            steps: Environment steps so far, these included.
        """
        returns = [float(r) for rollout in rollouts for r in rollout.ended_returns]
        lengths = [int(n) for rollout in rollouts for n in rollout.ended_lengths]
        if self._gamma_rule is not None:
            self._gamma_rule.note(returns, lengths)
        self._budget.note(returns, steps, lambda: acting or self._weights())

    def _weights(self) -> dict[str, Any]:
        # A copy: on a CPU RLlib hands out the parameters' own memory.
        weights = self.get_policy().get_weights()
        return {name: np.array(value) for name, value in weights.items()}

    def _finish(self, steps: int) -> None:
        """End the run, with the best weights where they are kept.

        Args:
            steps: Environment steps of the run.
        """
        self._finished = True
        told = self._budget.told(steps)
        self._notices.append(f"The budget is used up: the run ends here. {told}")
        weights = self._budget.handed_in(steps)
        if weights is not None:
            self.get_policy().set_weights(weights)
