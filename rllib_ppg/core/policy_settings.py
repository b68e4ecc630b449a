"""Core: the hyper-parameters of the policy phase."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from rllib_ppg.core.optimizers import Layout, check_layout
from rllib_ppg.core.precision import Precision, check_precision
from rllib_ppg.core.updates import MinibatchUnit, check_sizes, check_unit

Kind = Literal["joint", "value", "policy"]


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
        detach_value_head: The value loss does not reach the encoder in this phase, whatever `arch`.
        alternate_entropy_coeff: Weight of the entropy bonus for minibatches whose observations
            repeat; None always takes `entropy_coeff`.
        unique_threshold: They repeat where the share of new observations is below this.
        drac_weight: Weight of the terms that draw policy and value of changed observations to
            those of the clean ones; 0 leaves them out.
        drac_value_weight: Weight of the value's term among them.
        drac_policy_weight: Weight of the policy's term among them.
        drac_augmentation: How the observations are changed, as
            `augment_setting.make_augmentation` takes it.
        drac_ucb: Options of `ChoiceSettings`, to choose one member of the augmentation each
            iteration; None uses it as it is.

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
    detach_value_head: bool = False
    alternate_entropy_coeff: float | None = None
    unique_threshold: float = 0.9
    drac_weight: float = 0.0
    drac_value_weight: float = 1.0
    drac_policy_weight: float = 1.0
    drac_augmentation: str | Mapping[str, Any] | None = None
    drac_ucb: Mapping[str, Any] | None = None

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
