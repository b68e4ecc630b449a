"""App: `rllib challenge`: train, evaluate and score by the protocol of the Procgen challenge.

Ray is started only when what was given makes sense so far.
"""

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rllib_ppg.app import cluster
from rllib_ppg.app.challenge_description import DESCRIPTION, read_challenge, write_challenge
from rllib_ppg.app.challenge_file import Challenge, load_challenge, protocol_with_flags
from rllib_ppg.app.challenge_flags import ChallengeFlags
from rllib_ppg.app.challenge_interrupt import interruptible, say_how_to_go_on
from rllib_ppg.app.challenge_protocol import TRAINING_KEYS, Protocol
from rllib_ppg.app.flags import TrainFlags
from rllib_ppg.app.interrupt import INTERRUPTED
from rllib_ppg.app.run_folder import check_writable, locked, versions
from rllib_ppg.app.train import import_modules, waiting
from rllib_ppg.errors import UserError

if TYPE_CHECKING:
    from rllib_ppg.app.challenge_trials import Sized
    from rllib_ppg.app.experiment import Experiment

_NOT_WITH_RESCORE = (
    "resume", "dry_run", "episodes", "budget_steps", "budget_seconds", "budget_scale", "settings",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """A challenge under way."""

    challenge: Challenge
    sized: "Sized"
    settings: cluster.RaySettings
    flags: ChallengeFlags
    command: Sequence[str]


def run_challenge(flags: ChallengeFlags, command: Sequence[str]) -> int:
    """Run a challenge, or score it again.

    Args:
        flags: The flags of the command line.
        command: Its words after `rllib`, to be shown again.

    Returns:
        The exit code: 0 done, 1 some runs failed, 130 or 143 interrupted by Ctrl-C or SIGTERM.

    Raises:
        UserError: If anything that was given is wrong; nothing has been started or written then.
    """
    return interruptible(
        lambda: _run(flags, command), lambda: is_begun(load_challenge(flags), flags), command
    )


def is_begun(challenge: Challenge, flags: ChallengeFlags) -> bool:
    """Whether there is something to resume, and this command was to do so."""
    if flags.rescore or flags.dry_run:
        return False
    return (challenge.folder / DESCRIPTION).is_file()


def _run(flags: ChallengeFlags, command: Sequence[str]) -> int:
    _check_flags(flags)
    challenge = load_challenge(flags)
    if flags.rescore:
        return _rescore(challenge, flags, command)
    settings = cluster.ray_settings(train_flags(flags))
    check_folder(challenge, flags)
    check_writable(challenge.experiment)
    cluster.prepare_environment(settings)
    with waiting("Checking ..."):
        import_modules(flags.imports)
        from rllib_ppg.app.challenge_trials import size

        cluster.quiet_logging(settings)
        sized = size(challenge, settings)
    run = Run(challenge, sized, settings, flags, command)
    for line in describe(challenge, sized):
        print(line)
    if flags.dry_run:
        return dry_run(run)
    code = play(run)
    if code >= INTERRUPTED:
        say_how_to_go_on("Interrupted.", command)
    return code


def _check_flags(flags: ChallengeFlags) -> None:
    """Refuse flags that contradict each other."""
    if flags.resume and flags.dry_run:
        raise UserError("--dry-run describes a new challenge; leave --resume out.")
    for name in _NOT_WITH_RESCORE if flags.rescore else ():
        if getattr(flags, name):
            option = {"settings": "--set"}.get(name, f"--{name.replace('_', '-')}")
            raise UserError(
                f"--rescore trains and plays nothing, so {option} has no effect; leave it out."
            )


def train_flags(flags: ChallengeFlags, *, resume: bool = False) -> TrainFlags:
    """The flags that `rllib train` has too."""
    return TrainFlags(
        resume=resume,
        ray_address=flags.ray_address,
        ray_num_cpus=flags.ray_num_cpus,
        ray_num_gpus=flags.ray_num_gpus,
        wait_for_resources=flags.wait_for_resources,
        progress=flags.progress,
        info=flags.info,
        debug=flags.debug,
    )


def check_folder(challenge: Challenge, flags: ChallengeFlags) -> None:
    """Refuse to begin where a challenge lies already, and to go on where none or another does."""
    path = challenge.folder / DESCRIPTION
    if not flags.resume:
        if path.exists() and not flags.dry_run:
            raise UserError(
                f"There is a challenge in {challenge.folder} already. --resume goes on with it, "
                "--rescore scores it again, --experiment-name NAME begins another one."
            )
        return
    if not path.is_file():
        there = sorted(
            each.parent.name for each in challenge.folder.parent.glob(f"*/{DESCRIPTION}")
        )
        raise UserError(
            f"There is no challenge in {challenge.folder} to resume"
            f"{'; challenges there: ' + ', '.join(there) if there else ''}. Start it without "
            "--resume, or name it with --experiment-name and --storage-path."
        )
    earlier, config = read_challenge(path)
    pairs = {
        key: (getattr(earlier, key), getattr(challenge.protocol, key)) for key in TRAINING_KEYS
    }
    mine = challenge.experiment.config
    pairs |= {key: (config.get(key), mine.get(key)) for key in {**config, **mine}}
    for key, (was, now) in pairs.items():
        if was != now:
            raise UserError(
                f"--resume goes on with the challenge in {challenge.folder} as it was started: "
                f"{key} was {was} there and is {now} here. Give the same, or begin another one "
                "with --experiment-name."
            )


def describe(challenge: Challenge, sized: "Sized") -> list[str]:
    """What a challenge is, before it starts."""
    from rllib_ppg.app.challenge_scale import SIZES
    from rllib_ppg.app.progress import counted, show_time

    protocol = challenge.protocol
    games, seeds, tracks = protocol.games, protocol.seeds, protocol.tracks
    trials = protocol.num_trials
    scale = protocol.budget_scale
    lines = [
        f"{challenge.name}: {trials} trials, {len(tracks)} track(s) x {len(games)} game(s) x "
        f"{len(seeds)} seed(s)",
        f"  tracks       {', '.join(tracks)}",
        f"  games        {', '.join(games)}",
        f"  seeds        {', '.join(map(str, seeds))}",
        f"  each trial   {sized.steps:,} environment steps "
        f"({counted(sized.steps // sized.rows, 'iteration')} of {sized.rows:,}, "
        f"{counted(sized.aux_phases, 'auxiliary phase')}), "
        f"ends before {show_time(protocol.seconds)}; at most "
        f"{show_time(trials * protocol.seconds)} in all if one by one",
        f"  evaluation   {protocol.episodes} episodes, score table {protocol.score_table}",
        f"  results to   {challenge.folder}",
    ]
    first, *warning = sized.space.lines(challenge.folder)
    lines += [f"  disk         {first}", *(f"  {text}" for text in warning)]
    if scale < 1:
        shown = ", ".join(f"{name} {sized.config[name]}" for name in SIZES if name in sized.config)
        lines.append(f"  rehearsal    budget scale {scale:g}: {shown}")
    return [*lines, *(f"  {note}" for note in [*challenge.notes, *sized.notes])]


def dry_run(run: Run) -> int:
    """Describe the first track's trials with an estimate of their hours."""
    from rllib_ppg.app.challenge_trials import track_experiment
    from rllib_ppg.app.dry_run import dry_run as describe_trials

    track = run.challenge.protocol.tracks[0]
    experiment = track_experiment(run.challenge, run.sized, track)
    if len(run.challenge.protocol.tracks) > 1:
        print("The tracks differ only in the levels that they train on; the first one:")
    print()
    return describe_trials([experiment], run.settings, train_flags(run.flags))


def play(run: Run) -> int:
    """Train, evaluate and score what is missing of a challenge.

    Returns:
        The exit code; 130 or 143 where it was interrupted.
    """
    from rllib_ppg.app.challenge_trials import track_experiment

    challenge = run.challenge
    experiments = [
        track_experiment(challenge, run.sized, track) for track in challenge.protocol.tracks
    ]
    if run.settings.address is None:  # everything is known before Ray is started
        _make_plans(experiments, run)
    with ExitStack() as stack:
        stack.enter_context(locked(challenge.experiment))
        if run.flags.resume:  # episodes and score table may be others now
            write_challenge(challenge)
        code = 0
        for experiment in experiments:
            code = max(code, _track(experiment, run, stack))
            if code >= INTERRUPTED:
                return code
    try:
        return max(code, _score(challenge, challenge.protocol, run.command))
    except UserError as error:  # trials failed: no mistake of the command
        print(f"No scores: {error}", file=sys.stderr)
        return 1


def _make_plans(experiments: Sequence["Experiment"], run: Run) -> None:
    from copy import deepcopy

    from rllib_ppg.app.plan import make_plan

    for experiment in experiments:
        make_plan(deepcopy(experiment), run.settings, train_flags(run.flags))


def _track(experiment: "Experiment", run: Run, stack: ExitStack) -> int:
    """Train and evaluate what is missing of a track; Ray is started where something is."""
    from rllib_ppg.app.challenge_disk import find_trained
    from rllib_ppg.app.challenge_evaluate import missing_jobs, run_jobs

    challenge, protocol = run.challenge, run.challenge.protocol
    track, folder = experiment.name, challenge.folder
    code = 0
    if not _is_trained(folder, track, protocol):
        _start_ray(run, stack)
        code = _train(experiment, run)
        if code >= INTERRUPTED:
            return code
    trained = find_trained(folder / track)
    for one in trained.values():
        if one.done:
            one.tidy()
    wanted = [
        trained[game, seed]
        for game in protocol.games
        for seed in protocol.seeds
        if (game, seed) in trained
    ]
    jobs = missing_jobs(folder, track, wanted, protocol)
    if jobs:
        _start_ray(run, stack)
        code = max(code, int(bool(run_jobs(jobs, protocol, run.settings))))
    return code


def _is_trained(folder: Path, track: str, protocol: Protocol) -> bool:
    """Whether all trials of a track are over, each evaluated or with its last checkpoint."""
    from rllib_ppg.app.challenge_disk import find_trained
    from rllib_ppg.app.challenge_evaluate import missing_jobs

    trained = find_trained(folder / track)
    for game in protocol.games:
        for seed in protocol.seeds:
            one = trained.get((game, seed))
            if one is None or not one.done:
                return False
            if missing_jobs(folder, track, [one], protocol) and not one.complete():
                return False
    return True


def _start_ray(run: Run, stack: ExitStack) -> None:
    """Start Ray unless it is running; it ends with the stack."""
    import ray

    if not ray.is_initialized():
        with waiting("Starting Ray ..."):
            stack.enter_context(cluster.session(run.settings))


def _train(experiment: "Experiment", run: Run) -> int:
    """Train the trials of a track, or go on with them."""
    from rllib_ppg.app import launch
    from rllib_ppg.app.challenge_scheduler import RestingScheduler
    from rllib_ppg.app.plan import make_plan
    from rllib_ppg.app.run_folder import experiment_folder, write_description
    from rllib_ppg.app.view import make_view

    resume = (Path(experiment_folder(experiment)) / "tuner.pkl").is_file()
    plan = make_plan(experiment, run.settings, train_flags(run.flags, resume=resume))
    for note in plan.notes:
        print(note)
    write_challenge(run.challenge)  # not before: until here nothing has to be resumed
    scheduler = RestingScheduler()
    if resume:
        tuner = launch.restored_tuner(
            experiment, plan.space, scheduler, sweep=plan.sweep, finished_too=False
        )
        noted = launch.trials_to_resume(experiment)
    else:
        noted = set()
        tuner = launch.make_tuner(experiment, plan.space, scheduler, sweep=plan.sweep)
    write_description(experiment, plan.complete, run.command, resumed=resume)
    view = make_view(plan.title, live=run.flags.progress)
    outcome = launch.fit(tuner, experiment, view, noted)
    for end in outcome.ends:
        if end.cause:
            print(f"trial {end.name} failed: {end.cause}\n  {Path(end.folder) / 'error.txt'}")
    return outcome.exit_code


def _rescore(challenge: Challenge, flags: ChallengeFlags, command: Sequence[str]) -> int:
    """Score what is on disk again, by its own protocol but for the flags that are given."""
    path = challenge.folder / DESCRIPTION
    if not path.is_file():
        raise UserError(
            f"There is no challenge in {challenge.folder} to score; name it with "
            "--experiment-name and --storage-path."
        )
    check_writable(challenge.experiment)
    played = read_challenge(path)[0]
    protocol = protocol_with_flags(played.model_dump(), flags, challenge.experiment.source)
    with locked(challenge.experiment):
        _score(replace(challenge, protocol=protocol), played, command)
    return 0


def _score(challenge: Challenge, trained_by: Protocol, command: Sequence[str]) -> int:
    """Write results and report, and print the tables; returns 1 where runs are missing."""
    from rllib_ppg.app.challenge_report import write_report
    from rllib_ppg.app.challenge_results import make_results, results_path
    from rllib_ppg.app.challenge_tables import notes_of, print_sheet, sheets_of
    from rllib_ppg.app.evaluate_result import write

    budget = {
        "steps": trained_by.steps, "seconds": trained_by.seconds, "scale": trained_by.budget_scale
    }  # fmt: skip
    results = make_results(challenge.folder, challenge.name, challenge.protocol, versions(), budget)
    _check_some(results, challenge)
    path = results_path(challenge.folder)
    write(path, results)
    report = write_report(path, results, command)
    for track in results["summary"]:
        for sheet in sheets_of(results, track):
            print_sheet(sheet)
        print("", *notes_of(results, track), sep="\n")
    for each in results["missing"]:
        print(f"Missing: {each['track']}, {each['game']}, seed {each['seed']}: {each['reason']}")
    print(f"\nWrote {path}\nWrote {report}")
    return int(bool(results["missing"]))


def _check_some(results: Mapping[str, Any], challenge: Challenge) -> None:
    if results["runs"]:
        return
    reasons = sorted({each["reason"] for each in results["missing"]})
    raise UserError(
        f"{challenge.folder} holds no run that could be scored ({'; '.join(reasons)}); nothing was "
        "written. --resume goes on with it."
    )
