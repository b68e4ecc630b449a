"""App: the trials of a challenge as they lie on disk."""

import shutil
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rllib_ppg.algorithm.checkpoint import leave_out_phase
from rllib_ppg.algorithm.checkpoint_files import checkpoint_folders, newest_whole
from rllib_ppg.app.plot_runs import Reading, read_params, read_runs
from rllib_ppg.app.result_files import RESULTS, iteration_of, results
from rllib_ppg.app.result_keys import LEARNER_STATS
from rllib_ppg.errors import UserError

Key = tuple[str, int]
"""Game and seed of a trial."""


@dataclass(frozen=True)
class Trained:
    """A trial as it lies on disk.

    Attributes:
        folder: Its folder.
        game: Its game.
        seed: Its seed.
        iteration: Training iterations.
        env_steps: Environment steps.
        seconds: Seconds of its training, checkpoints included but the last.
        aux_phases: Finished auxiliary phases.
        done: It has reached the end of its budget.
    """

    folder: Path
    game: str
    seed: int
    iteration: int = 0
    env_steps: int = 0
    seconds: float = 0.0
    aux_phases: int = 0
    done: bool = False

    def checkpoint(self) -> Path:
        """Its last checkpoint, which is read whole for that.

        Raises:
            UserError: If the one of its last iteration is missing or broken.
        """
        newest = newest_whole(self.folder)
        counters = newest.summary.get("counters", {})
        if newest.path is not None and counters.get("training_iteration") == self.iteration:
            return newest.path
        raise UserError(f"{self.folder} has no whole checkpoint of its last iteration.")

    def complete(self) -> bool:
        """Whether it has reached its end and its last checkpoint is there whole."""
        try:
            return self.done and bool(self.checkpoint())
        except UserError:
            return False

    def tidy(self) -> None:
        """Keep of a finished trial what its evaluation needs: its last checkpoint, made small.

        A checkpoint that cannot be removed stays.
        """
        try:
            last = self.checkpoint()
            leave_out_phase(last)
        except (UserError, OSError):
            return
        for folder in checkpoint_folders(self.folder):
            if folder != last:
                shutil.rmtree(folder, ignore_errors=True)

    def curve(self) -> dict[str, list[Any]]:
        """Its learning curve: mean returns of the training's episodes by environment steps."""
        try:
            (curve,) = read_runs(str(self.folder), Reading(partial=True, note=lambda text: None))
        except UserError:  # no episode has ended
            return {"env_steps": [], "return": []}
        steps = [int(x) for x in curve.x]
        return {"env_steps": steps, "return": [float(y) for y in curve.y]}


def find_trained(folder: Path) -> dict[Key, Trained]:
    """Return the trials in a track's folder; of several of one game and seed the furthest."""
    found: dict[Key, Trained] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        one = read_trained(path)
        if one is None:
            continue
        known = found.get((one.game, one.seed))
        if known is None or (one.done, one.iteration) > (known.done, known.iteration):
            found[one.game, one.seed] = one
    return found


def read_trained(folder: Path) -> Trained | None:
    """Return the trial in a folder, None where there is none.

    Raises:
        UserError: If its results are not as training writes them.
    """
    if not (folder / "params.json").is_file():
        return None
    try:
        config = read_params(folder / "params.json")
    except UserError:  # half written
        return None
    game, seed = (config.get("env_config") or {}).get("env_name"), config.get("seed")
    if not isinstance(game, str) or not isinstance(seed, int):
        return None
    last = deque(results(folder), maxlen=1)
    try:
        return (
            _trained(Trained(folder, game, seed), last[0]) if last else Trained(folder, game, seed)
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise UserError(
            f"The last line of {folder / RESULTS} is not as training writes it ({what}); move "
            "that trial's folder away to train it anew."
        ) from None


def _trained(one: Trained, row: Mapping[str, Any]) -> Trained:
    """A trial whose last result is known."""
    stats: Any = row
    for name in LEARNER_STATS.split("/"):
        stats = stats.get(name, {})
    return replace(
        one,
        iteration=iteration_of(row),
        env_steps=int(row["timesteps_total"]),
        seconds=float(stats.get("time", {}).get("run_s", row["time_total_s"])),
        aux_phases=int(stats.get("phase", {}).get("aux_phases", 0)),
        done=bool(row.get("done")),
    )
