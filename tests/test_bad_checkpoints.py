"""Every kind of damage at every entrance: one sentence, and nothing was unpickled or changed."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from app_helpers import SET_SMALL, SMALL, command, experiment, experiments

from rllib_ppg import PPG, PPGConfig, UserError, evaluate
from rllib_ppg._ray_compat import Algorithm
from rllib_ppg.algorithm.checkpoint_files import (
    MANIFEST,
    POLICY_STATE,
    _crc32_of,
    check_checkpoint,
    write_manifest,
)
from rllib_ppg.app.checks import check
from rllib_ppg.app.export import run_export

STATE, CONSTRUCTOR = "algorithm_state.pkl", "class_and_ctor_args.pkl"


class Saved(NamedTuple):
    """A real checkpoint, and an algorithm of the same configuration that trained on since."""

    folder: Path
    algorithm: PPG


@pytest.fixture(scope="module")
def saved(ray_local: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Saved]:
    algorithm = PPGConfig().environment("CartPole-v1").update_from_dict(SMALL).build_algo()
    algorithm.train()
    folder = tmp_path_factory.mktemp("saved") / "checkpoint_000000"
    algorithm.save(str(folder))
    algorithm.train()
    yield Saved(folder, algorithm)
    algorithm.stop()


@pytest.fixture(scope="module")
def ppo(ray_local: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Checkpoints of RLlib's PPO on both of its stacks."""
    from ray.rllib.algorithms.ppo import PPOConfig

    folders = {}
    for stack in ("new", "old"):
        config = PPOConfig().environment("CartPole-v1").env_runners(num_env_runners=0)
        config = config.api_stack(
            enable_rl_module_and_learner=stack == "new",
            enable_env_runner_and_connector_v2=stack == "new",
        )
        algorithm = config.build_algo()
        folders[stack] = tmp_path_factory.mktemp(stack) / "checkpoint"
        algorithm.save(str(folders[stack]))
        algorithm.stop()
    return folders


@pytest.fixture
def checkpoint(saved: Saved, tmp_path: Path) -> Path:
    return copy(saved.folder, tmp_path / "checkpoint")


def copy(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    return to


# ---- entrances: each takes a checkpoint and a folder of its own

Enter = Callable[[Path, Path, Saved], Any]


def train(folder: Path, place: Path, saved: Saved) -> None:
    check(experiment(place, json.dumps(SMALL), restore=str(folder)))


def train_from_file(folder: Path, place: Path, saved: Saved) -> None:
    text = f"x:\n  run: PPG\n  env: CartPole-v1\n  restore: {folder}\n"
    check(experiments(f"{text}  config: {json.dumps(SMALL)}\n", place)[0])


def export(folder: Path, place: Path, saved: Saved) -> None:
    run_export(str(folder), str(place / "policy"), "safetensors")


ENTRANCES: dict[str, Enter] = {
    "train --restore": train,
    "restore: in a file": train_from_file,
    "export": export,
    "evaluate": lambda folder, place, saved: evaluate(folder, episodes=1),
    "Algorithm.restore": lambda folder, place, saved: saved.algorithm.restore(str(folder)),
    "PPG.from_checkpoint": lambda folder, place, saved: PPG.from_checkpoint(str(folder)),
}


def refusals(folder: Path, place: Path, saved: Saved) -> dict[str, str]:
    """Return what each entrance says of a checkpoint that it must refuse."""
    place.mkdir(exist_ok=True)
    said = {}
    for name, enter in ENTRANCES.items():
        try:
            enter(folder, place, saved)
        except UserError as error:
            said[name] = str(error)
            assert "\n" not in said[name] and said[name].endswith("."), said[name]
        else:
            pytest.fail(f"{name} took it")
    assert not (place / "policy").exists()
    return said


# ---- kinds of damage


def rewrite(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / name
        path.write_bytes(change(path.read_bytes()))

    return damage


def flipped(at: int) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        changed = bytearray(content)
        changed[at % len(content)] ^= 1
        return bytes(changed)

    return change


def manifest(**keys: Any) -> Callable[[Path], None]:
    """A manifest with other keys, as if it had been written so."""

    def damage(folder: Path) -> None:
        content = {**json.loads((folder / MANIFEST).read_text()), **keys}
        content["crc32"] = _crc32_of(content)
        (folder / MANIFEST).write_text(json.dumps(content))

    return damage


def more_steps(content: bytes) -> bytes:
    return content.replace(b'"env_steps": 1', b'"env_steps": 2')


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("a file")


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no folder": (shutil.rmtree, "There is no checkpoint folder"),
    "a file": (a_file, "There is no checkpoint folder"),
    "empty folder": (empty, "no checkpoint"),
    "no manifest": (lambda folder: (folder / MANIFEST).unlink(), "cut short"),
    "half a manifest": (rewrite(MANIFEST, lambda c: c[: len(c) // 2]), f"{MANIFEST} is damaged"),
    "changed manifest": (rewrite(MANIFEST, more_steps), f"{MANIFEST} is damaged"),
    "no state": (lambda folder: (folder / STATE).unlink(), f"{STATE} is missing"),
    "no policies": (lambda f: shutil.rmtree(f / "policies"), f"{POLICY_STATE} is missing"),
    "empty state": (rewrite(STATE, lambda c: b""), f"{STATE} is truncated, 0 bytes"),
    "short frames": (rewrite("frames", lambda c: c[:-1]), "frames is truncated"),
    "long workers": (rewrite("workers.pkl", lambda c: c + b"x"), "workers.pkl is too long"),
    "flipped phase": (rewrite("phase.pkl", flipped(50)), "phase.pkl is damaged"),
    "flipped constructor": (rewrite(CONSTRUCTOR, flipped(50)), f"{CONSTRUCTOR} is damaged"),
    "newer": (manifest(format_version=99, rllib_ppg="9.9"), "rllib_ppg 9.9 in format 99"),
    "another algorithm": (manifest(algorithm="PPO"), "checkpoint of PPO, not of PPG"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_every_entrance_names_the_damage(kind: str, saved: Saved, checkpoint: Path, tmp_path: Path):
    damage, expected = DAMAGE[kind]
    damage(checkpoint)
    for name, message in refusals(checkpoint, tmp_path / "place", saved).items():
        assert expected in message and str(checkpoint) in message, name


@pytest.mark.parametrize("stack", ["new", "old"])
def test_every_entrance_knows_rllibs_own_checkpoints(ppo, stack: str, saved: Saved, tmp_path: Path):
    for message in refusals(ppo[stack], tmp_path / "place", saved).values():
        assert "is a checkpoint of PPO, not of PPG" in message


def test_a_whole_checkpoint_is_taken_at_every_entrance(saved: Saved, checkpoint: Path, tmp_path):
    (tmp_path / "place").mkdir()
    other = saved.algorithm.config.copy(copy_frozen=False).build_algo()
    for enter in ENTRANCES.values():
        made = enter(checkpoint, tmp_path / "place", Saved(checkpoint, other))
        if isinstance(made, PPG):
            made.stop()
    other.stop()


def test_a_trials_or_runs_folder_is_answered_with_the_newest_whole_checkpoint(
    saved: Saved, tmp_path: Path
):
    run = tmp_path / "run"
    for number in (1, 2, 3):
        copy(saved.folder, run / "trial" / f"checkpoint_00000{number}")
    (run / "trial" / "checkpoint_000003" / STATE).unlink()
    for given in (run, run / "trial"):
        for name in set(ENTRANCES) - {"export"}:  # which takes the newest by itself
            with pytest.raises(UserError, match=r"inside is .*/trial/checkpoint_000002\."):
                ENTRANCES[name](given, tmp_path, saved)


# ---- fuzzing


def files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_no_flipped_or_cut_file_passes_any_entrance_or_changes_anything(
    saved: Saved, checkpoint: Path, tmp_path: Path
):
    random = np.random.default_rng(0)
    algorithm = saved.algorithm
    before = standing(algorithm)
    names = [name for name in files(checkpoint) if not Path(name).name.startswith(".")]
    assert {MANIFEST, POLICY_STATE, STATE, CONSTRUCTOR, "frames", "phase.pkl"} < set(names)
    for name in names:
        path = checkpoint / name
        whole = path.read_bytes()
        places = [0, 1, len(whole) // 2, -1, *random.integers(0, len(whole), 4)]
        if name == MANIFEST:
            places[3] = -2  # without its last line's end it is whole
        for at in places:
            for content in (flipped(int(at))(whole), whole[: int(at)]):
                path.write_bytes(content)
                refusals(checkpoint, tmp_path / "place", saved)
        path.write_bytes(whole)
    check_checkpoint(checkpoint)
    assert standing(algorithm) == before


def standing(algorithm: PPG) -> bytes:
    """Return all that a restore could change, as bytes."""
    weights = algorithm.get_policy().get_weights()
    return pickle.dumps(
        [
            {name: np.array(value) for name, value in weights.items()},
            algorithm._learner.get_state(),
            algorithm._rewards.get_state(),
            algorithm._store.get_state(),
            [algorithm.iteration, algorithm._time_total, algorithm._timesteps_total],
            [algorithm._plan.stored, algorithm._totals, dict(algorithm._counters)],
        ]
    )


class Bomb:
    """Leaves a file where it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def test_nothing_is_unpickled_before_its_checksum_was_compared(
    saved: Saved, checkpoint: Path, tmp_path: Path
):
    marker = tmp_path / "unpickled"
    bomb = pickle.dumps(Bomb(marker))
    names = [name for name in files(checkpoint) if name.endswith(".pkl")]
    for name in names:
        size = (checkpoint / name).stat().st_size
        (checkpoint / name).write_bytes(bomb.ljust(max(size, len(bomb)), b"\0"))
    refusals(checkpoint, tmp_path / "place", saved)
    assert not marker.exists()
    # With a manifest of its own it goes off: that is what "only those you trust" means.
    write_manifest(checkpoint, {})
    with pytest.raises(UserError):
        evaluate(checkpoint, episodes=1)
    assert marker.exists()


def test_rllibs_own_from_checkpoint_refuses_with_the_same_words(saved: Saved, checkpoint: Path):
    (checkpoint / "phase.pkl").unlink()
    with pytest.raises(UserError, match=r"phase\.pkl is missing"):
        Algorithm.from_checkpoint(str(checkpoint))


# ---- the command itself


def test_the_command_ends_with_one_line_and_leaves_nothing(saved: Saved, checkpoint, tmp_path):
    (checkpoint / "frames").unlink()
    results = tmp_path / "results"
    words = ["train", "--run", "PPG", "--env", "CartPole-v1", *SET_SMALL]
    words += ["--restore", str(checkpoint), "--storage-path", str(results)]
    run = subprocess.run(
        [sys.executable, "-m", "rllib_ppg", *words], capture_output=True, text=True
    )
    assert run.returncode == 2 and run.stdout == ""
    assert run.stderr.startswith("Error: --restore") and "frames is missing" in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1 and "Traceback" not in run.stderr
    assert not results.exists()


MISFITS = {
    "num_envs=16": "num_envs was 8 and is 16",
    "model.custom_model_config.hiddens=[8]": "custom_model_config.hiddens was [64, 64] and is [8]",
    "model.custom_model_config.arch=shared": "custom_model_config.arch was dual and is shared",
    "n_epoch_vf=3": "n_epoch_pi and n_epoch_vf were equal",
    "env=Acrobot-v1": "actions are Discrete(2) (CartPole-v1), and Discrete(3) here (Acrobot-v1)",
    "num_envs={grid_search: [8, 16]}": "num_envs was 8 and is 16",
}


@pytest.mark.parametrize("setting", MISFITS)
def test_a_setting_that_does_not_fit_is_named_by_the_command(
    setting: str, capsys: pytest.CaptureFixture[str], saved: Saved, tmp_path: Path
):
    words = ["train", "--run", "PPG", "--env", "CartPole-v1", *SET_SMALL, "--set", setting]
    results = ["--storage-path", str(tmp_path / "results"), "--ray-num-cpus", "2"]
    run = command(capsys, *words, *results, "--restore", str(saved.folder))
    assert run.code == 2 and MISFITS[setting] in run.err and run.out == ""
    assert len(run.err.strip().splitlines()) == 1 and not (tmp_path / "results").exists()


def test_what_does_not_fit_leaves_the_algorithm_as_it_was(saved: Saved):
    changes = {**SMALL, "model": {"custom_model_config": {"hiddens": [8]}}}
    other = PPGConfig().environment("CartPole-v1").update_from_dict(changes).build_algo()
    other.train()
    before = standing(other)
    with pytest.raises(UserError, match="hiddens was"):
        other.restore(str(saved.folder))
    assert standing(other) == before
    other.train()
    other.stop()
