"""Core: the policy phase, value and policy epochs over one rollout.

Shape key: T steps, N environments, M minibatches of an epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rllib_ppg.core.distributions import ActionSpec
from rllib_ppg.core.frames import Frames, Inputs, Rows, as_tensor
from rllib_ppg.core.losses import policy_loss, value_loss
from rllib_ppg.core.numeric_fault import Evidence, FaultFlag
from rllib_ppg.core.precision import MixedPrecision, Precision, check_precision
from rllib_ppg.core.replicas import Replica
from rllib_ppg.core.segments import IndexArray, policy_chunks, segment_rows
from rllib_ppg.core.updates import LossFunction, MinibatchUnit, StepStats, Updater, check_unit

Kind = Literal["joint", "value", "policy"]

POLICY_STATS = (
    "loss_pi",
    "loss_vf",
    "loss_total",
    "policy_gradient_loss",
    "entropy",
    "negent",
    "kl_penalty_loss",
    "clip_fraction",
    "approx_kl",
    "grad_norm",
)


@dataclass(frozen=True)
class PolicyPhaseSettings:
    """Hyper-parameters of the policy phase.

    Args:
        n_epoch_pi: Epochs of the policy loss (E_pi).
        n_epoch_vf: Epochs of the value loss (E_V); where equal, both losses share every step.
        nminibatch: Minibatches of an epoch, at most.
        clip_param: Clip range of the probability ratio; 0 does not clip.
        kl_penalty: Weight of the sampled KL penalty.
        entropy_coeff: Weight of the entropy bonus.
        vf_loss_coeff: Weight of the mean squared value error.
        lr: Learning rate of Adam.
        value_clip_param: Clip range of the value's change; None does not clip.
        grad_clip: Largest gradient norm; None does not clip.
        minibatch_unit: "segment" keeps each environment's T steps together, as the reference;
            "step" mixes single steps.
        precision: Number format of the network's passes.

    Raises:
        ValueError: If a number of epochs or minibatches, the unit or the format makes no sense.
    """

    n_epoch_pi: int
    n_epoch_vf: int
    nminibatch: int
    clip_param: float
    kl_penalty: float
    entropy_coeff: float
    vf_loss_coeff: float
    lr: float
    value_clip_param: float | None = None
    grad_clip: float | None = None
    minibatch_unit: MinibatchUnit = "segment"
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        check_unit(self.minibatch_unit)
        check_precision(self.precision)
        if min(self.n_epoch_pi, self.n_epoch_vf) < 0 or max(self.n_epoch_pi, self.n_epoch_vf) < 1:
            raise ValueError(
                f"n_epoch_pi={self.n_epoch_pi} and n_epoch_vf={self.n_epoch_vf} must not be "
                "negative, and one of them must be at least 1."
            )
        if self.nminibatch < 1:
            raise ValueError(f"nminibatch={self.nminibatch} must be at least 1.")

    @property
    def joint(self) -> bool:
        """Whether policy and value loss share their steps and their optimiser."""
        return self.n_epoch_pi == self.n_epoch_vf

    def epoch_kinds(self) -> list[Kind]:
        """Return what each epoch minimises, in order: value epochs come before policy epochs."""
        joint: Kind = "joint"
        value: Kind = "value"
        policy: Kind = "policy"
        if self.joint:
            return [joint] * self.n_epoch_pi
        return [value] * self.n_epoch_vf + [policy] * self.n_epoch_pi


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
    """

    obs: npt.NDArray[Any] | Tensor | Frames
    actions: npt.NDArray[Any] | Tensor
    logp: npt.NDArray[Any] | Tensor
    advantages: npt.NDArray[Any] | Tensor
    value_targets: npt.NDArray[Any] | Tensor
    vf_preds: npt.NDArray[Any] | Tensor
    prev_actions: npt.NDArray[np.int64] | Tensor | None = None

    def frames(self) -> Frames:
        """Return the observations by row, environment first."""
        if isinstance(self.obs, Frames):
            return self.obs
        before = self.prev_actions
        return Frames.of(
            as_tensor(self.obs).flatten(0, 1),
            None if before is None else as_tensor(before).flatten(0, 1),
        )


class PolicyStep(NamedTuple):
    """One optimiser step that was made.

    Attributes:
        epoch: From 0, counted on through value and policy epochs.
        minibatch: From 0 within the epoch.
        minibatches: Minibatches of the epoch.
        kind: What was minimised.
        units: The minibatch's environments in order, or flat rows with the unit "step".
        stats: Statistics on the device.
    """

    epoch: int
    minibatch: int
    minibatches: int
    kind: Kind
    units: IndexArray
    stats: StepStats

    def __str__(self) -> str:
        """Name the step for a person, counting from 1."""
        return (
            f"policy-phase minibatch {self.minibatch + 1} of {self.minibatches} "
            f"(epoch {self.epoch + 1})"
        )


class _Batch:
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


class PolicyPhase:
    """All optimiser steps on one rollout, as an iterator.

    Args:
        updater: Makes the steps.
        optimizers: The optimiser of each kind of epoch.
        spec: How the policy head's outputs are read.
        settings: Hyper-parameters.
        entropy_coeff: The current one, which a schedule may have moved.
        precision: Format of the network's passes.
        permutation: Draws a permutation of n.
    """

    def __init__(
        self,
        updater: Updater,
        optimizers: Mapping[str, torch.optim.Optimizer],
        spec: ActionSpec,
        settings: PolicyPhaseSettings,
        *,
        entropy_coeff: float,
        precision: MixedPrecision,
        permutation: Callable[[int], IndexArray],
    ) -> None:
        self._updater = updater
        self._optimizers = optimizers
        self._spec = spec
        self._settings = settings
        self._entropy_coeff = entropy_coeff
        self._precision = precision
        self._permutation = permutation

    def steps(self, rollout: PolicyBatch) -> Iterator[PolicyStep]:
        """Make the optimiser steps one by one; yields after each."""
        settings = self._settings
        batch = _Batch(rollout, self._updater)
        fault = FaultFlag(self._updater.device)
        whole = settings.minibatch_unit == "segment"
        units = batch.num_envs if whole else batch.num_envs * batch.num_steps
        for epoch, kind in enumerate(settings.epoch_kinds()):
            pieces = policy_chunks(self._permutation(units), settings.nminibatch)
            minibatches = self._updater.minibatches(pieces, batch.num_steps if whole else 1)
            for i, minibatch in enumerate(minibatches):
                stats = self._updater.update(
                    self._optimizers[kind],
                    minibatch,
                    partial(self._loss, batch, kind),
                    settings.grad_clip,
                    self._precision,
                    fault,
                )
                yield PolicyStep(epoch, i, len(minibatches), kind, pieces[i], stats)

    def loss_function(self, rollout: PolicyBatch, kind: Kind) -> LossFunction:
        """Return the loss of a kind of epoch, over rows of the rollout."""
        return partial(self._loss, _Batch(rollout, self._updater), kind)

    def evidence(self, rollout: PolicyBatch, step: PolicyStep) -> Evidence:
        """Return a step's minibatch, and what its loss was made with."""
        batch = _Batch(rollout, self._updater)
        whole = self._settings.minibatch_unit == "segment"
        rows = torch.from_numpy(segment_rows(step.units, batch.num_steps if whole else 1))
        device = self._updater.device
        at = Rows(rows, rows.to(device))
        columns = {
            "actions": batch.actions,
            "logp": batch.logp,
            "advantages": batch.advantages,
            "value_targets": batch.targets,
            "vf_preds": batch.vf,
        }
        tensors = {name: copies[device][at.device].cpu() for name, copies in columns.items()}
        inputs = batch.frames.inputs(at, device)
        tensors["obs"] = inputs.obs.cpu()
        if inputs.prev_actions is not None:
            tensors["prev_actions"] = inputs.prev_actions.cpu()
        facts = {
            "phase": "policy",
            "kind": step.kind,
            "epoch": step.epoch,
            "minibatch": step.minibatch,
            "minibatches": step.minibatches,
            "units": np.asarray(step.units).tolist(),
            "settings": asdict(self._settings),
            "entropy_coeff": self._entropy_coeff,
            "micro_batch_size": self._updater.micro_batch_size,
            "precision": self._precision.get_state(),
        }
        return Evidence("minibatch", facts, tensors)

    def _loss(
        self, batch: _Batch, kind: Kind, replica: Replica, rows: Rows
    ) -> tuple[Tensor, StepStats]:
        logits, vf = _heads(replica, kind, batch.frames.inputs(rows, replica.device))
        stats: StepStats = {}
        losses: list[Tensor] = []
        if logits is not None:
            loss, policy_stats = self._policy_loss(batch, rows, logits)
            stats.update(policy_stats)
            losses.append(loss)
        if vf is not None:
            loss, value_stats = self._value_loss(batch, rows, vf)
            stats.update(value_stats)
            losses.append(loss)
        total = torch.stack(losses).sum()
        stats["loss_total"] = total.detach()
        return total, stats

    def _policy_loss(self, batch: _Batch, rows: Rows, logits: Tensor) -> tuple[Tensor, StepStats]:
        device, at = logits.device, rows.device
        loss, stats = policy_loss(
            self._spec.distribution(logits),
            batch.actions[device][at],
            batch.logp[device][at],
            batch.advantages[device][at],
            clip_param=self._settings.clip_param,
            kl_penalty=self._settings.kl_penalty,
            entropy_coeff=self._entropy_coeff,
        )
        return loss, stats._asdict()

    def _value_loss(self, batch: _Batch, rows: Rows, vf: Tensor) -> tuple[Tensor, StepStats]:
        device, at = vf.device, rows.device
        loss, stats = value_loss(
            vf.float(),
            batch.targets[device][at],
            coeff=self._settings.vf_loss_coeff,
            old_vf=batch.vf[device][at],
            change_clip=self._settings.value_clip_param,
        )
        return loss, stats._asdict()


def _heads(replica: Replica, kind: Kind, inputs: Inputs) -> tuple[Tensor | None, Tensor | None]:
    if kind == "joint":
        output = replica.forward(*inputs)
        return output.logits, output.vf
    if kind == "value":
        return None, replica.value(*inputs)
    return replica.policy(*inputs)[0], None
