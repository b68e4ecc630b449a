"""App: `--video-every`: a short video of the current policy, now and then, while it trains."""

import logging
import tempfile
from pathlib import Path
from typing import Any

from pyarrow.fs import LocalFileSystem, copy_files

from rllib_ppg._ray_compat import RLlibCallback
from rllib_ppg.algorithm.checkpoint import randomness_kept

logger = logging.getLogger(__name__)

FOLDER = "videos"
EPISODES, MAX_STEPS, SIZE, SEED = 3, 400, 256, 0
"""Short, and the same levels each time, so that videos of one run can be compared."""


class VideoCallbacks(RLlibCallback):
    """Records a video after every `every` training iterations, in the trial's folder `videos`.

    It has environments and random generators of its own, so training goes on as if it were not
    there. An error ends no training: the first one is written to the result's `notices` and to the
    log.

    Attributes:
        every: Training iterations from video to video; slices of an auxiliary phase count too.
    """

    every = 0

    def __init__(self) -> None:
        super().__init__()
        self._told = False

    def on_train_result(self, *, algorithm: Any, result: dict[str, Any], **kwargs: Any) -> None:
        """Record a video if one is due."""
        super().on_train_result(algorithm=algorithm, result=result, **kwargs)
        iteration = result["training_iteration"]
        if not self.every or iteration % self.every:
            return
        try:
            with randomness_kept():
                record_training(algorithm, f"iteration_{iteration:06}.mp4")
        except Exception as error:  # whatever an environment or encoder raises
            self._tell(result, error)

    def _tell(self, result: dict[str, Any], error: Exception) -> None:
        if self._told:
            return
        self._told = True
        text = f"No video was made: {error or type(error).__name__}"
        logger.warning(text)
        result.setdefault("notices", []).append(text)


def video_callbacks(every: int, base: type = RLlibCallback) -> type:
    """A callbacks class that records a video every so many training iterations.

    Args:
        every: Training iterations from video to video.
        base: The callbacks class that is used otherwise; its methods are called as before.
    """
    bases = (VideoCallbacks,) if base is RLlibCallback else (VideoCallbacks, base)
    return type("VideoCallbacks", bases, {"every": every})


def record_training(algorithm: Any, name: str) -> None:
    """Record the current policy of an algorithm into its trial's folder `videos`.

    Raises:
        UserError: Its environment makes no pictures, or the file cannot be written.
    """
    storage = algorithm._storage
    if storage is None:
        _record(algorithm, Path(algorithm.logdir) / FOLDER, name)
    elif isinstance(storage.storage_filesystem, LocalFileSystem):
        storage._check_validation_file()  # this machine sees the run's folder, not one of its own
        _record(algorithm, Path(storage.trial_fs_path) / FOLDER, name)
    else:
        with tempfile.TemporaryDirectory() as folder:
            _record(algorithm, Path(folder), name)
            target = f"{storage.trial_fs_path}/{FOLDER}"
            storage.storage_filesystem.create_dir(target)
            copy_files(folder, target, destination_filesystem=storage.storage_filesystem)


def _record(algorithm: Any, folder: Path, name: str) -> None:
    # Not above: a checkpoint names the callbacks, and is read also where no video can be made.
    from rllib_ppg.algorithm.evaluate_agents import default_temperature
    from rllib_ppg.app.video_envs import game_options
    from rllib_ppg.app.video_record import Recording, record

    folder.mkdir(parents=True, exist_ok=True)
    policy = algorithm.get_policy()
    config = policy.config
    plan = Recording(
        path=folder / name,
        games=game_options(config["env"], config["env_config"], [], None),
        grid=(1, 1), episodes=EPISODES, seed=SEED, temperature=default_temperature(config),
        overlays=("return", "value"), fps=None, size=SIZE, max_steps=MAX_STEPS,
    )  # fmt: skip
    record(policy, plan)
