"""App: the command `rllib` (also `rllib-ppg` and `python -m rllib_ppg`).

Nothing heavy is imported here, so that `--help` answers at once.
"""

import os
import shlex
import sys
from typing import Annotated, Any, NoReturn

import typer

from rllib_ppg._version import __version__
from rllib_ppg.app import (
    ablation_flags,
    challenge_flags,
    cluster_commands,
    evaluate_flags,
    examples,
    flag,
    flags,
    plot_flags,
    submit_flags,
    video_flags,
)
from rllib_ppg.app.interrupt import INTERRUPTED
from rllib_ppg.errors import UserError, told
from rllib_ppg.spelling import nearest

USAGE_ERROR = 2

# The parser's own errors; where it stands differs between releases of typer.
_ParserError: type[Exception] = typer.BadParameter.__mro__[2]

app = typer.Typer(
    name="rllib",
    help="Train reinforcement-learning agents with Phasic Policy Gradient (PPG) on Ray RLlib.",
    epilog="`rllib COMMAND --help` explains a command; `rllib --version` shows the version.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    # typer loads pydantic to handle an option of the group, which `rllib train --help` would wait
    # for; so `main` looks after --help and --version of the bare command.
    context_settings={"help_option_names": []},
)


@app.callback()
def _rllib() -> None:
    pass


@app.command(epilog=examples.TRAIN, context_settings={"help_option_names": ["--help", "-h"]})
def train(
    ctx: typer.Context,
    words: flags.Words = None,
    files: flags.Files = None,
    run: flags.Run = None,
    env: flags.Env = None,
    imports: flags.From = None,
    config: flags.Config = None,
    settings: flags.Set = None,
    stop: flags.Stop = None,
    seed: flags.Seed = None,
    framework: flags.Framework = None,
    num_samples: flags.NumSamples = None,
    scheduler: flags.Scheduler = None,
    scheduler_config: flags.SchedulerConfig = None,
    experiment_name: flags.ExperimentName = None,
    storage_path: flags.StoragePath = None,
    checkpoint_freq: flags.CheckpointFreq = None,
    checkpoint_at_end: flags.CheckpointAtEnd = None,
    keep_checkpoints_num: flags.KeepCheckpoints = None,
    checkpoint_score_attr: flags.CheckpointScore = None,
    video_every: flags.VideoEvery = None,
    track: flags.Track = None,
    restore: flags.Restore = None,
    resume: flags.Resume = False,
    max_failures: flags.MaxFailures = None,
    ray_address: flag.RayAddress = None,
    ray_num_cpus: flag.RayNumCpus = None,
    ray_num_gpus: flag.RayNumGpus = None,
    ray_object_store_memory: flags.RayObjectStore = None,
    wait_for_resources: flags.WaitForResources = False,
    dry_run: flags.DryRun = False,
    progress: flags.Progress = True,
    info: flags.Info = False,
    debug: flags.Debug = False,
) -> int:
    """Train the experiments of a file, or one given by flags."""
    from rllib_ppg.app.train import run_train

    typed = shlex.split(os.environ.get(submit_flags.COMMAND_VARIABLE, ""))
    return run_train(flags.TrainFlags(**ctx.params), typed or ctx.obj or [])


@app.command(context_settings={"help_option_names": ["--help", "-h"]})
def export(
    checkpoint: Annotated[
        str, typer.Argument(help="Folder of a checkpoint, of a trial, or of a run with one trial.")
    ],
    out: Annotated[
        str, typer.Option("--out", "-o", metavar="DIR", help="Folder to make for the policy.")
    ] = "policy",
    file_format: Annotated[
        str, typer.Option("--format", metavar="NAME", help="Format of the files: safetensors.")
    ] = "safetensors",
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
) -> int:
    """Write a checkpoint's policy as files that load without pickle, Ray and environments.

    Reading a checkpoint runs what it holds: export only those from sources that you trust.
    """
    from rllib_ppg.app.export import run_export

    return run_export(checkpoint, out, file_format, force=force)


@app.command(epilog=examples.EVALUATE, context_settings={"help_option_names": ["--help", "-h"]})
def evaluate(
    ctx: typer.Context,
    checkpoint: evaluate_flags.Checkpoint,
    episodes: evaluate_flags.Episodes = 200,
    num_envs: evaluate_flags.NumEnvs = None,
    levels: evaluate_flags.Levels = None,
    games: evaluate_flags.Games = None,
    seed: evaluate_flags.Seed = 0,
    config: evaluate_flags.Config = None,
    settings: evaluate_flags.Set = None,
    imports: evaluate_flags.From = None,
    policy: evaluate_flags.Policy = "agent",
    temperature: evaluate_flags.Temperature = None,
    num_env_runners: evaluate_flags.NumEnvRunners = "auto",
    ray_address: flag.RayAddress = None,
    normalize: evaluate_flags.Normalize = None,
    out: evaluate_flags.Out = None,
) -> int:
    """Play new episodes with a trained agent: returns, scores, every episode on request."""
    from rllib_ppg.app.evaluate_command import run_evaluate

    lists = {name: ctx.params[name] or [] for name in ("settings", "imports")}
    return run_evaluate(evaluate_flags.EvaluateFlags(**{**ctx.params, **lists}))


@app.command(epilog=examples.CHALLENGE, context_settings={"help_option_names": ["--help", "-h"]})
def challenge(
    ctx: typer.Context,
    file: challenge_flags.File,
    track: challenge_flags.Track = None,
    games: challenge_flags.Games = None,
    seeds: challenge_flags.Seeds = None,
    episodes: challenge_flags.Episodes = None,
    table: challenge_flags.Table = None,
    threshold: challenge_flags.Threshold = None,
    budget_steps: challenge_flags.BudgetSteps = None,
    budget_seconds: challenge_flags.BudgetSeconds = None,
    budget_scale: challenge_flags.BudgetScale = None,
    settings: challenge_flags.Set = None,
    imports: challenge_flags.From = None,
    experiment_name: challenge_flags.ExperimentName = None,
    storage_path: challenge_flags.StoragePath = None,
    resume: challenge_flags.Resume = False,
    rescore: challenge_flags.Rescore = False,
    ray_address: flag.RayAddress = None,
    ray_num_cpus: flag.RayNumCpus = None,
    ray_num_gpus: flag.RayNumGpus = None,
    wait_for_resources: challenge_flags.WaitForResources = False,
    dry_run: challenge_flags.DryRun = False,
    progress: challenge_flags.Progress = True,
    info: challenge_flags.Info = False,
    debug: challenge_flags.Debug = False,
) -> int:
    """Train, evaluate and score by the protocol of the NeurIPS 2020 Procgen challenge."""
    from rllib_ppg.app.challenge import run_challenge

    lists = {name: ctx.params[name] or [] for name in ("settings", "imports")}
    return run_challenge(challenge_flags.ChallengeFlags(**{**ctx.params, **lists}), ctx.obj or [])


@app.command(epilog=examples.ABLATION, context_settings={"help_option_names": ["--help", "-h"]})
def ablation(
    ctx: typer.Context,
    file: ablation_flags.File,
    track: ablation_flags.Track = None,
    games: ablation_flags.Games = None,
    seeds: ablation_flags.Seeds = None,
    only: ablation_flags.Only = None,
    episodes: challenge_flags.Episodes = None,
    table: challenge_flags.Table = None,
    budget_steps: ablation_flags.BudgetSteps = None,
    budget_seconds: ablation_flags.BudgetSeconds = None,
    budget_scale: ablation_flags.BudgetScale = None,
    settings: challenge_flags.Set = None,
    imports: challenge_flags.From = None,
    experiment_name: ablation_flags.ExperimentName = None,
    storage_path: ablation_flags.StoragePath = None,
    resume: ablation_flags.Resume = False,
    ray_address: flag.RayAddress = None,
    ray_num_cpus: flag.RayNumCpus = None,
    ray_num_gpus: flag.RayNumGpus = None,
    wait_for_resources: challenge_flags.WaitForResources = False,
    dry_run: challenge_flags.DryRun = False,
    progress: challenge_flags.Progress = True,
    info: challenge_flags.Info = False,
    debug: challenge_flags.Debug = False,
) -> int:
    """Train the experiments of a file side by side: what each part of a recipe brings."""
    from rllib_ppg.app.ablation import run_ablation

    lists = {name: ctx.params[name] or [] for name in ("settings", "imports")}
    return run_ablation(ablation_flags.AblationFlags(**{**ctx.params, **lists}), ctx.obj or [])


@app.command(epilog=examples.PLOT, context_settings={"help_option_names": ["--help", "-h"]})
def plot(
    ctx: typer.Context,
    runs: plot_flags.Runs = None,
    kind: plot_flags.Kind = None,
    x: plot_flags.X = "env_steps",
    y: plot_flags.Y = None,
    group: plot_flags.Group = "auto",
    label: plot_flags.Label = None,
    reference: plot_flags.Reference = None,
    games: plot_flags.Games = None,
    levels: plot_flags.Levels = None,
    partial: plot_flags.Partial = False,
    normalize: plot_flags.Normalize = None,
    aggregate: plot_flags.Aggregate = None,
    interval: plot_flags.Interval = "bootstrap",
    smooth: plot_flags.Smooth = 0.0,
    seeds: plot_flags.Seeds = False,
    title: plot_flags.Title = None,
    out: plot_flags.Out = None,
    terminal: plot_flags.Terminal = False,
) -> int:
    """Plot learning curves, and scores of evaluations, with intervals over seeds."""
    from rllib_ppg.app.plot import run_plot

    lists = {name: ctx.params[name] or [] for name in ("runs", "label", "reference")}
    return run_plot(plot_flags.PlotFlags(**{**ctx.params, **lists}))


@app.command(context_settings={"help_option_names": ["--help", "-h"]})
def replay(
    folder: Annotated[
        str,
        typer.Argument(help="Folder numeric_fault_STEPS in a trial's results; the error names it."),
    ],
) -> int:
    """Explain why a trial stopped at a NaN or an infinite number.

    Computes the broken minibatch's loss and gradient again on the CPU, from the weights before it.

    Shows each loss term, what is not finite or extreme, the first module that broke, what to do.

    Nothing is unpickled; Ray and environments are not needed.

    Exit codes: 0 explained, 2 no dump. The text says whether the fault came again.
    """
    from rllib_ppg.app.replay import run_replay

    return run_replay(folder)


@app.command(epilog=examples.VIDEO, context_settings={"help_option_names": ["--help", "-h"]})
def video(
    ctx: typer.Context,
    checkpoint: video_flags.Checkpoint,
    out: video_flags.Out,
    episodes: video_flags.Episodes = None,
    games: video_flags.Games = None,
    levels: video_flags.Levels = None,
    seed: video_flags.Seed = 0,
    temperature: video_flags.Temperature = None,
    max_steps: video_flags.MaxSteps = video_flags.MAX_STEPS,
    imports: video_flags.From = None,
    grid: video_flags.Grid = None,
    overlay: video_flags.Overlay = None,
    fps: video_flags.Fps = None,
    size: video_flags.Size = None,
) -> int:
    """Record episodes of a trained agent as a video, side by side if wanted."""
    from rllib_ppg.app.video import run_video

    return run_video(video_flags.VideoFlags(**ctx.params))


app.command(
    epilog=examples.SUBMIT,
    context_settings={
        "help_option_names": ["--help", "-h"],
        "allow_extra_args": True,
        "ignore_unknown_options": True,
    },
)(cluster_commands.submit)
app.command(context_settings={"help_option_names": ["--help", "-h"]})(cluster_commands.sagemaker)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The words after the command; those of the process unless given.

    Returns:
        0 done, 1 a trial failed, 2 wrong usage, 130 or 143 interrupted.
    """
    words = sys.argv[1:] if arguments is None else arguments
    if words[:1] == ["--version"]:
        print(f"rllib-ppg {__version__}")
        return 0
    asked = words[:1] in (["--help"], ["-h"])
    try:
        result: Any = app(
            [] if asked else words, standalone_mode=False, prog_name="rllib", obj=words
        )
    except UserError as error:
        return _complain(str(error))
    except _ParserError as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # the help has been shown
            return 0 if asked else USAGE_ERROR
        return _complain(_parser_message(error))
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output is gone, as in `rllib --help | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # a full disk, a folder of another user's
        _complain(told(error))
        return 1
    return result if isinstance(result, int) else 0


def _complain(message: str) -> int:
    red, plain = ("\x1b[31m", "\x1b[0m") if sys.stderr.isatty() else ("", "")
    print(f"{red}Error:{plain} {message}", file=sys.stderr)
    return USAGE_ERROR


def _parser_message(error: Any) -> str:
    """The parser's message, with the new way for a flag of an older command."""
    option = getattr(error, "option_name", None)
    if option in flags.REMOVED:
        return f"{option} is no flag of this command: {flags.REMOVED[option]}."
    message = str(error.format_message()).replace("Input should be", "must be")
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "rllib"
    if context is not None and "No such command" in message:
        names = context.command.list_commands(context)
        found = nearest(str(message.split("'")[1]), names) if "'" in message else None
        message = message.split(".")[0] + (f". Did you mean '{found}'?" if found else ".")
    return f"{message}\nSee {command} --help."


def _exit() -> NoReturn:
    sys.exit(main())


if __name__ == "__main__":
    _exit()
