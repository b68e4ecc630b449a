"""Core: a dumped numeric fault computed again, and what it tells.

Shape key: B rows of the minibatch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rllib_ppg.core.aux_loss import aux_loss_function
from rllib_ppg.core.aux_settings import AuxPhaseSettings
from rllib_ppg.core.distributions import ActionSpec
from rllib_ppg.core.drac import drac_regularizer
from rllib_ppg.core.fault_advice import advise
from rllib_ppg.core.fault_files import Dump, damaged
from rllib_ppg.core.fault_numbers import Layer, Module, Numbers, describe, describe_layer
from rllib_ppg.core.frames import Frames, Rows
from rllib_ppg.core.networks import PhasicNetwork
from rllib_ppg.core.noise import KEPT, DrawnFrames
from rllib_ppg.core.policy_loss import (
    PolicyBatch,
    Regularizer,
    RolloutRows,
    policy_loss_function,
)
from rllib_ppg.core.policy_phase import CHANGED, MASK
from rllib_ppg.core.policy_settings import PolicyPhaseSettings
from rllib_ppg.core.precision import MixedPrecision
from rllib_ppg.core.replicas import Replica, Replicas
from rllib_ppg.core.updates import LossFunction, Updater

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Diagnosis:
    """What a replay found.

    Attributes:
        repeats: Whether the fault came again; None where there was nothing to compute.
        in_float32: The same with float32 passes, where it was trained in another format.
        losses: The loss terms and the gradient's norm.
        module: The first module whose output is not finite; None if there is none.
        inputs: What went into the loss.
        layers: The network's parameters and their gradients.
        advice: What to do, the likeliest first.
    """

    repeats: bool | None
    in_float32: bool | None = None
    losses: Mapping[str, float] = field(default_factory=dict)
    module: Module | None = None
    inputs: list[Numbers] = field(default_factory=list)
    layers: list[Layer] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)


def diagnose(dump: Dump, folder: Path) -> Diagnosis:
    """Compute a fault again on the CPU, in the format of its training, and look at it.

    Args:
        dump: The fault.
        folder: Where it was read from, for the message.

    Raises:
        UserError: If the dump's parts do not fit together.
    """
    try:
        found = _diagnose(dump)
    except (RuntimeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise damaged(folder, error) from error
    return replace(found, advice=advise(found.inputs, found.layers, found.module, _facts(found)))


def _facts(found: Diagnosis) -> dict[str, bool | None]:
    return {"repeats": found.repeats, "in_float32": found.in_float32}


def _diagnose(dump: Dump) -> Diagnosis:
    rows = dump.group(dump.kind)
    inputs = [describe(name, rows[name]) for name in sorted(rows)]
    if dump.kind == "sample" or dump.policy is None:
        return Diagnosis(None, inputs=inputs)
    step = _Step(dump)
    ratios = step.log_ratios()
    if ratios is not None:
        inputs.append(describe("log_ratio", ratios))
    found = step.compute(str(dump.facts["settings"]["precision"]))
    if found.repeats and dump.facts["settings"]["precision"] != "float32":
        found = replace(found, in_float32=step.compute("float32").repeats)
    return replace(found, inputs=inputs)


class _Step:
    """The broken optimiser step: network, minibatch and loss."""

    def __init__(self, dump: Dump) -> None:
        assert dump.policy is not None
        meta, facts = dump.policy, dump.facts
        self.spec = ActionSpec(facts["action"]["kind"], tuple(facts["action"]["sizes"]))
        self.facts = facts
        with torch.random.fork_rng(devices=[]):
            self.network: PhasicNetwork = meta.network.build(
                meta.observations, self.spec.num_inputs
            )
        self.network.load_state_dict(dump.group("network"))
        self.rows = dump.group("minibatch")
        for name in ("obs", CHANGED):  # as for an exported policy, the network counts from 0
            if meta.observations.start and name in self.rows:
                self.rows[name] = self.rows[name] - meta.observations.start
        self.updater = Updater(Replicas([self.network]), facts["micro_batch_size"])

    def compute(self, precision: Any) -> Diagnosis:
        """Compute loss and gradient with passes in a format."""
        mixed = MixedPrecision(precision, _CPU)
        mixed.set_state(self.facts["precision"])
        minibatches = self.updater.minibatches([np.arange(len(self.rows["obs"]))], 1)
        with _FirstBroken(self.network) as first:
            stats = self.updater.gradient(minibatches, self._loss_function(), mixed)
        norm = _gradient_norm(self.network)
        losses = {name: float(value) for name, value in stats.items()}
        blamed = bool(mixed.blamed(~torch.isfinite(norm)))
        broken = not all(math.isfinite(value) for value in losses.values())
        repeats = broken or (not math.isfinite(norm) and not blamed)
        layers = [describe_layer(name, p) for name, p in self.network.named_parameters()]
        losses["grad_norm"] = float(norm)
        return Diagnosis(repeats, losses=losses, module=first.found, layers=layers)

    def _loss_function(self) -> LossFunction:
        settings = self.facts["settings"]
        if self.facts["phase"] == "aux":
            columns = (self.rows[name] for name in ("old_inputs", "value_targets"))
            old_inputs, targets = ({_CPU: column} for column in columns)
            return aux_loss_function(
                self.spec,
                AuxPhaseSettings(**settings),
                DrawnFrames(self._frames("obs"), self._kept()),
                old_inputs,
                targets,
            )
        batch: dict[str, Any] = {
            name: column[None] for name, column in self.rows.items() if "/" not in name
        }
        made = PolicyPhaseSettings(**settings)
        return policy_loss_function(
            self.spec,
            made,
            RolloutRows(PolicyBatch(**batch), self.updater),
            self.facts["kind"],
            self.facts["entropy_coeff"],
            self._regularizer(made),
        )

    def _regularizer(self, settings: PolicyPhaseSettings) -> Regularizer | None:
        if not settings.drac_weight:
            return None
        return drac_regularizer(
            self.spec,
            DrawnFrames(self._frames(CHANGED), self._kept(), self.rows[MASK]),
            settings.drac_weight,
            value_weight=settings.drac_value_weight,
            policy_weight=settings.drac_policy_weight,
        )

    def _frames(self, name: str) -> Frames:
        return Frames.of(self.rows[name], self.rows.get("prev_actions"))

    def _kept(self) -> dict[str, Tensor]:
        return {k.removeprefix(KEPT): v for k, v in self.rows.items() if k.startswith(KEPT)}

    def log_ratios(self) -> Tensor | None:
        """Log-probability of each action now less that while acting (B,); None without policy."""
        if self.facts["kind"] not in ("joint", "policy"):
            return None
        frames, columns = self._frames("obs"), self.rows

        def change(replica: Replica, rows: Rows) -> Tensor:
            logits, _ = replica.policy(*frames.inputs(rows, replica.device))
            logp = self.spec.distribution(logits).logp(columns["actions"][rows.host])
            return logp - columns["logp"][rows.host]

        precision = MixedPrecision(self.facts["settings"]["precision"], _CPU)
        return self.updater.map(change, 0, len(columns["obs"]), precision)


def _gradient_norm(network: nn.Module) -> Tensor:
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    return nn.utils.get_total_norm(gradients)


class _FirstBroken:
    """Context that notes the first module of a network whose output is not finite."""

    def __init__(self, network: nn.Module) -> None:
        self.found: Module | None = None
        self._network = network
        self._hooks: list[Any] = []

    def __enter__(self) -> _FirstBroken:
        for name, module in self._network.named_modules():
            if name:
                self._hooks.append(module.register_forward_hook(self._hook(name)))
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _hook(self, name: str) -> Any:
        def note(module: nn.Module, given: tuple[Any, ...], output: Any) -> None:
            if self.found is None and isinstance(output, Tensor) and not _finite(output):
                self.found = Module(
                    name,
                    type(module).__name__,
                    inputs_finite=all(_finite(value) for value in given),
                    weights_finite=all(_finite(p) for p in module.parameters()),
                )

        return note


def _finite(value: Any) -> bool:
    return not isinstance(value, Tensor) or bool(torch.isfinite(value).all())
