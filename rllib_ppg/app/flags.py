"""App: the flags of `rllib train`, each declared once, and what became of the old ones."""

from dataclasses import dataclass
from typing import Annotated

import typer

_WHAT = "What to train"
_CHANGE = "Change it"
_KEEP = "Results and checkpoints"
_GO_ON = "Go on"
_MACHINE = "Machine or cluster"
_SHOW = "What is shown"


def _option(panel: str, *names: str, help: str, metavar: str | None = None) -> typer.models.OptionInfo:
    return typer.Option(*names, help=help, metavar=metavar, rich_help_panel=panel, show_default=False)


Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="[file FILE]", show_default=False, help="An experiment file: "
                   "`rllib train file FILE` is `rllib train -f FILE`."),
]
Files = Annotated[list[str] | None, _option(
    _WHAT, "--file", "--config-file", "-f", metavar="FILE",
    help="Experiment file (YAML). May be given several times; experiments run one after the other.")]
Run = Annotated[str | None, _option(
    _WHAT, "--run", "--algo", "-r", metavar="NAME",
    help="Algorithm: PPG, or another of RLlib's, such as PPO.")]
Env = Annotated[str | None, _option(
    _WHAT, "--env", "-e", metavar="NAME",
    help="Environment: procgen, a Gymnasium id, a registered name, or package.module.Class.")]
From = Annotated[list[str] | None, _option(
    _WHAT, "--from", metavar="MODULE",
    help="Import a module or .py file first, which registers environments, models or algorithms.")]

Config = Annotated[str | None, _option(
    _CHANGE, "--config", "-c", metavar="JSON", help="Configuration keys (JSON or YAML).")]
Set = Annotated[list[str] | None, _option(
    _CHANGE, "--set", metavar="KEY=VALUE",
    help="One key, nested ones with dots: --set lr=1e-3 --set env_config.env_name=starpilot "
    "--set stop.training_iteration=5. May be given several times.")]
Stop = Annotated[str | None, _option(
    _CHANGE, "--stop", "-s", metavar="JSON",
    help="When to stop, instead of the file's: '{\"timesteps_total\": 40000}'.")]
Seed = Annotated[int | None, _option(
    _CHANGE, "--seed", metavar="N", help="Seed of everything random, levels included.")]
Framework = Annotated[str | None, _option(
    _CHANGE, "--framework", metavar="torch", help="torch; PPG has no other.")]
NumSamples = Annotated[int | None, _option(
    _CHANGE, "--num-samples", metavar="N", help="Trials of each experiment.")]
Scheduler = Annotated[str | None, _option(
    _CHANGE, "--scheduler", metavar="NAME",
    help="Tune's trial scheduler: FIFO, async_hyperband, median_stopping_rule, pbt, ...")]
SchedulerConfig = Annotated[str | None, _option(
    _CHANGE, "--scheduler-config", metavar="JSON", help="Its arguments.")]

ExperimentName = Annotated[str | None, _option(
    _KEEP, "--experiment-name", "-n", metavar="NAME",
    help="Name of the results folder; the file's name of the experiment unless given.")]
StoragePath = Annotated[str | None, _option(
    _KEEP, "--storage-path", metavar="PATH",
    help="Where results folders go, also a cloud address. Default: ~/ray_results.")]
CheckpointFreq = Annotated[int | None, _option(
    _KEEP, "--checkpoint-freq", metavar="N", help="Checkpoint every N training iterations.")]
CheckpointAtEnd = Annotated[bool | None, _option(
    _KEEP, "--checkpoint-at-end/--no-checkpoint-at-end", help="Checkpoint at the end (default).")]
KeepCheckpoints = Annotated[int | None, _option(
    _KEEP, "--keep-checkpoints-num", metavar="N", help="How many checkpoints to keep.")]
CheckpointScore = Annotated[str | None, _option(
    _KEEP, "--checkpoint-score-attr", metavar="KEY",
    help="Keep those with the highest KEY of the results; min-KEY: the lowest.")]

Restore = Annotated[str | None, _option(
    _GO_ON, "--restore", metavar="CHECKPOINT",
    help="Start a new run from a checkpoint folder. Load only checkpoints that you trust.")]
Resume = Annotated[bool, _option(
    _GO_ON, "--resume/--no-resume",
    help="Go on with the interrupted or failed run of the same name, exactly as it was set up.")]
MaxFailures = Annotated[int | None, _option(
    _GO_ON, "--max-failures", metavar="N",
    help="How often a failed trial goes on from its last checkpoint; -1: always.")]

RayAddress = Annotated[str | None, _option(
    _MACHINE, "--ray-address", metavar="ADDRESS",
    help="Ray cluster to use (auto: the one on this machine). Default: RAY_ADDRESS, else a private "
    "Ray on this machine.")]
RayNumCpus = Annotated[int | None, _option(
    _MACHINE, "--ray-num-cpus", metavar="N", help="CPUs of the private Ray.")]
RayNumGpus = Annotated[int | None, _option(
    _MACHINE, "--ray-num-gpus", metavar="N", help="GPUs of the private Ray.")]
RayObjectStore = Annotated[int | None, _option(
    _MACHINE, "--ray-object-store-memory", metavar="BYTES", help="Its object store.")]
WaitForResources = Annotated[bool, _option(
    _MACHINE, "--wait-for-resources",
    help="Wait where the cluster is too small now, because it grows by itself.")]

DryRun = Annotated[bool, _option(
    _SHOW, "--dry-run",
    help="Check everything, show the resolved configuration, sizes, memory and an estimate of the "
    "hours, and end.")]
Progress = Annotated[bool, _option(
    _SHOW, "--progress/--no-progress",
    help="Live view on a terminal (default); else one plain line a training iteration.")]
Info = Annotated[bool, _option(
    _SHOW, "--log-info", "-v", help="Show Ray's messages and what workers print.")]
Debug = Annotated[bool, _option(_SHOW, "--log-debug", "-vv", help="The same with debug messages.")]


@dataclass(frozen=True)
class TrainFlags:
    """The flags of `rllib train` as given; None or empty where not given."""

    words: list[str] | None = None
    files: list[str] | None = None
    run: str | None = None
    env: str | None = None
    imports: list[str] | None = None
    config: str | None = None
    settings: list[str] | None = None
    stop: str | None = None
    seed: int | None = None
    framework: str | None = None
    num_samples: int | None = None
    scheduler: str | None = None
    scheduler_config: str | None = None
    experiment_name: str | None = None
    storage_path: str | None = None
    checkpoint_freq: int | None = None
    checkpoint_at_end: bool | None = None
    keep_checkpoints_num: int | None = None
    checkpoint_score_attr: str | None = None
    restore: str | None = None
    resume: bool = False
    max_failures: int | None = None
    ray_address: str | None = None
    ray_num_cpus: int | None = None
    ray_num_gpus: int | None = None
    ray_object_store_memory: int | None = None
    wait_for_resources: bool = False
    dry_run: bool = False
    progress: bool = True
    info: bool = False
    debug: bool = False


_TRACKERS = "not supported; read progress.csv or the TensorBoard files of the results folder"

REMOVED = {
    "--local-dir": "use --storage-path",
    "--upload-dir": "use --storage-path, which also takes a cloud address",
    "--resources-per-trial": "PPG asks Ray for what it needs: --set num_env_runners=N --set "
    "num_gpus=N",
    "--torch": "leave it out: torch is the only framework",
    "--eager": "leave it out: torch is the only framework",
    "--trace": "leave it out: torch is the only framework",
    "--no-trace": "leave it out: torch is the only framework",
    "--queue-trials": "use --wait-for-resources",
    "--ray-redis-max-memory": "leave it out: Ray has no Redis any more",
    "--ray-memory": "leave it out: Ray does not limit memory any more",
    "--ray-num-nodes": "start nodes with `ray start` and use --ray-address",
    "--ray-ui": "leave it out; the dashboard comes with `ray start --head` and pip install "
    '"rllib-ppg[cluster]"',
    "--no-ray-ui": "leave it out: no dashboard is started",
    "--local-mode": "use --set num_env_runners=0, which samples in the learner's process",
    "--no-local-mode": "leave it out",
    "--export-formats": "leave it out: checkpoints hold the weights",
    "--wandb-key": _TRACKERS,
    "--wandb-project": _TRACKERS,
    "--wandb-run-name": _TRACKERS,
    "--config-path": "use -f",
    "--time-total-s": "use --stop '{\"time_total_s\": SECONDS}'",
    "--num-workers": "use --set num_env_runners=N",
    "--num-gpus": "use --set num_gpus=N, or --ray-num-gpus for Ray's count",
    "--gpus": "use --set num_gpus=N",
    "--lr": "use --set lr=N",
    "--verbose": "use -v or -vv",
}
"""Flags of earlier `rllib train` commands (or near guesses) that have no meaning now."""
