"""`--video-every`: videos while training, which goes on as if they were not made."""

import pickle
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import ray.cloudpickle
from app_helpers import SET_SMALL, SMALL, command
from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

from rllib_ppg import PPGConfig
from rllib_ppg._ray_compat import RLlibCallback
from rllib_ppg.app.video_callback import VideoCallbacks, record_training, video_callbacks

TINY = {"custom_model_config": {"widths": [4], "hidden_size": 8, "blocks": 1}}
GAME = {"env_name": "starpilot", "distribution_mode": "easy"}


class Dicing(gymnasium.Env):
    """Draws from numpy's global generator, as environments should not; makes pictures if asked."""

    observation_space = gymnasium.spaces.Box(0, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(3)

    def __init__(self, config: Any = None) -> None:
        self.render_mode = (config or {}).get("render_mode")

    def reset(self, *, seed: int | None = None, options: Any = None):
        self.steps = 0
        return np.random.rand(2).astype(np.float32), {}

    def step(self, action: Any):
        self.steps += 1
        obs = np.random.rand(2).astype(np.float32)
        return obs, float(obs[0]), self.steps == 5, False, {}

    def render(self) -> np.ndarray:
        return np.full((32, 32, 3), 10 * self.steps, np.uint8)


class Blind(Dicing):
    """Makes no pictures."""

    def __init__(self, config: Any = None) -> None:
        self.render_mode = None


class Counting(RLlibCallback):
    """A user's own callbacks."""

    def on_train_result(self, *, result: dict[str, Any], **kwargs: Any) -> None:
        result["seen"] = result["training_iteration"]


def trained(config: PPGConfig, iterations: int = 4) -> tuple[Any, list[dict], Path]:
    """Return the weights after some iterations, the results, and the folder of the run."""
    algorithm = config.update_from_dict(SMALL).debugging(seed=2).build_algo()
    try:
        results = [algorithm.train() for _ in range(iterations)]
        return algorithm.get_policy().get_weights(), results, Path(algorithm.logdir)
    finally:
        algorithm.stop()


def procgen() -> PPGConfig:
    return PPGConfig().environment("procgen", env_config=GAME).training(model=TINY)


@pytest.mark.parametrize(
    "make", [procgen, lambda: PPGConfig().environment(Dicing)], ids=["procgen", "dicing"]
)
def test_training_is_bit_equal_with_and_without(ray_local: None, make, monkeypatch):
    monkeypatch.setattr("rllib_ppg.app.video_callback.MAX_STEPS", 20)
    np.random.seed(0)
    plain, _, _ = trained(make())
    np.random.seed(0)
    videos, results, folder = trained(make().callbacks(video_callbacks(2)))
    assert plain.keys() == videos.keys()
    assert all(np.array_equal(plain[name], videos[name]) for name in plain)
    names = sorted(path.name for path in (folder / "videos").iterdir())
    assert names == ["iteration_000002.mp4", "iteration_000004.mp4"]
    assert not any(result["notices"] for result in results)


def test_an_error_is_told_once_and_training_goes_on(ray_local: None):
    config = PPGConfig().environment(Blind).callbacks(video_callbacks(1))
    _, results, folder = trained(config)
    notices = [result["notices"] for result in results]
    assert len(notices[0]) == 1 and "makes no pictures" in notices[0][0]
    assert notices[1:] == [[], [], []]
    assert list((folder / "videos").iterdir()) == []


def test_a_users_own_callbacks_are_called_as_before(ray_local: None):
    config = PPGConfig().environment(Dicing).callbacks(video_callbacks(3, Counting))
    _, results, folder = trained(config, iterations=3)
    assert [result["seen"] for result in results] == [1, 2, 3]
    assert len(list((folder / "videos").iterdir())) == 1


def test_the_class_travels_to_trials():
    made = pickle.loads(ray.cloudpickle.dumps(video_callbacks(7, Counting)))
    assert made.every == 7 and issubclass(made, VideoCallbacks) and issubclass(made, Counting)


def test_results_on_another_file_system_get_their_videos(ray_local: None, tmp_path: Path):
    algorithm = PPGConfig().environment(Dicing).update_from_dict(SMALL).build_algo()

    class Storage:
        storage_filesystem = SubTreeFileSystem(str(tmp_path), LocalFileSystem())
        trial_fs_path = "bucket/trial"

    (tmp_path / "bucket" / "trial").mkdir(parents=True)
    algorithm._storage = Storage()
    record_training(algorithm, "x.mp4")
    algorithm._storage = None
    algorithm.stop()
    assert (tmp_path / "bucket/trial/videos/x.mp4").stat().st_size > 500


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--run", "PPG", "--video-every", "0"], "at least 1"),
        (["--run", "PPO", "--video-every", "5"], "not of PPO"),
    ],
)
def test_a_wrong_flag_is_refused_before_anything_starts(capsys, tmp_path, words, why):
    run = command(capsys, "train", "--env", "CartPole-v1", *words, "--storage-path", str(tmp_path))
    assert run.code == 2 and why in run.err and list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_rllib_train_puts_videos_into_the_trials_folder(capsys, tmp_path):
    words = ["--run", "PPG", "--env", "procgen", "--set", "env_config.env_name=starpilot"]
    words += [
        *SET_SMALL,
        "--set",
        "model.custom_model_config.widths=[4]",
        "--stop",
        '{"training_iteration": 2}',
        "--no-progress",
    ]
    run = command(
        capsys, "train", *words, "--video-every", "2", "-n", "x", "--storage-path", str(tmp_path)
    )
    assert run.code == 0, run.err
    assert len(list(tmp_path.glob("x/PPG_*/videos/iteration_000002.mp4"))) == 1
    resumed = command(
        capsys, "train", *words, "--video-every", "2", "-n", "x", "--storage-path", str(tmp_path),
        "--resume", "--stop", '{"training_iteration": 4}',
    )  # fmt: skip
    assert resumed.code == 0, resumed.err
    assert len(list(tmp_path.glob("x/PPG_*/videos/*.mp4"))) == 2
