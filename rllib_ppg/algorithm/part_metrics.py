"""Algorithm: what the optional parts did, for those that are on (`metrics.OF_PARTS`)."""

from collections.abc import Sequence

import numpy as np

from rllib_ppg.algorithm.batch import column
from rllib_ppg.algorithm.config import PPGConfig
from rllib_ppg.algorithm.rollout import Rollout
from rllib_ppg.core.budget import RunBudget
from rllib_ppg.core.learner import PhasicLearner
from rllib_ppg.envs.state_counts import STATE_COLUMNS


def of_environments(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """Return what the environments counted and added to the rewards."""
    stats = {}
    shaped = [rollout for rollout in rollouts if rollout.shaping is not None]
    if shaped:
        rows = sum(len(rollout.batch) for rollout in shaped)
        stats["policy_phase/shaping"] = sum(r.shaping or 0.0 for r in shaped) / rows
    if all(set(STATE_COLUMNS) <= set(rollout.batch) for rollout in rollouts):
        unique, steps = (column(list(rollouts), name) for name in STATE_COLUMNS)
        stats["policy_phase/new_states"] = float(np.mean(unique / (steps + 2.0)))
    return stats


def of_policy_phase(learner: PhasicLearner) -> dict[str, float]:
    """Return what the learner decided in the policy phase that has just ended."""
    settings, stats = learner.policy_settings, {}
    if settings.alternate_entropy_coeff is not None:
        stats["policy_phase/entropy_weight"] = learner.entropy_weight
    if settings.grad_clip_adaptive is not None:
        stats["policy_phase/grad_limit"] = learner.grad_limit
    if learner.transform is not None:
        stats["policy_phase/drac_choice"] = learner.transform
    return stats


def of_run(learner: PhasicLearner, budget: RunBudget, config: PPGConfig) -> dict[str, float]:
    """Return where the parts stand that every iteration can tell of."""
    stats = {}
    if config.optimizers == "heads":
        stats["value_lr"] = learner.value_lr
    if config.best_weights and budget.best_steps:
        stats |= {"best_return": budget.best_return, "best_env_steps": budget.best_steps}
    return stats
