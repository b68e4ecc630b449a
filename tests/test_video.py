"""`rllib video`: from a checkpoint to a file, and what it refuses."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import gymnasium
import numpy as np
import pytest
from app_helpers import SMALL, command

from rllib_ppg import PPGConfig
from rllib_ppg.app.video_record import action_names

TINY = {"custom_model_config": {"widths": [4], "hidden_size": 8, "blocks": 1}}
GAME = {"env_name": "starpilot", "distribution_mode": "easy"}


class Painted(gymnasium.Env):
    """Six steps an episode; its picture is wide, and lighter with every step."""

    metadata = {"render_fps": 7}  # noqa: RUF012
    observation_space = gymnasium.spaces.Box(0, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(3, start=5)

    def __init__(self, config: Any = None) -> None:
        self.render_mode = (config or {}).get("render_mode")
        self.length = (config or {}).get("length", 6)

    def reset(self, *, seed: int | None = None, options: Any = None):
        self.steps = 0
        return np.zeros(2, np.float32), {}

    def step(self, action: Any):
        self.steps += 1
        return np.full(2, 0.1, np.float32), 0.5, self.steps == self.length, False, {}

    def render(self) -> np.ndarray:
        return np.full((40, 60, 3), 30 * self.steps, np.uint8)


class Blind(Painted):
    """Makes no pictures, whatever is asked of it."""

    def __init__(self, config: Any = None) -> None:
        self.render_mode, self.length = None, 6


def checkpoint(folder: Path, config: PPGConfig) -> str:
    algorithm = config.update_from_dict(SMALL).debugging(seed=1).build_algo()
    try:
        return algorithm.save(str(folder)).checkpoint.path
    finally:
        algorithm.stop()


@pytest.fixture(scope="module")
def procgen(ray_local: None, tmp_path_factory: pytest.TempPathFactory) -> str:
    config = PPGConfig().environment("procgen", env_config=GAME).training(model=TINY)
    return checkpoint(tmp_path_factory.mktemp("procgen"), config)


@pytest.fixture(scope="module")
def painted(ray_local: None, tmp_path_factory: pytest.TempPathFactory) -> str:
    return checkpoint(tmp_path_factory.mktemp("painted"), PPGConfig().environment(Painted))


@pytest.fixture(scope="module")
def blind(ray_local: None, tmp_path_factory: pytest.TempPathFactory) -> str:
    return checkpoint(tmp_path_factory.mktemp("blind"), PPGConfig().environment(Blind))


def decoded(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_procgen_in_a_grid_with_everything_on_it(procgen, tmp_path, capsys):
    out = tmp_path / "v.mp4"
    words = ["--grid", "1x2", "--games", "starpilot,coinrun", "--overlay", "all"]
    run = command(
        capsys, "video", procgen, *words, "--size", "256", "--max-steps", "20", "--out", str(out)
    )
    assert run.code == 0 and run.err == ""
    frames = decoded(out)
    assert len(frames) == 21 + 15  # the last state, and a second to look at it
    assert f"{frames[0].shape[1]}x{frames[0].shape[0]} pixels" in run.out
    assert "20 steps with 0 of 2 episodes" in run.out
    assert np.abs(frames[20].astype(int) - frames[0]).max() > 50
    assert [found.name for found in tmp_path.iterdir()] == ["v.mp4"]


def test_same_seed_same_video(procgen, tmp_path, capsys):
    made = {}
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        out = tmp_path / f"{name}.mp4"
        words = ["--seed", str(seed), "--max-steps", "12", "--size", "64", "--out", str(out)]
        assert command(capsys, "video", procgen, *words).code == 0
        made[name] = out.read_bytes()
    assert made["a"] == made["b"] != made["c"]


def test_a_gymnasium_environment_as_gif(painted, tmp_path, capsys):
    out = tmp_path / "v.gif"
    words = ["--episodes", "3", "--overlay", "all", "--size", "200", "--out", str(out)]
    run = command(capsys, "video", painted, *words)
    assert run.code == 0 and "7 frames a second" in run.out and "It ends after" not in run.out
    # Three episodes of six states, two pauses of half a second, the end and a second of it.
    frames = decoded(out)
    assert len(frames) == 3 * 6 + 2 * 4 + 1 + 7
    height, width = round(200 * 40 / 60), 200
    shown = [int(frame[height // 2, width // 2, 0]) for frame in frames]
    assert shown[:10] == [0, 30, 60, 90, 120, 150, 150, 150, 150, 150]
    assert shown[-1] == 60  # dimmed


def test_actions_are_named_from_where_they_start():
    discrete, several = (
        gymnasium.spaces.Discrete(3, start=5),
        gymnasium.spaces.MultiDiscrete([2, 3]),
    )
    assert list(action_names("x", discrete)) == ["5", "6", "7"]
    assert list(action_names("x", several)) == ["0: 0", "0: 1", "1: 0", "1: 1", "1: 2"]
    assert list(action_names("x", gymnasium.spaces.Box(0, 1, (2,)))) == []
    assert len(action_names("procgen", gymnasium.spaces.Discrete(15))) == 15


REFUSED = [
    (["--episodes", "0"], "--episodes 0"),
    (["--episodes", "3", "--grid", "2x2"], "4 cells need at least one each"),
    (["--grid", "2by2"], "ROWSxCOLUMNS"),
    (["--grid", "100x100"], "at most 64 cells"),
    (["--games", "coinrum"], "Did you mean"),
    (["--games", ","], "at least one game"),
    (["--games", "coinrun,maze", "--grid", "1x1"], "2 games do not fit into 1 cells"),
    (["--levels", "tests"], "Give train, test, all"),
    (["--levels", "test"], "trained on all levels"),
    (["--overlay", "returns"], "Did you mean"),
    (["--temperature", "-1"], "temperature=-1: must be 0"),
    (["--temperature", "nan"], "temperature=nan: must be 0"),
    (["--fps", "1000"], "from 1 to 120"),
    (["--max-steps", "0"], "--max-steps 0"),
    (["--size", "100", "--overlay", "actions"], "give at least 210"),
    (["--from", "no_such_module_here"], "cannot be imported"),
]


@pytest.mark.parametrize(("words", "why"), REFUSED, ids=lambda value: str(value)[:40])
def test_a_mistake_is_one_message_and_nothing_is_overwritten(
    procgen, tmp_path, capsys, words: list[str], why: str
):
    out = tmp_path / "v.mp4"
    out.write_bytes(b"earlier")
    run = command(capsys, "video", procgen, *words, "--out", str(out))
    assert run.code == 2 and why in run.err and "Traceback" not in run.err
    assert run.err.startswith("Error: ") and len(run.err.splitlines()) == 1
    assert out.read_bytes() == b"earlier"
    assert [found.name for found in tmp_path.iterdir()] == ["v.mp4"]


@pytest.mark.parametrize("words", [["--games", "coinrun"], ["--levels", "all"]])
def test_games_and_levels_are_procgens(painted, tmp_path, capsys, words: list[str]):
    run = command(capsys, "video", painted, *words, "--out", str(tmp_path / "v.mp4"))
    assert run.code == 2 and "only Procgen has" in run.err and "Painted" in run.err


@pytest.mark.parametrize("name", ["v.avi", "v", "missing/v.mp4", "."])
def test_a_name_that_cannot_be_written_is_found_at_once(tmp_path, capsys, name: str):
    run = command(capsys, "video", str(tmp_path), "--out", str(tmp_path / name))
    assert run.code == 2 and "--out" in run.err and list(tmp_path.iterdir()) == []


def test_an_environment_without_pictures_is_refused(blind, tmp_path, capsys):
    run = command(capsys, "video", blind, "--out", str(tmp_path / "v.mp4"))
    assert run.code == 2 and "makes no pictures" in run.err and list(tmp_path.iterdir()) == []


def test_an_environment_that_fails_while_it_plays_leaves_no_file(
    painted, tmp_path, capsys, monkeypatch
):
    def fail(self: Painted, action: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Painted, "step", fail)
    run = command(capsys, "video", painted, "--out", str(tmp_path / "v.mp4"))
    assert run.code == 130 and list(tmp_path.iterdir()) == []


def test_a_folder_without_checkpoint_is_refused(tmp_path, capsys):
    run = command(capsys, "video", str(tmp_path), "--out", str(tmp_path / "v.mp4"))
    assert run.code == 2 and "holds none" in run.err


def test_without_pyav_it_is_one_sentence(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    run = command(capsys, "video", str(tmp_path), "--out", str(tmp_path / "v.mp4"))
    assert run.code == 2 and 'pip install "rllib-ppg[video]"' in run.err


def test_help_and_early_mistakes_need_neither_ray_nor_torch():
    code = (
        "import sys; from rllib_ppg.app.cli import main; main(['video', '--help']);"
        "main(['video', 'x', '--out', 'y.avi']);"
        "print({'ray', 'torch', 'av', 'PIL', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("set()\n") and "--out y.avi" in done.stderr
