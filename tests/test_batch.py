from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from small_learner import OBS_SIZE, make_learner

from rllib_ppg import PPGConfig
from rllib_ppg._ray_compat import SampleBatch
from rllib_ppg.algorithm.batch import environments, make_batch
from rllib_ppg.algorithm.parts import reward_pipeline
from rllib_ppg.algorithm.rollout import EPISODE_STARTS, Rollout
from rllib_ppg.core.frames import Rows
from rllib_ppg.core.segments import SegmentStore

ENVS, STEPS = 4, 7
LEARNER = make_learner()


def make_config(**changes: Any) -> PPGConfig:
    config = PPGConfig().environment("CartPole-v1")
    sizes = {"num_envs": ENVS, "rollout_fragment_length": STEPS, "nminibatch": 1, "aux_mbsize": 1}
    return config.update_from_dict({**sizes, "gamma": 0.9, "lambda_": 0.8, **changes})


def make_rollout(seed: int = 0, values: bool = False) -> Rollout:
    """One worker's rollout of all environments, with endings of both kinds."""
    rng = np.random.default_rng(seed)
    shape = (ENVS, STEPS)
    ends = rng.random(shape)
    terminateds, truncateds = ends < 0.2, ends > 0.8
    firsts = np.ones(shape, bool)
    firsts[:, 1:] = (terminateds | truncateds)[:, :-1]
    columns = {
        SampleBatch.OBS: rng.normal(size=(*shape, OBS_SIZE)).astype(np.float32),
        SampleBatch.ACTIONS: rng.integers(4, size=shape),
        SampleBatch.ACTION_LOGP: rng.normal(size=shape).astype(np.float32),
        SampleBatch.REWARDS: rng.normal(size=shape).astype(np.float32),
        SampleBatch.TERMINATEDS: terminateds,
        SampleBatch.TRUNCATEDS: truncateds,
        EPISODE_STARTS: firsts,
    }
    if values:
        columns[SampleBatch.VF_PREDS] = rng.normal(size=shape).astype(np.float32)
    rows = np.flatnonzero(truncateds)
    rng.shuffle(rows)  # the worker lists them by time, not by row
    return Rollout(
        batch=SampleBatch({name: c.reshape(-1, *c.shape[2:]) for name, c in columns.items()}),
        num_envs=ENVS,
        history=np.empty((ENVS, 0, OBS_SIZE), np.float32),
        final_obs=rng.normal(size=(ENVS, OBS_SIZE)).astype(np.float32),
        final_actions=rng.integers(0, 2, ENVS),
        truncated_rows=rows,
        truncated_obs=rng.normal(size=(len(rows), OBS_SIZE)).astype(np.float32),
        worker_index=0,
    )


def split(rollout: Rollout, workers: int) -> list[Rollout]:
    """The same rollout as several remote workers would deliver it."""
    each = ENVS // workers
    parts = []
    for worker in range(workers):
        rows = slice(worker * each * STEPS, (worker + 1) * each * STEPS)
        mine = (rollout.truncated_rows >= rows.start) & (rollout.truncated_rows < rows.stop)
        part = replace(
            rollout,
            batch=SampleBatch({name: rollout.batch[name][rows] for name in rollout.batch}),
            num_envs=each,
            history=rollout.history[worker * each : (worker + 1) * each],
            final_obs=rollout.final_obs[worker * each : (worker + 1) * each],
            final_actions=rollout.final_actions[worker * each : (worker + 1) * each],
            truncated_rows=rollout.truncated_rows[mine] - rows.start,
            truncated_obs=rollout.truncated_obs[mine],
            worker_index=worker + 1,
        )
        parts.append(part)
    return parts


class Made:
    """What `make_batch` makes, with a store and statistics of its own."""

    def __init__(self, **changes: Any) -> None:
        self.config = make_config(**changes)
        self.store = SegmentStore(2 * ENVS, STEPS, (OBS_SIZE,), np.float32)
        self.rewards = reward_pipeline(self.config)

    def add(self, rollouts: list[Rollout]) -> Any:
        made = make_batch(
            rollouts, self.store, LEARNER, self.rewards, self.config, self.config.gamma
        )
        self.batch, self.rows, self.targets = made
        return self.batch


def column(rollout: Rollout, name: str) -> np.ndarray:
    return rollout.batch[name].reshape(ENVS, STEPS, *rollout.batch[name].shape[1:])


def observations(batch: Any) -> np.ndarray:
    """What the learner reads of a batch's observations, (N, T, ...)."""
    rows = torch.arange(len(batch.obs))
    read = batch.obs.read(Rows(rows, rows), torch.device("cpu")).numpy()
    return read.reshape(*batch.logp.shape, *read.shape[1:])


def reference_targets(
    rollout: Rollout, values: np.ndarray, rewards: np.ndarray, config: PPGConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Advantages before standardisation and value targets, by their definitions (N, T)."""
    gamma, decay = config.gamma, config.gamma * config.lambda_
    cut = dict(zip(rollout.truncated_rows.tolist(), rollout.truncated_obs, strict=True))
    advantages = np.zeros((ENVS, STEPS))
    for env in range(ENVS):
        after = float(LEARNER.values(rollout.final_obs[env : env + 1])[0])
        for t in range(STEPS):
            weight = 1.0
            for later in range(t, STEPS):
                row = env * STEPS + later
                over = rollout.batch[SampleBatch.TERMINATEDS][row]
                limit = rollout.batch[SampleBatch.TRUNCATEDS][row]
                following = values[env, later + 1] if later + 1 < STEPS else after
                if over or limit:
                    following = 0.0
                if limit and config.bootstrap_on_truncation:
                    following = float(LEARNER.values(cut[row][None])[0])
                delta = rewards[env, later] + gamma * following - values[env, later]
                advantages[env, t] += weight * delta
                weight *= decay
                if over or limit:
                    break
    return advantages, advantages + values


@pytest.mark.parametrize("bootstrap", [True, False])
def test_targets_are_those_of_the_definition(bootstrap: bool):
    rollout = make_rollout()
    assert len(rollout.truncated_rows) > 2
    made = Made(normalize_rewards=False, bootstrap_on_truncation=bootstrap)
    batch = made.add([rollout])
    values = LEARNER.values(rollout.batch[SampleBatch.OBS]).reshape(ENVS, STEPS)
    rewards = column(rollout, SampleBatch.REWARDS)
    advantages, targets = reference_targets(rollout, values, rewards, made.config)
    np.testing.assert_allclose(batch.value_targets, targets, rtol=1e-4, atol=1e-5)
    standard = (advantages - advantages.mean()) / advantages.std()
    np.testing.assert_allclose(batch.advantages, standard, rtol=1e-4, atol=1e-5)
    explained = 1 - (targets - values).var() / targets.var()
    assert made.targets.explained_variance == pytest.approx(explained, rel=1e-4)


def test_rewards_are_divided_by_the_deviation_of_their_discounted_sums():
    rollout = make_rollout()
    rewards, firsts = column(rollout, SampleBatch.REWARDS), column(rollout, EPISODE_STARTS)
    sums = np.zeros((ENVS, STEPS))
    for env in range(ENVS):
        for t in range(STEPS):
            carried = 0.0 if firsts[env, t] or t == 0 else sums[env, t - 1]
            sums[env, t] = rewards[env, t] + 0.99 * carried
    # The starting point, mean 0 and variance 1, counts as 1e-4 values.
    moments = (1e-4 * np.array([0.0, 1.0]) + [sums.sum(), (sums**2).sum()]) / (1e-4 + sums.size)
    scale = np.sqrt(moments[1] - moments[0] ** 2 + 1e-8)

    normed = Made()
    normed.add([rollout])
    assert normed.rewards.scale == pytest.approx(scale, rel=1e-5)
    plain = Made(normalize_rewards=False)
    rollout.batch[SampleBatch.REWARDS] = rollout.batch[SampleBatch.REWARDS] / np.float32(scale)
    plain.add([rollout])
    np.testing.assert_allclose(
        normed.batch.value_targets, plain.batch.value_targets, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_the_number_of_workers_changes_nothing(workers: int):
    alone, divided = Made(), Made()
    for seed in range(2):
        one = alone.add([make_rollout(seed)])
        other = divided.add(split(make_rollout(seed), workers))
        for name, array in vars(one).items():
            if name != "obs":
                assert np.array_equal(array, getattr(other, name)), name
        assert np.array_equal(observations(one), observations(other))
        count = alone.store.count
        assert np.array_equal(alone.store.env[:count], divided.store.env[:count])
    assert alone.rewards.get_state()["moments"] == divided.rewards.get_state()["moments"]


def test_values_of_the_workers_are_used_where_they_have_some():
    rollout = make_rollout(values=True)
    batch = Made().add(split(rollout, 2))
    assert np.array_equal(batch.vf_preds, column(rollout, SampleBatch.VF_PREDS))
    without = Made().add([make_rollout()])
    expected = LEARNER.values(rollout.batch[SampleBatch.OBS]).reshape(ENVS, STEPS)
    np.testing.assert_allclose(without.vf_preds, expected, rtol=1e-5)


def test_environments_are_numbered_over_all_workers():
    workers = split(make_rollout(), 4)
    assert environments([make_rollout()]).tolist() == [0, 1, 2, 3]
    assert environments(workers).tolist() == [0, 1, 2, 3]
    assert environments([workers[0], workers[3]]).tolist() == [0, 3]


def test_a_missing_workers_environments_keep_their_running_sums():
    made = Made()
    made.add(split(make_rollout(0), 2))
    before = made.rewards.get_state()["returns"]
    lost = split(make_rollout(1), 2)[:1]
    batch = made.add(lost)
    after = made.rewards.get_state()["returns"]
    assert np.array_equal(before[2:], after[2:]) and not np.array_equal(before[:2], after[:2])
    assert before[2:].all()
    assert batch.advantages.shape == (2, STEPS) and len(batch.obs) == 2 * STEPS
    assert made.store.env[: made.store.count].tolist() == [0, 1, 2, 3, 0, 1]


def test_a_returning_worker_goes_on_with_its_own_sums():
    made = Made()
    made.add(split(make_rollout(0), 2))
    sums = made.rewards.get_state()["returns"]
    second = split(make_rollout(1), 2)[1]
    second.batch[EPISODE_STARTS][:] = False
    second.batch[SampleBatch.REWARDS][:] = 0
    made.add([second])
    np.testing.assert_allclose(
        made.rewards.get_state()["returns"], [*sums[:2], *(sums[2:] * 0.99**STEPS)], rtol=1e-6
    )


def test_observations_are_copied_to_the_store_once_and_the_batch_looks_there():
    made = Made()
    rollout = make_rollout()
    original = np.array(column(rollout, SampleBatch.OBS))
    batch = made.add([rollout])
    assert made.rows == slice(0, ENVS) and np.array_equal(observations(batch), original)
    made.store.obs[:ENVS] += 1
    assert np.array_equal(observations(batch), original + 1), "the batch has a copy of its own"
    made.store.obs[:ENVS] = original
    rollout.batch[SampleBatch.OBS][:] = 99  # the worker uses its arrays again
    assert np.array_equal(made.store.obs[:ENVS], original)
    made.add([make_rollout(1)])
    assert made.rows == slice(ENVS, 2 * ENVS) and np.array_equal(made.store.obs[:ENVS], original)


def test_actions_and_their_log_probabilities_stay_as_they_were():
    rollout = make_rollout()
    batch = Made().add(split(rollout, 2))
    assert np.array_equal(batch.actions, column(rollout, SampleBatch.ACTIONS))
    assert np.array_equal(batch.logp, column(rollout, SampleBatch.ACTION_LOGP))
