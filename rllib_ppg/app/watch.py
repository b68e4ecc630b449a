"""App: what happens while Tune runs an experiment: progress to the view, and the end on Ctrl-C.

Tune pickles schedulers and callbacks into the results folder and makes them anew on a resume. So
the two classes for Tune hold nothing: they pass everything on to the `RunWatch` of this process.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler
from ray.tune.utils import flatten_dict

from rllib_ppg.app.adopt import adopt_newest
from rllib_ppg.app.experiment_state import ExperimentState
from rllib_ppg.app.interrupt import Interrupt, end_tune_loop
from rllib_ppg.app.progress import Progress
from rllib_ppg.app.report import cause_of, error_of
from rllib_ppg.app.run_folder import is_remote
from rllib_ppg.app.sweep_watch import SweepWatch
from rllib_ppg.app.trial_log import TrialLog
from rllib_ppg.app.view import View, label_of
from rllib_ppg.errors import OutOfMemory, UserError

HOPELESS = (FloatingPointError, OutOfMemory, UserError)
"""Errors that come again however often a trial is restarted from its checkpoint."""


class RunWatch:
    """The one place that knows how the running experiment stands.

    Args:
        view: Shows it.
        interrupt: Whether Ctrl-C was pressed.
        stop: The stop keys; they replace those of a resumed trial.
        noted: Ids of the trials of the run that is resumed; none for a new run.
        sweep: Watches what a sweep does with its trials.

    Attributes:
        trials: Tune's trials, those not yet started included.
        progress: Where each trial stands, by its id.
        statuses: Tune's statuses when an orderly end was reached; cleaning up overwrites them.
        unsaved: Ids of the trials whose newest checkpoint could not be written.
    """

    current: "RunWatch | None" = None

    def __init__(
        self,
        view: View,
        interrupt: Interrupt,
        stop: dict[str, float],
        noted: Collection[str] = (),
        sweep: SweepWatch | None = None,
    ) -> None:
        self.view = view
        self.sweep = sweep or SweepWatch()
        self.sweep.tell = view.event
        self.interrupt = interrupt
        self.trials: Sequence[Trial] = ()
        self.progress: dict[str, Progress] = {}
        self.statuses: dict[str, str] = {}
        self.unsaved: set[str] = set()
        self._stop = stop
        self._noted = set(noted)
        self._given: set[str] = set()
        self._logs: dict[str, TrialLog] = {}
        self._saved: dict[str, str | None] = {}
        self._state = ExperimentState()

    def __enter__(self) -> "RunWatch":
        RunWatch.current = self
        return self

    def __exit__(self, *_: object) -> None:
        RunWatch.current = None

    @property
    def stopping(self) -> bool:
        """Whether an orderly end has been asked for."""
        return self.interrupt.requested

    def step_begins(self, trials: Sequence[Trial]) -> None:
        """Take note of the trials; give each the current stop keys, once.

        Raises:
            UserError: If Tune has given up to resume a run, as it does without a word.
        """
        missing = self._noted - {trial.trial_id for trial in trials}
        if missing:
            raise UserError(
                "Ray Tune could not take up its notes about the run, so it cannot be resumed: "
                f"{len(missing)} of {len(self._noted)} trials are missing. Begin a new run from a "
                "checkpoint with --restore."
            )
        self._noted = set()
        self.trials = trials
        self.sweep.begin(trials)
        for trial in trials:
            if trial.trial_id not in self._given:
                self._given.add(trial.trial_id)
                trial.stopping_criterion = dict(self._stop)
                trial.invalidate_json_state()

    def had_ended(self, trial: Trial) -> None:
        """Note a trial that Tune knows to be over: with no other one it takes no step at all."""
        self.trials = [*self.trials, trial]
        progress = self.progress.setdefault(trial.trial_id, Progress(self._stop))
        if trial.last_result:
            progress.update(trial.last_result)

    def step_ends(self) -> None:
        """Keep Tune's notes; end its loop once no trial runs any more and an end was asked for."""
        self.sweep.write_notes(self.trials)
        if self.trials and not is_remote(self.trials[0].path):
            self._state.keep(self.trials[0].storage)
        if self.stopping and not any(trial.status == Trial.RUNNING for trial in self.trials):
            self.statuses = {trial.trial_id: trial.status for trial in self.trials}
            end_tune_loop()

    def result(self, trial: Trial, result: dict[str, Any]) -> None:
        """Write a new result to the trial's files, and show it."""
        if not is_remote(trial.path):  # Ray's own loggers write there
            self._log(trial).write(result)
        progress = self.progress.setdefault(trial.trial_id, Progress(self._stop))
        progress.update(result)
        for text in result.get("notices", []):
            if text not in progress.notices:  # it goes on, as a full disk does
                self.view.event(f"{self._prefix(trial)}{text}")
        progress.notices = result.get("notices", [])
        self.view.result(trial, progress, len(self.trials))

    def _log(self, trial: Trial) -> TrialLog:
        if trial.trial_id not in self._logs:
            warn = self.view.event
            self._logs[trial.trial_id] = TrialLog(Path(trial.path), trial.config, warn)
        return self._logs[trial.trial_id]

    def _prefix(self, trial: Trial) -> str:
        return f"trial {label_of(trial)}: " if len(self.trials) > 1 else ""

    def resumed(self, trial: Trial) -> bool:
        """Let a trial of an earlier process go on from its newest whole checkpoint.

        Returns:
            Whether it had reached its end there.
        """
        if trial.trainable_name != "PPG" or is_remote(trial.path):
            return False
        adopted = adopt_newest(trial)
        self._saved[trial.trial_id] = str(adopted.checkpoint) if adopted.checkpoint else None
        where = adopted.checkpoint.name if adopted.checkpoint else "the beginning"
        for note in adopted.notes:
            self.view.event(f"{self._prefix(trial)}{note} Going on from {where}.")
        if adopted.result is None:
            return False
        self.progress.setdefault(trial.trial_id, Progress(self._stop)).update(adopted.result)
        flat = flatten_dict(adopted.result, "/")
        going = {**flat, "done": False}
        ends_trials = getattr(self.sweep.scheduler, "metric", None) is not None
        by_scheduler = ends_trials and flat.get("done") and not trial.should_stop(going)
        trial.stopping_criterion = dict(self._stop)
        # It is done by today's stop keys, or by the scheduler, or not at all.
        return bool(by_scheduler or trial.should_stop(going))

    def saved(self, trial: Trial) -> None:
        """Note whether a checkpoint was written that was due."""
        newest = trial.checkpoint.path if trial.checkpoint else None
        if newest == self._saved.get(trial.trial_id):
            self.unsaved.add(trial.trial_id)
        else:
            self.unsaved.discard(trial.trial_id)
        self._saved[trial.trial_id] = newest

    def failed(self, trial: Trial, *, again: bool) -> None:
        """Say that a trial failed, and whether it goes on from its checkpoint."""
        where = "from its last checkpoint" if trial.checkpoint else "from the beginning"
        then = f"; going on {where} (failure {trial.run_metadata.num_failures})" if again else ""
        name = f"trial {label_of(trial)}" if len(self.trials) > 1 else "the trial"
        self.view.event(f"{name} failed: {cause_of(trial)}{then}")

    def is_hopeless(self, trial: Trial) -> bool:
        """Whether a restart of a failed trial would fail in the same way."""
        return isinstance(error_of(trial), HOPELESS)


class WatchCallback(Callback):
    """Passes Tune's events on to the current `RunWatch`."""

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Tune begins a step of its loop."""
        if RunWatch.current:
            RunWatch.current.step_begins(trials)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Tune ends a step of its loop."""
        if RunWatch.current:
            RunWatch.current.step_ends()

    def get_state(self) -> dict[str, Any] | None:
        """What Tune's notes have to hold beside the trials: what the scheduler knows of them."""
        return RunWatch.current.sweep.state() if RunWatch.current else None

    def set_state(self, state: dict[str, Any]) -> None:
        """Take that of the run that is resumed."""
        if RunWatch.current:
            RunWatch.current.sweep.set_state(state)

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """A trial has ended."""
        if RunWatch.current:
            RunWatch.current.sweep.ended(trial)

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """A trial is ready to train."""
        if RunWatch.current:
            RunWatch.current.view.started()

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """A trial has a new result."""
        if RunWatch.current:
            RunWatch.current.result(trial, result)

    def on_trial_save(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial was asked for a checkpoint, and has answered."""
        if RunWatch.current:
            RunWatch.current.saved(trial)

    def on_trial_recover(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """A trial failed and is restarted."""
        if RunWatch.current and not RunWatch.current.is_hopeless(trial):
            RunWatch.current.failed(trial, again=True)

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """A trial failed for good."""
        if RunWatch.current:
            RunWatch.current.failed(trial, again=False)


class OrderlyScheduler(TrialScheduler):
    """A Tune scheduler that pauses all trials, with a checkpoint, once Ctrl-C was pressed.

    Args:
        inner: The scheduler that decides otherwise.
    """

    def __init__(self, inner: TrialScheduler) -> None:
        super().__init__()
        self.inner = inner

    @property
    def metric(self) -> Any:
        """The metric that the scheduler looks at."""
        return self.inner.metric

    @property
    def supports_buffered_results(self) -> bool:
        """No: an end could not be asked for in between."""
        return False

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Pass on Tune's metric and mode."""
        return bool(self.inner.set_search_properties(metric, mode, **spec))

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Give up a trial whose error would come again; let others go on from where they were.

        Tune sorts the trial by its status only after this.
        """
        self.inner.on_trial_add(tune_controller, trial)
        watch = RunWatch.current
        if watch:
            watch.sweep.scheduler = self.inner
            watch.sweep.controller = getattr(tune_controller, "_tune_controller", tune_controller)
        if watch and trial.status in (Trial.TERMINATED, Trial.ERROR):
            watch.had_ended(trial)
        if not watch or trial.status != Trial.PENDING or not trial.relative_logdir:
            return
        if trial.run_metadata.error_filename and watch.is_hopeless(trial):
            trial.set_status(Trial.ERROR)
            watch.failed(trial, again=False)
        elif watch.resumed(trial):
            trial.set_status(Trial.TERMINATED)
            watch.sweep.had_ended(trial)
        else:
            watch.sweep.goes_on(trial)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Pass on that a trial failed."""
        self.inner.on_trial_error(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Decide what a trial does next; pause it where an end was asked for."""
        watch = RunWatch.current
        known = watch.sweep.known(trial, result) if watch else result
        if known is None:
            decision = str(TrialScheduler.CONTINUE)
        else:
            decision = str(self.inner.on_trial_result(tune_controller, trial, known))
        if watch and watch.stopping and decision == TrialScheduler.CONTINUE:
            watch.sweep.halted.add(trial.trial_id)
            return str(TrialScheduler.PAUSE)
        return decision

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Pass on that a trial is done."""
        watch = RunWatch.current
        known = (watch.sweep.known(trial, result) if watch else None) or result
        self.inner.on_trial_complete(tune_controller, trial, known)

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        """Pass on that a trial is gone."""
        self.inner.on_trial_remove(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Choose the next trial; none where an end was asked for.

        HyperBand forgets trials that wait for others of their group if the last of those ends by a
        stop key, or ended when the driver was killed: where nothing else is left they go on.
        """
        if RunWatch.current and RunWatch.current.stopping:
            return None
        chosen = self.inner.choose_trial_to_run(tune_controller)
        if chosen is not None:
            return chosen
        trials = tune_controller.get_trials()
        if any(trial.status in (Trial.RUNNING, Trial.PENDING) for trial in trials):
            return None
        return next((trial for trial in trials if trial.status == Trial.PAUSED), None)

    def debug_string(self) -> str:
        """Describe the scheduler's state."""
        return str(self.inner.debug_string())
