import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import ray
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from learning import CARTPOLE, PENDULUM, random_return, train
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.policy.policy import Policy
from toy_envs import CodedEnv, EchoEnv

from rllib_ppg import PPG, PPGConfig
from rllib_ppg.algorithm.metrics import METRICS, OF_PARTS
from rllib_ppg.errors import UserError

# 4 segments an iteration, 8 a phase: 4 policy steps an iteration, 4 auxiliary steps an epoch.
SIZES = {
    "num_envs": 4, "rollout_fragment_length": 8, "n_pi": 2, "nminibatch": 2, "aux_mbsize": 2,
    "n_aux_epochs": 2, "seed": 3, "model": {"custom_model_config": {"hiddens": [8]}},
}  # fmt: skip


def build(env: Any = "CartPole-v1", env_config: Any = None, **changes: Any) -> PPG:
    config = PPGConfig().environment(env, env_config=env_config or {})
    return config.update_from_dict({**SIZES, **changes}).build_algo()


def stats_of(result: dict[str, Any]) -> dict[str, float]:
    """The statistics of a result by their names in METRICS."""

    def flat(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
        for name, value in tree.items():
            if isinstance(value, dict):
                yield from flat(value, f"{prefix}{name}/")
            else:
                yield prefix + name, value

    return dict(flat(result["info"]["learner"]["default_policy"]["learner_stats"]))


def weights(algorithm: PPG) -> torch.Tensor:
    parameters = algorithm.get_policy().network.parameters()
    return torch.cat([parameter.detach().flatten() for parameter in parameters]).clone()


@pytest.fixture(scope="module")
def results(ray_local) -> list[dict[str, Any]]:
    """Results of two phases: two policy iterations, the old policy's pass, two epochs, twice."""
    algorithm = build()
    return [algorithm.train() for _ in range(10)]


# ---- the schedule of the phases

POLICY_ITERATIONS = [0, 1, 5, 6]


def test_every_n_pi_policy_iterations_an_auxiliary_phase_follows(results):
    stats = [stats_of(result) for result in results]
    assert [s["phase/in_aux_phase"] for s in stats] == [0, 0, 1, 1, 1] * 2
    assert [s["phase/policy_iterations"] for s in stats] == [1, 2, 2, 2, 0] * 2
    assert [s["phase/policy_iterations_total"] for s in stats] == [1, 2, 2, 2, 2, 3, 4, 4, 4, 4]
    assert [s["phase/aux_phases"] for s in stats] == [0, 0, 0, 0, 1, 1, 1, 1, 1, 2]
    assert [s["phase/stored_segments"] for s in stats] == [4, 8, 8, 8, 0] * 2
    assert [s["phase/aux_progress"] for s in stats[2:5]] == pytest.approx([1 / 3, 2 / 3, 1])
    assert {s["phase/n_pi"] for s in stats} == {2} and {s["phase/aux_epochs"] for s in stats} == {2}


def test_optimiser_steps_are_counted(results):
    stats = [stats_of(result) for result in results]
    assert [stats[i]["policy_phase/minibatches"] for i in POLICY_ITERATIONS] == [2] * 4
    assert [s["aux_phase/minibatches"] for s in stats[2:5]] == [0, 4, 4]


def test_only_policy_iterations_sample(results):
    steps = [result["num_env_steps_sampled_lifetime"] for result in results]
    assert steps == [32, 64, 64, 64, 64, 96, 128, 128, 128, 128]
    assert [result["num_env_steps_sampled_this_iter"] for result in results] == [
        32, 32, 0, 0, 0, 32, 32, 0, 0, 0
    ]  # fmt: skip
    last = results[-1]
    assert last["timesteps_total"] == last["num_env_steps_trained"] == 128
    assert last["num_agent_steps_sampled"] == last["num_agent_steps_trained"] == 128


@pytest.mark.parametrize("keys", [{"n_aux_epochs": 0}, {"max_aux_phases": 0}, {"n_aux_epochs": 1}])
def test_without_auxiliary_epochs_or_phases_there_is_never_one(ray_local, keys: dict[str, int]):
    algorithm = build(**keys)
    stats = [stats_of(algorithm.train()) for _ in range(5)]
    without = 0 in keys.values()
    assert any(s["phase/in_aux_phase"] for s in stats) is not without
    if without:
        assert [s["phase/policy_iterations_total"] for s in stats] == [1, 2, 3, 4, 5]
        assert all(s["phase/stored_segments"] == s["phase/aux_epochs"] == 0 for s in stats)


def test_separate_epochs_make_separate_steps(ray_local):
    stats = stats_of(build(n_epoch_pi=3, n_epoch_vf=2).train())
    assert stats["policy_phase/minibatches"] == (3 + 2) * 2
    assert math.isfinite(stats["policy_phase/loss_pi"])


# ---- results


def flat_keys(tree: dict[str, Any], prefix: str = "") -> set[str]:
    keys = set()
    for name, value in tree.items():
        keys |= flat_keys(value, f"{prefix}{name}/") if isinstance(value, dict) else {prefix + name}
    return keys


def test_every_result_has_the_same_keys(results):
    first = flat_keys(results[0])
    for result in results[1:]:
        assert flat_keys(result) == first
    assert "env_runners/episode_return_mean" in first


def test_every_metric_is_made_by_some_iteration_and_nan_in_the_others(results):
    stats = [stats_of(result) for result in results]
    assert all(list(s) == list(METRICS) for s in stats)
    for name in METRICS:
        made = [not math.isnan(s[name]) for s in stats]
        if name in ("time/checkpoint_s", "checkpoint_mb"):
            assert not any(made), f"{name}: no checkpoint was written"
        elif name in OF_PARTS:
            assert not any(made), f"{name}: the part is off"
        elif name.startswith("policy_phase/") or name in ("time/sample_s", "lost_envs"):
            assert made == [True, True, False, False, False] * 2, name
        elif name.startswith("aux_phase/") and name != "aux_phase/minibatches":
            assert made == [False, False, False, True, True] * 2, name
        else:
            assert any(made), name


def test_statistics_are_in_their_ranges(results):
    first, later = stats_of(results[0]), stats_of(results[4])
    assert 0.6 < first["policy_phase/entropy"] <= math.log(2) + 1e-6
    assert 0 <= first["policy_phase/clip_fraction"] <= 1 and first["policy_phase/approx_kl"] >= 0
    assert first["policy_phase/explained_variance"] <= 1 and first["policy_phase/grad_norm"] > 0
    assert first["policy_phase/loss_total"] == pytest.approx(
        first["policy_phase/loss_pi"] + first["policy_phase/loss_vf"], rel=1e-4
    )
    assert later["aux_phase/pol_distance"] >= 0 and later["aux_phase/vf_true"] > 0
    assert first["reward_scale"] > 1 and first["lost_envs"] == 0
    assert 0 < first["time/sample_env_share"] + first["time/sample_network_share"] < 1
    assert 0 < first["time/sample_s"] < first["time/env_steps_per_s"]


def test_without_reward_normalisation_the_scale_is_one(ray_local):
    assert stats_of(build(normalize_rewards=False).train())["reward_scale"] == 1


# ---- schedules


def test_schedules_take_effect_in_environment_steps(ray_local):
    algorithm = build(
        lr_schedule=[[0, 1e-3], [64, 0.0]],
        aux_lr_schedule=[[32, 1e-3], [96, 3e-3]],
        entropy_coeff_schedule=[[0, 0.1], [1000, 0.1]],
        n_aux_epochs=1,
    )
    # Steps before each iteration: 0, 32, then 64 through the two of the auxiliary phase, which
    # keep the rates of the iteration before them, and the next one.
    stats = [stats_of(algorithm.train()) for _ in range(5)]
    assert [s["lr"] for s in stats] == pytest.approx([1e-3, 5e-4, 5e-4, 5e-4, 0])
    assert [s["aux_lr"] for s in stats] == pytest.approx([1e-3, 1e-3, 1e-3, 1e-3, 2e-3])
    assert {s["entropy_coeff"] for s in stats} == {0.1}
    before = weights(algorithm)
    algorithm.train()  # a policy iteration at learning rate 0
    assert torch.equal(weights(algorithm), before)


# ---- environments of all kinds


@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1", "FrozenLake-v1", "Taxi-v3"])
def test_gymnasiums_environments_train(ray_local, env: str):
    algorithm = build(env)
    before = weights(algorithm)
    for _ in range(5):
        algorithm.train()
    assert torch.isfinite(weights(algorithm)).all() and not torch.equal(weights(algorithm), before)


@pytest.mark.parametrize(
    "space",
    [MultiDiscrete([2, 3]), Discrete(3, start=-1), Box(-1, 1, (2, 2), np.float32)],
    ids=str,
)
def test_other_action_spaces_train(ray_local, space):
    algorithm = build(EchoEnv, {"action_space": space})
    before = weights(algorithm)
    for _ in range(5):
        algorithm.train()
    assert torch.isfinite(weights(algorithm)).all() and not torch.equal(weights(algorithm), before)


@pytest.mark.parametrize("arch", ["dual", "detach", "shared"])
def test_every_architecture_trains_on_procgen(ray_local, arch: str):
    model = {"custom_model_config": {"widths": [4], "hidden_size": 8, "blocks": 1, "arch": arch}}
    algorithm = build("procgen", {"env_name": "coinrun", "rand_seed": 1}, model=model)
    before = weights(algorithm)
    for _ in range(5):
        algorithm.train()
    assert algorithm._totals["aux_phases"] == 1
    assert torch.isfinite(weights(algorithm)).all() and not torch.equal(weights(algorithm), before)


# ---- learning; tests/slow/test_learning.py has the whole of it


def test_cartpoles_return_soon_is_several_times_a_random_policys(ray_local):
    config = {**CARTPOLE, "seed": 1, "metrics_num_episodes_for_smoothing": 32}
    mark = 3 * random_return("CartPole-v1")
    assert train("CartPole-v1", config, target=mark, steps=16_000, seconds=120) >= mark


def test_pendulum_soon_swings_better_than_at_random(ray_local):
    config = {**PENDULUM, "seed": 1, "metrics_num_episodes_for_smoothing": 32}
    mark = random_return("Pendulum-v1") + 300
    assert train("Pendulum-v1", config, target=mark, steps=32_000, seconds=180) >= mark


# ---- what goes wrong


def train_until_error(**changes: Any) -> str:
    algorithm = build(EchoEnv, **changes)
    with pytest.raises(FloatingPointError) as error:
        for _ in range(4):
            algorithm.train()
    return str(error.value)


def test_a_reward_that_is_no_number_stops_with_its_place(ray_local):
    message = train_until_error(env_config={"rewards": [1.0, 2.0, math.nan]})
    assert message.startswith("After 0 environment steps: ")
    assert "environment 0 gave the reward nan at step 2 of the rollout" in message


def test_a_reward_that_is_no_number_stops_without_normalisation_too(ray_local):
    message = train_until_error(env_config={"rewards": [math.nan]}, normalize_rewards=False)
    assert "environment 0 gave the reward nan at step 0 of the rollout" in message


def test_a_loss_that_overflows_stops_with_what_and_where(ray_local):
    message = train_until_error(env_config={"rewards": [1e30] * 8}, normalize_rewards=False)
    assert "steps: loss_vf became inf, " in message
    assert "at policy-phase minibatch 1 of 2 (epoch 1)" in message and "checkpoint" in message


def test_an_observation_that_is_no_number_stops_too(ray_local):
    class Broken(EchoEnv):
        def _obs(self) -> Any:
            return np.full(3, math.nan if self.count == 3 else 0.0, np.float32)

    algorithm = build(Broken)
    with pytest.raises(FloatingPointError, match=r"environment 0 gave an observation .* step 2"):
        algorithm.train()


def test_a_store_larger_than_memory_is_refused(ray_local):
    message = r"2000\.\d\d GB of memory \(frame store 2000\.00 GB.*but the learner's machine has"
    with pytest.raises(UserError, match=message):
        build(rollout_fragment_length=1_000_000, n_pi=100_000, num_envs=1, nminibatch=1)


def test_a_gpu_that_is_not_there_is_refused(ray_local):
    if torch.cuda.is_available():
        build(num_gpus=1)
        return
    with pytest.raises(UserError, match=r"num_gpus=1.*no GPU.*auto"):
        build(num_gpus=1)


def test_an_algorithm_without_an_environment_is_refused(ray_local):
    with pytest.raises(UserError, match="No environment"):
        PPGConfig().update_from_dict(SIZES).build_algo()


# ---- checkpoints


def moments(algorithm: PPG) -> dict[str, Any]:
    return algorithm._learner.get_state()["optimizers"]


def assert_equal_state(one: PPG, other: PPG) -> None:
    assert torch.equal(weights(one), weights(other))
    mine, theirs = moments(one), moments(other)
    assert set(mine) == set(theirs) == {"joint", "aux"}
    for kind, parameters in mine.items():
        assert set(parameters) == set(theirs[kind]) and parameters
        for name, entry in parameters.items():
            for key, value in entry.items():
                np.testing.assert_array_equal(value, theirs[kind][name][key])
    assert one._rewards.get_state()["moments"] == other._rewards.get_state()["moments"]
    assert one._totals == other._totals and one.iteration == other.iteration
    assert one._counters == other._counters
    assert one._learner.get_state()["generator"] == other._learner.get_state()["generator"]


@pytest.fixture(scope="module")
def saved(ray_local, tmp_path_factory) -> tuple[PPG, Path]:
    """An algorithm after a phase and a half, and its checkpoint, moved to another folder."""
    algorithm = build(lr_schedule=[[0, 1e-3], [1000, 0.0]])
    for _ in range(6):
        algorithm.train()
    folder = tmp_path_factory.mktemp("checkpoints")
    algorithm.save(str(folder / "first"))
    (folder / "first").rename(folder / "moved")
    return algorithm, folder / "moved"


def test_a_checkpoint_holds_everything_that_was_learnt(saved):
    algorithm, path = saved
    restored = Algorithm.from_checkpoint(str(path))
    assert isinstance(restored, PPG)
    assert_equal_state(algorithm, restored)


def test_an_algorithm_that_stands_takes_a_checkpoint_too(saved):
    algorithm, path = saved
    other = build(lr_schedule=[[0, 1e-3], [1000, 0.0]], seed=99)
    other.train()
    other.restore(str(path))
    assert_equal_state(algorithm, other)
    stats = [stats_of(other.train()) for _ in range(3)]
    assert [s["phase/policy_iterations"] for s in stats] == [2, 2, 2]


def test_after_a_restore_phase_and_steps_count_on(saved):
    _, path = saved
    restored = Algorithm.from_checkpoint(str(path))
    stats = [stats_of(restored.train()) for _ in range(3)]
    assert [s["phase/policy_iterations"] for s in stats] == [2, 2, 2]
    assert [s["phase/policy_iterations_total"] for s in stats] == [4, 4, 4]
    assert restored._counters["num_env_steps_sampled"] == 4 * 32
    assert stats[0]["lr"] == pytest.approx(1e-3 * (1 - 96 / 1000))


def test_two_restored_runs_go_on_alike(saved):
    _, path = saved
    one, other = (Algorithm.from_checkpoint(str(path)) for _ in range(2))
    for _ in range(4):
        one.train(), other.train()
    assert_equal_state(one, other)


def test_a_checkpoint_inside_an_auxiliary_phase_goes_on_in_it(ray_local, tmp_path):
    algorithm = build()
    for _ in range(3):
        algorithm.train()
    assert algorithm._aux_phase is not None
    algorithm.save(str(tmp_path))
    restored = Algorithm.from_checkpoint(str(tmp_path))
    assert stats_of(restored.train())["phase/in_aux_phase"] == 1


def test_the_policy_alone_can_be_taken_from_a_checkpoint(saved):
    algorithm, path = saved
    policy = Policy.from_checkpoint(str(path))["default_policy"]
    obs = torch.ones(3, 4)
    with torch.no_grad():
        expected = algorithm.get_policy().network.policy(obs)[0]
        assert torch.equal(policy.network.policy(obs)[0], expected)


FRESH = """
import json, sys
import ray
import rllib_ppg
ray.init(address="local", num_cpus=1, include_dashboard=False)
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.policy.policy import Policy
algorithm = Algorithm.from_checkpoint(sys.argv[1])
weights = {k: v.tolist() for k, v in algorithm.get_policy().get_weights().items()}
result = algorithm.train()
steps = result["num_env_steps_sampled_lifetime"]
print("RESULT", json.dumps([weights, steps, result["training_iteration"]]))
"""


def test_a_fresh_process_that_imported_the_package_restores_and_goes_on(saved):
    algorithm, path = saved
    done = subprocess.run(
        [sys.executable, "-c", FRESH, str(path)], capture_output=True, text=True, timeout=250
    )
    assert done.returncode == 0, done.stderr[-2000:]
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT"))
    restored, steps, iteration = json.loads(line.removeprefix("RESULT"))
    for name, value in algorithm.get_policy().get_weights().items():
        np.testing.assert_array_equal(value, np.array(restored[name], np.float32))
    assert (steps, iteration) == (4 * 32, 7)


# ---- workers


def all_weights(algorithm: PPG) -> list[torch.Tensor]:
    """The weights of the local worker, then of the remote ones."""

    def flat(worker: Any) -> np.ndarray:
        parameters = worker.get_policy().network.parameters()
        return np.concatenate([parameter.detach().numpy().ravel() for parameter in parameters])

    return algorithm.env_runner_group.foreach_env_runner(flat)


@pytest.fixture(scope="module")
def workers(ray_local) -> Iterator[PPG]:
    algorithm = build(CodedEnv, num_env_runners=2, n_aux_epochs=0)
    yield algorithm
    algorithm.stop()


def test_a_restored_algorithm_gives_its_weights_to_its_workers(workers, tmp_path):
    workers.train()
    before = weights(workers)
    workers.save(str(tmp_path))
    workers.train()
    workers.restore(str(tmp_path))
    local, *others = all_weights(workers)
    assert torch.equal(weights(workers), before) and len(others) == 2
    assert all(np.array_equal(local, other) for other in others)


def test_environments_without_a_rollout_are_counted_until_their_worker_is_back(workers):
    assert stats_of(workers.train())["lost_envs"] == 0
    second = workers.env_runner_group._worker_manager.actors()[2]
    os.kill(ray.get(second.apply.remote(lambda worker: os.getpid())), signal.SIGKILL)
    before = weights(workers)
    result = workers.train()
    assert stats_of(result)["lost_envs"] == 2 and result["num_env_steps_sampled_this_iter"] == 16
    assert not torch.equal(weights(workers), before)
    limit = time.monotonic() + 150
    while stats_of(workers.train())["lost_envs"] and time.monotonic() < limit:
        pass
    local, *others = all_weights(workers)
    assert len(others) == 2 and all(np.array_equal(local, other) for other in others)


# ---- Tune


def test_tune_trains_by_name(ray_local, tmp_path):
    from ray import tune

    tuner = tune.Tuner(
        "PPG",
        param_space={**SIZES, "env": "CartPole-v1", "num_env_runners": 0, "lambda": 0.9},
        run_config=tune.RunConfig(
            stop={"num_env_steps_sampled_lifetime": 64},
            storage_path=str(tmp_path),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=True),
            verbose=0,
        ),
    )
    (result,) = tuner.fit()
    assert result.error is None
    assert result.metrics["num_env_steps_sampled_lifetime"] == 64
    assert result.metrics["config"]["lambda"] == 0.9
    restored = Algorithm.from_checkpoint(result.checkpoint.path)
    assert restored.iteration == 2


def test_the_gymnasium_registry_is_left_alone():
    assert not [name for name in gymnasium.registry if "procgen" in name.lower()]
