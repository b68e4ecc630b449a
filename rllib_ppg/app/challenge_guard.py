"""App: the time guard: a trial ends in order before its seconds are over.

Tune can only end a trial between two training iterations, so the guard looks one ahead: a
checkpoint that may be due, the iteration, and the last checkpoint. The seconds count from the
moment when workers and learner are up, checkpoints included.
"""

import time
from pathlib import Path
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from rllib_ppg.app.challenge_disk import BETWEEN, read_trained

SAFETY = 1.1
"""The next iteration may take this many times the longest one so far."""


class TimeGuard(FIFOScheduler):
    """Stops trials, in the order of submission, before their seconds are over.

    Tune pickles it into the results folder and takes it from there on a resume; what it knows of a
    trial it then learns from the trial's results.

    Args:
        seconds: Of each trial.
        margin: Seconds that are left for the last checkpoint.
        slice_s: Seconds after which an iteration inside an auxiliary phase ends.
    """

    def __init__(self, seconds: float, margin: float, slice_s: float) -> None:
        super().__init__()
        self._end = seconds - margin
        self._slice_s = slice_s
        self._longest: dict[str, float] = {}
        self._longest_gap: dict[str, float] = {}
        self._between: dict[str, float] = {}
        self._last: dict[str, float] = {}

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Let a trial rest that had reached its end before the process was killed.

        Tune sorts the trial by its status only after this.
        """
        if trial.status != Trial.PENDING or not trial.relative_logdir:
            return
        earlier = read_trained(Path(trial.path))
        if earlier is None:
            return
        self._between[trial.trial_id] = earlier.between
        self._last.pop(trial.trial_id, None)
        if earlier.complete():
            trial.set_status(Trial.TERMINATED)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Stop a trial whose next iteration would end too late."""
        key, seconds = trial.trial_id, float(result["time_this_iter_s"])
        longest = self._longest[key] = max(self._longest.get(key, 0.0), seconds)
        gap = self._gap(key, seconds)
        result[BETWEEN] = self._between[key] = self._between.get(key, 0.0) + gap
        longest_gap = self._longest_gap[key] = max(self._longest_gap.get(key, 0.0), gap)
        ahead = SAFETY * (max(longest, self._slice_s) + 2 * longest_gap)
        if float(result["time_total_s"]) + result[BETWEEN] + ahead > self._end:
            return str(TrialScheduler.STOP)
        return str(TrialScheduler.CONTINUE)

    def _gap(self, key: str, seconds: float) -> float:
        """Seconds before this iteration that were no iteration's: of a checkpoint mostly."""
        now = time.monotonic()
        gap = now - self._last.get(key, now - seconds) - seconds
        self._last[key] = now
        return max(0.0, gap)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_longest": {}, "_longest_gap": {}, "_between": {}, "_last": {}}
