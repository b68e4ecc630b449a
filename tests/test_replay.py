"""`rllib replay`: from a trial that a NaN stopped to an explanation."""

import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
from app_helpers import SET_SMALL, Run, command
from rich.console import Console
from test_fault_replay import policy_fault

from rllib_ppg.app.replay import show
from rllib_ppg.core.fault_files import write_dump
from rllib_ppg.core.fault_replay import diagnose

pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")

TOY = '''
import gymnasium as gym, numpy as np
from ray.tune.registry import register_env

class Toy(gym.Env):
    """After 100 steps gives a reward, or an observation, that training cannot go on from."""
    observation_space = gym.spaces.Box(-1, 1, (4,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, config):
        self.kind, self.steps = config["kind"], 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(4, np.float32), {}

    def step(self, action):
        self.steps += 1
        obs, late = np.full(4, self.steps % 7 / 7, np.float32), self.steps > 40
        if late and self.kind == "observation":
            obs[2] = np.nan
        reward = 1e30 if late and self.kind == "loss" else 1.0
        return obs, reward, self.steps % 20 == 0, False, {}

register_env("toy", Toy)
'''


def train(capsys: pytest.CaptureFixture[str], folder: Path, kind: str, *words: str) -> Run:
    module = folder / "toy_module.py"
    module.write_text(TOY)
    config = f"{{env_config: {{kind: {kind}}}, normalize_rewards: false}}"
    return command(
        capsys, "train", "--from", str(module), "--run", "PPG", "--env", "toy", "--config", config,
        "--storage-path", str(folder), "-n", "run", "--max-failures", "2",
        "--checkpoint-freq", "1", "--stop", "{training_iteration: 20}", *SET_SMALL, *words,
    )  # fmt: skip


def replay(capsys: pytest.CaptureFixture[str], run: Run) -> Run:
    """Type what the error says."""
    typed = re.search(r"to look at it: rllib (replay \S+numeric_fault_\d+)\n", run.out)
    assert typed, run.out
    return command(capsys, *typed[1].split())


def test_a_broken_loss_stops_the_trial_once_and_its_dump_repeats_it(
    capsys: pytest.CaptureFixture[str], ray_local: None, tmp_path: Path
):
    run = train(capsys, tmp_path, "loss")
    assert run.code == 1 and run.err == "" and "Traceback" not in run.out
    assert run.out.count(" failed: FloatingPointError: ") == 1, "it must not be tried again"
    (folder,) = (tmp_path / "run").glob("*/numeric_fault_*")
    assert {path.name for path in folder.iterdir()} == {"fault.json", "fault.safetensors"}
    shown = replay(capsys, run)
    assert shown.code == 0 and shown.err == ""
    assert "Reproduced" in shown.out and "loss_vf" in shown.out and "inf" in shown.out
    assert "normalize_rewards: true" in shown.out


@pytest.mark.slow
def test_a_broken_observation_stops_the_trial_once_whichever_worker_gave_it(
    capsys: pytest.CaptureFixture[str], ray_local: None, tmp_path: Path
):
    run = train(capsys, tmp_path, "observation", "--set", "num_env_runners=1")
    assert run.code == 1 and "Traceback" not in run.out + run.err
    assert run.out.count(" failed: FloatingPointError: ") == 1, "it must not be tried again"
    assert "worker 1: environment 0 gave an observation" in run.out and "[2]" in run.out
    shown = replay(capsys, run)
    assert shown.code == 0 and "observations that are not finite" in shown.out


def test_it_needs_neither_pickle_nor_ray_nor_procgen(tmp_path: Path):
    folder = write_dump(tmp_path / "fault", policy_fault())
    code = (
        "import sys\n"
        "for name in ('ray', 'procgen', 'gym3', 'gymnasium'): sys.modules[name] = None\n"
        "import pickle\n"
        "def refuse(*_, **__): raise AssertionError('unpickled')\n"
        "pickle.load = pickle.loads = pickle.Unpickler = refuse\n"
        "from rllib_ppg.app.cli import main\n"
        f"sys.exit(main(['replay', {str(folder)!r}]))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run
    assert "Reproduced" in run.stdout and "advantages" in run.stdout


def test_everything_found_is_shown(tmp_path: Path):
    dump = policy_fault()
    found = diagnose(dump, tmp_path)
    out = io.StringIO()
    show(Console(width=1000, file=out), dump, found)
    text = out.getvalue()
    assert dump.message in text and "Every module's output is finite" in text
    for entry in (*found.inputs, *found.layers):
        assert entry.name in text
    for name in found.losses:
        assert name in text
    for line in found.advice:
        assert line in text


@pytest.mark.parametrize("make", ["nothing", "empty folder", "file"])
def test_a_folder_that_is_no_dump_is_refused(capsys, tmp_path: Path, make: str):
    place = tmp_path / "x"
    if make == "empty folder":
        place.mkdir()
    elif make == "file":
        place.write_text("x")
    run = command(capsys, "replay", str(place))
    assert run.code == 2 and run.out == ""
    assert run.err.startswith("Error: ") and str(place) in run.err and "numeric_fault_" in run.err
    assert len(run.err.splitlines()) == 1


def test_its_help_is_complete_and_imports_nothing_heavy():
    code = (
        "import sys\nfrom rllib_ppg.app.cli import main\nassert main(['replay', '--help']) == 0\n"
        "assert not {'torch', 'ray', 'numpy'} & set(sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    text = " ".join(run.stdout.split())
    for words in ("{folder}", "numeric_fault_STEPS", "Nothing is unpickled", "2 no dump"):
        assert words in text
