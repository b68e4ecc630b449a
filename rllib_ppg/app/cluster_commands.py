"""App: the commands `rllib submit` and `rllib sagemaker`, which `cli` puts beside the others."""

from typing import Annotated, Any

import typer

from rllib_ppg.app import flags, submit_flags

SUBMIT_EXAMPLES = """
[bold]Examples[/bold]

  rllib submit -f experiments/ppg_procgen.yaml --address http://HEAD:8265

  rllib submit -f experiments/ppg_procgen.yaml --storage-path s3://bucket/results --no-wait

  rllib submit --status ID

All other options are those of `rllib train`, which runs on the cluster. docs/cluster.md says what
has to be there. Exit codes: the job's (0 done, 1 a trial failed, 2 wrong usage, 143 stopped);
130: Ctrl-C ended this command, and the job goes on.
"""


def submit(
    ctx: typer.Context,
    files: submit_flags.Files = None,
    imports: submit_flags.From = None,
    address: submit_flags.Address = None,
    no_wait: submit_flags.NoWait = False,
    package: submit_flags.Package = submit_flags.INSTALLED,
    runtime_env: submit_flags.RuntimeEnv = None,
    follow: submit_flags.Follow = None,
    status: submit_flags.Status = None,
    stop: submit_flags.Stop = None,
) -> int:
    """Run `rllib train` as a job on a Ray cluster, and follow it to its end."""
    from rllib_ppg.app.submit import run_submit

    words = list(ctx.args)
    if stop is not None and (files or words):  # then it is the `--stop` of `rllib train`
        words += ["--stop", stop]
    kept = {**ctx.params, "stop": None if words and stop is not None else stop}
    lists = {name: ctx.params[name] or [] for name in ("files", "imports")}
    chosen = submit_flags.SubmitFlags(**{**kept, **lists}, train=words, command=ctx.obj or [])
    given = parse_train(
        ctx.find_root().command, [*words, *(word for name in chosen.files for word in ("-f", name))]
    )
    return run_submit(chosen, given)


def parse_train(group: Any, words: list[str]) -> flags.TrainFlags:
    """What `rllib train` makes of some words.

    Args:
        group: The command `rllib`.
        words: Those after `rllib train`.
    """
    return flags.TrainFlags(**group.commands["train"].make_context("rllib train", words).params)


def sagemaker(
    root: Annotated[
        str, typer.Option("--root", metavar="DIR", help="Folder of SageMaker's contract.")
    ] = "/opt/ml",
    port: Annotated[
        int, typer.Option("--port", metavar="N", help="Port of the first host's Ray.")
    ] = 6379,
    ray_folder: Annotated[
        str | None,
        typer.Option("--ray-folder", metavar="DIR", help="Folder of Ray's logs and sockets."),
    ] = None,
) -> int:
    """Run a training job of Amazon SageMaker, inside its container: the image's entry point there.

    Reads hyperparameters, hosts and channels; goes on from checkpoints after an interruption.

    Hyperparameters: experiment (a file), from, storage_path, ray_num_cpus; others are keys of it.

    Exit codes: 0 done, 1 a trial failed, 2 wrong hyperparameters, 143 stopped after a checkpoint.
    """
    from pathlib import Path

    from rllib_ppg.app.sagemaker import run_sagemaker

    return run_sagemaker(Path(root), port, ray_folder)
