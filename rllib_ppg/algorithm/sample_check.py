"""Algorithm: numbers that are not finite are found where an environment gives them."""

from collections.abc import Mapping

import numpy as np
import torch

from rllib_ppg._ray_compat import SampleBatch
from rllib_ppg.core.numeric_fault import Evidence, NumericFault
from rllib_ppg.envs.frame_stack import newest_frame

_STEPS_KEPT = 8  # before the fault
_ENTRIES_NAMED = 5


class SampleCheck:
    """Looks at every observation and reward of a worker; frames of bytes cost nothing.

    Args:
        worker_index: RLlib's index of the worker, 0 for the local one.
        columns: The arrays of the rollout (N, T, ...), written up to the current step.
        frame_stack: Frames of one observation, of which `columns` has the newest.
    """

    def __init__(
        self, worker_index: int, columns: Mapping[str, np.ndarray], frame_stack: int
    ) -> None:
        self._worker = worker_index
        self._columns = columns
        self._frame_stack = frame_stack
        self._first_env = max(0, worker_index - 1) * len(columns[SampleBatch.REWARDS])
        self._floats = columns[SampleBatch.OBS].dtype.kind == "f"

    def rewards(self, t: int, rewards: np.ndarray) -> None:
        """Look at the rewards (N,) of step t.

        Raises:
            NumericFault: If one is not finite; the rows before it travel with the error.
        """
        finite = np.isfinite(rewards)
        if finite.all():
            return
        n = int(np.argmin(finite))
        message = (
            f"worker {self._worker}: environment {self._first_env + n} gave the reward "
            f"{rewards[n]} at step {t} of the rollout; rewards must be finite."
        )
        given = {"rewards": np.array(rewards[n : n + 1], np.float32)}
        raise self._fault(message, "reward", n, t + 1, t, given)

    def observations(self, t: int, obs: np.ndarray) -> None:
        """Look at the observations (N, ...) that step t is to act on.

        Raises:
            NumericFault: If one is not finite; the rows before it travel with the error.
        """
        if not self._floats:
            return
        finite = np.isfinite(obs)
        if not finite.all():
            n = int(np.argmin(finite.reshape(len(obs), -1).all(axis=1)))
            raise self._observation_fault(t, n, obs[n])

    def final_observations(self, t: int, obs: Mapping[int, np.ndarray]) -> None:
        """Look at the last observations, by environment, of episodes that a limit cut before t.

        Raises:
            NumericFault: If one is not finite; the rows before it travel with the error.
        """
        for n, final in obs.items():
            if self._floats and not np.isfinite(final).all():
                raise self._observation_fault(t, n, final)

    def _observation_fault(self, t: int, n: int, obs: np.ndarray) -> NumericFault:
        broken = np.argwhere(~np.isfinite(obs))
        named = ", ".join(str(entry.tolist()) for entry in broken[:_ENTRIES_NAMED])
        more = ", ..." if len(broken) > _ENTRIES_NAMED else ""
        when = f"after step {t - 1} of the rollout" if t else "before the rollout's first step"
        message = (
            f"worker {self._worker}: environment {self._first_env + n} gave an observation that "
            f"is not finite {when}: {len(broken)} of {obs.size} entries, {named}{more} "
            f"(the first is {obs[tuple(broken[0])]}); observations must be finite."
        )
        return self._fault(message, "observation", n, t, t, {"obs": self._frame(obs)})

    def _frame(self, obs: np.ndarray) -> np.ndarray:
        return np.array(newest_frame(obs[None], self._frame_stack))

    def _fault(
        self,
        message: str,
        what: str,
        n: int,
        obs_stop: int,
        stop: int,
        given: dict[str, np.ndarray],
    ) -> NumericFault:
        """The error, with the environment's rows of the steps before and what it gave last."""
        first = max(0, stop - _STEPS_KEPT)
        stops = {
            SampleBatch.OBS: obs_stop,
            SampleBatch.ACTIONS: obs_stop,
            SampleBatch.REWARDS: stop,
        }
        rows = {name: self._columns[name][n, first:end] for name, end in stops.items()}
        for name, value in given.items():
            rows[name] = np.concatenate([rows[name], value])
        facts = {
            "what": what,
            "worker": self._worker,
            "environment": self._first_env + n,
            "step": stop,
            "first_step": first,
        }
        tensors = {name: torch.from_numpy(np.array(value)) for name, value in rows.items()}
        return NumericFault(message, Evidence("sample", facts, tensors))
