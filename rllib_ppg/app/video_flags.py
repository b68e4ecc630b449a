"""App: the flags of `rllib video`, each declared once."""

from dataclasses import dataclass
from typing import Annotated

import typer

from rllib_ppg.app.flag import Count, Text, flag

_WHAT = "What is played"
_HOW = "How it looks"
_WHERE = "Where it goes"

OVERLAYS = ("name", "return", "value", "actions")
MAX_STEPS = 2000


_CHECKPOINT = "Folder of a checkpoint, of a trial, or of a run with one trial."
_EPISODES = "Episodes in all, shared out over the cells beforehand. Default: one a cell."
_GAMES = (
    "Games of Procgen, with commas between them, shared out over the cells; also other ones than "
    "the training's."
)
_LEVELS = "Levels of Procgen: train (default: the training's), test (unseen ones) or all."
_TEMPERATURE = (
    "Sharpen (below 1) or flatten the policy; 0 takes the most likely action. Default: the "
    "training's evaluation_temperature, else 1, or 0 with explore: false."
)
_MAX_STEPS = f"End after so many environment steps, whatever is unfinished. Default: {MAX_STEPS}."
_FROM = "Import a module or .py file first, which registers environments or models."
_GRID = "Cells side by side: ROWSxCOLUMNS, such as 2x3. Default: one a game."
_OVERLAY = (
    "What to write beside the pictures: name, return, value and actions (their probabilities), "
    "with commas between them, or all. Default: the name, if there are several games."
)
_FPS = "Frames a second. Default: the environment's own, 15 for Procgen."
_SIZE = "Width of a cell's picture in pixels. Default: at most 512, and what fits a screen."
_OUT = "Video to write: .mp4 (H.264) or .gif."


Checkpoint = Annotated[str, typer.Argument(metavar="CHECKPOINT", help=_CHECKPOINT)]
Episodes = Annotated[Count, flag(_WHAT, "--episodes", "N", _EPISODES)]
Games = Annotated[Text, flag(_WHAT, "--games", "GAME,...", _GAMES)]
Levels = Annotated[Text, flag(_WHAT, "--levels", "WHICH", _LEVELS)]
Seed = Annotated[int, flag(_WHAT, "--seed", "N", "Same seed, same video. Default: 0.")]
Temperature = Annotated[float | None, flag(_WHAT, "--temperature", "T", _TEMPERATURE)]
MaxSteps = Annotated[int, flag(_WHAT, "--max-steps", "N", _MAX_STEPS)]
From = Annotated[list[str] | None, flag(_WHAT, "--from", "MODULE", _FROM)]

Grid = Annotated[Text, flag(_HOW, "--grid", "RxC", _GRID)]
Overlay = Annotated[Text, flag(_HOW, "--overlay", "WHAT,...", _OVERLAY)]
Fps = Annotated[Count, flag(_HOW, "--fps", "N", _FPS)]
Size = Annotated[Count, flag(_HOW, "--size", "PIXELS", _SIZE)]

Out = Annotated[str, flag(_WHERE, "--out -o", "FILE", _OUT)]


@dataclass(frozen=True)
class VideoFlags:
    """The flags of `rllib video` as given; None where not given."""

    checkpoint: str
    out: str
    episodes: Count = None
    games: Text = None
    levels: Text = None
    seed: int = 0
    temperature: float | None = None
    max_steps: int = MAX_STEPS
    imports: list[str] | None = None
    grid: Text = None
    overlay: Text = None
    fps: Count = None
    size: Count = None
