"""`rllib train` from beginning to end: runs, failures, Ctrl-C, going on."""

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from app_helpers import SET_SMALL, Run, command, experiments

from rllib_ppg.app.flags import TrainFlags
from rllib_ppg.app.train import flags_of_each
from rllib_ppg.app.watch import RunWatch

# Tune does not close its loggers' files where a trial is paused or given up.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")

TOY = '''
import gymnasium as gym, numpy as np
from ray.tune.registry import register_env

class Toy(gym.Env):
    """Ends an episode every 20 steps; after some steps gives a NaN reward or breaks."""
    observation_space = gym.spaces.Box(-1, 1, (4,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, config):
        self.config, self.steps = config, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(4, np.float32), {}

    def step(self, action):
        self.steps += 1
        late = self.steps > self.config.get("after", 1e9)
        if late and self.config["kind"] == "breaks":
            raise ValueError("the toy broke")
        reward = float("nan") if late else 1.0
        return np.full(4, self.steps % 7 / 7, np.float32), reward, self.steps % 20 == 0, False, {}

register_env("toy", Toy)
'''


@pytest.fixture
def results(ray_local: None, tmp_path: Path) -> Path:
    return tmp_path / "results"


def train(capsys: pytest.CaptureFixture[str], results: Path, *words: str, name: str = "run") -> Run:
    places = ["--storage-path", str(results), "-n", name]
    return command(capsys, "train", *words, *places, *SET_SMALL)


def cartpole(capsys: pytest.CaptureFixture[str], results: Path, *words: str) -> Run:
    return train(capsys, results, "--run", "PPG", "--env", "CartPole-v1", *words)


def rows(results: Path, name: str = "run") -> list[dict[str, str]]:
    """Return the lines of the newest trial's progress.csv."""
    paths = sorted((results / name).glob("*/progress.csv"), key=lambda path: path.stat().st_mtime)
    with paths[-1].open() as file:
        return list(csv.DictReader(file))


def iterations(results: Path) -> list[int]:
    return [int(row["training_iteration"]) for row in rows(results)]


def steps(results: Path) -> list[int]:
    return [int(row["timesteps_total"]) for row in rows(results)]


def test_a_run_trains_to_its_budget_and_says_where_everything_is(
    capsys: pytest.CaptureFixture[str], results: Path
):
    run = cartpole(capsys, results, "--stop", "{timesteps_total: 500}", "--checkpoint-freq", "2")
    assert run.code == 0 and run.err == ""
    lines = run.out.splitlines()
    assert lines[0] == "run · PPG · CartPole-v1: starting"
    assert "the first iteration is under way" in lines[1]
    assert all(" iteration " in line for line in lines[2:8]) and "\x1b" not in run.out
    assert "run: done" in run.out and "--restore" in run.out and "progress.csv" in run.out
    # Four policy iterations of 128 steps, and the auxiliary phase after the second.
    assert steps(results)[-1] == 512 and len(steps(results)) == 6
    place = results / "run"
    assert {"config.yaml", "command.txt", "versions.json"} <= {
        path.name for path in place.iterdir()
    }
    checkpoint = next(line.split()[1] for line in lines if line.startswith("  checkpoint "))
    assert Path(checkpoint, "algorithm_state.pkl").is_file()

    import rllib_ppg

    assert len(rllib_ppg.evaluate(checkpoint, episodes=3).returns) == 3

    longer = cartpole(
        capsys,
        results,
        "--restore",
        checkpoint,
        "--stop",
        "{timesteps_total: 700}",
        "--no-progress",
    )
    assert longer.code == 0, longer
    # The checkpoint stood before the second auxiliary phase, with which the run goes on.
    assert iterations(results)[0] == 7 and steps(results)[:3] == [512, 512, 640]


@pytest.mark.slow
def test_the_written_configuration_trains_the_same_again(
    capsys: pytest.CaptureFixture[str], results: Path
):
    first = cartpole(capsys, results, "--stop", "{training_iteration: 1}", "--seed", "4")
    assert first.code == 0
    place = results / "run" / "config.yaml"
    again = command(
        capsys, "train", "-f", str(place), "--storage-path", str(results), "-n", "again"
    )
    assert again.code == 0, again
    name = "info/learner/default_policy/learner_stats/policy_phase/loss_vf"
    assert rows(results)[0][name] == rows(results, "again")[0][name]


def test_procgen_trains_through_a_worker(capsys: pytest.CaptureFixture[str], results: Path):
    run = train(
        capsys, results, "--run", "PPG", "--env", "procgen", "--stop", "{timesteps_total: 250}",
        "--set", "env_config.distribution_mode=easy", "--set", "num_gpus=0",
        "--set", "model.custom_model_config={widths: [4], hidden_size: 8, blocks: 1}",
    )  # fmt: skip
    assert run.code == 0, run
    assert "procgen · coinrun · easy" in run.out and steps(results)[-1] == 256


@pytest.mark.slow
def test_every_variant_of_a_grid_is_trained(capsys: pytest.CaptureFixture[str], results: Path):
    grid = "lr={grid_search: [1e-3, 1e-4]}"
    run = cartpole(capsys, results, "--stop", "{training_iteration: 1}", "--set", grid)
    assert run.code == 0 and "2 trials: 2 done" in run.out
    assert "lr=0.001" in run.out and "lr=0.0001" in run.out
    assert len(list((results / "run").glob("*/progress.csv"))) == 2


def test_a_nan_stops_the_trial_for_good_and_keeps_the_last_checkpoint(
    capsys: pytest.CaptureFixture[str], results: Path, tmp_path: Path
):
    module = tmp_path / "toy_module.py"
    module.write_text(TOY)
    run = train(
        capsys, results, "--from", str(module), "--run", "PPG", "--env", "toy", "--config",
        "{env_config: {kind: nan, after: 20}}", "--checkpoint-freq", "1", "--max-failures", "3",
        "--stop", "{training_iteration: 9}",
    )  # fmt: skip
    assert run.code == 1 and run.err == ""
    assert run.out.count(" failed: FloatingPointError: ") == 1, "it must not be tried again"
    assert "reward" in run.out and "nan" in run.out and "Traceback" not in run.out
    assert "run: failed" in run.out and "checkpoint_000000" in run.out and "--resume" in run.out
    error = next(line.split()[1] for line in run.out.splitlines() if line.startswith("  error "))
    assert "FloatingPointError" in Path(error).read_text()


@pytest.mark.slow
def test_a_failed_trial_goes_on_from_its_last_checkpoint(
    capsys: pytest.CaptureFixture[str], results: Path, tmp_path: Path
):
    module = tmp_path / "toy_module.py"
    module.write_text(TOY)
    run = train(
        capsys, results, "--from", str(module), "--run", "PPG", "--env", "toy", "--config",
        "{env_config: {kind: breaks, after: 40}}", "--checkpoint-freq", "1", "--max-failures", "1",
        "--stop", "{training_iteration: 9}",
    )  # fmt: skip
    assert run.code == 1
    assert run.out.count("ValueError: the toy broke") >= 2
    assert "going on from its last checkpoint (failure 1)" in run.out
    assert iterations(results) == sorted(set(iterations(results))) and len(iterations(results)) > 3


def press(monkeypatch: pytest.MonkeyPatch, at_iteration: int, times: int) -> None:
    """Press Ctrl-C when an iteration's result has come."""
    inner = RunWatch.result

    def result(self: RunWatch, trial, result) -> None:
        inner(self, trial, result)
        if result["training_iteration"] == at_iteration:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(RunWatch, "result", result)


def test_ctrl_c_writes_a_checkpoint_and_resume_goes_on_from_there(
    capsys: pytest.CaptureFixture[str], results: Path, monkeypatch: pytest.MonkeyPatch
):
    stop = ["--stop", "{training_iteration: 4}"]
    with monkeypatch.context() as patch:
        press(patch, at_iteration=2, times=1)
        run = cartpole(capsys, results, *stop)
    assert run.code == 130
    assert (
        "Ctrl-C: stopping after a checkpoint" in run.out
        and "interrupted after a checkpoint" in run.out
    )
    # The iteration that was under way is finished, saved and the last.
    assert iterations(results)[-1] <= 3
    words = next(line for line in run.out.splitlines() if "--resume" in line)
    assert words.strip().startswith("rllib train --run PPG") and words.endswith("--resume")

    resumed = cartpole(capsys, results, *stop, "--resume", "--set", "lr=0.5")
    assert resumed.code == 0, resumed
    assert "the resumed run keeps its own lr" in resumed.out
    assert iterations(results) == [1, 2, 3, 4]

    again = cartpole(capsys, results, *stop, "--resume")  # nothing is left to do
    assert again.code == 0 and ": done" in again.out, again
    assert "4 iterations in" in again.out and "--restore" in again.out
    assert iterations(results) == [1, 2, 3, 4]


@pytest.mark.slow
def test_a_finished_run_goes_on_where_the_budget_is_raised(
    capsys: pytest.CaptureFixture[str], results: Path
):
    assert cartpole(capsys, results, "--stop", "{training_iteration: 2}").code == 0
    longer = cartpole(capsys, results, "--stop", "{training_iteration: 4}", "--resume")
    assert longer.code == 0, longer
    assert iterations(results) == [1, 2, 3, 4]


def test_resume_begins_what_the_earlier_command_had_not_come_to(tmp_path: Path):
    text = "".join(f"{name}: {{run: PPG, env: CartPole-v1}}\n" for name in "ab")
    both = experiments(text, tmp_path, storage_path=str(tmp_path))
    resumed = TrainFlags(resume=True)
    assert [flags.resume for flags in flags_of_each(both, resumed)] == [True, True]  # refused later
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "tuner.pkl").touch()  # Tune's own mark of a run
    assert [flags.resume for flags in flags_of_each(both, resumed)] == [True, False]
    assert [flags.resume for flags in flags_of_each(both, TrainFlags())] == [False, False]


def test_ctrl_c_twice_stops_at_once(
    capsys: pytest.CaptureFixture[str], results: Path, monkeypatch: pytest.MonkeyPatch
):
    press(monkeypatch, at_iteration=1, times=2)
    run = cartpole(capsys, results, "--stop", "{training_iteration: 50}")
    assert run.code == 130 and "stopped at once" in run.out and "none was written" in run.out


@pytest.mark.slow
def test_a_terminals_ctrl_c_ends_and_resumes_a_process_of_its_own(tmp_path: Path):
    words = [sys.executable, "-m", "rllib_ppg", "train", "--run", "PPG", "--env", "procgen"]
    words += ["--storage-path", str(tmp_path), "-n", "run", "--no-progress", *SET_SMALL]
    words += ["--set", "num_env_runners=1", "--set", "env_config.distribution_mode=easy"]
    words += ["--set", "model.custom_model_config={widths: [4], hidden_size: 8, blocks: 1}"]
    process = subprocess.Popen(
        [*words, "--stop", "{training_iteration: 500}"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    lines = []
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line)
        if " iteration 3 " in line:
            # A terminal sends it to every process of the foreground: Ray's too.
            os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=120) == 130, "".join(lines)
    text = "".join(lines)
    assert "interrupted after a checkpoint" in text and "Traceback" not in text
    done = int(
        [line for line in lines if " iteration " in line][-1].split(" iteration ")[1].split()[0]
    )

    again = subprocess.run(
        [*words, "--stop", f"{{training_iteration: {done + 3}}}", "--resume"],
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert again.returncode == 0, again
    assert iterations(tmp_path) == list(range(1, done + 4))


@pytest.mark.slow
def test_another_algorithm_of_rllibs_runs_as_it_is(tmp_path: Path):
    words = ["train", "--run", "PPO", "--env", "CartPole-v1", "--stop", "{training_iteration: 2}"]
    config = "{num_env_runners: 0, train_batch_size: 200, minibatch_size: 50, num_epochs: 1}"
    words = [sys.executable, "-m", "rllib_ppg", *words, "--config", config]
    run = subprocess.run(
        [*words, "--storage-path", str(tmp_path)], capture_output=True, text=True, timeout=240
    )
    assert run.returncode == 0, run
    assert "iteration 2  steps 400" in run.stdout and "ppo-cartpole-v1: done" in run.stdout
    assert run.stderr == ""
