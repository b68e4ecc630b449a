"""Core: everything that changes weights, and the state that has to survive a restart.

Shape key: T steps, N environments, B rows, S segments stored, A outputs of the policy head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rllib_ppg.core.augment_setting import make_augmentation
from rllib_ppg.core.aux_phase import AUX_STATS, AuxPhase, AuxPhaseSettings
from rllib_ppg.core.distributions import ActionSpec
from rllib_ppg.core.frames import Frames
from rllib_ppg.core.networks import PhasicNetwork
from rllib_ppg.core.noise import Draw, Noise
from rllib_ppg.core.numeric_fault import BrokenStep, with_evidence
from rllib_ppg.core.policy_phase import (
    POLICY_STATS,
    PolicyBatch,
    PolicyPhase,
    PolicyPhaseSettings,
    PolicyStep,
)
from rllib_ppg.core.precision import MixedPrecision
from rllib_ppg.core.replicas import Compile, Replicas
from rllib_ppg.core.segments import IndexArray, SegmentStore
from rllib_ppg.core.updates import PhaseStats, Updater, collect_stats, make_adam

__all__ = [
    "AUX_STATS",
    "POLICY_STATS",
    "AuxPhase",
    "AuxPhaseSettings",
    "PhaseStats",
    "PhasicLearner",
    "PolicyBatch",
    "PolicyPhaseSettings",
    "PolicyStep",
]

_MOMENTS = ("exp_avg", "exp_avg_sq")  # Adam's names


class PhasicLearner:
    """Trains a `PhasicNetwork` by phasic policy gradient.

    The policy phase has one Adam over all parameters where its epochs are joint, otherwise one for
    the value and one for the policy epochs; the auxiliary phase has another. All are made once, so
    that their moments survive from phase to phase.

    Args:
        network: The network; it is moved to `device`.
        action_spec: How the policy head's outputs are read.
        policy_settings: Hyper-parameters of the policy phase.
        aux_settings: Hyper-parameters of the auxiliary phase.
        device: Where to train.
        copies: Copies of the network on further devices, which share every minibatch with it.
        threads: CPU threads that share every minibatch instead, where `device` is a CPU and there
            are no copies; 1 leaves it to torch to use several for each operation.
        compile: Makes a faster version of a function, such as `torch.compile`; None leaves the
            network's passes as they are.
        micro_batch_size: Most rows in one pass; None takes all that a thread or device has.
        generator: Source of the permutations.
        permutation: Draws a permutation of n instead of the generator.
        draw_noise: Draws the augmentation and dropout of an auxiliary minibatch instead of it.

    Attributes:
        entropy_coeff: The current weight of the entropy bonus.

    Source: Cobbe et al. 2020 (arXiv:2009.04416), algorithm 1; optimisers as in
    openai/phasic-policy-gradient@7295473.
    """

    def __init__(
        self,
        network: PhasicNetwork,
        action_spec: ActionSpec,
        policy_settings: PolicyPhaseSettings,
        aux_settings: AuxPhaseSettings,
        *,
        device: str | torch.device = "cpu",
        copies: Sequence[PhasicNetwork] = (),
        threads: int = 1,
        compile: Compile | None = None,
        micro_batch_size: int | None = None,
        generator: np.random.Generator,
        permutation: Callable[[int], IndexArray] | None = None,
        draw_noise: Draw | None = None,
    ) -> None:
        self.network = network.to(torch.device(device))
        self.action_spec = action_spec
        self.policy_settings = policy_settings
        self.aux_settings = aux_settings
        self.entropy_coeff = policy_settings.entropy_coeff
        self._generator = generator
        self._permutation = permutation or generator.permutation
        setting = aux_settings.augmentation
        augmentation = None if setting is None else make_augmentation(setting)
        self._noise = Noise(augmentation, self.network, generator, draw_noise)
        replicas = Replicas([self.network, *copies], threads=threads, compile=compile)
        self._updater = Updater(replicas, micro_batch_size)
        self.device = self._updater.device
        self._precisions = {
            "policy": MixedPrecision(policy_settings.precision, self.device),
            "aux": MixedPrecision(aux_settings.precision, self.device),
        }
        kinds = ("joint",) if policy_settings.joint else ("value", "policy")
        self._policy_optimizers = {kind: self._adam(policy_settings.lr) for kind in kinds}
        self._aux_optimizer = self._adam(aux_settings.aux_lr)

    def _adam(self, lr: float) -> torch.optim.Adam:
        return make_adam(list(self.network.parameters()), lr)

    @property
    def lr(self) -> float:
        """The current learning rate of the policy phase."""
        return float(next(iter(self._policy_optimizers.values())).param_groups[0]["lr"])

    @property
    def aux_lr(self) -> float:
        """The current learning rate of the auxiliary phase."""
        return float(self._aux_optimizer.param_groups[0]["lr"])

    def set_lr(self, lr: float, aux_lr: float) -> None:
        """Set the learning rates of both phases."""
        for optimizer in self._policy_optimizers.values():
            optimizer.param_groups[0]["lr"] = lr
        self._aux_optimizer.param_groups[0]["lr"] = aux_lr

    def set_entropy_coeff(self, entropy_coeff: float) -> None:
        """Set the weight of the entropy bonus."""
        self.entropy_coeff = entropy_coeff

    def values(
        self,
        obs: npt.NDArray[Any] | Tensor | Frames,
        prev_actions: npt.NDArray[np.int64] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Compute the true value of observations (B, ...), float32 (B,), without gradient.

        Args:
            obs: The observations; `Frames` hold the actions before them already.
            prev_actions: The actions before them (B,), where the network takes them.
        """
        frames = obs if isinstance(obs, Frames) else Frames.of(obs, prev_actions)
        if len(frames) == 0:
            return np.empty(0, np.float32)
        self._updater.replicas.broadcast()
        values = self._updater.map(
            lambda replica, rows: replica.value(*frames.inputs(rows, replica.device)),
            0,
            len(frames),
            self._precisions["policy"],
        )
        return values.cpu().numpy()

    def policy_steps(self, batch: PolicyBatch) -> Iterator[PolicyStep]:
        """Run the policy phase step by step; yields after every optimiser step."""
        self._updater.replicas.broadcast()
        return self._policy_phase().steps(batch)

    def _policy_phase(self) -> PolicyPhase:
        return PolicyPhase(
            self._updater,
            self._policy_optimizers,
            self.action_spec,
            self.policy_settings,
            entropy_coeff=self.entropy_coeff,
            precision=self._precisions["policy"],
            permutation=self._permutation,
        )

    def policy_phase(self, batch: PolicyBatch) -> PhaseStats:
        """Run the policy phase on one rollout.

        Returns:
            The statistics of every optimiser step.

        Raises:
            BrokenStep: If a loss or the gradient norm was not finite; weights and optimisers are
                those before that step.
        """
        made = list(self.policy_steps(batch))
        try:
            return collect_stats(
                POLICY_STATS, [step.stats for step in made], lambda i: str(made[i])
            )
        except BrokenStep as error:
            phase = self._policy_phase()
            raise with_evidence(error, lambda i: phase.evidence(batch, made[i])) from None

    def begin_aux_phase(
        self, store: SegmentStore, state: Mapping[str, Any] | None = None
    ) -> AuxPhase:
        """Begin an auxiliary phase over the stored segments; the caller runs it and clears them.

        Args:
            store: The segments.
            state: Where to go on, as `AuxPhase.get_state` gave it; from the beginning by default.

        Raises:
            ValueError: If the store is empty, or the state belongs to other segments.
        """
        self._updater.replicas.broadcast()
        return AuxPhase(
            self._updater,
            self._aux_optimizer,
            self.action_spec,
            self.aux_settings,
            store=store,
            precision=self._precisions["aux"],
            permutation=self._permutation,
            noise=self._noise,
            state=state,
        )

    def get_state(self) -> dict[str, Any]:
        """Return all but the weights that decides on the next update, in numpy and plain Python."""
        return {
            "optimizers": {k: self._optimizer_state(o) for k, o in self._optimizers().items()},
            "lr": self.lr,
            "aux_lr": self.aux_lr,
            "entropy_coeff": self.entropy_coeff,
            "precisions": {name: p.get_state() for name, p in self._precisions.items()},
            "generator": self._generator.bit_generator.state,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take the state of `get_state`; the network's weights must be set separately.

        Raises:
            ValueError: If it belongs to another network or to other optimisers.
        """
        missing = set(self.get_state()) - set(state)
        if missing:
            raise ValueError(
                f"the state was made by an older version: it has no {sorted(missing)}."
            )
        optimizers = self._optimizers()
        saved = state["optimizers"]
        if set(saved) != set(optimizers):
            raise ValueError(
                f"the state has optimisers for {sorted(saved)}, this learner for "
                f"{sorted(optimizers)}; n_epoch_pi == n_epoch_vf must hold in both or in neither."
            )
        for kind in saved:
            self._check_moments(saved[kind])
        for kind, optimizer in optimizers.items():
            self._set_optimizer_state(optimizer, saved[kind])
        self.set_lr(state["lr"], state["aux_lr"])
        self.set_entropy_coeff(state["entropy_coeff"])
        for name, precision in self._precisions.items():
            precision.set_state(state["precisions"][name])
        self._generator.bit_generator.state = state["generator"]

    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {**self._policy_optimizers, "aux": self._aux_optimizer}

    def _optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, dict[str, Any]]:
        """Return Adam's count and moments by parameter name; those without a step are left out."""
        state: dict[str, dict[str, Any]] = {}
        for name, parameter in self.network.named_parameters():
            entry = optimizer.state.get(parameter)
            if entry:
                state[name] = {k: np.array(v.detach().cpu()) for k, v in entry.items()}
        return state

    def _check_moments(self, saved: Mapping[str, Mapping[str, Any]]) -> None:
        shapes = {name: tuple(p.shape) for name, p in self.network.named_parameters()}
        for name, entry in saved.items():
            shape = np.shape(entry["exp_avg"])
            if shapes.get(name) != shape:
                raise ValueError(
                    f"the optimiser state for {name} {shape} does not fit this network, which has "
                    f"{shapes.get(name, 'no such parameter')}; restore with the same model."
                )

    def _set_optimizer_state(
        self, optimizer: torch.optim.Optimizer, saved: Mapping[str, Mapping[str, Any]]
    ) -> None:
        optimizer.state.clear()
        for name, parameter in self.network.named_parameters():
            if name in saved:
                entry = saved[name]
                moments = {k: torch.empty_like(parameter.detach()) for k in _MOMENTS}
                for key, moment in moments.items():
                    moment.copy_(torch.from_numpy(np.array(entry[key])))
                device = parameter.device if optimizer.defaults["fused"] else "cpu"
                step = torch.tensor(float(entry["step"]), dtype=torch.float32, device=device)
                optimizer.state[parameter] = {"step": step, **moments}
