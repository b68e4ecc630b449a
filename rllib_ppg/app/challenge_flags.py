"""App: the flags of `rllib challenge`, each declared once."""

from dataclasses import dataclass, field
from typing import Annotated

from rllib_ppg.app.flag import MACHINE, Count, Text, Texts, flag

_WHAT = "What is measured"
_BUDGET = "Budget of a trial"
_CHANGE = "Change the experiment"
_KEEP = "Results"
_SHOW = "What is shown"


_FILE = "Challenge file (YAML): NAME: {protocol: {...}, experiment: FILE or {run: PPG, ...}}."
_TRACK = (
    "sample_efficiency (train on all levels), generalization (train on 200 levels, score on all) "
    "or both."
)
_GAMES = "all (16), round2 (the six public games of round 2), or names with commas between them."
_SEEDS = "Seeds with commas between them; one trial for each game, seed and track."
_EPISODES = "Episodes of each evaluation, shared out over the environments beforehand."
_TABLE = "Score table for normalised returns: easy_challenge or easy_paper."
_THRESHOLD = "Score for the `steps to` column: when the learning curve first reaches it."
_STEPS = "Environment steps of a trial. Default: the file's, else 8,000,000."
_SECONDS = "Seconds of a trial; it ends in order before. Default: the file's, else 7,200."
_SCALE = (
    "For rehearsals, above 0 to 1: scales steps, seconds (not below 60), num_envs, n_pi and what "
    "depends on them, so that at least two auxiliary phases run."
)
_SET = (
    "One key of the experiment, nested ones with dots: --set lr=1e-3. May be given several times. "
    "Game, levels, seed and stop are the protocol's."
)
_FROM = "Import a module or .py file first, which registers models."
_NAME = "Name of the results folder; the challenge's name in the file unless given."
_STORAGE = "Where the results folder goes. Default: the experiment's storage_path, ~/ray_results."
_RESUME = (
    "Go on with the interrupted challenge of the same name; finished trials and evaluations are "
    "not repeated. Its files are unpickled: resume only those from sources that you trust."
)
_RESCORE = (
    "Make results and report again from the evaluations on disk, with another score table for "
    "instance. Nothing is trained or played."
)
_WAIT = "Wait where the cluster is too small now, because it grows by itself."
_DRY_RUN = "Check everything, show trials, sizes and an estimate of the hours, and end."
_PROGRESS = "Live view on a terminal (default); else one plain line a training iteration."


File = Annotated[str, flag(_WHAT, "--file -f", "FILE", _FILE)]
Track = Annotated[Text, flag(_WHAT, "--track", "NAME", _TRACK)]
Games = Annotated[Text, flag(_WHAT, "--games", "NAMES", _GAMES)]
Seeds = Annotated[Text, flag(_WHAT, "--seeds", "N,N", _SEEDS)]
Episodes = Annotated[Count, flag(_WHAT, "--episodes", "N", _EPISODES)]
Table = Annotated[Text, flag(_WHAT, "--table", "NAME", _TABLE)]
Threshold = Annotated[float | None, flag(_WHAT, "--threshold", "SCORE", _THRESHOLD)]

BudgetSteps = Annotated[Text, flag(_BUDGET, "--budget-steps", "N", _STEPS)]
BudgetSeconds = Annotated[Text, flag(_BUDGET, "--budget-seconds", "S", _SECONDS)]
BudgetScale = Annotated[float | None, flag(_BUDGET, "--budget-scale", "SHARE", _SCALE)]

Set = Annotated[Texts, flag(_CHANGE, "--set", "KEY=VALUE", _SET)]
From = Annotated[Texts, flag(_CHANGE, "--from", "MODULE", _FROM)]

ExperimentName = Annotated[Text, flag(_KEEP, "--experiment-name -n", "NAME", _NAME)]
StoragePath = Annotated[Text, flag(_KEEP, "--storage-path --out -o", "PATH", _STORAGE)]
Resume = Annotated[bool, flag(_KEEP, "--resume", None, _RESUME)]
Rescore = Annotated[bool, flag(_KEEP, "--rescore", None, _RESCORE)]

WaitForResources = Annotated[bool, flag(MACHINE, "--wait-for-resources", None, _WAIT)]

DryRun = Annotated[bool, flag(_SHOW, "--dry-run", None, _DRY_RUN)]
Progress = Annotated[bool, flag(_SHOW, "--progress/--no-progress", None, _PROGRESS)]
Info = Annotated[
    bool, flag(_SHOW, "--log-info -v", None, "Show Ray's messages and what workers print.")
]
Debug = Annotated[bool, flag(_SHOW, "--log-debug -vv", None, "The same with debug messages.")]


@dataclass(frozen=True)
class ChallengeFlags:
    """The flags of `rllib challenge` as given; None or empty where not given."""

    file: str
    track: Text = None
    games: Text = None
    seeds: Text = None
    episodes: Count = None
    table: Text = None
    threshold: float | None = None
    budget_steps: Text = None
    budget_seconds: Text = None
    budget_scale: float | None = None
    settings: list[str] = field(default_factory=list)
    imports: list[str] = field(default_factory=list)
    experiment_name: Text = None
    storage_path: Text = None
    resume: bool = False
    rescore: bool = False
    ray_address: Text = None
    ray_num_cpus: Count = None
    ray_num_gpus: Count = None
    wait_for_resources: bool = False
    dry_run: bool = False
    progress: bool = True
    info: bool = False
    debug: bool = False
