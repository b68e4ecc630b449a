"""Algorithm: from the workers' rollouts to the learner's batch.

Reward normalisation, values, GAE and value targets are computed here, in one place over all
environments, so that the number of workers changes nothing.
"""

from dataclasses import dataclass

import numpy as np

from rllib_ppg._ray_compat import SampleBatch
from rllib_ppg.algorithm.config import PPGConfig
from rllib_ppg.algorithm.rollout import EPISODE_STARTS, Rollout
from rllib_ppg.core.frames import Frames
from rllib_ppg.core.learner import PhasicLearner, PolicyBatch
from rllib_ppg.core.returns import (
    compute_gae,
    explained_variance,
    standardize,
)
from rllib_ppg.core.reward_norm import RewardPipeline
from rllib_ppg.core.segments import SegmentStore
from rllib_ppg.envs.state_counts import EPISODE_STEP, NUM_UNIQUE_STATES


@dataclass(frozen=True)
class Targets:
    """What the returns of a rollout give the learner; arrays are (N, T) float32.

    Attributes:
        advantages: Standardised.
        value_targets: For the value loss.
        explained_variance: Of the targets, by the values while acting.
        rewards: After normalisation.
        returns: What the targets can be computed anew from, as `StoredReturns` names it.
    """

    advantages: np.ndarray
    value_targets: np.ndarray
    explained_variance: float
    rewards: np.ndarray
    returns: dict[str, np.ndarray]


def make_batch(
    rollouts: list[Rollout],
    store: SegmentStore,
    learner: PhasicLearner,
    pipeline: RewardPipeline,
    config: PPGConfig,
    gamma: float,
) -> tuple[PolicyBatch, slice, Targets]:
    """Copy the rollouts' observations to the store and compute what the policy phase needs.

    Args:
        rollouts: One of each worker that delivered.
        store: Takes the observations, once; the batch refers to them there.
        learner: Computes values where the workers did not.
        pipeline: Processes rewards in time order and learns from them.
        config: The algorithm's configuration.
        gamma: The current discount.

    Returns:
        The batch, the store's rows of this iteration, and the targets.
    """
    rows = store_observations(rollouts, store)
    frames = store.frames(rows)
    values = _values(rollouts, frames, learner)
    targets = compute_targets(rollouts, values, learner, pipeline, config, gamma)
    batch = PolicyBatch(
        obs=frames,
        actions=column(rollouts, SampleBatch.ACTIONS),
        logp=column(rollouts, SampleBatch.ACTION_LOGP),
        advantages=targets.advantages,
        value_targets=targets.value_targets,
        vf_preds=values,
        num_unique_states=_count(rollouts, NUM_UNIQUE_STATES, config),
        episode_step=_count(rollouts, EPISODE_STEP, config),
        rewards=targets.rewards if config.drac_ucb is not None else None,
    )
    return batch, rows, targets


def environments(rollouts: list[Rollout]) -> np.ndarray:
    """Index of each environment over all workers (N,); RLlib counts remote workers from 1."""
    return np.concatenate(
        [max(0, r.worker_index - 1) * r.num_envs + np.arange(r.num_envs) for r in rollouts]
    )


def store_observations(rollouts: list[Rollout], store: SegmentStore) -> slice:
    """Copy the observations, and the actions before them where the network takes those.

    It is the only copy that is made of them.
    """
    rows = store.append(environments(rollouts))
    first = rows.start
    for rollout in rollouts:
        last = first + rollout.num_envs
        if store.prev_actions is not None:
            before = rollout.batch[SampleBatch.PREV_ACTIONS].reshape(rollout.num_envs, -1)
            store.prev_actions[first:last] = before
        store.write(
            slice(first, last),
            rollout.batch[SampleBatch.OBS],
            history=rollout.history,
            firsts=rollout.batch[EPISODE_STARTS].reshape(rollout.num_envs, -1),
        )
        first = last
    return rows


def column(rollouts: list[Rollout], name: str) -> np.ndarray:
    """One column of all rollouts, (N, T, ...)."""
    parts = [r.batch[name].reshape(r.num_envs, -1, *r.batch[name].shape[1:]) for r in rollouts]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _count(rollouts: list[Rollout], name: str, config: PPGConfig) -> np.ndarray | None:
    """A column that the environments count, (N, T), where the configuration needs it."""
    return None if config.alternate_entropy_coeff is None else column(rollouts, name)


def _values(rollouts: list[Rollout], frames: Frames, learner: PhasicLearner) -> np.ndarray:
    """Values (N, T) of the acting policy: the workers', or where they have none the learner's."""
    if SampleBatch.VF_PREDS in rollouts[0].batch:
        return column(rollouts, SampleBatch.VF_PREDS)
    envs = sum(rollout.num_envs for rollout in rollouts)
    return learner.values(frames).reshape(envs, -1)


def compute_targets(
    rollouts: list[Rollout],
    values: np.ndarray,
    learner: PhasicLearner,
    pipeline: RewardPipeline,
    config: PPGConfig,
    gamma: float,
) -> Targets:
    """Normalise rewards, then compute advantages and value targets.

    Args:
        rollouts: One of each worker that delivered.
        values: V(s_t) of the acting policy (N, T).
        learner: Gives the bootstrap values.
        pipeline: Processes rewards in time order and learns from them.
        config: The algorithm's configuration.
        gamma: The current discount.
    """
    rewards = column(rollouts, SampleBatch.REWARDS).astype(np.float32).T  # (T, N)
    terminateds = column(rollouts, SampleBatch.TERMINATEDS).T
    dones = terminateds | column(rollouts, SampleBatch.TRUNCATEDS).T
    firsts = column(rollouts, EPISODE_STARTS).T
    rewards = pipeline(rewards, firsts, environments(rollouts))
    final_obs = np.concatenate([rollout.final_obs for rollout in rollouts])
    final_actions = np.concatenate([rollout.final_actions for rollout in rollouts])
    # Wrong where an episode has just ended, but there the value does not count.
    bootstrap = learner.values(final_obs, _prev_actions(learner, final_actions))
    final_values = _truncation_values(rollouts, values.shape, learner, config)
    advantages, value_targets = compute_gae(
        rewards,
        values.T,
        bootstrap,
        dones,
        gamma=gamma,
        lambda_=config.lambda_,
        final_values=final_values,
    )
    kept = rewards
    if final_values is not None:  # so that the value behind a time limit is in its reward
        kept = rewards + gamma * final_values
    return Targets(
        advantages=np.ascontiguousarray(
            standardize(advantages, std_min=config.advantage_std_min).T
        ),
        value_targets=np.ascontiguousarray(value_targets.T),
        explained_variance=explained_variance(values, value_targets.T),
        rewards=rewards.T,
        returns={
            "rewards": kept.T,
            "dones": dones.T,
            "bootstrap": bootstrap,
            "begins": firsts[0],
        },
    )


def _prev_actions(learner: PhasicLearner, actions: np.ndarray) -> np.ndarray | None:
    return actions if learner.network.takes_prev_actions else None


def _truncation_values(
    rollouts: list[Rollout], shape: tuple[int, ...], learner: PhasicLearner, config: PPGConfig
) -> np.ndarray | None:
    """V of the true last observation at time limits, (T, N), or None where none was met."""
    if not config.bootstrap_on_truncation or not any(len(r.truncated_rows) for r in rollouts):
        return None
    steps = shape[1]
    offsets = np.cumsum([0, *(rollout.num_envs for rollout in rollouts)])
    rows = np.concatenate(
        [r.truncated_rows + start * steps for r, start in zip(rollouts, offsets, strict=False)]
    )
    order = np.argsort(rows)  # whoever delivered them: the same batch, the same rounding
    obs = np.concatenate([r.truncated_obs for r in rollouts])
    values = np.zeros(shape[0] * steps, np.float32)
    actions = column(rollouts, SampleBatch.ACTIONS)
    actions = actions.reshape(-1, *actions.shape[2:])[rows[order]]  # those that led there
    values[rows[order]] = learner.values(obs[order], _prev_actions(learner, actions))
    return values.reshape(shape).T
