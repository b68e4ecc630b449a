"""App: what a sweep does with its trials while Tune runs it, and what a resume has to know of it.

Tune writes its notes every ten seconds or more. Between them trials begin, end and copy each other,
so here the notes are written whenever one does: a sweep that is killed goes on with the trials it
had, trains none again that has ended, and its scheduler and searcher know what they knew.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler
from ray.tune.utils import flatten_dict

from rllib_ppg.algorithm.trial_checkpoints import COUNTERS
from rllib_ppg.app.copies import note_copy
from rllib_ppg.app.objective import Objective, number_in
from rllib_ppg.app.progress import show
from rllib_ppg.app.result_files import results
from rllib_ppg.app.run_folder import is_remote
from rllib_ppg.app.scheduler_state import dump_scheduler, load_scheduler
from rllib_ppg.app.view import label_of, show_value

STATE = "sweep"


class SweepWatch:
    """Stands between Tune and an experiment's scheduler.

    Args:
        objective: What the trials are compared by; None where that does not matter.

    Attributes:
        scheduler: The scheduler that decides.
        controller: Tune's controller.
        halted: Ids of the trials that were paused because an end was asked for.
        tell: Told of what happens, in sentences.
    """

    def __init__(self, objective: Objective | None = None) -> None:
        self.objective = objective
        self.scheduler: TrialScheduler | None = None
        self.controller: Any = None
        self.halted: set[str] = set()
        self.tell: Callable[[str], None] = lambda text: None
        self._values: dict[str, float] = {}
        self._seen: dict[str, tuple[str, str]] = {}
        self._due = False
        self._next_notes = 0.0
        self._earlier: dict[str, Any] | None = None
        self._had_ended: list[Trial] = []
        self._best: tuple[float, str] = (math.inf, "")

    # ---- results

    def known(self, trial: Trial, result: dict[str, Any]) -> dict[str, Any] | None:
        """What a scheduler is told of a result: the newest objective that is a number.

        Returns:
            The result itself for a scheduler that compares nothing; None where no objective is
            known yet.
        """
        metric = getattr(self.scheduler, "metric", None)
        if metric is None or metric not in result:
            return result
        value = number_in(result, metric)
        if math.isnan(value):
            value = self._value_of(trial, metric)
        self._values[trial.trial_id] = value
        if math.isnan(value):
            return None
        result[metric] = value  # Tune gives the same to its searcher
        kept = {*COUNTERS, getattr(self.scheduler, "_time_attr", None), "done"}
        return {**{name: result[name] for name in kept if name in result}, metric: value}

    def _value_of(self, trial: Trial, metric: str) -> float:
        """The newest value before: of this process, else of the trial's file."""
        if trial.trial_id not in self._values:
            rows = () if is_remote(trial.path) else results(Path(trial.path))
            found = (number_in(row, metric) for row in rows)
            numbers = [value for value in found if not math.isnan(value)]
            self._values[trial.trial_id] = numbers[-1] if numbers else math.nan
        return self._values[trial.trial_id]

    def ended(self, trial: Trial) -> None:
        """Say that a trial has ended, and which is the best so far."""
        if self.objective is None or trial.last_result is None or self.objective.over_games:
            return
        result = flatten_dict(trial.last_result, "/")
        value = self.objective.of(result, trial.config)
        if math.isnan(value):
            value = self._values.get(trial.trial_id, math.nan)
        order = self.objective.order(value)
        if order < self._best[0]:
            self._best = (order, label_of(trial))
        steps = number_in(result, "timesteps_total")
        self.tell(
            f"trial {label_of(trial)} ended after {show(steps, ',.0f')} steps, "
            f"{self.objective.name} {show(value, '.4g')}; best so far: trial {self._best[1]}"
        )

    # ---- notes

    def write_notes(self, trials: Sequence[Trial]) -> None:
        """Let Tune write its notes if a trial has begun, ended or copied another one."""
        if not hasattr(self.controller, "save_to_dir"):
            return
        for trial in trials:
            before, now = self._seen.get(trial.trial_id), (trial.status, trial.experiment_tag)
            if now == before:
                continue
            if before is not None and now[1] != before[1]:
                self._note_copy(trial, trials)
            self._seen[trial.trial_id] = now
            trial.invalidate_json_state()
            trial.run_metadata.invalidate_cache()
            self.controller._mark_trial_to_checkpoint(trial)
            self._due = True
        begin = time.monotonic()
        if self._due and begin >= self._next_notes:
            self.controller.save_to_dir()
            # With thousands of trials it takes its time, of which this is a tenth at most.
            self._next_notes = begin + 10 * (time.monotonic() - begin)
            self._due = False

    def _note_copy(self, trial: Trial, trials: Sequence[Trial]) -> None:
        """PBT gives a trial a new tag, configuration and checkpoint."""
        checkpoint = trial.checkpoint
        if checkpoint is None or is_remote(trial.path):
            return
        source = next((t for t in trials if t.path == str(Path(checkpoint.path).parent)), None)
        mutations = getattr(self.scheduler, "_hyperparam_mutations", {})
        values = dict(_leaves(mutations, trial.config))
        name = source.trial_id if source else "?"
        note_copy(Path(trial.path), name, checkpoint.path, values)
        shown = ", ".join(f"{key} {show_value(value)}" for key, value in values.items())
        number = name.rsplit("_", 1)[-1]
        self.tell(f"trial {label_of(trial)} goes on from trial {number}, with {shown}")

    def state(self) -> dict[str, Any] | None:
        """What the notes hold of the scheduler; nothing of one that compares nothing."""
        if getattr(self.scheduler, "metric", None) is None or self._earlier is not None:
            return self._earlier
        trials = self.controller.get_trials()
        statuses = {
            trial.trial_id: Trial.RUNNING if trial.trial_id in self.halted else trial.status
            for trial in trials
        }
        return {STATE: {"scheduler": dump_scheduler(self.scheduler), "statuses": statuses}}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take the state of `state`, before Tune adds the trials."""
        self._earlier = state

    # ---- going on with an earlier run

    def goes_on(self, trial: Trial) -> None:
        """A trial of an earlier process is added, and is to be trained on."""
        statuses = self._earlier[STATE]["statuses"] if self._earlier else {}
        if statuses.get(trial.trial_id) == Trial.PAUSED:
            trial.set_status(Trial.PAUSED)  # by its scheduler, which lets it go on

    def had_ended(self, trial: Trial) -> None:
        """A trial of an earlier process is added that had ended, which nobody has been told."""
        self._had_ended.append(trial)

    def begin(self, trials: Sequence[Trial]) -> None:
        """All trials of an earlier process are there: the scheduler takes up what it knew."""
        earlier, self._earlier = self._earlier, None
        if earlier is not None and self.scheduler is not None:
            load_scheduler(self.scheduler, earlier[STATE]["scheduler"], trials)
            self._add_again(trials, earlier[STATE]["statuses"])
        for trial in self._had_ended:
            self._tell_end(trial)
        self._had_ended = []

    def _add_again(self, trials: Sequence[Trial], statuses: Mapping[str, str]) -> None:
        """Tell the scheduler of trials that it has forgotten because they had ended."""
        done = (Trial.TERMINATED, Trial.ERROR)
        for trial in trials:
            if trial.status not in done and statuses.get(trial.trial_id, Trial.ERROR) in done:
                assert self.scheduler is not None
                self.scheduler.on_trial_add(self.controller, trial)

    def _tell_end(self, trial: Trial) -> None:
        """Tell scheduler and searcher of an end that they have missed."""
        rows = [] if is_remote(trial.path) else list(results(Path(trial.path)))
        result = flatten_dict(rows[-1], "/") if rows else flatten_dict(trial.last_result or {}, "/")
        if self.scheduler is not None:
            known = self.known(trial, dict(result))
            if known is not None:
                self.scheduler.on_trial_complete(self.controller, trial, known)
        self.controller.search_alg.on_trial_complete(trial.trial_id, result=result)


def _leaves(mutations: Mapping[str, Any], config: Mapping[str, Any], prefix: str = "") -> Any:
    """The values of a configuration at the leaves of PBT's spaces, with dots in their names."""
    for name, space in mutations.items():
        if isinstance(space, Mapping):
            yield from _leaves(space, config[name], f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", config[name]
