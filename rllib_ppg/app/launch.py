"""App: run one experiment with Ray Tune, from the start or from where it was left."""

import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import BasicVariantGenerator, ConcurrencyLimiter

from rllib_ppg.algorithm.checkpoint_files import newest_whole
from rllib_ppg.app.configuration_searcher import ConfigurationSearcher
from rllib_ppg.app.experiment import Experiment
from rllib_ppg.app.experiment_state import TRIALS, mend_notes, noted_trials
from rllib_ppg.app.interrupt import Interrupt, RayGuard
from rllib_ppg.app.objective import Objective
from rllib_ppg.app.report import TrialEnd, trial_end
from rllib_ppg.app.run_folder import experiment_folder, is_remote, storage_path
from rllib_ppg.app.searchers import RandomKeys, make_searcher
from rllib_ppg.app.sweep import Sweep
from rllib_ppg.app.sweep_watch import SweepWatch
from rllib_ppg.app.track_callback import TrackCallback
from rllib_ppg.app.tune_schedulers import make_scheduler
from rllib_ppg.app.tune_spaces import for_tune
from rllib_ppg.app.variants import without_nodes
from rllib_ppg.app.view import View, label_of
from rllib_ppg.app.watch import OrderlyScheduler, RunWatch, WatchCallback
from rllib_ppg.errors import UserError, told

ENDING = "{}: stopping after a checkpoint at the end of this iteration; once more stops at once."


@dataclass
class Outcome:
    """How an experiment ended.

    Attributes:
        ends: How each of its trials ended.
        interrupted: 0, or the exit code of the signal that ended it: 130 (Ctrl-C), 143 (SIGTERM).
        at_once: The signal came twice.
    """

    ends: list[TrialEnd]
    interrupted: int = 0
    at_once: bool = False

    @property
    def exit_code(self) -> int:
        """0 done, 1 a trial failed or could not be saved, 130 or 143 interrupted."""
        failed = any(end.status == Trial.ERROR or end.unsaved for end in self.ends)
        return self.interrupted or int(failed)


def make_tuner(
    experiment: Experiment,
    space: Mapping[str, Any],
    scheduler: TrialScheduler | None = None,
    *,
    sweep: Sweep,
    trackers: Sequence[str] = (),
) -> tune.Tuner:
    """Set up Tune for a new run.

    Args:
        experiment: The experiment.
        space: The resolved configuration, grids and spaces included.
        scheduler: In place of the one that the experiment names.
        sweep: How its trials are chosen and compared.
        trackers: Those of `track.TRACKERS` that get the results too.
    """
    keys = experiment.keys
    checkpoint = keys.checkpoint_config
    restore = {"restore": keys.restore} if keys.restore else None
    search = _search(sweep, keys.max_concurrent_trials, space)
    return tune.Tuner(
        keys.run,
        param_space=search["param_space"],
        tune_config=tune.TuneConfig(
            num_samples=search["num_samples"],
            search_alg=search["search_alg"],
            time_budget_s=keys.time_budget_s,
            trial_dirname_creator=search.get("dirname"),
            scheduler=OrderlyScheduler(scheduler or make_scheduler(sweep)),
        ),
        run_config=tune.RunConfig(
            name=experiment.name,
            storage_path=storage_path(experiment),
            stop=dict(keys.stop),
            checkpoint_config=tune.CheckpointConfig(**checkpoint.model_dump()),
            failure_config=tune.FailureConfig(max_failures=keys.max_failures),
            callbacks=[
                WatchCallback(),
                *(TrackCallback(name, experiment.name) for name in trackers),
            ],
            verbose=0,
            log_to_file=keys.log_to_file,
        ),
        _tuner_kwargs=restore,  # Tune's way to begin a trial from a given checkpoint
    )


def _search(sweep: Sweep, limit: int | None, space: Mapping[str, Any]) -> dict[str, Any]:
    """Tune's settings of what chooses the trials, and the configuration that goes with it."""
    search = sweep.search
    if isinstance(search, RandomKeys):
        generator = BasicVariantGenerator(
            max_concurrent=limit or 0,
            # Members of a configuration have the same sampled values.
            constant_grid_search=search.constant_grid_search or bool(sweep.over),
            random_state=search.seed,
        )
        whole = for_tune(sweep.expanded(space))
        return {"search_alg": generator, "num_samples": sweep.num_samples, "param_space": whole}
    constants = space if isinstance(search, dict) else without_nodes(space)
    inner = make_searcher(search, space, sweep.metric, sweep.mode)
    searcher = ConfigurationSearcher(inner, sweep.objective, constants, sweep.over)
    return {
        "search_alg": ConcurrencyLimiter(searcher, limit) if limit else searcher,
        "num_samples": sweep.num_samples * sweep.members,
        "param_space": for_tune(constants),
        "dirname": folder_name,
    }


def folder_name(trial: Trial) -> str:
    """A trial's folder by what was searched; Tune would name it by its whole configuration."""
    values = re.sub(r"[^\w.=-]+", ",", " ".join(label_of(trial).split()[1:]))
    return f"{trial}_{values}"[:130]


def is_begun(experiment: Experiment) -> bool:
    """Whether an earlier command has begun the experiment, so that it can be resumed."""
    return bool(tune.Tuner.can_restore(experiment_folder(experiment)))


def check_resumable(experiment: Experiment) -> str:
    """The results folder of an earlier run that `--resume` can go on with.

    Raises:
        UserError: If there is none, naming those that there are.
    """
    folder = experiment_folder(experiment)
    if is_begun(experiment):
        return folder
    place = Path(folder).parent
    runs = sorted(path.parent.name for path in place.glob("*/tuner.pkl")) if place.is_dir() else []
    there = f"; runs there: {', '.join(runs)}" if runs else ""
    raise UserError(
        f'There is no run of "{experiment.name}" in {place} to resume{there}. Start it without '
        "--resume, or name it with --experiment-name and --storage-path."
    )


def restored_tuner(
    experiment: Experiment,
    space: Mapping[str, Any],
    scheduler: TrialScheduler | None = None,
    *,
    sweep: Sweep,
    finished_too: bool,
    trackers: Sequence[str] = (),
) -> tune.Tuner:
    """Set up Tune to go on with an earlier run, failed trials included.

    Args:
        experiment: The experiment; only its name, place and stop keys count.
        space: The configuration, for a run that was killed before any trial was noted down.
        scheduler: For such a run, in place of the one that the experiment names.
        sweep: For such a run.
        trackers: For such a run; another keeps its own.
        finished_too: Let finished trials go on as well, because the stop keys have changed.
    """
    folder = experiment_folder(experiment)
    if not is_remote(folder) and not mend_notes(Path(folder)):
        _refuse_lost_trials(Path(folder))
        return make_tuner(experiment, space, scheduler, sweep=sweep, trackers=trackers)
    kind = tune.ResumeConfig.ResumeType
    return tune.Tuner.restore(
        check_resumable(experiment),
        trainable=experiment.keys.run,
        _resume_config=tune.ResumeConfig(
            finished=kind.RESUME if finished_too else kind.SKIP,
            unfinished=kind.RESUME,
            errored=kind.RESUME,
        ),
    )


def trials_to_resume(experiment: Experiment) -> set[str]:
    """Ids of the trials that a restored tuner has to go on with, as far as they are known."""
    folder = Path(experiment_folder(experiment))
    if is_remote(experiment_folder(experiment)) or not any(folder.glob(TRIALS)):
        return set()
    return noted_trials(folder)


def _refuse_lost_trials(folder: Path) -> None:
    """Refuse to begin again where checkpoints lie that Tune knows nothing of any more.

    Raises:
        UserError: Naming the newest whole one.
    """
    for trial in sorted(folder.iterdir()):
        newest = newest_whole(trial).path if trial.is_dir() else None
        if newest is not None:
            raise UserError(
                f"Ray Tune's notes about the run in {folder} are lost, so it cannot be resumed. "
                f"Begin a new run from its newest checkpoint: --restore {newest}"
            )


def _leave(view: View, text: str) -> None:
    """End the view from another thread, with some last words."""
    view.__exit__()
    print(text)


def fit(
    tuner: tune.Tuner,
    experiment: Experiment,
    view: View,
    noted: Collection[str] = (),
    objective: Objective | None = None,
) -> Outcome:
    """Run Tune to its end, to the first Ctrl-C (in order) or the second (at once).

    Args:
        tuner: Tune, set up.
        experiment: The experiment.
        view: Shows it.
        noted: Ids of the trials to go on with, of a run that is resumed.
        objective: What the trials are compared by, of a sweep.

    Raises:
        UserError: If Tune does not go on with them.
        OSError: If Tune cannot write its own notes.
    """
    # Ours stand in their place (`trial_log`), except where only Ray can write.
    remote = is_remote(storage_path(experiment))
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "0" if remote else "1"
    with (
        view,
        Interrupt(lambda name: view.note(ENDING.format(name))) as interrupt,
        RayGuard(interrupt, lambda text: _leave(view, text)),
        RunWatch(view, interrupt, experiment.keys.stop, noted, SweepWatch(objective)) as watch,
    ):
        at_once = False
        try:
            tuner.fit()
        except KeyboardInterrupt:
            at_once = True
        except OSError as error:  # Tune's notes go through the temporary folder
            raise OSError(
                f"Ray Tune stopped, because it could not write a file ({told(error)}). Make room "
                "there; --resume goes on from the newest checkpoint."
            ) from error
        ends = [
            trial_end(
                trial,
                watch.progress.get(trial.trial_id),
                watch.statuses.get(trial.trial_id, trial.status),
                unsaved=trial.trial_id in watch.unsaved,
            )
            for trial in watch.trials
        ]
        return Outcome(ends, interrupted=interrupt.exit_code, at_once=at_once)
