"""App: the flags of `rllib evaluate`, each declared once."""

from dataclasses import dataclass, field
from typing import Annotated

import typer

from rllib_ppg.app.flag import MACHINE, Count, Text, Texts, flag

POLICIES = ("agent", "random")

_WHAT = "What is played"
_WHO = "Who plays"
_WHERE = "Scores and results"


_CHECKPOINT = (
    "Folder of a checkpoint, of a trial, or of a run with one trial (the newest whole one counts)."
)
_EPISODES = "Episodes of each game, shared out over the environments beforehand. Default: 200."
_NUM_ENVS = (
    "Environments of each game; part of the result, as others play other levels. Default: one an "
    "episode, at most 64."
)
_LEVELS = (
    "train (the training's own), test (only levels that it did not have) or all (every level that "
    "there is). Default: all."
)
_GAMES = (
    "Games of Procgen, with commas between them, or all. Others than the training's are marked as "
    "transfer and have a mean of their own. Default: the training's."
)
_SEED = "Seed of levels and actions, from 0; the same seed plays the same episodes. Default: 0."
_CONFIG = 'Changes of the environment: \'{"env_config": {"use_backgrounds": false}}\'.'
_SET = "One such key: --set env_config.use_backgrounds=false. May be given several times."
_FROM = "Import a module or .py file first, which registers environments or models."
_POLICY = "agent (default), or random for uniformly random actions on the same levels."
_TEMPERATURE = (
    "Draw actions from softmax(logits/T); 0 is greedy. Default: the training's "
    "evaluation_temperature, else 1, or 0 with explore: false."
)
_RUNNERS = (
    "Workers that play side by side, one CPU each; 0: this process. The episodes are the same "
    "whatever their number. Default: auto, the CPUs that there are."
)
_NORMALIZE = (
    "Score table for normalised returns (easy_challenge, easy_paper, hard), or none. Default: the "
    "first that fits the difficulty."
)
_OUT = "JSON file to write, with every episode; `rllib plot` reads it."


Checkpoint = Annotated[str, typer.Argument(metavar="CHECKPOINT", help=_CHECKPOINT)]
Episodes = Annotated[int, flag(_WHAT, "--episodes", "N", _EPISODES)]
NumEnvs = Annotated[Count, flag(_WHAT, "--num-envs", "N", _NUM_ENVS)]
Levels = Annotated[Text, flag(_WHAT, "--levels", "LEVELS", _LEVELS)]
Games = Annotated[Text, flag(_WHAT, "--games", "NAMES", _GAMES)]
Seed = Annotated[int, flag(_WHAT, "--seed", "N", _SEED)]
Config = Annotated[Text, flag(_WHAT, "--config -c", "JSON", _CONFIG)]
Set = Annotated[Texts, flag(_WHAT, "--set", "KEY=VALUE", _SET)]
From = Annotated[Texts, flag(_WHAT, "--from", "MODULE", _FROM)]

Policy = Annotated[str, flag(_WHO, "--policy", "WHO", _POLICY)]
Temperature = Annotated[float | None, flag(_WHO, "--temperature", "T", _TEMPERATURE)]

NumEnvRunners = Annotated[str, flag(MACHINE, "--num-env-runners", "N", _RUNNERS)]

Normalize = Annotated[Text, flag(_WHERE, "--normalize", "TABLE", _NORMALIZE)]
Out = Annotated[Text, flag(_WHERE, "--out -o", "FILE", _OUT)]


@dataclass(frozen=True)
class EvaluateFlags:
    """The flags of `rllib evaluate` as given; None or empty where not given."""

    checkpoint: str
    episodes: int = 200
    num_envs: Count = None
    levels: Text = None
    games: Text = None
    seed: int = 0
    config: Text = None
    settings: list[str] = field(default_factory=list)
    imports: list[str] = field(default_factory=list)
    policy: str = "agent"
    temperature: float | None = None
    num_env_runners: str = "auto"
    ray_address: Text = None
    normalize: Text = None
    out: Text = None
