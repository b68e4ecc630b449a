"""App: the flags of `rllib train`, each declared once."""

from dataclasses import dataclass
from typing import Annotated

import typer

from rllib_ppg.app.flag import MACHINE, Count, Text, Texts, flag

_WHAT = "What to train"
_CHANGE = "Change it"
_KEEP = "Results and checkpoints"
_GO_ON = "Go on"
_SHOW = "What is shown"


_WORDS = "An experiment file: `rllib train file FILE` is `rllib train -f FILE`."
_FILES = "Experiment file (YAML); may be given several times. Experiments run one after the other."
_RUN = "Algorithm: PPG, or another of RLlib's, such as PPO."
_ENV = "Environment: procgen, a Gymnasium id, a registered name, or package.module.Class."
_FROM = "Import a module or .py file first, which registers environments, models or algorithms."
_CONFIG = "Configuration keys (JSON or YAML)."
_SET = (
    "One key, nested ones with dots: --set lr=1e-3 --set env_config.env_name=starpilot --set "
    "stop.training_iteration=5. May be given several times."
)
_STOP = "When to stop, instead of the file's: '{\"timesteps_total\": 40000}'."
_NAME = "Name of the results folder; the experiment's name in the file unless given."
_STORAGE = "Where results folders go, also a cloud address. Default: ~/ray_results."
_VIDEO_EVERY = (
    "Record a short video of the current policy every N training iterations, in the trial's folder "
    "videos. A resumed run keeps its own N."
)
_TRACK = (
    "Report to wandb (Weights & Biases) or mlflow too; may be given several times. Accounts come "
    "from their own login or environment variables. A resumed run keeps its own."
)
_SCORE = "Keep those with the highest KEY of the results; min-KEY: the lowest."
_RESTORE = (
    "Start a new run from a checkpoint folder. It is unpickled, which runs what it holds: give "
    "only checkpoints from sources that you trust."
)
_RESUME = (
    "Go on with the interrupted or failed run of the same name, exactly as it was set up. Its "
    "files are unpickled: resume only runs from sources that you trust."
)
_FAILURES = "How often a failed trial goes on from its last checkpoint; -1: always."
_WAIT = "Wait where the cluster is too small now, because it grows by itself."
_DRY_RUN = (
    "Check everything, show the resolved configuration, sizes, memory and an estimate of the "
    "hours, and end."
)
_PROGRESS = "Live view on a terminal (default); else one plain line a training iteration."
_SCHEDULER = "What ends trials early: fifo (nothing), asha, median_stopping, hyperband, pbt."


Words = Annotated[
    Texts, typer.Argument(metavar="file FILE", show_default=False, help=_WORDS)
]  # fmt: skip
Files = Annotated[Texts, flag(_WHAT, "--file --config-file -f", "FILE", _FILES)]
Run = Annotated[Text, flag(_WHAT, "--run --algo -r", "NAME", _RUN)]
Env = Annotated[Text, flag(_WHAT, "--env -e", "NAME", _ENV)]
From = Annotated[Texts, flag(_WHAT, "--from", "MODULE", _FROM)]

Config = Annotated[Text, flag(_CHANGE, "--config -c", "JSON", _CONFIG)]
Set = Annotated[Texts, flag(_CHANGE, "--set", "KEY=VALUE", _SET)]
Stop = Annotated[Text, flag(_CHANGE, "--stop -s", "JSON", _STOP)]
Seed = Annotated[Count, flag(_CHANGE, "--seed", "N", "Seed of all that is random, levels too.")]
Framework = Annotated[Text, flag(_CHANGE, "--framework", "torch", "torch; PPG has no other.")]
NumSamples = Annotated[Count, flag(_CHANGE, "--num-samples", "N", "Trials of each experiment.")]
Scheduler = Annotated[Text, flag(_CHANGE, "--scheduler", "NAME", _SCHEDULER)]
SchedulerConfig = Annotated[Text, flag(_CHANGE, "--scheduler-config", "JSON", "Its arguments.")]

ExperimentName = Annotated[Text, flag(_KEEP, "--experiment-name -n", "NAME", _NAME)]
StoragePath = Annotated[Text, flag(_KEEP, "--storage-path", "PATH", _STORAGE)]
CheckpointFreq = Annotated[
    Count,
    flag(
        _KEEP,
        "--checkpoint-freq",
        "N",
        "Checkpoint every N training iterations; 0: none on the way. Default: the file's, else 10 "
        "for PPG, of which 3 are kept.",
    ),
]
CheckpointAtEnd = Annotated[
    bool | None,
    flag(
        _KEEP,
        "--checkpoint-at-end/--no-checkpoint-at-end",
        None,
        "Checkpoint at the end (default).",
    ),
]
KeepCheckpoints = Annotated[
    Count, flag(_KEEP, "--keep-checkpoints-num", "N", "How many checkpoints to keep.")
]
CheckpointScore = Annotated[Text, flag(_KEEP, "--checkpoint-score-attr", "KEY", _SCORE)]
Track = Annotated[Texts, flag(_KEEP, "--track", "NAME", _TRACK)]
VideoEvery = Annotated[Count, flag(_KEEP, "--video-every", "N", _VIDEO_EVERY)]

Restore = Annotated[Text, flag(_GO_ON, "--restore", "CHECKPOINT", _RESTORE)]
Resume = Annotated[bool, flag(_GO_ON, "--resume/--no-resume", None, _RESUME)]
MaxFailures = Annotated[Count, flag(_GO_ON, "--max-failures", "N", _FAILURES)]

RayObjectStore = Annotated[
    Count, flag(MACHINE, "--ray-object-store-memory", "BYTES", "Its object store.")
]
WaitForResources = Annotated[bool, flag(MACHINE, "--wait-for-resources", None, _WAIT)]

DryRun = Annotated[bool, flag(_SHOW, "--dry-run", None, _DRY_RUN)]
Progress = Annotated[bool, flag(_SHOW, "--progress/--no-progress", None, _PROGRESS)]
Info = Annotated[
    bool, flag(_SHOW, "--log-info -v", None, "Show Ray's messages and what workers print.")
]
Debug = Annotated[bool, flag(_SHOW, "--log-debug -vv", None, "The same with debug messages.")]


@dataclass(frozen=True)
class TrainFlags:
    """The flags of `rllib train` as given; None or empty where not given."""

    words: Texts = None
    files: Texts = None
    run: Text = None
    env: Text = None
    imports: Texts = None
    config: Text = None
    settings: Texts = None
    stop: Text = None
    seed: Count = None
    framework: Text = None
    num_samples: Count = None
    scheduler: Text = None
    scheduler_config: Text = None
    experiment_name: Text = None
    storage_path: Text = None
    checkpoint_freq: Count = None
    checkpoint_at_end: bool | None = None
    keep_checkpoints_num: Count = None
    checkpoint_score_attr: Text = None
    video_every: Count = None
    track: Texts = None
    restore: Text = None
    resume: bool = False
    max_failures: Count = None
    ray_address: Text = None
    ray_num_cpus: Count = None
    ray_num_gpus: Count = None
    ray_object_store_memory: Count = None
    wait_for_resources: bool = False
    dry_run: bool = False
    progress: bool = True
    info: bool = False
    debug: bool = False


_TORCH_ONLY = "leave it out: torch is the only framework"

REMOVED = {
    "--local-dir": "use --storage-path",
    "--upload-dir": "use --storage-path, which also takes a cloud address",
    "--resources-per-trial": "PPG asks Ray for what it needs: --set num_env_runners=N --set "
    "num_gpus=N",
    "--torch": _TORCH_ONLY,
    "--eager": _TORCH_ONLY,
    "--trace": _TORCH_ONLY,
    "--no-trace": _TORCH_ONLY,
    "--queue-trials": "use --wait-for-resources",
    "--ray-redis-max-memory": "leave it out: Ray has no Redis any more",
    "--ray-memory": "leave it out: Ray does not limit memory any more",
    "--ray-num-nodes": "start nodes with `ray start` and use --ray-address",
    "--ray-ui": 'start a cluster with `ray start --head` (pip install "rllib-ppg[cluster]" brings '
    "the dashboard) and use --ray-address",
    "--no-ray-ui": "leave it out: no dashboard is started",
    "--local-mode": "use --set num_env_runners=0, which samples in the learner's process",
    "--no-local-mode": "leave it out",
    "--export-formats": "leave it out: checkpoints hold the weights",
    "--wandb-key": "use --track wandb, after `wandb login` or with WANDB_API_KEY set",
    "--wandb-project": "use --track wandb; WANDB_PROJECT names another project",
    "--wandb-run-name": "use --track wandb; runs have their trials' names",
    "--num-workers": "use --set num_env_runners=N",
    "--num-gpus": "use --set num_gpus=N, or --ray-num-gpus for what Ray counts",
    "--lr": "use --set lr=N",
}
"""Flags of earlier `rllib train` commands (or near guesses) and what to use now."""
