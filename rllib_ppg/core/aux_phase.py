"""Core: the auxiliary phase over the stored segments, in slices that change no number.

Shape key: T steps, S segments stored, A outputs of the policy head.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rllib_ppg.core.aux_loss import aux_loss_function
from rllib_ppg.core.aux_settings import AuxPhaseSettings
from rllib_ppg.core.clipping import GradientClip
from rllib_ppg.core.distributions import ActionSpec
from rllib_ppg.core.frames import Rows
from rllib_ppg.core.noise import KEPT, Noise, NoiseState, NoisyFrames
from rllib_ppg.core.numeric_fault import BrokenStep, Evidence, FaultFlag, with_evidence
from rllib_ppg.core.optimizers import Optimizers
from rllib_ppg.core.precision import MixedPrecision
from rllib_ppg.core.replicas import Replica
from rllib_ppg.core.segments import (
    IndexArray,
    SegmentStore,
    aux_pieces,
    segment_rows,
    shuffled,
)
from rllib_ppg.core.updates import (
    LossFunction,
    Minibatch,
    PhaseStats,
    StepStats,
    Updater,
    collect_stats,
    in_steps,
)

# Computes value targets (S, T) anew from the values (S, T) of this moment.
Retarget = Callable[[SegmentStore, npt.NDArray[np.float32]], npt.NDArray[np.float32]]

AUX_STATS = ("loss_total", "pol_distance", "vf_aux", "vf_true", "grad_norm")


class AuxStep(NamedTuple):
    """One optimiser step that was made.

    Attributes:
        epoch: From 1.
        minibatch: From 0 within the epoch.
        minibatches: Minibatches of the epoch.
        units: The minibatch's rows of the store in order, or flat (row, step) numbers with the
            unit "step".
        stats: Statistics on the device.
        noise: What `NoisyFrames.again` needs to draw the minibatch's noise again.
    """

    epoch: int
    minibatch: int
    minibatches: int
    units: IndexArray
    stats: StepStats
    noise: NoiseState | None = None

    def __str__(self) -> str:
        """Name the step for a person, counting from 1."""
        return (
            f"auxiliary-phase minibatch {self.minibatch + 1} of {self.minibatches} "
            f"(epoch {self.epoch})"
        )


class AuxPhase:
    """An auxiliary phase under way.

    Epoch 0 records the old policy in float32 without gradient; epochs 1 to `epochs` train. The
    caller clears the store when the phase is done, and must not write to it before.

    Args:
        updater: Makes the steps.
        optimizers: The optimisers.
        spec: How the policy head's outputs are read.
        settings: Hyper-parameters.
        store: The segments.
        clip: Clips gradients.
        precision: Format of the training passes; the old policy is recorded in float32.
        permutation: Draws a permutation of n.
        retarget: Computes the store's value targets anew after epoch 0; None keeps them.
        noise: Augmentation and dropout of the training passes; None for neither.
        state: Where to go on, as `get_state` of a phase over the same segments gave it; from the
            beginning by default.

    Attributes:
        epoch: The current epoch.
        minibatch: Minibatches of the current epoch that are done.
        minibatches: Optimiser steps of each epoch.
        old_inputs: The old policy's outputs by flat row, float32 (S * T, A) on the device.
        old_values: With `retarget`, the values at the same time, float32 (S * T,).
        target_change: Root of the mean squared change of the value targets at the end of epoch 0;
            NaN without `retarget`, and where another process did it.

    Raises:
        ValueError: If the store is empty, or the state belongs to other segments.
    """

    def __init__(
        self,
        updater: Updater,
        optimizers: Optimizers,
        spec: ActionSpec,
        settings: AuxPhaseSettings,
        *,
        store: SegmentStore,
        clip: GradientClip,
        precision: MixedPrecision,
        permutation: Callable[[int], IndexArray],
        retarget: Retarget | None = None,
        noise: Noise | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        if store.count == 0:
            raise ValueError("the auxiliary phase needs stored segments, and there are none.")
        self._updater = updater
        self._optimizers = optimizers
        self._spec = spec
        self._settings = settings
        self._clip = clip
        self._precision = precision
        # Everything that the phase keeps to is of this: a coarser format would move the policy.
        self._exact = MixedPrecision("float32", updater.device)
        self._permutation = permutation
        self._retarget = retarget
        self._store = store
        self._num_steps = store.num_steps
        self._frames = store.frames()
        self._noisy = NoisyFrames(self._frames, noise, store.obs_shape)
        self._read_targets()
        self._order = store.pairs()
        if settings.minibatch_unit == "step":
            self._order = segment_rows(self._order, store.num_steps)
        self._fault = FaultFlag(updater.device)
        self._steps: list[Sequence[Minibatch]] = []
        self._pieces: list[IndexArray] = []
        self._loss: LossFunction | None = None
        self.epochs = settings.n_aux_epochs
        self.epoch = 0
        self.target_change = math.nan
        self.minibatch = 0
        self.minibatches = -(-len(self._frames) // settings.step_rows(store.num_steps))
        # Zeros: a checkpoint in epoch 0 would hold what lay in memory.
        self.old_inputs = torch.zeros(
            (len(self._frames), spec.num_inputs), dtype=torch.float32, device=updater.device
        )
        rows = len(self._frames) if retarget is not None else 0
        self.old_values = torch.zeros(rows, dtype=torch.float32, device=updater.device)
        if state is not None:
            self._set_state(state)

    def _read_targets(self) -> None:
        targets = torch.from_numpy(self._store.value_targets[: self._store.count]).flatten()
        self._targets = self._updater.on_devices(targets)

    def get_state(self) -> dict[str, Any]:
        """Return where the phase stands, in numpy and plain Python; no segments, no weights."""
        state = {
            "epoch": self.epoch,
            "minibatch": self.minibatch,
            "old_inputs": self.old_inputs.cpu().numpy().copy(),
            "pieces": [piece.copy() for piece in self._pieces],
        }
        if self._retarget is not None:
            state["old_values"] = self.old_values.cpu().numpy().copy()
        return state

    def _set_state(self, state: Mapping[str, Any]) -> None:
        old_inputs = torch.from_numpy(np.array(state["old_inputs"], np.float32))
        if old_inputs.shape != self.old_inputs.shape:
            raise ValueError(
                f"the state of the auxiliary phase {tuple(old_inputs.shape)} does not fit its "
                f"segments {tuple(self.old_inputs.shape)}."
            )
        self.old_inputs.copy_(old_inputs)
        if self._retarget is not None and "old_values" in state:
            self.old_values.copy_(torch.from_numpy(np.array(state["old_values"], np.float32)))
        self.epoch, self.minibatch = int(state["epoch"]), int(state["minibatch"])
        if self.epoch and self.minibatch:
            self._use_pieces(state["pieces"])

    @property
    def done(self) -> bool:
        """Whether all epochs are over."""
        return self.epoch > self.epochs or self.epochs == 0

    @property
    def progress(self) -> float:
        """Share of the phase's minibatches that are done, epoch 0 included, in [0, 1]."""
        if self.done:
            return 1.0
        return (self.epoch + self.minibatch / self.minibatches) / (self.epochs + 1)

    def run(self, max_seconds: float | None = None) -> PhaseStats:
        """Run one slice: to the end of the current epoch, or for `max_seconds`.

        A slice ends after a minibatch and has at least one.

        Returns:
            Statistics of its optimiser steps; those of epoch 0 are empty.

        Raises:
            BrokenStep: If a loss or the gradient norm was not finite; weights and optimisers are
                those before that step.
        """
        self._fault = FaultFlag(self._updater.device)
        deadline = None if max_seconds is None else time.monotonic() + max_seconds
        epoch = self.epoch
        made: list[AuxStep] = []
        while not self.done and self.epoch == epoch:
            step = self.step()
            if step is not None:
                made.append(step)
            if deadline is not None and time.monotonic() >= deadline:
                break
        try:
            return collect_stats(AUX_STATS, [step.stats for step in made], lambda i: str(made[i]))
        except BrokenStep as error:
            raise with_evidence(error, lambda i: self._evidence(made[i])) from None

    def _evidence(self, step: AuxStep) -> Evidence:
        """Return a step's minibatch, and what its loss was made with."""
        numbers = self._row_numbers(step.units)
        rows = torch.from_numpy(numbers)
        device = self._updater.device
        at = Rows(rows, rows.to(device))
        draws = self._noisy.again(numbers, step.noise)
        inputs = self._noisy.inputs(at, device)
        tensors = {
            "obs": inputs.obs.cpu(),
            "old_inputs": self.old_inputs[at.device].cpu(),
            "value_targets": self._targets[device][at.device].cpu(),
        }
        if inputs.prev_actions is not None:
            tensors["prev_actions"] = inputs.prev_actions.cpu()
        for name in draws:
            if name.startswith(KEPT):
                tensors[name] = torch.from_numpy(draws[name])
        facts = {
            "phase": "aux",
            "kind": "aux",
            "epoch": step.epoch,
            "minibatch": step.minibatch,
            "minibatches": step.minibatches,
            "units": np.asarray(step.units).tolist(),
            "settings": asdict(self._settings),
            "micro_batch_size": self._updater.micro_batch_size,
            "precision": self._precision.get_state(),
        }
        return Evidence("minibatch", facts, tensors)

    def _row_numbers(self, units: IndexArray) -> IndexArray:
        whole = self._settings.minibatch_unit == "segment"
        return segment_rows(units, self._num_steps if whole else 1)

    def step(self) -> AuxStep | None:
        """Do one minibatch: an optimiser step, or None where the old policy was recorded.

        Raises:
            ValueError: If the phase is done.
        """
        if self.done:
            raise ValueError("the auxiliary phase is done; begin another.")
        made = None
        if self.epoch == 0:
            self._record_old_policy()
        else:
            made = self._optimize()
        self.minibatch += 1
        if self.minibatch == self.minibatches:
            if self.epoch == 0:
                self._end_recording()
            self.epoch, self.minibatch = self.epoch + 1, 0
        return made

    def _record_old_policy(self) -> None:
        size = self._settings.step_rows(self._num_steps)
        start = self.minibatch * size
        stop = min(start + size, len(self._frames))
        found = self._updater.map(self._policy_inputs, start, stop, self._exact)
        width = self._spec.num_inputs
        self.old_inputs[start:stop] = found[:, :width]
        if self._retarget is not None:
            self.old_values[start:stop] = found[:, width]

    def _policy_inputs(self, replica: Replica, rows: Rows) -> Tensor:
        """The policy's outputs and, for new targets, the value in a last column."""
        inputs = self._frames.inputs(rows, replica.device)
        logits, vf = replica.policy(*inputs)
        if self._retarget is None:
            return logits
        if vf is None:
            vf = replica.value(*inputs)
        return torch.cat([logits.float(), vf.float()[:, None]], dim=1)

    def _end_recording(self) -> None:
        if self._retarget is None:
            return
        values = self.old_values.cpu().numpy().reshape(-1, self._num_steps)
        before = self._store.value_targets[: self._store.count]
        now = self._retarget(self._store, values)
        self.target_change = float(np.sqrt(np.mean(np.square(now - before, dtype=np.float64))))
        before[:] = now
        self._read_targets()

    def _optimize(self) -> AuxStep:
        if self.minibatch == 0:
            self._begin_epoch()
        assert self._loss is not None
        units = self._units()
        noise = self._noisy.begin(self._row_numbers(units))
        stats = self._updater.update(
            self._optimizers.of("aux"),
            self._steps[self.minibatch],
            self._loss,
            self._clip,
            self._settings.grad_clip,
            self._precision,
            self._fault,
            self._optimizers.coast,
        )
        return AuxStep(self.epoch, self.minibatch, self.minibatches, units, stats, noise)

    def _units(self) -> IndexArray:
        """The units of the current step."""
        steps = in_steps(self._pieces, self._settings.num_accumulates)
        return np.concatenate(steps[self.minibatch])

    def _begin_epoch(self) -> None:
        settings = self._settings
        if settings.minibatch_unit == "segment":
            size = settings.aux_mbsize
        else:
            size = settings.mbsize_rows or settings.aux_mbsize * self._num_steps
        order = self._order[self._permutation(len(self._order))]
        pieces = aux_pieces(order, size)
        if settings.shuffle_minibatches:
            pieces = shuffled(pieces, self._permutation(len(pieces)))
        self._use_pieces(pieces)

    def _use_pieces(self, pieces: list[IndexArray]) -> None:
        self._pieces = pieces
        whole = self._settings.minibatch_unit == "segment"
        minibatches = self._updater.minibatches(pieces, self._num_steps if whole else 1)
        self._steps = in_steps(minibatches, self._settings.num_accumulates)
        self._loss = aux_loss_function(
            self._spec,
            self._settings,
            self._noisy,
            self._updater.on_devices(self.old_inputs),
            self._targets,
        )
