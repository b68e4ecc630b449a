"""`rllib evaluate`: what it prints and writes, and one message for each mistake."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import gymnasium
import pytest
from app_helpers import SMALL, Run, command
from evaluation import config_of

TRAINED = {"env_name": "starpilot", "distribution_mode": "easy", "num_levels": 50}


def saved(folder: Path, env: str, env_config: dict) -> str:
    algorithm = config_of(env, env_config, **SMALL).build_algo()
    path = algorithm.save(str(folder)).checkpoint.path
    algorithm.stop()
    return path


@pytest.fixture(scope="module")
def procgen(ray_local: None, tmp_path_factory: pytest.TempPathFactory) -> str:
    return saved(tmp_path_factory.mktemp("procgen"), "procgen", TRAINED)


@pytest.fixture(scope="module")
def cartpole(ray_local: None, tmp_path_factory: pytest.TempPathFactory) -> str:
    return saved(tmp_path_factory.mktemp("cartpole"), "CartPole-v1", {})


def evaluated(capsys: pytest.CaptureFixture[str], *words: object) -> Run:
    """Run the command in this process; workers would take a Ray of their own."""
    return command(capsys, "evaluate", *map(str, words), "--num-env-runners", "0")


def test_the_file_agrees_with_the_table(capsys, procgen: str, tmp_path: Path):
    out = tmp_path / "e.json"
    words = ("--episodes", 6, "--num-envs", 3, "--levels", "train", "--out", out)
    run = evaluated(capsys, procgen, *words)
    assert run.code == 0, run
    content = json.loads(out.read_text())
    assert content["checkpoint"] == procgen and content["versions"]["rllib_ppg"]
    assert content["settings"]["levels"] == "train" and not content["settings"]["transfer"]
    assert all(episode["level_seed"] < 50 for episode in content["episodes"])
    assert len(content["episodes"]) == 6
    mean, score = content["summary"]["mean"], content["summary"]["normalised"]["mean"]
    assert f"{mean:.2f} +-" in run.out and f"{score:.3f} +-" in run.out
    assert "6 of 6 episodes" in run.err
    assert evaluated(capsys, procgen, *words).code == 0
    assert json.loads(out.read_text())["episodes"] == content["episodes"]


def test_other_games_are_marked_as_transfer(capsys, procgen: str, tmp_path: Path):
    out = tmp_path / "e.json"
    words = ("--episodes", 1, "--games", "bossfight,starpilot", "-o", out)
    run = evaluated(capsys, procgen, *words)
    assert run.code == 0 and "bossfight (transfer)" in run.out, run
    assert "easy levels" in run.out
    content = json.loads(out.read_text())
    assert [game["settings"]["transfer"] for game in content["games"]] == [True, False]
    assert content["summary"]["num_games"] == content["summary"]["transfer"]["num_games"] == 1


def test_a_random_policy_is_not_the_checkpoint_s_and_nothing_is_transfer_to_it(
    capsys, procgen: str, tmp_path: Path
):
    out = tmp_path / "e.json"
    words = ("--episodes", 1, "--games", "bossfight,starpilot", "--policy", "random", "-o", out)
    run = evaluated(capsys, procgen, *words)
    assert run.code == 0 and "mean of 2 games" in run.out and "transfer" not in run.out, run
    content = json.loads(out.read_text())
    assert not any(game["settings"]["transfer"] for game in content["games"])
    assert content["checkpoint"] is None and content["summary"]["num_games"] == 2


def test_other_environments_work_too(capsys, cartpole: str, tmp_path: Path):
    out = tmp_path / "e.json"
    run = evaluated(capsys, cartpole, "--episodes", 3, "--temperature", 0, "--out", out)
    assert run.code == 0 and "the most probable actions" in run.out, run
    content = json.loads(out.read_text())
    assert "levels" not in content["settings"] and content["summary"]["normalised"] is None
    assert [episode["level_seed"] for episode in content["episodes"]] == [None] * 3


def test_the_environment_can_be_changed(capsys, procgen: str, tmp_path: Path):
    out = tmp_path / "e.json"
    words = (
        "--config",
        "{env_config: {use_backgrounds: false}}",
        "--set",
        "env_config.num_levels=3",
    )
    assert evaluated(capsys, procgen, "--episodes", 1, *words, "--out", out).code == 0
    settings = json.loads(out.read_text())["settings"]
    assert settings["env_config"]["use_backgrounds"] is False and settings["levels"] == "custom"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--episodes", "0"], "at least 1"),
        (["--episodes", "3", "--num-envs", "4"], "1 to 3"),
        (["--games", "coinrum"], 'Did you mean "coinrun"'),
        (["--games", ","], "names of games"),
        (["--levels", "tset"], 'Did you mean "test"'),
        (["--temperature", "-1"], "must be 0"),
        (["--normalize", "hrad"], 'Did you mean "hard"'),
        (["--normalize", "hard"], "give easy_challenge"),
        (["--policy", "randm"], 'Did you mean "random"'),
        (["--set", "lr=1"], "only the environment"),
        (["--config", "{lr: 1}"], "only the environment"),
        (["--set", "env_config.num_levels=9999999999"], "whole number"),
        (["--out", "e.txt"], "ends in .json"),
        (["--out", "/proc/e.json"], "cannot be written"),
        (["--from", "no_such_module"], "cannot be imported"),
    ],
)
def test_a_mistake_gets_one_message_before_anything_is_played(capsys, procgen, words, why):
    run = evaluated(capsys, procgen, *words)
    assert run.code == 2 and why in run.err, run
    assert run.err.startswith("Error: ") and len(run.err.strip().splitlines()) == 1


def test_rewards_that_are_not_finite_end_it_and_overwrite_nothing(
    capsys, cartpole: str, tmp_path: Path
):
    (tmp_path / "lost.py").write_text(
        "from gymnasium import register\n"
        "from gymnasium.envs.classic_control import CartPoleEnv\n"
        "class Lost(CartPoleEnv):\n"
        "    def step(self, action):\n"
        "        obs, _, *more = super().step(action)\n"
        "        return obs, float('nan'), *more\n"
        "register('CartPole-v1', Lost, max_episode_steps=500)\n"
    )
    out = tmp_path / "e.json"
    out.write_text("earlier")
    before = gymnasium.registry["CartPole-v1"]
    try:
        words = ("--episodes", 2, "--from", tmp_path / "lost.py", "--out", out)
        run = evaluated(capsys, cartpole, *words)
    finally:
        gymnasium.registry["CartPole-v1"] = before
    assert run.code == 2 and "Environment 0 of CartPole-v1 gave a reward of nan" in run.err, run
    assert "Traceback" not in run.err and out.read_text() == "earlier"


@pytest.mark.parametrize("words", [["--games", "maze"], ["--levels", "test"]])
def test_only_procgen_has_games_and_levels(capsys, cartpole: str, words: list[str]):
    run = evaluated(capsys, cartpole, *words)
    assert run.code == 2 and "only Procgen has" in run.err, run


def test_a_number_of_workers_that_is_none_is_refused(capsys, procgen: str):
    run = command(capsys, "evaluate", procgen, "--num-env-runners", "many")
    assert run.code == 2 and "or auto" in run.err, run


@pytest.mark.parametrize(
    ("sent", "code"),
    [pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow), (signal.SIGTERM, 143)],
)
def test_a_signal_ends_it_and_it_says_how_far_it_came(procgen: str, tmp_path: Path, sent, code):
    out = tmp_path / "e.json"
    words = ["evaluate", procgen, "--episodes", "100000", "--num-env-runners", "0", "--out", out]
    # The first line of progress comes after some seconds of playing.
    program = (
        "import rllib_ppg.app.evaluate_progress as p; p.LINE_EVERY_S = 0.0; "
        "from rllib_ppg.app.cli import main; import sys; sys.exit(main())"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, words)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=os.environ,
    )  # fmt: skip
    assert process.stderr is not None
    first = process.stderr.readline()
    process.send_signal(sent)
    rest = process.stderr.read()
    assert process.wait() == code
    assert "of 100000 episodes" in first and "Interrupted after " in rest
    assert "Traceback" not in rest and not out.exists()
