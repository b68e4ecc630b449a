"""Encoders and heads: a plain second implementation, gradient paths, layouts and bad sizes."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from rllib_ppg.core.encoders import ImpalaEncoder, MLPEncoder
from rllib_ppg.core.networks import PhasicNetwork

ARCHES = ("dual", "detach", "shared")


def frames(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def small_network(arch: str, **options) -> PhasicNetwork:
    return PhasicNetwork(lambda: MLPEncoder(3, hiddens=(8,)), 4, arch=arch, **options)


def plain_impala(encoder: ImpalaEncoder, obs: torch.Tensor) -> torch.Tensor:
    """The encoder written out in channels-first float64, without any shortcut."""
    weights = {k: v.detach().double().contiguous() for k, v in encoder.state_dict().items()}

    def conv(name: str, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=1)

    x = torch.from_numpy(obs.numpy().transpose(0, 3, 1, 2).astype(np.float64) / 255)
    for s, stage in enumerate(encoder.stages):
        x = conv(f"stages.{s}.conv", x)
        x = F.pad(x, (1, 1, 1, 1), value=-np.inf)
        x = x.unfold(2, 3, 2).unfold(3, 3, 2).amax(dim=(-1, -2))
        for b in range(len(stage.blocks)):
            hidden = conv(f"stages.{s}.blocks.{b}.conv0", x.clamp(min=0))
            x = x + conv(f"stages.{s}.blocks.{b}.conv1", hidden.clamp(min=0))
    flat = x.clamp(min=0).reshape(len(x), -1)
    return (flat @ weights["dense.weight"].T + weights["dense.bias"]).clamp(min=0)


@pytest.mark.parametrize("shape", [(16, 16, 3), (13, 20, 1), (9, 7, 6), (1, 5, 4)])
@pytest.mark.parametrize("blocks", [0, 1, 3])
def test_impala_equals_a_plain_implementation(shape, blocks):
    torch.manual_seed(0)
    encoder = ImpalaEncoder(shape, widths=(3, 5), hidden_size=7, blocks=blocks)
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.3)
    obs = frames(4, *shape)
    code = encoder(obs)
    assert code.shape == (4, encoder.output_size)
    torch.testing.assert_close(code.double(), plain_impala(encoder, obs), rtol=1e-4, atol=1e-5)


def test_bytes_are_scaled_and_floats_are_not():
    encoder = ImpalaEncoder((8, 8, 3), widths=(4,), hidden_size=5)
    obs = frames(2, 8, 8, 3)
    torch.testing.assert_close(encoder(obs), encoder(obs.float() / 255))
    assert not torch.allclose(encoder(obs), encoder(obs.float()))


def test_convolution_weights_and_frames_are_channels_last():
    encoder = ImpalaEncoder((8, 8, 3), widths=(4, 4), hidden_size=5)
    copies = [encoder, copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder))]
    for each in copies:
        each.load_state_dict({k: v.contiguous() for k, v in encoder.state_dict().items()})
        seen = []
        for module in each.modules():
            if isinstance(module, nn.Conv2d):
                assert module.weight.is_contiguous(memory_format=torch.channels_last)
                module.register_forward_hook(lambda *call, seen=seen: seen.extend(call[1:]))
        each(frames(2, 8, 8, 3))
        tensors = [x[0] if isinstance(x, tuple) else x for x in seen]
        assert len(tensors) == 2 * 10
        assert all(x.is_contiguous(memory_format=torch.channels_last) for x in tensors)


def test_plain_initialisation_is_torchs_own():
    encoder = ImpalaEncoder((8, 8, 3), widths=(4,), hidden_size=64, normed_init=False)
    norms = encoder.dense.weight.norm(dim=1)
    assert norms.std() > 1e-3
    assert encoder.dense.bias.abs().max() > 0
    network = small_network("shared", normed_init=False)
    assert network.policy_head.bias.abs().max() > 0


def test_normed_mlp_and_heads_have_fixed_row_norms_and_no_bias():
    network = PhasicNetwork(lambda: MLPEncoder(5, hiddens=(6, 7)), 4)
    for encoder in (network.policy_encoder, network.value_encoder):
        for layer in encoder.layers:
            torch.testing.assert_close(
                layer.weight.norm(dim=1), torch.full((len(layer.bias),), 1.4)
            )
    for head in (network.policy_head, network.value_head, network.aux_value_head):
        torch.testing.assert_close(head.weight.norm(dim=1), torch.full((len(head.bias),), 0.1))
    biases = [p for name, p in network.named_parameters() if name.endswith("bias")]
    assert len(biases) == 7
    assert not any(bias.any() for bias in biases)


@pytest.mark.parametrize("activation, function", [("tanh", torch.tanh), ("relu", torch.relu)])
def test_mlp_equals_matrix_products(activation, function):
    encoder = MLPEncoder(6, hiddens=(4, 3), activation=activation)
    obs = torch.randn(5, 2, 3)
    first, second = encoder.layers
    expected = function(second(function(first(obs.flatten(1)))))
    torch.testing.assert_close(encoder(obs), expected)
    torch.testing.assert_close(encoder(obs.double()), expected)


def test_mlp_scales_bytes_and_encodes_categories():
    encoder = MLPEncoder(4, hiddens=(3,))
    obs = frames(5, 4)
    torch.testing.assert_close(encoder(obs), encoder(obs.float() / 255))
    categories = MLPEncoder(4, hiddens=(3,), one_hot=True)
    numbers = torch.tensor([0, 3, 2])
    expected = torch.tanh(categories.layers[0](torch.eye(4)[numbers]))
    torch.testing.assert_close(categories(numbers), expected)
    torch.testing.assert_close(categories(numbers.int()), expected)


@pytest.mark.parametrize("arch", ARCHES)
def test_policy_and_value_agree_with_the_whole_forward_pass(arch):
    network = small_network(arch)
    obs = torch.randn(5, 3)
    output = network(obs)
    logits, vf = network.policy(obs)
    assert (output.logits.shape, output.vf.shape, output.aux_vf.shape) == ((5, 4), (5,), (5,))
    torch.testing.assert_close(logits, output.logits)
    torch.testing.assert_close(network.value(obs), output.vf)
    assert network.separate_value_encoder == (arch == "dual")
    if arch == "dual":
        assert vf is None
    else:
        torch.testing.assert_close(vf, output.vf)


@pytest.mark.parametrize("way", ["forward", "value"])
@pytest.mark.parametrize(
    "arch, reached",
    [
        ("dual", {"value_encoder", "value_head"}),
        ("detach", {"value_head"}),
        ("shared", {"policy_encoder", "value_head"}),
    ],
)
def test_value_gradient_reaches_only_what_the_arch_says(arch, reached, way):
    network = small_network(arch)
    obs = torch.randn(5, 3)
    vf = network(obs).vf if way == "forward" else network.value(obs)
    vf.sum().backward()
    found = {name.split(".")[0] for name, p in network.named_parameters() if p.grad is not None}
    assert found == reached


@pytest.mark.parametrize("arch", ARCHES)
def test_auxiliary_gradient_reaches_the_policy_encoder(arch):
    network = small_network(arch)
    network(torch.randn(5, 3)).aux_vf.sum().backward()
    found = {name.split(".")[0] for name, p in network.named_parameters() if p.grad is not None}
    assert found == {"policy_encoder", "aux_value_head"}


def test_dual_encoders_are_two_and_start_differently():
    network = small_network("dual")
    policy, value = network.policy_encoder.layers[0].weight, network.value_encoder.layers[0].weight
    assert policy is not value
    assert not torch.equal(policy, value)


def test_no_graph_is_made_without_gradients():
    network = small_network("shared")
    with torch.no_grad():
        assert not network.value(torch.randn(2, 3)).requires_grad
    assert network.value(torch.randn(2, 3)).requires_grad


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: small_network("single"), "arch 'single'.*dual, detach, shared"),
        (lambda: PhasicNetwork(lambda: MLPEncoder(3), 0), "num_outputs=0"),
        (lambda: ImpalaEncoder((64, 64)), "height, width, channels"),
        (lambda: ImpalaEncoder((64, 0, 3)), "height, width, channels"),
        (lambda: ImpalaEncoder((8, 8, 3), widths=()), "widths"),
        (lambda: ImpalaEncoder((8, 8, 3), hidden_size=0), "hidden_size=0"),
        (lambda: ImpalaEncoder((8, 8, 3), blocks=-1), "blocks=-1"),
        (lambda: MLPEncoder(3, activation="gelu"), "tanh, relu"),
        (lambda: MLPEncoder(3, hiddens=()), "hiddens"),
        (lambda: MLPEncoder(0), "input_size=0"),
    ],
)
def test_impossible_networks_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_mlp_takes_scalars_as_vectors_of_one():
    encoder = MLPEncoder(1, hiddens=(3,))
    scalars = torch.tensor([0.5, -1.0])
    torch.testing.assert_close(encoder(scalars), encoder(scalars[:, None]))
