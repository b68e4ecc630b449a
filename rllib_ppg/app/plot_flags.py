"""App: the flags of `rllib plot`, each declared once."""

from dataclasses import dataclass, field
from typing import Annotated

import typer

from rllib_ppg.app.flag import Text, Texts, flag

_WHAT = "What to plot"
_HOW = "How"
_WHERE = "Where it goes"

KINDS = ("curves", "bars", "profiles", "improvement", "gap")


_RUNS = (
    "Folders of experiments or trials, progress.csv, result.json, files of `rllib evaluate --out`, "
    "or results of `rllib challenge`."
)
_KIND = "curves, bars, profiles, improvement or gap. Default: curves for training runs, else bars."
_X = "env_steps (default), hours or iterations."
_Y = (
    "A column of the results, or the end of its path, such as policy_phase/entropy. Default: the "
    "mean return."
)
_GROUP = (
    "What becomes one mean: auto (default: the same configuration but for seed and game), "
    "experiment, run, or keys of the configuration such as lr,model.custom_model_config.arch."
)
_LABEL = (
    "Runs whose experiment's name holds PATTERN (* and ? allowed; with a slash: whose path) become "
    "the group NAME. May be given several times."
)
_REFERENCE = "Published curves (CSV, also .csv.gz); docs/plots.md says which columns."
_GAMES = "Only these games, with commas between them."
_LEVELS = "Which scores of evaluations: test, all or train. Default: the first that all files have."
_NORMALIZE = (
    "Normalised returns by this score table (easy_challenge, easy_paper, hard), mean over games."
)
_AGGREGATE = (
    "What is taken over runs and games: mean, iqm, median or optimality_gap. Default: mean for "
    "curves, iqm for scores."
)
_INTERVAL = "95 % intervals over runs: bootstrap (default), t (Student's) or none."
_SMOOTH = "Exponential average over points, from 0 (default) to below 1, as TensorBoard's."
_SEEDS = "Draw each run as a thin line too."
_PARTIAL = "Leave out lines that a killed run left cut off."
_OUT = "Figure to write: .png, .svg or .pdf. Without it the plot goes to the terminal."
_TERMINAL = "Draw curves on the terminal although --out is given."


Runs = Annotated[Texts, typer.Argument(metavar="RUN", show_default=False, help=_RUNS)]
Kind = Annotated[Text, flag(_WHAT, "--kind -k", "KIND", _KIND)]
X = Annotated[str, flag(_WHAT, "--x", "AXIS", _X)]
Y = Annotated[Text, flag(_WHAT, "--y", "METRIC", _Y)]
Group = Annotated[str, flag(_WHAT, "--group", "WAY", _GROUP)]
Label = Annotated[Texts, flag(_WHAT, "--label", "NAME=PATTERN", _LABEL)]
Reference = Annotated[Texts, flag(_WHAT, "--reference", "CSV", _REFERENCE)]
Games = Annotated[Text, flag(_WHAT, "--games", "NAMES", _GAMES)]
Levels = Annotated[Text, flag(_WHAT, "--levels", "LEVELS", _LEVELS)]
Partial = Annotated[bool, flag(_WHAT, "--partial", None, _PARTIAL)]

Normalize = Annotated[Text, flag(_HOW, "--normalize", "TABLE", _NORMALIZE)]
Aggregate = Annotated[Text, flag(_HOW, "--aggregate", "NAME", _AGGREGATE)]
Interval = Annotated[str, flag(_HOW, "--interval", "KIND", _INTERVAL)]
Smooth = Annotated[float, flag(_HOW, "--smooth", "FACTOR", _SMOOTH)]
Seeds = Annotated[bool, flag(_HOW, "--seeds", None, _SEEDS)]
Title = Annotated[Text, flag(_HOW, "--title", "TEXT", "Title of the figure.")]

Out = Annotated[Text, flag(_WHERE, "--out -o", "FILE", _OUT)]
Terminal = Annotated[bool, flag(_WHERE, "--terminal", None, _TERMINAL)]


@dataclass(frozen=True)
class PlotFlags:
    """The flags of `rllib plot` as given; None or empty where not given."""

    runs: list[str] = field(default_factory=list)
    kind: Text = None
    x: str = "env_steps"
    y: Text = None
    group: str = "auto"
    label: list[str] = field(default_factory=list)
    reference: list[str] = field(default_factory=list)
    games: Text = None
    levels: Text = None
    normalize: Text = None
    aggregate: Text = None
    interval: str = "bootstrap"
    smooth: float = 0.0
    seeds: bool = False
    partial: bool = False
    title: Text = None
    out: Text = None
    terminal: bool = False
