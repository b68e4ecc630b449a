"""Distributions against torch's own and closed forms."""

import math

import pytest
import torch
from torch import distributions as reference

from rllib_ppg.core.distributions import ActionSpec, Categorical, DiagGaussian, MultiCategorical


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_categorical_agrees_with_torch():
    inputs, others = noise(7, 5), noise(7, 5, seed=1)
    actions = torch.arange(7) % 5
    ours, theirs = Categorical(inputs), reference.Categorical(logits=inputs)
    torch.testing.assert_close(ours.logp(actions), theirs.log_prob(actions))
    torch.testing.assert_close(ours.entropy(), theirs.entropy())
    expected = reference.kl_divergence(theirs, reference.Categorical(logits=others))
    torch.testing.assert_close(ours.kl(Categorical(others)), expected)
    assert ours.mode().tolist() == inputs.argmax(dim=1).tolist()


def test_uniform_categorical_has_the_entropy_log_n():
    torch.testing.assert_close(
        Categorical(torch.full((1, 6), 3.0)).entropy()[0].item(), math.log(6)
    )


def test_kl_is_zero_for_equal_and_not_symmetric_for_different_policies():
    p, q = Categorical(noise(3, 4)), Categorical(noise(3, 4, seed=1))
    torch.testing.assert_close(p.kl(p), torch.zeros(3))
    assert (p.kl(q) > 0).all()
    assert ((p.kl(q) - q.kl(p)).abs() > 1e-3).any()


def test_multi_categorical_is_the_sum_of_its_choices():
    inputs, others = noise(6, 5), noise(6, 5, seed=1)
    actions = torch.stack([torch.arange(6) % 2, torch.arange(6) % 3], dim=1)
    ours, theirs = MultiCategorical(inputs, (2, 3)), MultiCategorical(others, (2, 3))
    first, second = Categorical(inputs[:, :2]), Categorical(inputs[:, 2:])
    expected = first.logp(actions[:, 0]) + second.logp(actions[:, 1])
    torch.testing.assert_close(ours.logp(actions), expected)
    torch.testing.assert_close(ours.entropy(), first.entropy() + second.entropy())
    expected = first.kl(Categorical(others[:, :2])) + second.kl(Categorical(others[:, 2:]))
    torch.testing.assert_close(ours.kl(theirs), expected)
    assert ours.mode().shape == (6, 2)


def test_gaussian_agrees_with_torch():
    inputs, others = noise(7, 6), noise(7, 6, seed=1)
    actions = noise(7, 3, seed=2)

    def torch_normal(x: torch.Tensor) -> reference.Distribution:
        return reference.Independent(reference.Normal(x[:, :3], x[:, 3:].exp()), 1)

    ours, theirs = DiagGaussian(inputs), torch_normal(inputs)
    torch.testing.assert_close(ours.logp(actions), theirs.log_prob(actions))
    torch.testing.assert_close(ours.entropy(), theirs.entropy())
    expected = reference.kl_divergence(theirs, torch_normal(others))
    torch.testing.assert_close(ours.kl(DiagGaussian(others)), expected)
    torch.testing.assert_close(ours.mode(), inputs[:, :3])


@pytest.mark.parametrize(
    "spec",
    [
        ActionSpec("categorical", (4,)),
        ActionSpec("multi_categorical", (2, 3)),
        ActionSpec("gaussian", (2,)),
    ],
    ids=lambda spec: spec.kind,
)
def test_samples_follow_the_density_and_the_generator(spec):
    inputs = noise(1, spec.num_inputs).repeat(20_000, 1)
    dist = spec.distribution(inputs)
    actions = dist.sample(torch.Generator().manual_seed(1))
    assert actions.shape == (20_000, *spec.shape)
    assert actions.dtype == (torch.float32 if spec.kind == "gaussian" else torch.int64)
    # The mean of -log p over samples is an estimate of the entropy.
    assert -dist.logp(actions).mean() == pytest.approx(dist.entropy()[0].item(), abs=0.03)
    assert torch.equal(actions, dist.sample(torch.Generator().manual_seed(1)))
    assert not torch.equal(actions, dist.sample(torch.Generator().manual_seed(2)))


@pytest.mark.parametrize("kind, sizes", [("categorical", (4,)), ("gaussian", (2,))])
def test_half_precision_inputs_are_computed_in_float32(kind, sizes):
    spec = ActionSpec(kind, sizes)
    inputs = noise(3, 4).to(torch.bfloat16)
    dist, exact = spec.distribution(inputs), spec.distribution(inputs.float())
    assert dist.entropy().dtype == torch.float32
    assert torch.equal(dist.kl(exact), exact.kl(exact))


def test_float32_holds_under_autocast():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        p, q = Categorical(noise(3, 4)), Categorical(noise(3, 4) + 1e-3 * noise(3, 4, seed=1))
        assert p.kl(q).dtype == torch.float32
        inside = p.kl(q)
    p, q = Categorical(noise(3, 4)), Categorical(noise(3, 4) + 1e-3 * noise(3, 4, seed=1))
    assert torch.equal(inside, p.kl(q))


@pytest.mark.parametrize(
    "spec, num_inputs, shape",
    [
        (ActionSpec("categorical", (15,)), 15, ()),
        (ActionSpec("multi_categorical", (3, 4)), 7, (2,)),
        (ActionSpec("gaussian", (3,)), 6, (3,)),
    ],
)
def test_spec_counts_inputs_and_shapes(spec, num_inputs, shape):
    assert spec.num_inputs == num_inputs
    assert spec.shape == shape


@pytest.mark.parametrize(
    "kind, sizes, words",
    [
        ("normal", (2,), "use one of categorical"),
        ("categorical", (), "positive"),
        ("multi_categorical", (3, 0), "positive"),
        ("categorical", (3, 4), "one size"),
    ],
)
def test_impossible_specs_are_refused(kind, sizes, words):
    with pytest.raises(ValueError, match=words):
        ActionSpec(kind, sizes)
