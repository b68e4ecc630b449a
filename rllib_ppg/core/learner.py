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

from rllib_ppg.core.augment import Mixture
from rllib_ppg.core.augment_setting import make_augmentation
from rllib_ppg.core.aux_phase import AUX_STATS, AuxPhase, Retarget
from rllib_ppg.core.aux_settings import AuxPhaseSettings
from rllib_ppg.core.clipping import AdaptiveClip, GradientClip
from rllib_ppg.core.distributions import ActionSpec
from rllib_ppg.core.drac import DRAC_STATS, Drac
from rllib_ppg.core.entropy import EntropyCoefficient
from rllib_ppg.core.frames import Frames
from rllib_ppg.core.networks import PhasicNetwork
from rllib_ppg.core.noise import Draw, Noise
from rllib_ppg.core.numeric_fault import BrokenStep, with_evidence
from rllib_ppg.core.optimizers import Optimizers
from rllib_ppg.core.policy_loss import PolicyBatch
from rllib_ppg.core.policy_phase import POLICY_STATS, PolicyPhase, PolicyStep
from rllib_ppg.core.policy_settings import PolicyPhaseSettings
from rllib_ppg.core.precision import MixedPrecision
from rllib_ppg.core.replicas import Compile, Replicas
from rllib_ppg.core.segments import IndexArray, SegmentStore
from rllib_ppg.core.transform_choice import ChoiceSettings, TransformChoice
from rllib_ppg.core.updates import PhaseStats, Updater, collect_stats

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


class PhasicLearner:
    """Trains a `PhasicNetwork` by phasic policy gradient.

    All optimisers are made once, so that their moments survive from phase to phase; which one holds
    what is `PolicyPhaseSettings.optimizers`.

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

    Raises:
        ValueError: If the layout of optimisers does not fit the network.

    Source: Cobbe et al. 2020 (arXiv:2009.04416), algorithm 1.
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
        self._entropy = EntropyCoefficient(
            policy_settings.entropy_coeff,
            policy_settings.alternate_entropy_coeff,
            policy_settings.unique_threshold,
        )
        self._generator = generator
        self._permutation = permutation or generator.permutation
        setting = aux_settings.augmentation
        augmentation = None if setting is None else make_augmentation(setting)
        self._noise = Noise(augmentation, self.network, generator, draw_noise)
        self._drac = _make_drac(policy_settings, self.network, generator, draw_noise)
        replicas = Replicas([self.network, *copies], threads=threads, compile=compile)
        self._updater = Updater(replicas, micro_batch_size)
        self.device = self._updater.device
        self._precisions = {
            "policy": MixedPrecision(policy_settings.precision, self.device),
            "aux": MixedPrecision(aux_settings.precision, self.device),
        }
        adaptive = policy_settings.grad_clip_adaptive
        self._clip = GradientClip(
            self.device,
            elementwise=policy_settings.grad_clip_elementwise,
            adaptive=None if adaptive is None else AdaptiveClip(**adaptive),
        )
        self._optimizers = Optimizers(
            self.network,
            policy_settings.optimizers,
            joint=policy_settings.joint,
            weight_decay=policy_settings.weight_decay,
        )
        value_lr = policy_settings.value_lr
        self.set_lr(policy_settings.lr, aux_settings.aux_lr, value_lr)

    def set_lr(self, lr: float, aux_lr: float, value_lr: float | None = None) -> None:
        """Set the learning rates.

        Args:
            lr: That of the policy phase, and of an optimiser of both phases.
            aux_lr: That of the auxiliary phase's own optimiser.
            value_lr: That of the value's own optimiser; None takes `lr`.
        """
        self.lr, self.aux_lr = lr, aux_lr
        self.value_lr = lr if value_lr is None else value_lr
        self._optimizers.set_rates(self.lr, self.aux_lr, self.value_lr)

    @property
    def entropy_coeff(self) -> float:
        """The weight of the entropy bonus, without its rise where observations repeat."""
        return self._entropy.base

    @property
    def entropy_weight(self) -> float:
        """The weight of the entropy bonus that the newest minibatch had."""
        return self._entropy.current

    @property
    def grad_limit(self) -> float:
        """The limit of the gradient's norm in the newest step, where the limit adapts itself."""
        return float(self._clip.limit)

    @property
    def transform(self) -> int | None:
        """The place of DrAC's chosen transform in its mixture; None where nothing is chosen."""
        choice = self._drac.choice if self._drac else None
        return choice.choice if choice else None

    def set_entropy_coeff(self, entropy_coeff: float) -> None:
        """Set the weight of the entropy bonus."""
        self._entropy.base = entropy_coeff

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
            self._optimizers,
            self.action_spec,
            self.policy_settings,
            entropy=self._entropy,
            clip=self._clip,
            precision=self._precisions["policy"],
            permutation=self._permutation,
            drac=self._drac,
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
            names = POLICY_STATS + (DRAC_STATS if self._drac else ())
            return collect_stats(names, [step.stats for step in made], lambda i: str(made[i]))
        except BrokenStep as error:
            phase = self._policy_phase()
            raise with_evidence(error, lambda i: phase.evidence(batch, made[i])) from None

    def begin_aux_phase(
        self,
        store: SegmentStore,
        state: Mapping[str, Any] | None = None,
        retarget: Retarget | None = None,
    ) -> AuxPhase:
        """Begin an auxiliary phase over the stored segments; the caller runs it and clears them.

        Args:
            store: The segments.
            state: Where to go on, as `AuxPhase.get_state` gave it; from the beginning by default.
            retarget: Computes the value targets anew when the old policy was recorded; None keeps
                those of the time of collection.

        Raises:
            ValueError: If the store is empty, or the state belongs to other segments.
        """
        self._updater.replicas.broadcast()
        return AuxPhase(
            self._updater,
            self._optimizers,
            self.action_spec,
            self.aux_settings,
            store=store,
            clip=self._clip,
            precision=self._precisions["aux"],
            permutation=self._permutation,
            noise=self._noise,
            retarget=retarget,
            state=state,
        )

    def get_state(self) -> dict[str, Any]:
        """Return all but the weights that decides on the next update, in numpy and plain Python."""
        state = {
            "optimizers": self._optimizers.get_state(),
            "lr": self.lr,
            "aux_lr": self.aux_lr,
            **self._entropy.get_state(),
            "precisions": {name: p.get_state() for name, p in self._precisions.items()},
            "generator": self._generator.bit_generator.state,
        }
        if self._optimizers.layout == "heads":
            state["value_lr"] = self.value_lr
        if self._drac is not None:
            state["drac"] = self._drac.get_state()
        if clip := self._clip.get_state():
            state["clip"] = clip
        return state

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
        self._optimizers.set_state(state["optimizers"])
        self.set_lr(state["lr"], state["aux_lr"], state.get("value_lr"))
        self._entropy.set_state(state)
        self._clip.set_state(state.get("clip", {}))
        if self._drac is not None:
            self._drac.set_state(state["drac"])
        for name, precision in self._precisions.items():
            precision.set_state(state["precisions"][name])
        self._generator.bit_generator.state = state["generator"]


def _make_drac(
    settings: PolicyPhaseSettings,
    network: PhasicNetwork,
    generator: np.random.Generator,
    draw: Draw | None,
) -> Drac | None:
    if not settings.drac_weight:
        return None
    assert settings.drac_augmentation is not None, "drac_weight needs drac_augmentation"
    augmentation = make_augmentation(settings.drac_augmentation)
    choice = None
    if settings.drac_ucb is not None:
        assert isinstance(augmentation, Mixture), "drac_ucb chooses among members"
        choice = TransformChoice(len(augmentation.members), ChoiceSettings(**settings.drac_ucb))
    return Drac(
        augmentation,
        network,
        generator,
        weight=settings.drac_weight,
        value_weight=settings.drac_value_weight,
        policy_weight=settings.drac_policy_weight,
        choice=choice,
        draw=draw,
    )
