"""App: passes a run's results on to an experiment tracker, through Ray's own callbacks.

Results go under the names of docs/metrics.md. What fails there ends no training: it is told once.
"""

import os
from collections.abc import Callable
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial

from rllib_ppg.app.tensorboard_log import scalars
from rllib_ppg.app.track import TRACKERS, WANDB
from rllib_ppg.app.watch import RunWatch

WANDB_PROJECT = "rllib_ppg"
"""One project for all experiments, which are its groups: charts compare within a project only."""


class TrackCallback(Callback):
    """Reports to one tracker.

    Tune pickles callbacks into the results folder and makes them anew on a resume, so only names
    are kept.

    Args:
        tracker: One of `track.TRACKERS`.
        experiment: The experiment's name: the group of its trials (W&B) or their experiment
            (MLflow), unless the tracker's own environment variable names one.
    """

    def __init__(self, tracker: str, experiment: str) -> None:
        self.tracker = tracker
        self.experiment = experiment
        self._logger: Any = None
        self._open: dict[str, Trial] = {}

    def __getstate__(self) -> dict[str, Any]:
        """The names alone."""
        return {"tracker": self.tracker, "experiment": self.experiment}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Begin anew with the names."""
        self.__init__(**state)  # type: ignore[misc]

    def setup(self, *args: Any, **info: Any) -> None:
        """Connect to the tracker."""
        try:
            logger = make_logger(self.tracker, self.experiment)
            logger.setup(*args, **info)
        except Exception as error:
            self._give_up(error)
        else:
            self._logger = logger

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Begin a trial's run, with its configuration; one that is restarted goes on with its."""
        if trial.trial_id in self._open:
            return
        self._open[trial.trial_id] = trial
        self._report(lambda logger: logger.log_trial_start(trial))

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Report a result's numbers."""
        numbers = dict(scalars(result))
        self._report(lambda logger: logger.log_trial_result(iteration, trial, numbers))

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """End a trial's run."""
        self._end(trial, failed=False)

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """End a trial's run as failed."""
        self._end(trial, failed=True)

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        """End what was interrupted, and wait until everything is delivered."""
        for trial in list(self._open.values()):
            self._end(trial, failed=False)
        self._report(lambda logger: logger.on_experiment_end(trials, **info))

    def _end(self, trial: Trial, *, failed: bool) -> None:
        if self._open.pop(trial.trial_id, None) is not None:
            self._report(lambda logger: logger.log_trial_end(trial, failed))

    def _report(self, call: Callable[[Any], None]) -> None:
        if self._logger is None:
            return
        try:
            call(self._logger)
        except Exception as error:  # whatever a tracker's client or server raises
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        """Report nothing more in this process, and say so."""
        self._logger = None
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        if RunWatch.current is not None:
            name = TRACKERS[self.tracker]
            RunWatch.current.view.event(f"{name} gets no results, going on: {reason}")


def make_logger(tracker: str, experiment: str) -> Any:
    """Ray's own callback for a tracker."""
    if tracker == WANDB:
        from ray.air.integrations.wandb import WandbLoggerCallback

        project = _named("WANDB_PROJECT", "WANDB_PROJECT_NAME") or WANDB_PROJECT
        group = _named("WANDB_RUN_GROUP", "WANDB_GROUP_NAME") or experiment
        # The process that reports may have the environment of a cluster's node.
        given = {"mode": _named("WANDB_MODE"), "entity": _named("WANDB_ENTITY")}
        more = {name: value for name, value in given.items() if value}
        # A resumed trial goes on with its run.
        return WandbLoggerCallback(project=project, group=group, resume="allow", **more)
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    name = _named("MLFLOW_EXPERIMENT_NAME") or experiment
    # An address that is not given to it, Ray would not look up.
    return MLflowLoggerCallback(_named("MLFLOW_TRACKING_URI"), experiment_name=name)


def _named(*variables: str) -> str | None:
    """The first environment variable that is set."""
    return next((os.environ[name] for name in variables if os.environ.get(name)), None)
