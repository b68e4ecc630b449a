"""The command line: help, and what every kind of bad input gets.

That is one message, exit code 2, no traceback, no Ray started, no results folder made.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from app_helpers import command

from rllib_ppg._version import __version__
from rllib_ppg.app.flags import REMOVED, TrainFlags

PPG = ["train", "--run", "PPG", "--env", "procgen"]
SHELL = [sys.executable, "-m", "rllib_ppg"]


def assert_refused(capsys: pytest.CaptureFixture[str], folder: Path, *words: str) -> str:
    """Run a command, assert that it is refused as a user's mistake, return its message."""
    import ray

    was_up = ray.is_initialized()
    results = folder / "results"
    storage = [] if "--storage-path" in words else ["--storage-path", str(results)]
    run = command(capsys, *words, *(storage if words[0] == "train" else []))
    assert run.code == 2, run
    assert run.out == "" and run.err.startswith("Error: ") and "Traceback" not in run.err
    assert run.err.count("\nError: ") == 0
    assert not results.exists() and ray.is_initialized() == was_up
    return run.err


SETTINGS = {
    # unknown and misspelt keys, at any level
    "gama=0.9": 'Did you mean "gamma"?',
    "n_aux_epoch=3": 'Did you mean "n_aux_epochs"?',
    "env_config.env_nam=coinrun": "env_name",
    "env_config.num_level=3": "num_levels",
    "model.custom_modl=ppg_impala": "custom_model",
    "model.custom_model_config.arc=dual": 'Did you mean "arch"?',
    # outdated keys, and RLlib's that PPG does not use
    "num_sgd_iter=3": "n_epoch_pi",
    "sgd_minibatch_size=64": "nminibatch",
    "num_workers=2": "num_env_runners",
    "num_envs_per_worker=2": "num_envs_per_env_runner",
    "use_pytorch=true": "torch",
    "kl_coeff=0.2": "kl_penalty",
    "vf_clip_param=10": "value_clip_param",
    "horizon=100": "horizon",
    "model.fcnet_hiddens=[64]": "custom_model_config",
    "model.use_lstm=true": "recurrent",
    "checkpoint_freq=3": "checkpoint_freq",
    # wrong types
    "explore=True,": "must be true or false",
    "lr=fast": "must be a number",
    "lr=true": "not a boolean",
    "n_pi=1.5": "must be a whole number",
    "env_config=5": "mapping",
    "env_config.num_levels=many": "give a whole number",
    "model.custom_model_config.arch=double": "'dual', 'detach' or 'shared'",
    # out of range, absurd, not divisible, contradicting
    "gamma=1.5": "less than or equal to 1",
    "num_envs=-1": "greater than or equal to 1",
    "num_envs=60000": "of memory (frame store",
    "n_pi=100000": "of memory (frame store",
    "nminibatch=7": "use 1, 2, 4, 8, 16, 32",
    "aux_mbsize=5": "does not divide",
    "train_batch_size=4000": "16384",
    "num_env_runners=3": "does not divide num_envs=64",
    # games
    "env_config.env_name=coinrum": 'Did you mean "coinrun"?',
    "env_config.env_name=caterpillar": "private games",
    "env_config.distribution_mode=memory": "no distribution_mode 'memory'",
    # resources
    "num_env_runners=32": "needs 33 CPUs (there 2 CPUs)",
    "num_gpus=1": "needs 1 GPU (there 0 GPUs)",
    "num_gpus=2": "num_gpus",
    # what PPG is not for
    "framework=tf2": "torch",
    "enable_rl_module_and_learner=true": "old API stack",
    "evaluation_parallel_to_training=true": "evaluat",
    "observation_filter=MeanStdFilter": "does not use",
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_bad_configuration_key_or_value_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, setting: str
):
    machine = ["--ray-num-cpus", "2", "--ray-num-gpus", "0"]
    message = assert_refused(capsys, tmp_path, *PPG, *machine, "--set", setting)
    assert SETTINGS[setting] in message
    # One line, and it says which flag or key is meant.
    assert len(message.strip().splitlines()) == 1


COMMANDS = {
    "no such file": (["train", "-f", "no.yaml"], "There is no file no.yaml"),
    "nothing to train": (["train"], "Nothing to train"),
    "no algorithm": (["train", "--env", "procgen"], "Nothing to train"),
    "unknown algorithm": (["train", "--run", "PGP", "--env", "procgen"], "unknown algorithm"),
    "unknown environment": (["train", "--run", "PPG", "--env", "CartPol-v1"], '"CartPole-v1"'),
    "no environment": (["train", "--run", "PPG"], "env is missing"),
    "unknown stop key": ([*PPG, "--stop", "{timesteps_totl: 1}"], '"timesteps_total"'),
    "old stop key": ([*PPG, "--stop", "{episode_reward_mean: 1}"], "episode_return_mean"),
    "stop value": ([*PPG, "--stop", "{timesteps_total: soon}"], "must be a number"),
    "broken json": ([*PPG, "--config", "{lr: 1"], "--config:1:7"),
    "framework": ([*PPG, "--framework", "tf2"], "torch only"),
    "resume nothing": ([*PPG, "--resume"], "to resume"),
    "resume and restore": ([*PPG, "--resume", "--restore", "x"], "give one of them"),
    "restore nothing": ([*PPG, "--restore", "no/checkpoint"], "no checkpoint folder"),
    "scheduler": ([*PPG, "--scheduler", "fifoo"], '"fifo"'),
    "scheduler argument": (
        [*PPG, "--scheduler", "asha", "--scheduler-config", "{max_tt: 1}"],
        '"max_t"',
    ),
    "storage": ([*PPG, "--storage-path", "/dev/null/x"], "cannot be written"),
    "module": ([*PPG, "--from", "no_such_module"], "cannot be imported"),
    "not a number": ([*PPG, "--seed", "x"], "--seed"),
    "unknown flag": ([*PPG, "--sed", "1"], "--seed"),
    "unknown command": (["trian"], "'train'"),
    "not a file": (["train", "fil", "x.yaml"], '"file"'),
}


@pytest.mark.parametrize("kind", COMMANDS)
def test_a_bad_command_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path, kind: str):
    words, why = COMMANDS[kind]
    assert why in assert_refused(capsys, tmp_path, *words)


FILES = {
    "x: [1": ":1:6: broken YAML",
    "x:\n  run: PPG\n env: procgen\n": ":3:",
    "x: {env: procgen}": '"run" is missing',
    "run: PPG": "has no name",
    "x: {run: PPG, env: procgen, checkpoint_freq: 1}": "checkpoint_frequency",
    "x: {run: PPG, env: procgen, confg: {}}": '"config"',
    "x:\n  run: PPG\n  env: procgen\n  config:\n    gama: 0.9\n": ":5: ",
    "x: {run: PPG, env: procgen, config: {lr: {eval: '1'}}}": "never run",
    "x: {run: PPG, env: procgen, config: {nminibatch: {grid_search: [8, 7]}}}": "nminibatch=7",
    "x: !!python/name:os.system": "tags",
    "x: {run: PPG, run: PPO}": "stands twice",
}


@pytest.mark.parametrize("text", FILES)
def test_a_bad_file_is_refused_with_its_name(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str
):
    path = tmp_path / "e.yaml"
    path.write_text(text)
    message = assert_refused(capsys, tmp_path, "train", "-f", str(path))
    assert message.startswith(f"Error: {path}") and FILES[text] in message


@pytest.mark.parametrize("flag", REMOVED)
def test_a_flag_of_earlier_commands_is_answered_with_the_new_way(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, flag: str
):
    message = assert_refused(capsys, tmp_path, *PPG, flag, "1")
    assert flag in message and REMOVED[flag] in message


def test_several_mistakes_are_one_message(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    words = [*PPG, "--set", "gama=1", "--set", "num_workers=1", "--stop", "{steps: 1}"]
    message = assert_refused(capsys, tmp_path, *words)
    assert all(name in message for name in ('"gama"', '"num_workers"', '"steps"'))


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["train", "--help"], ["train", "-h"]])
def test_help_is_complete(capsys: pytest.CaptureFixture[str], words: list[str]):
    run = command(capsys, *words)
    assert run.code == 0 and run.err == ""
    assert "train" in run.out
    if words[0] == "train":
        names = run.out.replace("…", "")
        for panel in ("What to train", "Change it", "Go on", "Machine or cluster"):
            assert panel in run.out
        for flag in ("--set", "--resume", "--dry-run", "--wait-for-resources", "--ray-address"):
            assert flag in names


def test_every_flag_has_a_help_text():
    from rllib_ppg.app import cli

    train = cli.typer.main.get_command(cli.app).commands["train"]
    assert [p.name for p in train.params if p.name != "help" and not p.help] == []
    assert {p.name for p in train.params} - {"help"} == set(TrainFlags.__dataclass_fields__)


def test_the_bare_command_shows_help_and_is_wrong_usage(capsys: pytest.CaptureFixture[str]):
    run = command(capsys)
    assert run.code == 2 and "Usage" in run.out and run.err == ""


def test_the_version_is_shown(capsys: pytest.CaptureFixture[str]):
    assert command(capsys, "--version").out == f"rllib-ppg {__version__}\n"


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["train", "-f", "no.yaml"]])
def test_no_ray_and_no_torch_is_imported_for_help_or_a_missing_file(words: list[str]):
    code = (
        "import sys; from rllib_ppg.app.cli import main; main(sys.argv[1:]);"
        "print(sorted({'ray', 'torch', 'gymnasium'} & set(sys.modules)), file=sys.stderr)"
    )
    run = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert run.stderr.strip().splitlines()[-1] == "[]"


def test_a_closed_pipe_is_no_traceback():
    run = subprocess.run(
        f"{sys.executable} -m rllib_ppg train --help | head -1", shell=True, capture_output=True
    )
    assert run.stderr == b""


def test_exit_codes_reach_the_shell(tmp_path: Path):
    run = subprocess.run([*SHELL, "train", "-f", str(tmp_path / "no.yaml")], capture_output=True)
    assert run.returncode == 2 and run.stderr.startswith(b"Error: There is no file")
