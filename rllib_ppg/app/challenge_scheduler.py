"""App: the order of a challenge's trials, and that one which has reached its end rests."""

from pathlib import Path
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler

from rllib_ppg.app.challenge_disk import read_trained


class RestingScheduler(FIFOScheduler):
    """Trials in the order of submission; a resumed one that is over is not begun again."""

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Let a trial rest that had reached its end before the process was killed.

        Tune sorts the trial by its status only after this.
        """
        if trial.status != Trial.PENDING or not trial.relative_logdir:
            return
        earlier = read_trained(Path(trial.path))
        if earlier is not None and earlier.complete():
            trial.set_status(Trial.TERMINATED)
