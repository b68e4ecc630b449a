"""Core: the policy phase, value and policy epochs over one rollout.

Shape key: T steps, N environments, M minibatches of an epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import NamedTuple

import numpy as np
import torch

from rllib_ppg.core.clipping import GradientClip
from rllib_ppg.core.distributions import ActionSpec
from rllib_ppg.core.drac import Drac
from rllib_ppg.core.entropy import EntropyCoefficient
from rllib_ppg.core.frames import Rows
from rllib_ppg.core.noise import KEPT, NoiseState
from rllib_ppg.core.numeric_fault import Evidence, FaultFlag
from rllib_ppg.core.optimizers import Optimizers
from rllib_ppg.core.policy_loss import PolicyBatch, RolloutRows, policy_loss_function
from rllib_ppg.core.policy_settings import Kind, PolicyPhaseSettings
from rllib_ppg.core.precision import MixedPrecision
from rllib_ppg.core.segments import (
    IndexArray,
    aux_pieces,
    policy_chunks,
    segment_rows,
    shuffled,
)
from rllib_ppg.core.updates import Minibatch, StepStats, Updater, in_steps

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

CHANGED, MASK = "drac/obs", "drac/policy_mask"
"""Names of DrAC's inputs in a fault's evidence."""


class PolicyStep(NamedTuple):
    """One optimiser step that was made.

    Attributes:
        epoch: From 0, counted on through value and policy epochs.
        minibatch: From 0 within the epoch.
        minibatches: Minibatches of the epoch.
        kind: What was minimised.
        units: The minibatch's environments in order, or flat rows with the unit "step".
        stats: Statistics on the device.
        entropy_coeff: The weight of the entropy bonus.
        noise: What `NoisyFrames.again` needs for DrAC's changed observations; None without DrAC.
    """

    epoch: int
    minibatch: int
    minibatches: int
    kind: Kind
    units: IndexArray
    stats: StepStats
    entropy_coeff: float
    noise: NoiseState | None = None

    def __str__(self) -> str:
        """Name the step for a person, counting from 1."""
        return (
            f"policy-phase minibatch {self.minibatch + 1} of {self.minibatches} "
            f"(epoch {self.epoch + 1})"
        )


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
        drac: Draws policy and value of changed observations to those of the clean ones; None does
            not.
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
        drac: Drac | None = None,
    ) -> None:
        self._updater = updater
        self._optimizers = optimizers
        self._spec = spec
        self._settings = settings
        self._entropy = entropy
        self._clip = clip
        self._precision = precision
        self._permutation = permutation
        self._drac = drac

    def steps(self, rollout: PolicyBatch) -> Iterator[PolicyStep]:
        """Make the optimiser steps one by one; yields after each."""
        batch = RolloutRows(rollout, self._updater)
        fault = FaultFlag(self._updater.device)
        settings, optimizers = self._settings, self._optimizers
        changed = self._drac.frames(batch.frames) if self._drac else None
        plan = list(self._plan(batch))
        for number, (epoch, i, count, kind, parts) in enumerate(plan):
            units = np.concatenate([piece for piece, _ in parts])
            rows = segment_rows(units, self._width(batch))
            coefficient = self._entropy.observe(*batch.counts(rows))
            regularizer, noise = None, None
            if self._drac is not None and changed is not None:
                if number == len(plan) - 1:
                    self._drac.choose(batch.mean_reward)
                noise = changed.begin(rows)
                regularizer = self._drac.regularizer(self._spec, changed)
            stats = self._updater.update(
                optimizers.of(kind),
                [minibatch for _, minibatch in parts],
                policy_loss_function(self._spec, settings, batch, kind, coefficient, regularizer),
                self._clip,
                settings.grad_clip,
                self._precision,
                fault,
                optimizers.coast,
            )
            yield PolicyStep(epoch, i, count, kind, units, stats, coefficient, noise)

    def _width(self, batch: RolloutRows) -> int:
        """Rows of a unit."""
        return batch.num_steps if self._settings.minibatch_unit == "segment" else 1

    def _plan(self, batch: RolloutRows) -> Iterator[tuple[int, int, int, Kind, Sequence[_Part]]]:
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
        batch = RolloutRows(rollout, self._updater)
        numbers = segment_rows(step.units, self._width(batch))
        rows = torch.from_numpy(numbers)
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
        if self._drac is not None:
            changed = self._drac.frames(batch.frames)
            draws = changed.again(numbers, step.noise)
            tensors[CHANGED] = changed.inputs(at, device).obs.cpu()
            tensors[MASK] = changed.policy_mask(at, device).cpu()
            kept = (name for name in draws if name.startswith(KEPT))
            tensors |= {name: torch.from_numpy(draws[name]) for name in kept}
        facts = {
            "phase": "policy",
            "kind": step.kind,
            "epoch": step.epoch,
            "minibatch": step.minibatch,
            "minibatches": step.minibatches,
            "units": np.asarray(step.units).tolist(),
            "settings": asdict(self._settings),
            "entropy_coeff": step.entropy_coeff,
            "micro_batch_size": self._updater.micro_batch_size,
            "precision": self._precision.get_state(),
        }
        return Evidence("minibatch", facts, tensors)
