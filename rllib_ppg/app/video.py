"""App: `rllib video`: episodes of a trained agent as MP4 or GIF, cells side by side.

Ray and torch are imported only when the checkpoint is read, so that a mistake is answered at once.
"""

import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rllib_ppg.app.export import find_checkpoint
from rllib_ppg.app.out_file import check_out
from rllib_ppg.app.video_encode import MAX_FPS, SUFFIXES, import_encoder
from rllib_ppg.app.video_flags import OVERLAYS, VideoFlags
from rllib_ppg.envs.levels import LEVELS
from rllib_ppg.errors import UserError
from rllib_ppg.spelling import did_you_mean

if TYPE_CHECKING:
    from rllib_ppg.algorithm.policy import PPGTorchPolicy
    from rllib_ppg.app.experiment import Experiment
    from rllib_ppg.app.video_record import Recording

MAX_CELLS = 64
MAX_SIZE = 2048


@dataclass(frozen=True)
class Wanted:
    """What the flags ask for, checked, before the checkpoint is read.

    Attributes:
        path: The file to write.
        games: Games of Procgen; none are the checkpoint's own.
        grid: Rows and columns; None for one cell a game.
        overlays: What is written beside the pictures; None for the default.
    """

    path: Path
    games: list[str]
    grid: tuple[int, int] | None
    overlays: list[str] | None


def run_video(flags: VideoFlags) -> int:
    """Play episodes and write them as a video.

    Args:
        flags: What was given.

    Returns:
        The exit code, 0.

    Raises:
        UserError: If anything that was given is wrong; nothing has been written then.
    """
    wanted = check_flags(flags)
    folder, passed_over = find_checkpoint(flags.checkpoint)
    for _, reason in passed_over:
        print(f"Passing over a newer checkpoint. {reason}")
    from rllib_ppg.app.train import import_modules, waiting

    with waiting("Reading the checkpoint ..."):
        import_modules(flags.imports or [])
        from rllib_ppg.algorithm.policy_export import read_policy
        from rllib_ppg.app.video_record import record

        policy, _ = read_policy(folder)
    plan = make_recording(policy, flags, wanted)
    with _progress() as show:
        print(record(policy, plan, show))
    return 0


def check_flags(flags: VideoFlags) -> Wanted:
    """Check what can be checked without the checkpoint.

    Raises:
        UserError: If a value is not allowed, the file cannot be written, or PyAV is missing.
    """
    path = check_out(flags.out, SUFFIXES)
    _check_number("episodes", flags.episodes, 1, 10_000)
    _check_number("max-steps", flags.max_steps, 1, 10_000_000)
    _check_number("seed", flags.seed, 0, 2**63 - 1)
    _check_number("fps", flags.fps, 1, MAX_FPS[path.suffix.lower()])
    _check_number("size", flags.size, 1, MAX_SIZE)
    overlays = _words("overlay", flags.overlay, (*OVERLAYS, "all"))
    if overlays and "all" in overlays:
        overlays = list(OVERLAYS)
    _words("levels", flags.levels, LEVELS)
    games = [game.strip() for game in (flags.games or "").split(",") if game.strip()]
    if flags.games is not None and not games:
        raise UserError("--games: give at least one game, with commas between several.")
    import_encoder()
    return Wanted(path, games, _grid(flags.grid), overlays)


def check_video_every(every: int, experiments: Sequence["Experiment"]) -> None:
    """Check `--video-every` of `rllib train` before anything is started.

    Raises:
        UserError: It is no positive number, PyAV is missing, or an algorithm is not PPG.
    """
    if every < 1:
        raise UserError(f"--video-every {every}: give a number of training iterations, at least 1.")
    for experiment in experiments:
        if experiment.keys.run != "PPG":
            raise UserError(
                f"--video-every records policies of PPG, not of {experiment.keys.run} "
                f"({experiment.name}); leave it out."
            )
    import_encoder()


def _check_number(name: str, value: int | None, low: int, high: int) -> None:
    if value is not None and not low <= value <= high:
        raise UserError(f"--{name} {value}: give a whole number from {low} to {high}.")


def _words(name: str, text: str | None, allowed: tuple[str, ...]) -> list[str] | None:
    """The words of a list with commas, each one allowed; None for None."""
    if text is None:
        return None
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words or [text]:
        if word not in allowed:
            hint = did_you_mean(word, allowed)
            raise UserError(f"--{name} {text}: unknown.{hint} Give {', '.join(allowed)}.")
    return words


def _grid(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    rows, _, columns = text.lower().partition("x")
    if not (rows.isdecimal() and columns.isdecimal() and int(rows) and int(columns)):
        raise UserError(f"--grid {text}: write ROWSxCOLUMNS, such as 2x3.")
    if int(rows) * int(columns) > MAX_CELLS:
        raise UserError(f"--grid {text}: at most {MAX_CELLS} cells.")
    return int(rows), int(columns)


def make_recording(policy: "PPGTorchPolicy", flags: VideoFlags, wanted: Wanted) -> "Recording":
    """Fill in what depends on the checkpoint.

    Raises:
        UserError: If the flags do not fit the checkpoint's environment or each other.
    """
    from rllib_ppg.algorithm.evaluate_agents import default_temperature
    from rllib_ppg.app import video_envs, video_record
    from rllib_ppg.core.temperature import check_temperature

    config: Any = policy.config
    games = video_envs.game_options(config["env"], config["env_config"], wanted.games, flags.levels)
    grid = wanted.grid or _square(len(games))
    cells = grid[0] * grid[1]
    if cells < len(games):
        raise UserError(f"{len(games)} games do not fit into {cells} cells; give a larger --grid.")
    episodes = flags.episodes or cells
    if episodes < cells:
        raise UserError(
            f"--episodes {episodes}: {cells} cells need at least one each; give {cells} or more, "
            "or a smaller --grid."
        )
    overlays = wanted.overlays
    if overlays is None:
        overlays = ["name"] if len(games) > 1 else []
    if "actions" in overlays and policy.action_spec.kind == "gaussian":
        overlays = _without_actions(overlays, flags)
    temperature = flags.temperature
    check_temperature(temperature)
    if temperature is None:
        temperature = default_temperature(config)
    return video_record.Recording(
        path=wanted.path, games=games, grid=grid, episodes=episodes, seed=flags.seed,
        temperature=temperature, overlays=overlays, fps=flags.fps, size=flags.size,
        max_steps=flags.max_steps,
    )  # fmt: skip


def _without_actions(overlays: list[str], flags: VideoFlags) -> list[str]:
    """What `all` means where actions are continuous and have no probabilities."""
    if flags.overlay != "all":
        raise UserError(
            "--overlay actions shows probabilities of discrete actions, and this policy's are "
            "continuous; leave it out."
        )
    return [word for word in overlays if word != "actions"]


def _square(count: int) -> tuple[int, int]:
    """Rows and columns of the smallest grid that is nearly square, not higher than wide."""
    columns = math.ceil(math.sqrt(count))
    return math.ceil(count / columns), columns


@contextmanager
def _progress() -> Iterator[Any]:
    """Context with a function that shows a line on a terminal, in place of the last one."""
    if not sys.stdout.isatty():
        yield lambda text: None
        return
    from rich.console import Console

    with Console().status("Playing ...") as status:
        yield status.update
