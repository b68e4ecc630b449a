"""App: the order of a challenge's trials; one that has reached its end rests, and is tidied."""

from pathlib import Path
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler

from rllib_ppg.app.challenge_disk import read_trained


class RestingScheduler(FIFOScheduler):
    """Trials in the order of submission; a resumed one that is over is not begun again.

    A trial that is over is tidied before the next one begins, so that the disk holds little but the
    checkpoints of those that train.
    """

    def __init__(self) -> None:
        super().__init__()
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
        if earlier is not None and earlier.complete():
            trial.set_status(Trial.TERMINATED)
