"""Core: the policy phase, value and policy epochs over one rollout.

Shape key: T steps, N environments, M minibatches of an epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rllib_ppg.core.clipping import GradientClip
from rllib_ppg.core.distributions import ActionSpec
from rllib_ppg.core.entropy import EntropyCoefficient
from rllib_ppg.core.frames import Frames, Rows, as_tensor
from rllib_ppg.core.losses import policy_loss, value_loss
from rllib_ppg.core.numeric_fault import Evidence, FaultFlag
from rllib_ppg.core.optimizers import Layout, Optimizers, check_layout
from rllib_ppg.core.precision import MixedPrecision, Precision, check_precision
from rllib_ppg.core.replicas import Replica
from rllib_ppg.core.segments import (
    IndexArray,
    aux_pieces,
    policy_chunks,
    segment_rows,
    shuffled,
)
from rllib_ppg.core.updates import (
    LossFunction,
    Minibatch,
    MinibatchUnit,
    StepStats,
    Updater,
    check_unit,
    in_steps,
)

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
        mbsize_rows: Rows of a minibatch, with the unit "step"; the last one may have fewer. None
            takes `nminibatch`.
        num_accumulates: Minibatches whose mean losses are averaged for an optimiser step; they are
            counted on through the epochs.
        shuffle_minibatches: Shuffle their order too, so that a short one may come anywhere.
        precision: Number format of the network's passes.
        grad_clip_elementwise: Entries of the gradient are held within +- this first, in both
            phases; None does not.
        grad_clip_adaptive: Options of `AdaptiveClip`, which replaces `grad_clip` in both phases;
            None does not.
        optimizers: Which optimiser holds which parameters, in both phases.
        weight_decay: Adam's L2 penalty, in both phases.
        value_lr: Learning rate of the value's own optimiser, where it has one; None takes `lr`.
        detach_value: The value loss does not reach the encoder in this phase, whatever `arch`.
        alternate_entropy_coeff: Weight of the entropy bonus for minibatches whose observations
            repeat; None always takes `entropy_coeff`.
        unique_threshold: They repeat where the share of new observations is below this.

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
    mbsize_rows: int | None = None
    num_accumulates: int = 1
    shuffle_minibatches: bool = False
    precision: Precision = "float32"
    grad_clip_elementwise: float | None = None
    grad_clip_adaptive: Mapping[str, Any] | None = None
    optimizers: Layout = "phases"
    weight_decay: float = 0.0
    value_lr: float | None = None
    detach_value: bool = False
    alternate_entropy_coeff: float | None = None
    unique_threshold: float = 0.9

    def __post_init__(self) -> None:
        check_unit(self.minibatch_unit)
        check_layout(self.optimizers)
        check_precision(self.precision)
        if min(self.n_epoch_pi, self.n_epoch_vf) < 0 or max(self.n_epoch_pi, self.n_epoch_vf) < 1:
            raise ValueError(
                f"n_epoch_pi={self.n_epoch_pi} and n_epoch_vf={self.n_epoch_vf} must not be "
                "negative, and one of them must be at least 1."
            )
        if self.nminibatch < 1:
            raise ValueError(f"nminibatch={self.nminibatch} must be at least 1.")
        check_sizes(self.mbsize_rows, self.num_accumulates, self.minibatch_unit)

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


def check_sizes(mbsize_rows: int | None, num_accumulates: int, unit: str) -> None:
    """Refuse sizes of minibatches that make no sense.

    Raises:
        ValueError: Naming them.
    """
    if (mbsize_rows is not None and mbsize_rows < 1) or num_accumulates < 1:
        raise ValueError(
            f"mbsize_rows={mbsize_rows} and num_accumulates={num_accumulates} must be at least 1."
        )
    if mbsize_rows is not None and unit != "step":
        raise ValueError('mbsize_rows needs the minibatch unit "step".')


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
        num_unique_states: Different observations of the episode so far, that after the step
            included (N, T), where the environments count them.
        episode_step: Steps of the episode before this one (N, T), where they count them.
    """

    obs: npt.NDArray[Any] | Tensor | Frames
    actions: npt.NDArray[Any] | Tensor
    logp: npt.NDArray[Any] | Tensor
    advantages: npt.NDArray[Any] | Tensor
    value_targets: npt.NDArray[Any] | Tensor
    vf_preds: npt.NDArray[Any] | Tensor
    num_unique_states: npt.NDArray[Any] | None = None
    episode_step: npt.NDArray[Any] | None = None

    def frames(self) -> Frames:
        """Return the observations by row, environment first."""
        if isinstance(self.obs, Frames):
            return self.obs
        return Frames.of(as_tensor(self.obs).flatten(0, 1))


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
        self._counts = (batch.num_unique_states, batch.episode_step)

    def counts(self, rows: IndexArray) -> tuple[npt.NDArray[Any] | None, npt.NDArray[Any] | None]:
        """`num_unique_states` and `episode_step` of some rows."""
        unique, step = self._counts
        if unique is None or step is None:
            return None, None
        return np.asarray(unique).reshape(-1)[rows], np.asarray(step).reshape(-1)[rows]


# A minibatch's units, and its rows by replica.
_Part = tuple[IndexArray, Minibatch]


class PolicyPhase:
    """All optimiser steps on one rollout, as an iterator.

    Args:
        updater: Makes the steps.
        optimizers: The optimisers.
        spec: How the policy head's outputs are read.
        settings: Hyper-parameters.
        entropy: The current weight of the entropy bonus.
        clip: Clips gradients.
        precision: Format of the network's passes.
        permutation: Draws a permutation of n.
    """

    def __init__(
        self,
        updater: Updater,
        optimizers: Optimizers,
        spec: ActionSpec,
        settings: PolicyPhaseSettings,
        *,
        entropy: EntropyCoefficient,
        clip: GradientClip,
        precision: MixedPrecision,
        permutation: Callable[[int], IndexArray],
    ) -> None:
        self._updater = updater
        self._optimizers = optimizers
        self._spec = spec
        self._settings = settings
        self._entropy = entropy
        self._clip = clip
        self._precision = precision
        self._permutation = permutation

    def steps(self, rollout: PolicyBatch) -> Iterator[PolicyStep]:
        """Make the optimiser steps one by one; yields after each."""
        batch = _Batch(rollout, self._updater)
        fault = FaultFlag(self._updater.device)
        settings, optimizers = self._settings, self._optimizers
        for epoch, i, count, kind, parts in self._plan(batch):
            units = np.concatenate([piece for piece, _ in parts])
            rows = segment_rows(units, self._width(batch))
            coefficient = self._entropy.observe(*batch.counts(rows))
            stats = self._updater.update(
                optimizers.of(kind),
                [minibatch for _, minibatch in parts],
                self._loss(batch, kind, coefficient),
                self._clip,
                settings.grad_clip,
                self._precision,
                fault,
                optimizers.coast,
            )
            yield PolicyStep(epoch, i, count, kind, units, stats)

    def _width(self, batch: _Batch) -> int:
        """Rows of a unit."""
        return batch.num_steps if self._settings.minibatch_unit == "segment" else 1

    def _plan(self, batch: _Batch) -> Iterator[tuple[int, int, int, Kind, Sequence[_Part]]]:
        """Yield each step's epoch, number within it, their count, kind and minibatches.

        Minibatches are counted on from epoch to epoch of a kind; a step that takes some of two
        epochs belongs to the one that it ends in.
        """
        settings, width = self._settings, self._width(batch)
        kinds = settings.epoch_kinds()
        pending: Sequence[_Part] = []
        for epoch, kind in enumerate(kinds):
            pieces = self._pieces(batch.num_envs * batch.num_steps // width)
            minibatches = self._updater.minibatches(pieces, width)
            parts = [*pending, *zip(pieces, minibatches, strict=True)]
            steps = in_steps(parts, settings.num_accumulates)
            goes_on = epoch + 1 < len(kinds) and kinds[epoch + 1] == kind
            pending = []
            if goes_on and len(steps[-1]) < settings.num_accumulates:
                pending = steps.pop()
            for i, step in enumerate(steps):
                yield epoch, i, len(steps), kind, step

    def _pieces(self, units: int) -> list[IndexArray]:
        settings, permutation = self._settings, self._permutation(units)
        if settings.mbsize_rows is None:
            pieces = policy_chunks(permutation, settings.nminibatch)
        else:
            pieces = aux_pieces(permutation, settings.mbsize_rows)
        if settings.shuffle_minibatches:
            pieces = shuffled(pieces, self._permutation(len(pieces)))
        return pieces

    def evidence(self, rollout: PolicyBatch, step: PolicyStep) -> Evidence:
        """Return a step's minibatch, and what its loss was made with."""
        batch = _Batch(rollout, self._updater)
        rows = torch.from_numpy(segment_rows(step.units, self._width(batch)))
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
        tensors["obs"] = batch.frames.read(at, device).cpu()
        facts = {
            "phase": "policy",
            "kind": step.kind,
            "epoch": step.epoch,
            "minibatch": step.minibatch,
            "minibatches": step.minibatches,
            "units": np.asarray(step.units).tolist(),
            "settings": asdict(self._settings),
            "entropy_coeff": self._entropy.current,
            "micro_batch_size": self._updater.micro_batch_size,
            "precision": self._precision.get_state(),
        }
        return Evidence("minibatch", facts, tensors)

    def _loss(self, batch: _Batch, kind: Kind, entropy_coeff: float) -> LossFunction:
        return partial(_loss, self._spec, self._settings, entropy_coeff, kind, batch)


def policy_loss_function(
    updater: Updater,
    spec: ActionSpec,
    settings: PolicyPhaseSettings,
    rollout: PolicyBatch,
    kind: Kind,
    entropy_coeff: float,
) -> LossFunction:
    """Return the loss of a kind of epoch, over rows of a rollout.

    Args:
        updater: Knows the devices.
        spec: How the policy head's outputs are read.
        settings: Hyper-parameters.
        rollout: The rollout.
        kind: What is minimised.
        entropy_coeff: Weight of the entropy bonus.
    """
    return partial(_loss, spec, settings, entropy_coeff, kind, _Batch(rollout, updater))


def _loss(
    spec: ActionSpec,
    settings: PolicyPhaseSettings,
    entropy_coeff: float,
    kind: Kind,
    batch: _Batch,
    replica: Replica,
    rows: Rows,
) -> tuple[Tensor, StepStats]:
    obs = batch.frames.read(rows, replica.device)
    logits, vf = _heads(replica, kind, obs, settings.detach_value)
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
    total = torch.stack(losses).sum()
    stats["loss_total"] = total.detach()
    return total, stats


def _heads(
    replica: Replica, kind: Kind, obs: Tensor, detach_value: bool
) -> tuple[Tensor | None, Tensor | None]:
    if kind == "joint":
        output = replica.forward(obs, **({"detach_value": True} if detach_value else {}))
        return output.logits, output.vf
    if kind == "value":
        return None, replica.value(obs)
    return replica.policy(obs)[0], None
