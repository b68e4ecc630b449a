"""App: what `rllib train` does: read, check, connect to Ray, resolve, run, report."""

import importlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from rllib_ppg.app import cluster
from rllib_ppg.app.experiment import Experiment
from rllib_ppg.app.experiment_files import load_experiments
from rllib_ppg.app.flags import TrainFlags
from rllib_ppg.app.interrupt import INTERRUPTED, Terminated, exit_code_of, sigterm_as_exception
from rllib_ppg.app.run_folder import (
    check_writable,
    experiment_folder,
    locked,
    write_description,
)
from rllib_ppg.app.track import check_trackers
from rllib_ppg.app.video import check_video_every
from rllib_ppg.errors import UserError

_ERROR_LINES = 12
"""Lines of a failed trial's traceback that are shown of a run on a cluster."""


def run_train(flags: TrainFlags, command: Sequence[str]) -> int:
    """Train all experiments that the flags name, one after the other.

    Args:
        flags: The flags of the command line.
        command: Its words after `rllib`, to be written down and shown again.

    Returns:
        The exit code: 0 done, 1 a trial failed, 130 or 143 interrupted by Ctrl-C or SIGTERM.

    Raises:
        UserError: If anything that was given is wrong; nothing has been started then.
    """
    try:
        with sigterm_as_exception():
            return _run_train(flags, command)
    except KeyboardInterrupt as error:  # outside of a run, which looks after signals itself
        terminated = isinstance(error, Terminated)
        word = "Terminated" if terminated else "Interrupted"
        print(f"\n{word} while nothing was being trained.", file=sys.stderr)
        return exit_code_of(error)


def _run_train(flags: TrainFlags, command: Sequence[str]) -> int:
    experiments = load_experiments(flags)
    settings = cluster.ray_settings(flags)
    check_flags(flags)
    if flags.video_every is not None:
        check_video_every(flags.video_every, experiments)
    check_trackers(flags.track or ())
    for experiment in experiments:
        check_writable(experiment)
    cluster.prepare_environment(settings)
    if flags.dry_run:
        return _dry_run(experiments, settings, flags)
    return _train(experiments, settings, flags, command)


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """Context in which a terminal shows what is being waited for; elsewhere nothing."""
    if not sys.stdout.isatty():
        yield
        return
    with Console().status(text):
        yield


def check_flags(flags: TrainFlags) -> None:
    """Refuse flags that contradict each other.

    Raises:
        UserError: Naming them.
    """
    if flags.framework not in (None, "torch"):
        raise UserError(f"--framework {flags.framework}: PPG runs on torch only; leave it out.")
    if flags.resume and flags.restore:
        raise UserError(
            "--resume goes on with the run itself and --restore starts a new one from a "
            "checkpoint; give one of them."
        )
    if flags.resume and flags.dry_run:
        raise UserError("--dry-run describes a new run; leave --resume out.")


def import_modules(names: Sequence[str]) -> None:
    """Import modules (or .py files) that register environments, models or algorithms.

    Raises:
        UserError: If one cannot be imported.
    """
    for name in names:
        try:
            _import_file(Path(name)) if name.endswith(".py") else _import_module(name)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise UserError(f"--from {name} cannot be imported: {reason}") from error


def _import_module(name: str) -> None:
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    importlib.import_module(name)


def _import_file(path: Path) -> None:
    from ray import cloudpickle

    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    cloudpickle.register_pickle_by_value(module)  # workers cannot import it
    spec.loader.exec_module(module)


def _dry_run(
    experiments: Sequence[Experiment], settings: cluster.RaySettings, flags: TrainFlags
) -> int:
    with waiting("Checking ..."):
        import_modules(flags.imports or [])
        from rllib_ppg.app.dry_run import dry_run

        cluster.quiet_logging(settings)
    return dry_run(experiments, settings, flags)


def _train(
    experiments: Sequence[Experiment],
    settings: cluster.RaySettings,
    flags: TrainFlags,
    command: Sequence[str],
) -> int:
    with waiting("Checking ..."):
        import_modules(flags.imports or [])
        from rllib_ppg.app import plan

        cluster.quiet_logging(settings)
        own = flags_of_each(experiments, flags)
        pairs = list(zip(experiments, own, strict=True))
        if settings.address is None:  # everything is known before Ray is started
            for experiment, each_flags in pairs:
                plan.make_plan(experiment, settings, each_flags)
    code = 0
    with ExitStack() as stack:
        with waiting("Starting Ray ..."):
            stack.enter_context(cluster.session(settings))
            plans = [plan.make_plan(each, settings, each_flags) for each, each_flags in pairs]
        away = settings.address is not None
        if away:
            with waiting("Trying the results folder on the nodes ..."):
                for each in plans:
                    each.notes += _check_shared(each)
        for each, each_flags in zip(plans, own, strict=True):
            code = max(code, _run(each, each_flags, command, alone=len(plans) == 1, away=away))
            if code >= INTERRUPTED:
                break
    return code


def flags_of_each(experiments: Sequence[Experiment], flags: TrainFlags) -> list[TrainFlags]:
    """The flags for each experiment: `--resume` begins those that the earlier command did not.

    Args:
        experiments: Those of one command, which trains them one after the other.
        flags: The flags of the command line.
    """
    if not flags.resume:
        return [flags for _ in experiments]
    from rllib_ppg.app.launch import is_begun

    begun = [is_begun(experiment) for experiment in experiments]
    return [replace(flags, resume=each or not any(begun)) for each in begun]


def _check_shared(plan: Any) -> list[str]:
    from rllib_ppg.app.shared_storage import check_shared
    from rllib_ppg.app.variants import variants

    experiment = plan.experiment
    bundles = cluster.bundles_of(experiment.keys.run, next(iter(variants(plan.space))))
    return check_shared(experiment, bundles[0] if bundles else {})


def _run(plan: Any, flags: TrainFlags, command: Sequence[str], *, alone: bool, away: bool) -> int:
    for line in plan.notes:
        print(line)
    with locked(plan.experiment):
        return _fit(plan, flags, command, alone=alone, away=away)


def _fit(plan: Any, flags: TrainFlags, command: Sequence[str], *, alone: bool, away: bool) -> int:
    from rllib_ppg.app import launch, report
    from rllib_ppg.app.sweep_end import end_sweep
    from rllib_ppg.app.view import make_view

    experiment = plan.experiment
    if flags.resume:
        tuner = launch.restored_tuner(
            experiment,
            plan.space,
            sweep=plan.sweep,
            finished_too=plan.stop_changed,
            trackers=flags.track or (),
        )
        noted = launch.trials_to_resume(experiment)
    else:
        noted = set()
        space = _with_videos(plan, flags.video_every)
        tuner = launch.make_tuner(experiment, space, sweep=plan.sweep, trackers=flags.track or ())
    write_description(experiment, plan.complete, command, resumed=flags.resume)
    view = make_view(plan.title, live=flags.progress)
    count = plan.sweep.trials(plan.space)
    objective = plan.sweep.objective if count > 1 else None
    outcome = launch.fit(tuner, experiment, view, noted, objective)
    folder = experiment_folder(experiment)
    ranking: list[str] = []
    best = None
    if count > 1:
        ranking, found = end_sweep(experiment, plan.sweep, plan.space, plan.complete, outcome.ends)
        best = found.members[0].end if found else None
    lines = report.closing_lines(
        experiment,
        folder,
        outcome.ends,
        command,
        at_once=outcome.at_once,
        alone=alone,
        error_lines=_ERROR_LINES if away else 0,
        ranking=ranking,
        best=best,
    )
    print("\n".join(lines))
    return outcome.exit_code


def _with_videos(plan: Any, every: int | None) -> dict[str, Any]:
    """The configuration for Tune, with callbacks that record videos if they are wanted."""
    if every is None:
        return dict(plan.space)
    from rllib_ppg.app.video_callback import video_callbacks

    bases = {config.callbacks_class for config in plan.configs}
    if len(bases) > 1:
        raise UserError("--video-every does not go with a grid over callbacks; leave one out.")
    return {**plan.space, "callbacks": video_callbacks(every, bases.pop())}
