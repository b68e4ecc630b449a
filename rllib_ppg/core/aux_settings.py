"""Core: the hyper-parameters of the auxiliary phase."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rllib_ppg.core.precision import Precision, check_precision
from rllib_ppg.core.updates import MinibatchUnit, check_sizes, check_unit


@dataclass(frozen=True)
class AuxPhaseSettings:
    """Hyper-parameters of the auxiliary phase.

    Args:
        n_aux_epochs: Epochs over the store (E_aux).
        aux_mbsize: Segments of a minibatch; with the unit "step", T times as many steps.
        beta_clone: Weight of KL(old policy || new policy).
        vf_true_weight: Weight of the true value's loss.
        aux_lr: Learning rate of Adam.
        grad_clip: Largest gradient norm; None does not clip.
        minibatch_unit: "segment" keeps the T steps of a segment together, as the reference;
            "step" mixes single steps.
        mbsize_rows: Rows of a minibatch, with the unit "step"; None takes `aux_mbsize`.
        num_accumulates: Minibatches of an epoch whose mean losses are averaged for an optimiser
            step.
        shuffle_minibatches: Shuffle their order too, so that a short one may come anywhere.
        precision: Number format of the training passes; the old policy is recorded in float32.
        augmentation: How the observations of training passes are changed, as
            `augment_setting.make_augmentation` takes it; None: not at all.

    Raises:
        ValueError: If a count, the unit or the format makes no sense.
    """

    n_aux_epochs: int
    aux_mbsize: int
    beta_clone: float
    vf_true_weight: float
    aux_lr: float
    grad_clip: float | None = None
    minibatch_unit: MinibatchUnit = "segment"
    mbsize_rows: int | None = None
    num_accumulates: int = 1
    shuffle_minibatches: bool = False
    precision: Precision = "float32"
    augmentation: str | Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        check_unit(self.minibatch_unit)
        check_precision(self.precision)
        if self.n_aux_epochs < 0 or self.aux_mbsize < 1:
            raise ValueError(
                f"n_aux_epochs={self.n_aux_epochs} must be at least 0 and "
                f"aux_mbsize={self.aux_mbsize} at least 1."
            )
        check_sizes(self.mbsize_rows, self.num_accumulates, self.minibatch_unit)

    def step_rows(self, num_steps: int) -> int:
        """Rows of an optimiser step, the last of an epoch may have fewer.

        Args:
            num_steps: Steps of a segment, T.
        """
        return (self.mbsize_rows or self.aux_mbsize * num_steps) * self.num_accumulates
