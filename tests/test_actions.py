import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

from rllib_ppg.algorithm.actions import action_spec, distribution_class, start
from rllib_ppg.errors import UserError

FLOAT = Box(-2, 2, (3,), np.float32)


@pytest.mark.parametrize(
    ("space", "kind", "sizes", "inputs"),
    [
        (Discrete(15), "categorical", (15,), 15),
        (Discrete(3, start=5), "categorical", (3,), 3),
        (MultiDiscrete([2, 5]), "multi_categorical", (2, 5), 7),
        (FLOAT, "gaussian", (3,), 6),
        (Box(-1, 1, (2, 3), np.float64), "gaussian", (6,), 12),
        (Box(-1, 1, (), np.float32), "gaussian", (1,), 2),
    ],
)
def test_an_action_space_has_its_distribution(space, kind, sizes, inputs):
    spec = action_spec(space)
    assert (spec.kind, spec.sizes, spec.num_inputs) == (kind, sizes, inputs)


@pytest.mark.parametrize(
    "space",
    [
        Dict({"a": FLOAT}),
        Tuple([Discrete(2), FLOAT]),
        MultiBinary(3),
        MultiDiscrete([[2, 3], [4, 5]]),
        Box(0, 3, (2,), np.int64),
        Box(0, 255, (2,), np.uint8),
    ],
)
def test_other_action_spaces_are_refused_with_what_is_taken(space):
    with pytest.raises(UserError, match="Discrete, MultiDiscrete or float Box actions"):
        action_spec(space)


def test_spaces_may_start_elsewhere():
    assert start(Discrete(3)) == 0 and start(Discrete(3, start=5)) == 5
    assert list(start(MultiDiscrete([2, 2], start=[1, 7]))) == [1, 7]
    assert start(FLOAT) == 0


SPACES = [
    Discrete(4),
    Discrete(4, start=5),
    MultiDiscrete([2, 5]),
    MultiDiscrete([2, 5], start=[3, -1]),
    FLOAT,
    Box(-1, 1, (2, 3), np.float32),
]


def make(space, rows=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(rows, action_spec(space).num_inputs, generator=generator)
    return distribution_class(space)(inputs, None)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_sampled_actions_lie_in_the_space(space):
    dist = make(space, rows=200)
    for actions in (dist.sample(), dist.deterministic_sample()):
        assert actions.shape == (200, *space.shape)
        if not isinstance(space, Box):
            assert all(space.contains(a.astype(space.dtype)) for a in actions.numpy())
    if isinstance(space, Discrete):
        assert set(make(space, 500).sample().tolist()) == set(range(start(space), start(space) + 4))


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_log_probabilities_are_those_of_torch(space):
    dist = make(space)
    actions = dist.sample()
    spec, inputs = action_spec(space), dist.inputs
    if isinstance(space, Box):
        mean, log_std = inputs.chunk(2, dim=1)
        reference = torch.distributions.Normal(mean, log_std.exp())
        expected = reference.log_prob(actions.reshape(5, -1)).sum(1)
        entropy = reference.entropy().sum(1)
    else:
        first = torch.as_tensor(np.array(start(space)))
        columns = (actions - first).reshape(5, -1).T
        parts = [torch.distributions.Categorical(logits=p) for p in inputs.split(spec.sizes, 1)]
        expected = sum(p.log_prob(c) for p, c in zip(parts, columns, strict=True))
        entropy = sum(p.entropy() for p in parts)
    torch.testing.assert_close(dist.logp(actions), expected)
    torch.testing.assert_close(dist.sampled_action_logp(), expected)
    torch.testing.assert_close(dist.entropy(), entropy)


def test_the_divergence_is_that_of_the_core():
    one, other = make(Discrete(4)), make(Discrete(4), seed=1)
    assert torch.equal(one.kl(other), one.dist.kl(other.dist)) and (one.kl(other) > 0).all()


def test_a_log_probability_of_the_sample_needs_a_sample():
    with pytest.raises(AssertionError, match="sample"):
        make(Discrete(3)).sampled_action_logp()


def test_the_number_of_network_outputs_is_the_specs():
    for space in SPACES:
        shape = distribution_class(space).required_model_output_shape(space, {})
        assert shape == action_spec(space).num_inputs


def test_the_classes_of_two_spaces_do_not_disturb_each_other():
    small, large = distribution_class(Discrete(2)), distribution_class(Discrete(9))
    assert small.spec.sizes == (2,) and large.spec.sizes == (9,)
