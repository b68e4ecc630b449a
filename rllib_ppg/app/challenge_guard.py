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

    A trial that is over is tidied before the next one begins, so that the disk holds little but the
    checkpoints of those that train.

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
        self._forget()

    def _forget(self) -> None:
        self._longest: dict[str, float] = {}
        self._longest_gap: dict[str, float] = {}
        self._between: dict[str, float] = {}
        self._last: dict[str, float] = {}
        self._tidied: set[str] = set()

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Choose the next trial, once those that are over are tidied."""
        for trial in tune_controller.get_trials():
            if trial.status == Trial.TERMINATED and trial.trial_id not in self._tidied:
                self._tidied.add(trial.trial_id)
                over = read_trained(Path(trial.path))
                if over is not None and over.done:
                    over.tidy()
        chosen: Trial | None = super().choose_trial_to_run(tune_controller)
        return chosen

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

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()
