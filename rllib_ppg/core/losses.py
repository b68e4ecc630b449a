"""Core: the losses of both phases as pure functions, tensors in, (loss, statistics) out.

Shape key: B rows (all steps of all segments of a minibatch; every mean runs over all of them).
Statistics are detached 0-dim tensors, so that nothing waits for the device.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rllib_ppg.core.distributions import Distribution


class PolicyStats(NamedTuple):
    """Statistics of `policy_loss`; the first is the sum of the next three but `entropy`.

    Attributes:
        loss_pi: The loss.
        policy_gradient_loss: Its surrogate term.
        negent: Its entropy term, -entropy_coeff * entropy.
        kl_penalty_loss: Its penalty term.
        entropy: Mean entropy in nats.
        approx_kl: Half the mean squared log-ratio of new and old policy.
        clip_fraction: Share of rows with |ratio - 1| > clip_param.
    """

    loss_pi: Tensor
    policy_gradient_loss: Tensor
    negent: Tensor
    kl_penalty_loss: Tensor
    entropy: Tensor
    approx_kl: Tensor
    clip_fraction: Tensor


class ValueStats(NamedTuple):
    """Statistics of `value_loss`: the loss."""

    loss_vf: Tensor


class DracStats(NamedTuple):
    """Statistics of `drac_loss`: its terms without their coefficients."""

    drac_value: Tensor
    drac_policy: Tensor


class AuxStats(NamedTuple):
    """Statistics of `aux_loss`: the loss, and its terms without their coefficients.

    `vf_aux` is None for a network without an auxiliary value head.
    """

    loss_total: Tensor
    pol_distance: Tensor
    vf_aux: Tensor | None
    vf_true: Tensor


def policy_loss(
    dist: Distribution,
    actions: Tensor,
    old_logp: Tensor,
    advantages: Tensor,
    *,
    clip_param: float,
    kl_penalty: float,
    entropy_coeff: float,
) -> tuple[Tensor, PolicyStats]:
    """Compute the policy's loss: surrogate, entropy bonus and KL penalty.

    Args:
        dist: The current policy at the B observations.
        actions: What was done, (B,) or (B, K) or (B, D).
        old_logp: Log-probability recorded while acting (B,).
        advantages: Standardised advantages (B,).
        clip_param: Largest change of the probability ratio that is rewarded; 0 does not clip.
        kl_penalty: Weight of half the mean squared log-ratio (the paper's L_KL variant).
        entropy_coeff: Weight of the entropy bonus.

    Returns:
        The loss (0-dim, with gradient) and its statistics.

    Source: Schulman et al. 2017 (arXiv:1707.06347), eq. 7; Cobbe et al. 2020 (arXiv:2009.04416);
    penalty estimate as in openai/phasic-policy-gradient@7295473.
    """
    log_ratio = dist.logp(actions) - old_logp
    ratio = torch.exp(log_ratio)
    surrogate = ratio * advantages
    if clip_param > 0:
        clipped = ratio.clamp(1 - clip_param, 1 + clip_param) * advantages
        surrogate = torch.minimum(surrogate, clipped)
    gradient_loss = -surrogate.mean()
    entropy = dist.entropy().mean()
    negent = -entropy_coeff * entropy
    half_square = 0.5 * log_ratio.square().mean()
    penalty = kl_penalty * half_square
    loss = gradient_loss + negent + penalty
    clip_fraction = ((ratio.detach() - 1).abs() > clip_param).float().mean()
    return loss, PolicyStats(
        loss_pi=loss.detach(),
        policy_gradient_loss=gradient_loss.detach(),
        negent=negent.detach(),
        kl_penalty_loss=penalty.detach(),
        entropy=entropy.detach(),
        approx_kl=half_square.detach(),
        clip_fraction=clip_fraction,
    )


def value_loss(
    vf: Tensor,
    targets: Tensor,
    *,
    coeff: float,
    old_vf: Tensor | None = None,
    change_clip: float | None = None,
) -> tuple[Tensor, ValueStats]:
    """Compute the policy phase's value loss: `coeff` times the mean squared error, no half.

    Args:
        vf: Predicted values (B,).
        targets: Value targets (B,).
        coeff: Weight; the reference's is 0.5.
        old_vf: Values predicted while acting (B,); needed with `change_clip`.
        change_clip: If given, each row counts the larger of its squared error and that of the
            prediction held within this distance of `old_vf`.

    Returns:
        The loss (0-dim, with gradient) and its statistics.

    Raises:
        ValueError: If `change_clip` is given without `old_vf`.
    """
    errors = (vf - targets).square()
    if change_clip is not None:
        if old_vf is None:
            raise ValueError("change_clip needs old_vf, the values predicted while acting.")
        held = old_vf + (vf - old_vf).clamp(-change_clip, change_clip)
        errors = torch.maximum(errors, (held - targets).square())
    loss = coeff * errors.mean()
    return loss, ValueStats(loss_vf=loss.detach())


def drac_loss(
    dist: Distribution,
    clean_dist: Distribution,
    vf: Tensor,
    clean_vf: Tensor,
    mask: Tensor,
    *,
    value_weight: float,
    policy_weight: float,
) -> tuple[Tensor, DracStats]:
    """Compute how far policy and value of changed observations are from those of the clean ones.

    Args:
        dist: The policy at B changed observations.
        clean_dist: The policy at the same observations unchanged, without gradient.
        vf: Values of the changed observations (B,).
        clean_vf: Those of the unchanged ones, without gradient (B,).
        mask: 1 where the policy term counts, else 0 (B,); the mean runs over all rows.
        value_weight: Weight of half the values' mean squared difference.
        policy_weight: Weight of the mean KL(changed || clean).

    Returns:
        The loss (0-dim, with gradient) and its statistics.

    Source: wulfebw/neurips2020-procgen@e131684, mode "drac"; note the direction of the KL.
    """
    value = 0.5 * (clean_vf - vf).square().mean()
    policy = (mask * dist.kl(clean_dist)).mean()
    loss = value_weight * value + policy_weight * policy
    return loss, DracStats(value.detach(), policy.detach())


def aux_loss(
    dist: Distribution,
    old_dist: Distribution,
    aux_vf: Tensor | None,
    vf: Tensor,
    targets: Tensor,
    *,
    beta_clone: float,
    vf_true_weight: float,
) -> tuple[Tensor, AuxStats]:
    """Compute the auxiliary phase's loss: both value heads, and staying with the old policy.

    Args:
        dist: The current policy at the B observations.
        old_dist: The policy before the phase at the same observations, without gradient.
        aux_vf: Auxiliary values (B,); None without an auxiliary value head.
        vf: True values (B,).
        targets: Value targets (B,).
        beta_clone: Weight of the mean KL(old || new).
        vf_true_weight: Weight of half the true value's mean squared error.

    Returns:
        The loss (0-dim, with gradient) and its statistics.

    Source: Cobbe et al. 2020 (arXiv:2009.04416), section 2; halves and means as in
    openai/phasic-policy-gradient@7295473.
    """
    pol_distance = old_dist.kl(dist).mean()
    vf_true = 0.5 * (vf - targets).square().mean()
    loss = beta_clone * pol_distance
    vf_aux = None
    if aux_vf is not None:
        vf_aux = 0.5 * (aux_vf - targets).square().mean()
        loss = loss + vf_aux
    loss = loss + vf_true_weight * vf_true
    return loss, AuxStats(
        loss_total=loss.detach(),
        pol_distance=pol_distance.detach(),
        vf_aux=None if vf_aux is None else vf_aux.detach(),
        vf_true=vf_true.detach(),
    )
