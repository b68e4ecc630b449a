"""Core: the auxiliary phase's loss over rows of the stored segments.

Shape key: R rows stored, A outputs of the policy head.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from rllib_ppg.core.aux_settings import AuxPhaseSettings
from rllib_ppg.core.distributions import ActionSpec
from rllib_ppg.core.frames import Inputs, Rows
from rllib_ppg.core.losses import aux_loss
from rllib_ppg.core.replicas import Replica
from rllib_ppg.core.updates import LossFunction, StepStats


def aux_loss_function(
    spec: ActionSpec,
    settings: AuxPhaseSettings,
    inputs: Callable[[Replica, Rows], Inputs],
    old_inputs: Mapping[torch.device, Tensor],
    targets: Mapping[torch.device, Tensor],
) -> LossFunction:
    """Return the auxiliary phase's loss over rows of some segments.

    Args:
        spec: How the policy head's outputs are read.
        settings: Hyper-parameters.
        inputs: Gives what the network takes for some rows.
        old_inputs: The old policy's outputs by row (R, A), on each device.
        targets: The value targets by row (R,), on each device.
    """
    return partial(_loss, spec, settings, inputs, old_inputs, targets)


def _loss(
    spec: ActionSpec,
    settings: AuxPhaseSettings,
    inputs: Callable[[Replica, Rows], Inputs],
    old_inputs: Mapping[torch.device, Tensor],
    targets: Mapping[torch.device, Tensor],
    replica: Replica,
    rows: Rows,
) -> tuple[Tensor, StepStats]:
    output = replica.forward(*inputs(replica, rows))
    loss, stats = aux_loss(
        spec.distribution(output.logits),
        spec.distribution(old_inputs[replica.device][rows.device]),
        None if output.aux_vf is None else output.aux_vf.float(),
        output.vf.float(),
        targets[replica.device][rows.device],
        beta_clone=settings.beta_clone,
        vf_true_weight=settings.vf_true_weight,
    )
    return loss, {name: value for name, value in stats._asdict().items() if value is not None}
