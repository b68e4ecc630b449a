"""App: what a scheduler of Tune's knows of its trials, kept over a restart of the driver.

Tune pickles a scheduler once, before the first trial, and a resumed run would begin with that.
"""

import io
import pickle
from collections.abc import Sequence
from typing import Any

from ray import cloudpickle
from ray.tune.experiment import Trial
from ray.tune.schedulers import MedianStoppingRule, PopulationBasedTraining, TrialScheduler

from rllib_ppg._ray_compat import FutureTrainingResult

_TRIAL, _FUTURE = "trial", "future"


class _Pickler(cloudpickle.CloudPickler):
    """Writes trials by their ids, and no futures, which end with the process."""

    def persistent_id(self, obj: Any) -> Any:
        if isinstance(obj, Trial):
            return _TRIAL, obj.trial_id
        return (_FUTURE, None) if isinstance(obj, FutureTrainingResult) else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, trials: Sequence[Trial]) -> None:
        super().__init__(io.BytesIO(data))
        self._trials = {trial.trial_id: trial for trial in trials}

    def persistent_load(self, pid: Any) -> Any:
        kind, name = pid
        return self._trials[name] if kind == _TRIAL else None


def dump_scheduler(scheduler: TrialScheduler) -> bytes:
    """All that a scheduler knows."""
    data = io.BytesIO()
    _Pickler(data).dump(scheduler.__dict__)
    return data.getvalue()


def load_scheduler(scheduler: TrialScheduler, data: bytes, trials: Sequence[Trial]) -> None:
    """Take what a scheduler of the same kind knew.

    Args:
        scheduler: The scheduler.
        data: From `dump_scheduler`, of the same run.
        trials: All trials of that run.

    Raises:
        KeyError: If it knew a trial that is not among them.
    """
    scheduler.__dict__.update(_Unpickler(data, trials).load())
    if isinstance(scheduler, MedianStoppingRule):
        # Those whose end was not noted any more are asked about again.
        scheduler._stopped_trials = {t for t in scheduler._stopped_trials if t.is_finished()}
    if isinstance(scheduler, PopulationBasedTraining):
        for trial, state in scheduler._trial_state.items():
            if state.last_checkpoint is None and state.last_score is not None:
                # Its save was under way, and is the trial's newest checkpoint by now or is lost.
                state.last_checkpoint = trial.checkpoint
