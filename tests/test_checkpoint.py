"""Exact resume: train k, save, restore, train m equals train k + m, bit for bit."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from resumed import digest
from toy_envs import GlobalRandomEnv, HeavyEnv

from rllib_ppg import PPG, PPGConfig
from rllib_ppg._ray_compat import Algorithm
from rllib_ppg.algorithm import checkpoint_files
from rllib_ppg.algorithm.checkpoint import leave_out_phase
from rllib_ppg.algorithm.checkpoint_files import check_checkpoint
from rllib_ppg.algorithm.policy_export import read_policy
from rllib_ppg.errors import OutOfMemory, UserError

MODEL = {"widths": [4], "hidden_size": 8, "blocks": 1}


def make_config(env: str = "procgen", **changes: Any) -> PPGConfig:
    settings = {
        "num_envs": 4,
        "rollout_fragment_length": 8,
        "n_pi": 2,
        "n_aux_epochs": 1,
        "aux_mbsize": 4,
        "nminibatch": 2,
        "aux_slice_s": 1e-4,  # a training iteration for each auxiliary minibatch
        "seed": 3,
        "num_cpus_per_env_runner": 0.25,
        **changes,
    }
    if env == "procgen":
        settings["model"] = {"custom_model_config": {**MODEL, **settings.pop("network", {})}}
    return PPGConfig().environment(env).update_from_dict(settings)


def weights(algorithm: PPG) -> dict[str, np.ndarray]:
    return {name: np.array(w) for name, w in algorithm.get_policy().get_weights().items()}


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(
        np.array_equal(one[name], other[name]) for name in one
    )


def trained(algorithm: PPG, iterations: int) -> list[dict[str, np.ndarray]]:
    made = []
    for _ in range(iterations):
        algorithm.train()
        made.append(weights(algorithm))
    return made


# Iterations of make_config's run: 0, 1 policy; 2, 3 epoch 0; 4, 5 epoch 1; 6, 7 policy; ...
POINTS = {"in the policy phase": 1, "before the aux phase": 2, "in it": 5, "after it": 6}


ALL = tuple(POINTS.values())


@pytest.mark.parametrize(
    ("workers", "arch", "points"),
    [
        (0, "dual", ALL), (0, "detach", ALL), (0, "shared", ALL),
        *(pytest.param(2, a, ALL, marks=pytest.mark.slow) for a in ("dual", "detach", "shared")),
    ],
)  # fmt: skip
def test_a_resumed_run_equals_an_uninterrupted_one(ray_local, tmp_path, arch, workers, points):
    config = make_config(network={"arch": arch}, num_env_runners=workers)
    algorithm = config.build_algo()
    states = []
    for iteration in range(9):
        algorithm.train()
        states.append(weights(algorithm))
        if iteration + 1 in points:
            algorithm.save(str(tmp_path / str(iteration + 1)))
    algorithm.stop()
    assert not same(states[0], states[1])
    for done in points:
        resumed = Algorithm.from_checkpoint(str(tmp_path / str(done)))
        for expected in states[done:]:
            resumed.train()
            assert same(weights(resumed), expected), f"saved after {done}"
        resumed.stop()


@pytest.mark.parametrize(
    ("workers", "archs", "points"),
    [
        (0, ("dual",), (1,)),
        *(
            pytest.param(w, ("dual", "detach", "shared"), ALL, marks=pytest.mark.slow)
            for w in (0, 2)
        ),
    ],
)
def test_a_run_resumed_in_a_new_process_equals_an_uninterrupted_one(
    ray_local, tmp_path, workers, archs, points
):
    expected: dict[str, list[str]] = {}
    for arch in archs:
        algorithm = make_config(network={"arch": arch}, num_env_runners=workers).build_algo()
        digests = []
        for iteration in range(1, 10):
            algorithm.train()
            digests.append(digest(algorithm))
            if iteration in points:
                folder = str(tmp_path / f"{arch}_{iteration}")
                algorithm.save(folder)
                expected[folder] = digests  # filled until the end
        algorithm.stop()
    expected = {folder: made[int(folder.rpartition("_")[2]) :] for folder, made in expected.items()}
    assert len(expected) == len(archs) * len(points)
    assert resumed_elsewhere({folder: len(made) for folder, made in expected.items()}) == expected


@pytest.mark.slow
def test_without_the_store_only_the_phase_under_way_is_another(ray_local, tmp_path):
    algorithm = make_config(checkpoint_store=False).build_algo()
    digests = []
    for iteration in range(1, 10):
        algorithm.train()
        digests.append(digest(algorithm))
        if iteration in (1, 6):
            algorithm.save(str(tmp_path / str(iteration)))
    algorithm.stop()
    folders = {str(tmp_path / "1"): 8, str(tmp_path / "6"): 3}
    in_it, after_it = resumed_elsewhere(folders).values()
    assert after_it == digests[6:], "nothing was stored then"
    assert in_it[0] == digests[1], "the policy does not depend on the store"
    assert in_it[2] != digests[3], "the auxiliary phase comes one iteration later"


def resumed_elsewhere(folders: dict[str, int]) -> dict[str, list[str]]:
    """Digests of the weights after each of so many iterations, resumed in a new process."""
    script = Path(__file__).with_name("resumed.py")
    run = subprocess.run(
        [sys.executable, str(script), json.dumps(folders)], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-3000:]
    digests: dict[str, list[str]] = json.loads(run.stdout.splitlines()[-1])
    return digests


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_an_environment_may_draw_from_global_generators(ray_local, tmp_path, workers):
    config = make_config("CartPole-v1", num_env_runners=workers).environment(GlobalRandomEnv)
    algorithm = config.build_algo()
    trained(algorithm, 1)
    algorithm.save(str(tmp_path))
    expected = trained(algorithm, 2)
    algorithm.stop()
    resumed = Algorithm.from_checkpoint(str(tmp_path))
    assert all(same(a, b) for a, b in zip(trained(resumed, 2), expected, strict=True))
    resumed.stop()


def test_memory_that_runs_out_while_a_checkpoint_is_written_says_what_to_lower(ray_local, tmp_path):
    config = make_config("CartPole-v1").environment(HeavyEnv, env_config={"frame_stack": 1})
    algorithm = config.build_algo()
    trained(algorithm, 1)
    told = r"ran out while a checkpoint was written \(1.00 PiB .* checkpoint_store: false"
    with pytest.raises(OutOfMemory, match=told):
        algorithm.save(str(tmp_path))
    with pytest.raises(UserError, match="cut short"):
        check_checkpoint(tmp_path)
    algorithm.stop()


def test_a_checkpoint_is_read_once_before_it_is_loaded(ray_local, tmp_path, monkeypatch):
    algorithm = make_config().build_algo()
    trained(algorithm, 1)
    algorithm.save(str(tmp_path))
    read: list[str] = []
    entry = checkpoint_files._entry
    monkeypatch.setattr(
        checkpoint_files, "_entry", lambda path: read.append(str(path)) or entry(path)
    )
    algorithm.restore(str(tmp_path))
    assert read and len(read) == len(set(read))
    algorithm.load_checkpoint(str(tmp_path))
    assert len(read) == 2 * len(set(read)), "another time it is checked again"
    algorithm.stop()


@pytest.mark.slow
def test_a_run_with_all_parts_of_the_inputs_resumes_too(ray_local, tmp_path):
    network = {
        "arch": "shared", "aux_value_head": False, "frame_differences": True, "dropout": 0.2,
        "previous_action": True,
    }  # fmt: skip
    options = {"frame_stack": 2, "noop_reward": -0.1, "noop_min_timestep": 2, "count_states": True}
    config = make_config(network=network, aux_augmentation="random_translate")
    config = config.environment("procgen", env_config=options)
    algorithm = config.build_algo()
    trained(algorithm, 5)
    algorithm.save(str(tmp_path / "here"))
    expected = trained(algorithm, 3)
    algorithm.stop()
    resumed = Algorithm.from_checkpoint(str(tmp_path / "here"))
    assert all(same(*pair) for pair in zip(trained(resumed, 3), expected, strict=True))
    resumed.stop()


def test_a_run_that_samples_ahead_resumes_too(ray_local, tmp_path):
    algorithm = make_config(num_env_runners=1, overlap_aux=True).build_algo()
    trained(algorithm, 4)
    algorithm.save(str(tmp_path))
    expected = trained(algorithm, 5)
    algorithm.stop()
    resumed = Algorithm.from_checkpoint(str(tmp_path))
    assert all(same(a, b) for a, b in zip(trained(resumed, 5), expected, strict=True))
    resumed.stop()


def test_without_the_store_the_phase_begins_anew(ray_local, tmp_path):
    algorithm = make_config(checkpoint_store=False).build_algo()
    trained(algorithm, 4)
    algorithm.save(str(tmp_path))
    assert not (tmp_path / "frames").exists()
    resumed = Algorithm.from_checkpoint(str(tmp_path))
    assert same(weights(resumed), weights(algorithm))
    assert resumed._plan.stored == 0 and resumed._aux_phase is None


def test_a_checkpoint_of_a_training_that_is_over_is_small_and_can_be_restored(ray_local, tmp_path):
    algorithm = make_config().build_algo()
    trained(algorithm, 1)
    algorithm.save(str(tmp_path))
    expected = weights(algorithm)
    algorithm.stop()
    policy, steps = read_policy(tmp_path)
    leave_out_phase(tmp_path)
    left = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert not left & {"frames", "phase.pkl", "workers.pkl"}
    small, same_steps = read_policy(tmp_path)
    assert same(small.get_weights(), policy.get_weights()) and same_steps == steps == 32
    algorithm = make_config().build_algo()
    algorithm.restore(str(tmp_path))
    assert same(weights(algorithm), expected)
    notices = " ".join(algorithm.train()["notices"])
    assert "saved without its frames" in notices and "begin new episodes" in notices
    algorithm.stop()


def test_environments_that_cannot_save_their_state_are_reset_and_that_is_said(ray_local, tmp_path):
    algorithm = make_config("CartPole-v1").build_algo()
    trained(algorithm, 1)
    algorithm.save(str(tmp_path))
    resumed = Algorithm.from_checkpoint(str(tmp_path))
    assert resumed.train()["notices"] == [
        "CartPole-v1 cannot save its state: all environments begin new episodes."
    ]
    assert resumed.train()["notices"] == []


def test_environments_that_begin_anew_do_not_begin_as_the_run_did(ray_local, tmp_path):
    algorithm = make_config("CartPole-v1").build_algo()
    first = algorithm._sampler.collect()[0].batch["obs"].copy()
    trained(algorithm, 1)
    algorithm.save(str(tmp_path))
    again, twice = (
        Algorithm.from_checkpoint(str(tmp_path))._sampler.collect()[0].batch["obs"].copy()
        for _ in range(2)
    )
    assert np.array_equal(again, twice) and not np.array_equal(again[0], first[0])


def test_size_and_time_of_the_newest_checkpoint_are_reported(ray_local, tmp_path):
    algorithm = make_config().build_algo()
    algorithm.train()
    algorithm.save(str(tmp_path))
    size = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    stats = algorithm.train()["info"]["learner"]["default_policy"]["learner_stats"]
    assert stats["checkpoint_mb"] == pytest.approx(size / 1e6, rel=0.2)
    assert 0 < stats["time"]["checkpoint_s"] < 60


@pytest.mark.parametrize("name", ["frames", "workers.pkl", "algorithm_state.pkl"])
def test_a_broken_checkpoint_is_refused_before_anything_changes(ray_local, tmp_path, name):
    algorithm = make_config().build_algo()
    trained(algorithm, 1)
    algorithm.save(str(tmp_path))
    path = Path(tmp_path) / name
    path.write_bytes(path.read_bytes()[:-3])
    trained(algorithm, 1)
    before = weights(algorithm)
    with pytest.raises(UserError, match=f"{name} is truncated"):
        algorithm.restore(str(tmp_path))
    assert same(weights(algorithm), before)
