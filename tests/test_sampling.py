"""Rollouts of remote workers: asked for, collected, late, lost, and beside the auxiliary phase."""

import copy
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
from toy_envs import CodedEnv, FaultyEnv, GatedEnv

from rllib_ppg import PPG, PPGConfig
from rllib_ppg._ray_compat import SampleBatch
from rllib_ppg.algorithm.checkpoint import load_workers
from rllib_ppg.algorithm.rollout import Rollout
from rllib_ppg.errors import WorkersLost

STEPS = 6
SIZES = {
    "num_envs": 4, "num_env_runners": 2, "num_cpus_per_env_runner": 0.25, "n_pi": 1,
    "rollout_fragment_length": STEPS,
    "env_runner_health_probe_timeout_s": 120.0,  # a busy machine starts processes slowly
    "n_aux_epochs": 2, "nminibatch": 1, "aux_mbsize": 2, "seed": 3, "lr": 0.05, "aux_lr": 0.05,
    "model": {"custom_model_config": {"hiddens": [8], "normed_init": False}},
}  # fmt: skip


def build(env: Any = CodedEnv, env_config: Any = None, **changes: Any) -> PPG:
    config = PPGConfig().environment(env, env_config=env_config or {"length": 4})
    return config.update_from_dict({**SIZES, **changes}).build_algo()


@pytest.fixture
def started(ray_local):
    """Builds algorithms, and stops them after the test."""
    made: list[PPG] = []

    def start(*args: Any, **changes: Any) -> PPG:
        made.append(build(*args, **changes))
        return made[-1]

    yield start
    for algorithm in made:
        algorithm.stop()


@pytest.fixture(scope="module")
def plain(ray_local) -> Iterator[PPG]:
    algorithm = build()
    yield algorithm
    algorithm.stop()


@pytest.fixture(scope="module")
def overlapping(ray_local) -> Iterator[PPG]:
    algorithm = build(overlap_aux=True)
    yield algorithm
    algorithm.stop()


def logits(algorithm: PPG, rollout: Rollout) -> np.ndarray:
    """What the learner's current weights say to a rollout's observations."""
    with torch.no_grad():
        obs = torch.from_numpy(np.array(rollout.batch[SampleBatch.OBS]))
        return algorithm.get_policy().network.policy(obs)[0].numpy()


def acting_logits(rollout: Rollout) -> np.ndarray:
    return np.asarray(rollout.batch[SampleBatch.ACTION_DIST_INPUTS])


def first_steps(rollouts: list[Rollout]) -> dict[int, int]:
    """The step of its episode at which each worker's first environment began."""
    return {r.worker_index: int(r.batch[SampleBatch.OBS][0][2]) for r in rollouts}


# ---- collecting


def test_every_worker_gives_one_rollout_in_the_order_of_the_workers(plain):
    sampler = plain._sampler
    assert not sampler.pending
    sampler.begin()
    assert sampler.pending
    rollouts = sampler.collect()
    assert [rollout.worker_index for rollout in rollouts] == [1, 2] and not sampler.pending
    assert [rollout.batch[SampleBatch.OBS][0][0] for rollout in rollouts] == [10, 20]


def test_a_second_begin_asks_nobody_twice(plain):
    sampler = plain._sampler
    begin = first_steps(sampler.collect())
    sampler.begin()
    sampler.begin()
    # Had a worker been asked twice, it would have gone on by two rollouts.
    for number in (1, 2):
        expected = {worker: (step + number * STEPS) % 4 for worker, step in begin.items()}
        assert first_steps(sampler.collect()) == expected


def test_episodes_of_remote_workers_are_reported_once_each(started):
    algorithm = started(n_aux_epochs=0)
    results = [algorithm.train() for _ in range(3)]
    # Environments of 4 and 5 steps on each of two workers.
    made = [2 * (6 * (i + 1) // 4 - 6 * i // 4 + 6 * (i + 1) // 5 - 6 * i // 5) for i in range(3)]
    assert [result["env_runners"]["episodes_this_iter"] for result in results] == made
    assert results[-1]["env_runners"]["episode_len_mean"] == pytest.approx(
        (2 * 4 * 4 + 2 * 3 * 5) / sum(made)
    )


# ---- faults


def pids(algorithm: PPG) -> list[int]:
    return algorithm.env_runner_group.foreach_env_runner(
        lambda worker: os.getpid(), local_env_runner=False
    )


def lose_the_second_worker(kind: str, algorithm: PPG, folder: Path) -> str:
    """Make the second worker fail in the next iteration; returns what is said then."""
    if kind == "killed":
        os.kill(pids(algorithm)[1], signal.SIGKILL)
        return "its process died"
    (folder / kind).touch()
    if kind == "raises":
        return "OSError: the game crashed"
    return "it gave no rollout within 3 s (sample_timeout_s)"


@pytest.mark.parametrize(
    "kind",
    ["killed", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("raises", "hangs"))],
)
def test_a_lost_worker_costs_its_rows_of_one_iteration_and_comes_back(started, tmp_path, kind):
    env_config = {"fault": str(tmp_path / "raises"), "gate": str(tmp_path / "hangs"), "gated": 2}
    algorithm = started(FaultyEnv, env_config, n_pi=9, sample_timeout_s=3.0)
    algorithm.train()
    expected = lose_the_second_worker(kind, algorithm, tmp_path)
    before = pids(algorithm) if kind != "killed" else None
    result = algorithm.train()
    stats = result["info"]["learner"]["default_policy"]["learner_stats"]
    assert stats["lost_envs"] == 2 and stats["lost_workers"] == 1
    assert result["num_env_steps_sampled_this_iter"] == 2 * STEPS
    assert result["notices"][0].startswith(f"Worker 2 was lost: {expected}")
    (tmp_path / "raises").unlink(missing_ok=True)
    (tmp_path / "hangs").unlink(missing_ok=True)
    algorithm.save(str(tmp_path / "saved"))
    result = algorithm.train()
    assert result["notices"] == ["Worker 2 is back, with new episodes."]
    assert result["num_env_steps_sampled_this_iter"] == 4 * STEPS
    rollouts = algorithm._sampler.collect()
    for rollout in rollouts:
        rows = logits(algorithm, rollout)
        np.testing.assert_allclose(acting_logits(rollout), rows, rtol=1e-4, atol=1e-5)
    assert before is None or pids(algorithm)[1] != before[1]
    episodes = {r.worker_index: int(r.batch[SampleBatch.OBS][0][1]) for r in rollouts}
    assert episodes == {1: 3 * STEPS // 4, 2: STEPS // 4}, "it began anew"
    assert algorithm._store.env[: algorithm._store.count].tolist() == [0, 1, 2, 3, 0, 1, 0, 1, 2, 3]
    seeds = algorithm.env_runner_group.foreach_env_runner(lambda worker: worker.config.seed)
    assert seeds[:2] == [3, 3] and seeds[2] != 3, "it would play its first levels again"
    algorithm.restore(str(tmp_path / "saved"))
    told = algorithm.train()["notices"]
    assert "The checkpoint holds no state of worker 2: its environments begin new episodes." in told


@pytest.mark.parametrize("hangs", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_lost_worker_whose_process_still_runs_is_not_taken_back_before_it_began_anew(
    started, hangs: bool
):
    # As after a break of the network: Ray's error does not say whether the process ended.
    algorithm = started(n_aux_epochs=0, env_runner_health_probe_timeout_s=1)
    algorithm.train()
    before = pids(algorithm)
    if hangs:
        os.kill(before[1], signal.SIGSTOP)
    algorithm._sampler._lost.add(2, "the network was down", kill=False)
    said: list[str] = []
    limit = time.monotonic() + 240
    while len(said) < 2 and time.monotonic() < limit:
        said += algorithm.train()["notices"]
    assert said[1:] == ["Worker 2 is back, with new episodes."]
    assert not algorithm._sampler.causes
    after = pids(algorithm)
    assert after[0] == before[0] and after[1] != before[1]
    (rollout,) = (r for r in algorithm._sampler.collect() if r.worker_index == 2)
    assert rollout.batch[SampleBatch.OBS][0][1] == STEPS // 4, "its second rollout"


@pytest.mark.slow
def test_a_run_without_workers_ends_with_the_cause(started, tmp_path):
    (tmp_path / "raises").touch()
    env_config = {"fault": str(tmp_path / "raises"), "faulty": (1, 2)}
    algorithm = started(FaultyEnv, env_config, num_consecutive_env_runner_failures_tolerance=1)
    cause = "OSError: the game crashed"
    with pytest.raises(WorkersLost, match=f"No rollout worker is left. worker 1: {cause}"):
        algorithm.train()


@pytest.mark.slow
def test_a_worker_that_cannot_be_started_again_ends_the_run_with_the_cause(started, tmp_path):
    env_config = {"fault": str(tmp_path / "raises"), "faulty": (1,), "dead": True}
    algorithm = started(FaultyEnv, env_config, num_env_runners=1, n_aux_epochs=0)
    algorithm.train()
    (tmp_path / "raises").touch()
    with pytest.raises(WorkersLost, match=r"worker 1: it cannot be started: .*no game here"):
        algorithm.train()


@pytest.mark.slow
def test_a_worker_that_cannot_reset_after_its_restart_costs_its_rows_only(started, tmp_path):
    env_config = {"fault": str(tmp_path / "raises"), "in_reset": True}
    algorithm = started(FaultyEnv, env_config, n_aux_epochs=0)
    algorithm.train()
    (tmp_path / "raises").touch()
    os.kill(pids(algorithm)[1], signal.SIGKILL)
    said: list[str] = []
    limit = time.monotonic() + 240
    while "no level here" not in "".join(said) and time.monotonic() < limit:
        result = algorithm.train()
        said += result["notices"]
        assert result["num_env_steps_sampled_this_iter"] == 2 * STEPS
    (tmp_path / "raises").unlink()
    result = algorithm.train()
    assert said[-1] == "Worker 2 was lost: OSError: no level here."
    assert result["notices"] == ["Worker 2 is back, with new episodes."]
    assert result["num_env_steps_sampled_this_iter"] == 4 * STEPS


def test_what_raises_in_the_trials_own_process_fails_the_trial(started, tmp_path):
    env_config = {"fault": str(tmp_path / "raises"), "faulty": (0,)}
    algorithm = started(FaultyEnv, env_config, num_env_runners=0)
    algorithm.train()
    (tmp_path / "raises").touch()
    with pytest.raises(OSError, match="the game crashed"):
        for _ in range(9):
            algorithm.train()


def test_a_failure_ends_the_run_where_the_user_wants_that(started, tmp_path):
    (tmp_path / "raises").touch()
    env_config = {"fault": str(tmp_path / "raises")}
    algorithm = started(FaultyEnv, env_config, restart_failed_env_runners=False)
    with pytest.raises(WorkersLost, match="Worker 2 was lost: OSError: the game crashed"):
        algorithm._sampler.collect()


def test_a_worker_that_was_not_admitted_gives_no_rollout(plain):
    algorithm = plain

    def forget(worker: Any) -> None:
        worker.admitted = worker.worker_index != 1

    algorithm.env_runner_group.foreach_env_runner(forget, local_env_runner=False)
    assert [rollout.worker_index for rollout in algorithm._sampler.collect()] == [2]
    algorithm.restore_env_runners(algorithm.env_runner_group)
    assert [rollout.worker_index for rollout in algorithm._sampler.collect()] == [1, 2]


@pytest.mark.slow
def test_killed_workers_end_the_run_as_lost_workers_where_the_user_wants_that(started):
    algorithm = started(restart_failed_env_runners=False)
    os.kill(pids(algorithm)[0], signal.SIGKILL)
    with pytest.raises(WorkersLost, match="Worker 1 was lost: its process died"):
        algorithm.train()


@pytest.mark.slow
def test_a_worker_that_hangs_while_a_checkpoint_is_written_is_lost(started, tmp_path):
    algorithm = started(sample_timeout_s=3.0, n_aux_epochs=0)
    algorithm.train()
    frozen = pids(algorithm)[1]
    os.kill(frozen, signal.SIGSTOP)
    algorithm.save(str(tmp_path))
    assert sorted(load_workers(tmp_path)) == [1]
    notices = algorithm.train()["notices"]
    assert notices[0].startswith("Worker 2 was lost: it gave no answer within 3 s")
    assert notices[1:] == ["Worker 2 is back, with new episodes."]


@pytest.mark.slow
def test_a_worker_that_died_in_an_auxiliary_phase_is_told(started):
    algorithm = started()
    algorithm.train()
    assert algorithm._aux_phase is not None
    os.kill(pids(algorithm)[0], signal.SIGKILL)
    time.sleep(15)  # Ray has started another
    said: list[str] = []
    for _ in range(6):
        said += algorithm.train()["notices"]
    assert [text.partition(":")[0] for text in said if "Worker 1" in text] == [
        "Worker 1 was lost", "Worker 1 is back, with new episodes.",
    ]  # fmt: skip


@pytest.mark.parametrize("noticed", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_worker_that_died_while_it_sampled_beside_an_auxiliary_phase_is_lost_once(
    started, tmp_path, noticed
):
    gate = tmp_path / "gate"
    algorithm = started(GatedEnv, {"gate": str(gate), "gated": 1}, overlap_aux=True)
    algorithm.train()
    algorithm._sampler.discard()
    victim = pids(algorithm)[0]
    gate.touch()
    algorithm._sampler.begin()
    os.kill(victim, signal.SIGKILL)
    gate.unlink()
    if noticed:  # by RLlib, before its rollout is collected
        algorithm.env_runner_group.foreach_env_runner(lambda worker: 0, local_env_runner=False)
    said, steps = [], []
    for _ in range(12):
        result = algorithm.train()
        said += result["notices"]
        steps.append(result["num_env_steps_sampled_this_iter"])
    assert [text.partition(":")[0] for text in said] == [
        "Worker 1 was lost", "Worker 1 is back, with new episodes.",
    ]  # fmt: skip
    rollouts = [count for count in steps if count]
    # Where it is back before the others' rollouts are collected, it samples with them.
    assert set(rollouts) <= {12, 24} and rollouts.count(12) == (not noticed) and rollouts[-1] == 24


# ---- beside the auxiliary phase


def train_one_phase(algorithm: PPG) -> tuple[dict, dict]:
    """Copies of the weights before and after a whole auxiliary phase."""
    algorithm.train()
    before = copy.deepcopy(algorithm.get_policy().get_weights())
    while algorithm._aux_phase is not None:
        algorithm.train()
    return before, copy.deepcopy(algorithm.get_policy().get_weights())


@pytest.mark.parametrize("overlap", [False, True])
def test_the_rollout_after_an_auxiliary_phase_is_made_by_the_weights_that_the_key_says(
    plain, overlapping, overlap: bool
):
    algorithm = overlapping if overlap else plain
    before, after = train_one_phase(algorithm)
    assert algorithm._sampler.pending is overlap
    rollouts = algorithm._sampler.collect()
    policy = algorithm.get_policy()
    policy.set_weights(before)
    old = np.concatenate([logits(algorithm, rollout) for rollout in rollouts])
    policy.set_weights(after)
    new = np.concatenate([logits(algorithm, rollout) for rollout in rollouts])
    acting = np.concatenate([acting_logits(rollout) for rollout in rollouts])
    assert np.abs(old - new).max() > 0.01
    np.testing.assert_allclose(acting, old if overlap else new, rtol=1e-4, atol=1e-5)
    # Either way the iteration after it is by the new weights.
    algorithm._sync_weights()
    for rollout in algorithm._sampler.collect():
        expected = logits(algorithm, rollout)
        np.testing.assert_allclose(acting_logits(rollout), expected, rtol=1e-4, atol=1e-5)


def test_overlapped_steps_are_counted_when_they_are_collected(overlapping):
    overlapping._sampler.discard()
    counts = [overlapping.train()["num_env_steps_sampled_this_iter"] for _ in range(8)]
    assert counts == [24, 0, 0, 0] * 2


@pytest.mark.slow
def test_an_auxiliary_phase_does_not_wait_for_workers_that_sample_beside_it(started, tmp_path):
    gate = tmp_path / "gate"
    algorithm = started(
        GatedEnv, {"gate": str(gate), "gated": 1}, overlap_aux=True,
        metrics_episode_collection_timeout_s=600.0,
    )  # fmt: skip
    algorithm.train()
    algorithm._sampler.discard()
    gate.touch()
    algorithm._sampler.begin()
    while algorithm._aux_phase is not None:
        algorithm.train()
    requests = list(algorithm._sampler._requests)
    ready, _ = ray.wait(requests, num_returns=len(requests), timeout=0)
    assert len(ready) < 2, "the phase was over only when the gated worker was"
    gate.unlink()
    assert len(algorithm._sampler.collect()) == 2


def test_a_checkpoint_may_be_taken_and_restored_while_workers_sample(overlapping, tmp_path):
    algorithm = overlapping
    train_one_phase(algorithm)
    assert algorithm._sampler.pending
    steps = algorithm._counters["num_env_steps_sampled"]
    algorithm.save(str(tmp_path))
    for _ in range(4):
        algorithm.train()
    assert algorithm._sampler.pending
    algorithm.restore(str(tmp_path))
    assert algorithm._sampler.pending
    while algorithm._aux_phase is not None:
        algorithm.train()
    assert algorithm.train()["num_env_steps_sampled_lifetime"] == steps + 24


# ---- transfers


def test_weights_are_stored_once_for_all_workers(plain, monkeypatch: pytest.MonkeyPatch):
    algorithm = plain
    stored: list[Any] = []
    put = ray.put
    monkeypatch.setattr(
        ray, "put", lambda value, **keys: stored.append(value) or put(value, **keys)
    )
    algorithm._sync_weights()
    size = sum(np.asarray(v).nbytes for v in algorithm.get_policy().get_weights().values())
    assert len(stored) == 1
    assert sum(np.asarray(v).nbytes for v in stored[0]["default_policy"].values()) == size
