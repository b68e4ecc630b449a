"""Losses by hand: clipping, penalties, the direction of the KL, halves and coefficients."""

import math

import pytest
import torch

from rllib_ppg.core.distributions import Categorical
from rllib_ppg.core.losses import aux_loss, policy_loss, value_loss

PLAIN = {"clip_param": 0.2, "kl_penalty": 0.0, "entropy_coeff": 0.0}


def coin(probability: float, rows: int = 1) -> Categorical:
    """A policy that takes action 0 with this probability."""
    return Categorical(torch.tensor([[probability, 1 - probability]] * rows).log())


def surrogate(ratio: float, advantage: float, **options) -> float:
    loss, stats = policy_loss(
        coin(0.5),
        torch.zeros(1, dtype=torch.int64),
        torch.tensor([math.log(0.5 / ratio)]),
        torch.tensor([advantage]),
        **{**PLAIN, **options},
    )
    torch.testing.assert_close(loss, stats.policy_gradient_loss)
    return loss.item()


@pytest.mark.parametrize(
    "ratio, advantage, expected",
    [
        (1.0, 2.0, -2.0),
        (1.5, 1.0, -1.2),  # no reward for going further
        (0.5, 1.0, -0.5),  # but the way back is open
        (0.5, -1.0, 0.8),
        (1.5, -1.0, 1.5),
    ],
)
def test_clipping_takes_the_worse_of_both(ratio, advantage, expected):
    assert surrogate(ratio, advantage) == pytest.approx(expected, rel=1e-5)


def test_clip_param_zero_does_not_clip_at_all():
    assert surrogate(1.5, 1.0, clip_param=0.0) == pytest.approx(-1.5, rel=1e-5)


def test_entropy_and_penalty_enter_with_their_coefficients():
    actions, old = torch.zeros(1, dtype=torch.int64), torch.tensor([math.log(0.25)])
    loss, stats = policy_loss(
        coin(0.5), actions, old, torch.zeros(1), clip_param=0.0, kl_penalty=3.0, entropy_coeff=0.1
    )
    half_square = 0.5 * math.log(2) ** 2
    assert stats.entropy.item() == pytest.approx(math.log(2), rel=1e-5)
    assert stats.negent.item() == pytest.approx(-0.1 * math.log(2), rel=1e-5)
    assert stats.approx_kl.item() == pytest.approx(half_square, rel=1e-5)
    assert stats.kl_penalty_loss.item() == pytest.approx(3 * half_square, rel=1e-5)
    assert loss.item() == pytest.approx(3 * half_square - 0.1 * math.log(2), rel=1e-5)
    torch.testing.assert_close(loss, stats.loss_pi)


def test_clip_fraction_counts_ratios_outside_the_range():
    ratios = torch.tensor([0.7, 0.9, 1.1, 1.3])
    old = torch.log(0.5 / ratios)
    args = (coin(0.5, 4), torch.zeros(4, dtype=torch.int64), old, torch.ones(4))
    assert policy_loss(*args, **PLAIN)[1].clip_fraction.item() == 0.5
    assert policy_loss(*args, **{**PLAIN, "clip_param": 0.0})[1].clip_fraction.item() == 1.0


def test_a_clipped_row_gives_no_gradient():
    logits = torch.zeros(1, 2, requires_grad=True)
    old = torch.tensor([math.log(0.5 / 1.5)])
    args = (Categorical(logits), torch.zeros(1, dtype=torch.int64), old, torch.ones(1))
    policy_loss(*args, **PLAIN)[0].backward()
    assert not logits.grad.any()


def test_value_loss_is_the_coefficient_times_the_squared_error():
    loss, stats = value_loss(torch.tensor([1.0, 4.0]), torch.tensor([2.0, 2.0]), coeff=0.5)
    assert loss.item() == 0.5 * (1 + 4) / 2
    assert stats.loss_vf == loss


@pytest.mark.parametrize(
    "vf, target, expected",
    [
        (3.0, 5.0, 16.0),  # moved 3 towards the target, held at 1: (1 - 5)^2 counts
        (3.0, 0.0, 9.0),  # moved 3 away: the larger is its own error
        (0.5, 2.0, 2.25),  # within the range nothing changes
    ],
)
def test_change_clip_counts_the_larger_error(vf, target, expected):
    options = {"coeff": 1.0, "old_vf": torch.zeros(1), "change_clip": 1.0}
    assert value_loss(torch.tensor([vf]), torch.tensor([target]), **options)[0].item() == expected


def test_change_clip_needs_the_old_values():
    with pytest.raises(ValueError, match="old_vf"):
        value_loss(torch.zeros(1), torch.zeros(1), coeff=1.0, change_clip=0.2)


def test_auxiliary_loss_weighs_its_terms():
    old, new = coin(0.25, 2), coin(0.5, 2)
    aux_vf, vf, targets = torch.tensor([1.0, 1.0]), torch.tensor([3.0, 2.0]), torch.zeros(2)
    loss, stats = aux_loss(new, old, aux_vf, vf, targets, beta_clone=2.0, vf_true_weight=0.5)
    # KL(old || new), old first: 1/4 log(1/2) + 3/4 log(3/2).
    kl = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    assert stats.pol_distance.item() == pytest.approx(kl, rel=1e-5)
    assert stats.vf_aux.item() == 0.5
    assert stats.vf_true.item() == 0.5 * (9 + 4) / 2
    assert loss.item() == pytest.approx(2 * kl + 0.5 + 0.5 * 3.25, rel=1e-5)
    torch.testing.assert_close(loss, stats.loss_total)


def test_statistics_are_detached_scalars():
    logits = torch.zeros(3, 2, requires_grad=True)
    vf = torch.zeros(3, requires_grad=True)
    actions = torch.zeros(3, dtype=torch.int64)
    _, policy = policy_loss(Categorical(logits), actions, torch.zeros(3), torch.ones(3), **PLAIN)
    _, value = value_loss(vf, torch.ones(3), coeff=1.0)
    old = coin(0.5, 3)
    _, aux = aux_loss(
        Categorical(logits), old, vf, vf, torch.ones(3), beta_clone=1.0, vf_true_weight=1.0
    )
    for stats in (policy, value, aux):
        for name, term in stats._asdict().items():
            assert term.shape == (), name
            assert not term.requires_grad, name
