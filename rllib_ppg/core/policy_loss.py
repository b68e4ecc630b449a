"""Core: a rollout by row, and the policy phase's loss over rows of it.

Shape key: T steps, N environments, B rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rllib_ppg.core.distributions import ActionSpec
from rllib_ppg.core.frames import Frames, Inputs, Rows, as_tensor
from rllib_ppg.core.losses import policy_loss, value_loss
from rllib_ppg.core.policy_settings import Kind, PolicyPhaseSettings
from rllib_ppg.core.replicas import Replica
from rllib_ppg.core.segments import IndexArray
from rllib_ppg.core.updates import LossFunction, StepStats, Updater

# Takes a replica, rows, what the heads made of them (logits and values), and options of a pass;
# gives a term of the loss and its statistics.
Regularizer = Callable[
    [Replica, Rows, Tensor, Tensor, Mapping[str, bool]], tuple[Tensor, StepStats]
]


@dataclass(frozen=True)
class PolicyBatch:
    """One rollout of all environments, environment first; numpy arrays or host tensors.

    Args:
        obs: Observations (N, T, ...), or N x T rows of frames.
        actions: Actions (N, T), (N, T, K) or (N, T, D).
        logp: Log-probabilities recorded while acting, float32 (N, T).
        advantages: Standardised advantages, float32 (N, T).
        value_targets: Float32 (N, T).
        vf_preds: Values predicted while acting, float32 (N, T).
        prev_actions: The action before each, int64 (N, T), where the network takes them and `obs`
            are not rows of frames, which hold them already.
        num_unique_states: Different observations of the episode so far, that after the step
            included (N, T), where the environments count them.
        episode_step: Steps of the episode before this one (N, T), where they count them.
        rewards: Rewards that the returns are made of (N, T), for choosing transforms.
    """

    obs: npt.NDArray[Any] | Tensor | Frames
    actions: npt.NDArray[Any] | Tensor
    logp: npt.NDArray[Any] | Tensor
    advantages: npt.NDArray[Any] | Tensor
    value_targets: npt.NDArray[Any] | Tensor
    vf_preds: npt.NDArray[Any] | Tensor
    prev_actions: npt.NDArray[np.int64] | Tensor | None = None
    num_unique_states: npt.NDArray[Any] | None = None
    episode_step: npt.NDArray[Any] | None = None
    rewards: npt.NDArray[Any] | None = None

    def frames(self) -> Frames:
        """Return the observations by row, environment first."""
        if isinstance(self.obs, Frames):
            return self.obs
        before = self.prev_actions
        return Frames.of(
            as_tensor(self.obs).flatten(0, 1),
            None if before is None else as_tensor(before).flatten(0, 1),
        )


class RolloutRows:
    """A rollout flattened to rows: everything but the frames on each device."""

    def __init__(self, batch: PolicyBatch, updater: Updater) -> None:
        self.num_envs, self.num_steps = batch.logp.shape[:2]
        self.frames = batch.frames()
        self.actions, self.logp, self.advantages, self.targets, self.vf = (
            updater.on_devices(as_tensor(array).flatten(0, 1))
            for array in (
                batch.actions,
                batch.logp,
                batch.advantages,
                batch.value_targets,
                batch.vf_preds,
            )
        )
        self._rewards = batch.rewards
        self._counts = (batch.num_unique_states, batch.episode_step)

    def mean_reward(self) -> float:
        """Mean of the rewards."""
        assert self._rewards is not None, "choosing transforms needs the rewards"
        return float(np.asarray(self._rewards, np.float64).mean())

    def counts(self, rows: IndexArray) -> tuple[npt.NDArray[Any] | None, npt.NDArray[Any] | None]:
        """`num_unique_states` and `episode_step` of some rows."""
        unique, step = self._counts
        if unique is None or step is None:
            return None, None
        return np.asarray(unique).reshape(-1)[rows], np.asarray(step).reshape(-1)[rows]


def policy_loss_function(
    spec: ActionSpec,
    settings: PolicyPhaseSettings,
    batch: RolloutRows,
    kind: Kind,
    entropy_coeff: float,
    regularizer: Regularizer | None = None,
) -> LossFunction:
    """Return the loss of a kind of epoch, over rows of a rollout.

    Args:
        spec: How the policy head's outputs are read.
        settings: Hyper-parameters.
        batch: The rollout.
        kind: What is minimised.
        entropy_coeff: Weight of the entropy bonus.
        regularizer: Adds a term to the loss of both heads; None adds nothing.
    """
    return partial(_loss, spec, settings, entropy_coeff, kind, batch, regularizer)


def _loss(
    spec: ActionSpec,
    settings: PolicyPhaseSettings,
    entropy_coeff: float,
    kind: Kind,
    batch: RolloutRows,
    regularizer: Regularizer | None,
    replica: Replica,
    rows: Rows,
) -> tuple[Tensor, StepStats]:
    inputs = batch.frames.inputs(rows, replica.device)
    options = {"detach_value": True} if settings.detach_value_head else {}
    logits, vf = _heads(replica, kind, inputs, options)
    stats: StepStats = {}
    losses: list[Tensor] = []
    device, at = replica.device, rows.device
    if logits is not None:
        loss, policy_stats = policy_loss(
            spec.distribution(logits),
            batch.actions[device][at],
            batch.logp[device][at],
            batch.advantages[device][at],
            clip_param=settings.clip_param,
            kl_penalty=settings.kl_penalty,
            entropy_coeff=entropy_coeff,
        )
        stats.update(policy_stats._asdict())
        losses.append(loss)
    if vf is not None:
        loss, value_stats = value_loss(
            vf.float(),
            batch.targets[device][at],
            coeff=settings.vf_loss_coeff,
            old_vf=batch.vf[device][at],
            change_clip=settings.value_clip_param,
        )
        stats.update(value_stats._asdict())
        losses.append(loss)
    if regularizer is not None and logits is not None and vf is not None:
        loss, extra_stats = regularizer(replica, rows, logits, vf, options)
        stats.update(extra_stats)
        losses.append(loss)
    total = torch.stack(losses).sum()
    stats["loss_total"] = total.detach()
    return total, stats


def _heads(
    replica: Replica, kind: Kind, inputs: Inputs, options: Mapping[str, bool]
) -> tuple[Tensor | None, Tensor | None]:
    if kind == "joint":
        output = replica.forward(*inputs, **options)
        return output.logits, output.vf
    if kind == "value":
        return None, replica.value(*inputs)
    return replica.policy(*inputs)[0], None
