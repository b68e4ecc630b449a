"""App: record a video: play, draw, encode, frame by frame."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from rllib_ppg.algorithm.actions import start
from rllib_ppg.algorithm.evaluate_blocks import shares
from rllib_ppg.algorithm.evaluate_levels import check_fits
from rllib_ppg.algorithm.policy import PPGTorchPolicy
from rllib_ppg.app.video_draw import PROCGEN_ACTIONS, Drawing, smallest_size
from rllib_ppg.app.video_encode import MAX_FPS, VideoFile
from rllib_ppg.app.video_envs import default_fps, make_cells
from rllib_ppg.app.video_play import Cell, Player, Shot, play

DEFAULT_SIZE = {".mp4": (512, 1536), ".gif": (320, 640)}
"""Pixels that a picture, and all pictures of a row, take at most unless a size is given.

A second of a GIF takes some twenty times the bytes of an MP4's.
"""

PAUSE_S, END_S = 0.5, 1.0
"""Seconds that an ended episode stays before the cell's next one, and the last frame."""


@dataclass(frozen=True)
class Recording:
    """What to record.

    Attributes:
        path: The file, `.mp4` or `.gif`.
        games: Names and configurations of the games.
        grid: Rows and columns of cells; at least one a game.
        episodes: In all; at least one a cell.
        seed: Of levels and actions.
        temperature: As in `Player`.
        overlays: As in `Drawing`.
        fps: Frames a second; None for the environment's own.
        size: Width of a picture in pixels; None for what fits.
        max_steps: Environment steps at most.
    """

    path: Path
    games: list[tuple[str, dict[str, Any]]]
    grid: tuple[int, int]
    episodes: int
    seed: int
    temperature: float
    overlays: Sequence[str]
    fps: int | None
    size: int | None
    max_steps: int


def record(
    policy: PPGTorchPolicy, plan: Recording, show: Callable[[str], object] = lambda text: None
) -> str:
    """Record a video; the policy is left as it is.

    Args:
        policy: Who plays.
        plan: What to record.
        show: Called with a line about the progress now and then.

    Returns:
        What has been made, in a sentence or two.

    Raises:
        UserError: The environment does not fit or makes no pictures, or the file cannot be written.
    """
    env = policy.config["env"]
    quotas = shares(plan.episodes, plan.grid[0] * plan.grid[1])
    cells = make_cells(env, plan.games, quotas, plan.seed)
    training = policy.network.training
    policy.network.eval()
    try:
        first = cells[0]
        check_fits(policy, first.name, first.env.observation_space, first.env.action_space)
        fps = plan.fps or min(default_fps(env, cells[0].env), MAX_FPS[plan.path.suffix.lower()])
        for cell in cells:
            cell.pause = round(PAUSE_S * fps)
        drawing = make_drawing(policy, plan, np.asarray(cells[0].env.render(0)).shape[:2])
        with VideoFile(plan.path, fps) as video:
            _write(video, drawing, _shots(policy, plan, cells), show, fps)
        return _summary(plan, cells, video.frames, fps, drawing.shape)
    finally:
        policy.network.train(training)
        for cell in cells:
            cell.env.close()


def _shots(policy: PPGTorchPolicy, plan: Recording, cells: list[Cell]) -> Any:
    player = Player(
        policy, plan.temperature,
        with_values="value" in plan.overlays, with_probs="actions" in plan.overlays,
    )  # fmt: skip
    return play(cells, player, policy.action_spec, plan.max_steps)


def _write(
    video: VideoFile, drawing: Drawing, frames: Any, show: Callable[[str], object], fps: int
) -> None:
    frame = np.empty(0, np.uint8)
    for shots in frames:
        frame = drawing.frame(shots)
        video.add(frame)
        if video.frames % 20 == 1:
            show(_progress_line(video.frames, shots))
    for _ in range(round(END_S * fps)):
        video.add(frame)


def _progress_line(frames: int, shots: Sequence[Shot]) -> str:
    over = sum(shot.over for shot in shots)
    return f"Frame {frames:,}, {over} of {len(shots)} cells are over ..."


def make_drawing(policy: PPGTorchPolicy, plan: Recording, picture: tuple[int, ...]) -> Drawing:
    """The drawing of a recording whose environments make pictures of this height and width."""
    shape = (picture[0], picture[1])
    names = action_names(policy.config["env"], policy.action_space)
    largest, row = DEFAULT_SIZE[plan.path.suffix.lower()]
    fitting = min(largest, row // plan.grid[1])
    size = plan.size or max(fitting, smallest_size(shape, plan.overlays, names))
    return Drawing(plan.grid, shape, size, plan.overlays, names)


def action_names(env: Any, space: Any) -> Sequence[str]:
    """Names of the bars of `video_play.probabilities`; none for continuous actions."""
    if env == "procgen":
        return PROCGEN_ACTIONS
    if isinstance(space, gym.spaces.Box):
        return ()
    first = np.broadcast_to(np.asarray(start(space), np.int64), space.shape).ravel()
    sizes = [int(space.n)] if isinstance(space, gym.spaces.Discrete) else space.nvec.ravel()
    several = len(sizes) > 1
    return [
        f"{place}: {low + index}" if several else str(low + index)
        for place, (low, size) in enumerate(zip(first, sizes, strict=True))
        for index in range(size)
    ]


def _summary(
    plan: Recording, cells: Sequence[Cell], frames: int, fps: int, shape: tuple[int, int]
) -> str:
    finished = sum(cell.finished for cell in cells)
    text = (
        f"Wrote {plan.path} ({frames / fps:.1f} s, {shape[1]}x{shape[0]} pixels, {fps} frames a "
        f"second, {plan.path.stat().st_size:,} bytes)."
    )
    if finished < plan.episodes:
        text += (
            f"\nIt ends after {plan.max_steps:,} steps with {finished} of {plan.episodes} episodes "
            "finished; --max-steps allows more."
        )
    return text
