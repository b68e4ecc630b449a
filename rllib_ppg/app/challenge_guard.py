"""App: the time guard: a trial ends in order before its seconds are over.

Tune can only end a trial between two training iterations, so the guard looks one ahead. The seconds
count from the moment when workers and learner are up, checkpoints included.
"""

import time
from pathlib import Path
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from rllib_ppg.app.challenge_disk import read_trained

SAFETY = 1.1
"""The next iteration may take this many times the longest one so far."""


class TimeGuard(FIFOScheduler):
    """Stops trials, in the order of submission, before their seconds are over.

    Tune pickles it into the results folder and takes it from there on a resume. What it knows of a
    trial it learns anew from its results then.

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
        self._begun: dict[str, float] = {}

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Let a trial rest that had reached its end before the process was killed.

        Tune sorts the trial by its status only after this.
        """
        if trial.status != Trial.PENDING or not trial.relative_logdir:
            return
        earlier = read_trained(Path(trial.path))
        if earlier is not None and earlier.complete():
            trial.set_status(Trial.TERMINATED)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Stop a trial whose next iteration would end too late."""
        key = trial.trial_id
        longest = max(self._longest.get(key, 0.0), float(result["time_this_iter_s"]))
        self._longest[key] = longest
        next_one = SAFETY * max(longest, self._slice_s)
        if self._elapsed(key, result) + next_one > self._end:
            return str(TrialScheduler.STOP)
        return str(TrialScheduler.CONTINUE)

    def _elapsed(self, key: str, result: dict[str, Any]) -> float:
        """Seconds of a trial: its iterations, and what lay between those of this process."""
        now, here = time.monotonic(), float(result["time_since_restore"])
        if result["iterations_since_restore"] == 1:
            self._begun[key] = now - here
        between = now - self._begun.get(key, now - here) - here
        return float(result["time_total_s"]) + max(0.0, between)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_longest": {}, "_begun": {}}
