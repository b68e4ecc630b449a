"""Algorithm: the learner's hyper-parameters from a configuration."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from rllib_ppg.algorithm.parts import adaptive_clip
from rllib_ppg.core.learner import AuxPhaseSettings, PolicyPhaseSettings

if TYPE_CHECKING:
    from rllib_ppg.algorithm.config import PPGConfig


def policy_phase_settings(config: PPGConfig) -> PolicyPhaseSettings:
    """The policy phase's part of the configuration, for the learner."""
    adaptive = adaptive_clip(config.grad_clip_adaptive)
    return PolicyPhaseSettings(
        n_epoch_pi=config.n_epoch_pi,
        n_epoch_vf=config.n_epoch_vf,
        nminibatch=config.nminibatch,
        clip_param=config.clip_param,
        kl_penalty=config.kl_penalty,
        entropy_coeff=config.scheduled("entropy_coeff", 0),
        vf_loss_coeff=config.vf_loss_coeff,
        value_clip_param=config.value_clip_param,
        grad_clip=config.grad_clip,
        minibatch_unit=config.minibatch_unit,
        mbsize_rows=config.mbsize_rows,
        num_accumulates=config.num_accumulates,
        shuffle_minibatches=config.shuffle_minibatches,
        lr=config.rates(0, 1)[0],
        value_lr=config.rates(0, 1)[2] if config.optimizers == "heads" else None,
        precision=config.policy_precision,
        grad_clip_elementwise=config.grad_clip_elementwise,
        grad_clip_adaptive=None if adaptive is None else asdict(adaptive),
        optimizers=config.optimizers,
        weight_decay=config.weight_decay,
        detach_value_head=config.detach_value_head,
        alternate_entropy_coeff=config.alternate_entropy_coeff,
        unique_threshold=config.unique_threshold,
        drac_weight=config.drac_weight,
        drac_value_weight=config.drac_value_weight,
        drac_policy_weight=config.drac_policy_weight,
        drac_augmentation=config.drac_augmentation,
        drac_ucb=config.drac_ucb,
    )


def aux_phase_settings(config: PPGConfig) -> AuxPhaseSettings:
    """The auxiliary phase's part of the configuration, for the learner."""
    return AuxPhaseSettings(
        n_aux_epochs=config.n_aux_epochs,
        aux_mbsize=config.aux_mbsize,
        beta_clone=config.beta_clone,
        vf_true_weight=config.vf_true_weight,
        aux_lr=config.rates(0, 1)[1],
        grad_clip=config.grad_clip,
        minibatch_unit=config.aux_unit,
        mbsize_rows=config.aux_mbsize_rows,
        num_accumulates=config.aux_num_accumulates,
        shuffle_minibatches=config.shuffle_minibatches,
        precision=config.aux_precision,
        augmentation=config.aux_augmentation,
    )
