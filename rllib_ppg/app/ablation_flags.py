"""App: the flags of `rllib ablation` that are not those of `rllib challenge`."""

from dataclasses import dataclass
from typing import Annotated

from rllib_ppg.app.challenge_flags import ChallengeFlags
from rllib_ppg.app.flag import Text, flag

_WHAT = "What is measured"
_BUDGET = "Budget of a trial"
_KEEP = "Results"

_FILE = (
    "Experiment file (YAML) of several experiments: all parts first, then others that it is "
    "compared with, such as the same without one part."
)
_TRACK = (
    "sample_efficiency (train on all levels), generalization (train on 200 levels, score on all) "
    "or both. Default: by the first experiment's num_levels."
)
_GAMES = (
    "all (16), round2 (the six public games of round 2), or names with commas between them. "
    "Default: the first experiment's."
)
_SEEDS = (
    "Seeds with commas between them; one trial for each experiment, game and seed. Default: 1,2,3."
)
_ONLY = (
    "Only these experiments, and the first: ends of their names with commas between them, such as "
    "dropout,noop_reward."
)
_STEPS = (
    "Environment steps of a trial. Default: where the first experiment's stop or budget_env_steps "
    "ends it, else 8,000,000."
)
_SECONDS = (
    "Seconds of a trial; it ends in order before. Default: the first experiment's time_total_s or "
    "budget_s, else 7,200."
)
_SCALE = (
    "For rehearsals, above 0 to 1: scales those steps, num_envs, n_pi and what depends on them, so "
    "that at least two auxiliary phases run. Seconds stay, so that steps are what is equal."
)
_NAME = "Name of the results folder; the file's name with dashes unless given."
_STORAGE = "Where the results folder goes. Default: the first experiment's, else ~/ray_results."
_RESUME = (
    "Go on with the interrupted ablation of the same name; finished trials and evaluations are "
    "not repeated. Its files are unpickled: resume only those from sources that you trust."
)

File = Annotated[str, flag(_WHAT, "--file -f", "FILE", _FILE)]
Track = Annotated[Text, flag(_WHAT, "--track", "NAME", _TRACK)]
Games = Annotated[Text, flag(_WHAT, "--games", "NAMES", _GAMES)]
Seeds = Annotated[Text, flag(_WHAT, "--seeds", "N,N", _SEEDS)]
Only = Annotated[Text, flag(_WHAT, "--only", "NAMES", _ONLY)]
BudgetSteps = Annotated[Text, flag(_BUDGET, "--budget-steps", "N", _STEPS)]
BudgetSeconds = Annotated[Text, flag(_BUDGET, "--budget-seconds", "S", _SECONDS)]
BudgetScale = Annotated[float | None, flag(_BUDGET, "--budget-scale", "SHARE", _SCALE)]
ExperimentName = Annotated[Text, flag(_KEEP, "--experiment-name -n", "NAME", _NAME)]
StoragePath = Annotated[Text, flag(_KEEP, "--storage-path --out -o", "PATH", _STORAGE)]
Resume = Annotated[bool, flag(_KEEP, "--resume", None, _RESUME)]


@dataclass(frozen=True)
class AblationFlags(ChallengeFlags):
    """The flags of `rllib ablation` as given; None or empty where not given."""

    only: Text = None
