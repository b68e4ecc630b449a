"""Core: encoders for images and vectors, and the network with its policy and value heads.

Shape key: B rows, A outputs of the policy head, H W C image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Arch = Literal["dual", "detach", "shared"]

# Row norms of the reference's "normed" initialisation (openai/phasic-policy-gradient@7295473).
_FIRST_CONV_NORM = 1.0
_DENSE_NORM = 1.4
_HEAD_NORM = 0.1

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU}


def _rescale_rows(layer: nn.Conv2d | nn.Linear, norm: float) -> None:
    """Give every output unit's weights the L2 norm `norm`, and no bias."""
    with torch.no_grad():
        norms = layer.weight.flatten(1).norm(dim=1)
        layer.weight.mul_((norm / norms).view(-1, *[1] * (layer.weight.dim() - 1)))
        if layer.bias is not None:
            layer.bias.zero_()


def _to_float(obs: Tensor) -> Tensor:
    """Return float32 observations; bytes are scaled to [0, 1]."""
    return obs.float().div_(255.0) if obs.dtype == torch.uint8 else obs.float()


class _ResidualBlock(nn.Module):
    """x + conv(relu(conv(relu(x))))."""

    def __init__(self, width: int, norm: float | None) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(width, width, 3, padding=1)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        if norm is not None:
            _rescale_rows(self.conv0, norm)
            _rescale_rows(self.conv1, norm)

    def forward(self, x: Tensor) -> Tensor:
        # The first relu must not work in place: the skip path carries x, not relu(x).
        hidden = F.relu(self.conv0(F.relu(x)), inplace=True)
        residual: Tensor = self.conv1(hidden)
        return x + residual


class _Stage(nn.Module):
    """A convolution, max-pooling that halves the image (rounding up), and residual blocks."""

    def __init__(self, in_channels: int, width: int, blocks: int, block_norm: float | None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, width, 3, padding=1)
        if block_norm is not None:
            _rescale_rows(self.conv, _FIRST_CONV_NORM)
        self.blocks = nn.ModuleList(_ResidualBlock(width, block_norm) for _ in range(blocks))

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.conv(x), kernel_size=3, stride=2, padding=1)
        for block in self.blocks:
            x = block(x)
        return x


class ImpalaEncoder(nn.Module):
    """The residual convolutional encoder of IMPALA.

    Args:
        obs_shape: (H, W, C) of one observation.
        widths: Channels of each stage; every stage halves the image.
        hidden_size: Size of the code.
        blocks: Residual blocks in a stage.
        normed_init: Rescale the initial weights of each unit to a fixed norm and zero all biases;
            otherwise PyTorch's default.

    Raises:
        ValueError: If a size is not positive or `obs_shape` is not (H, W, C).

    Source: Espeholt et al. 2018 (arXiv:1802.01561), figure 3; initialisation of
    openai/phasic-policy-gradient@7295473.
    """

    def __init__(
        self,
        obs_shape: Sequence[int],
        *,
        widths: Sequence[int] = (16, 32, 32),
        hidden_size: int = 256,
        blocks: int = 2,
        normed_init: bool = True,
    ) -> None:
        super().__init__()
        _check_impala_sizes(obs_shape, widths, hidden_size, blocks)
        height, width, channels = (int(size) for size in obs_shape)
        norm = (len(widths) * max(blocks, 1)) ** -0.25 if normed_init else None
        self.stages = nn.ModuleList()
        for out_channels in widths:
            self.stages.append(_Stage(channels, out_channels, blocks, norm))
            height, width, channels = -(-height // 2), -(-width // 2), out_channels
        self.dense = nn.Linear(channels * height * width, hidden_size)
        if normed_init:
            _rescale_rows(self.dense, _DENSE_NORM)
        self.output_size = hidden_size
        # A permuted (B, H, W, C) frame is channels-last already; weights in the same layout spare
        # a reordering in every convolution.
        self.stages.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, obs: Tensor) -> Tensor:
        """Encode frames (B, H, W, C), uint8 or already scaled floats, into codes (B, hidden)."""
        x = _to_float(obs.permute(0, 3, 1, 2))
        for stage in self.stages:
            x = stage(x)
        return F.relu(self.dense(F.relu(x.flatten(1))))


def _check_impala_sizes(
    obs_shape: Sequence[int], widths: Sequence[int], hidden_size: int, blocks: int
) -> None:
    if len(obs_shape) != 3 or min(obs_shape) < 1:
        raise ValueError(f"obs_shape {tuple(obs_shape)} must be (height, width, channels).")
    if not widths or min(widths) < 1:
        raise ValueError(f"widths {tuple(widths)} must be one or more positive numbers.")
    if hidden_size < 1 or blocks < 0:
        raise ValueError(
            f"hidden_size={hidden_size} must be at least 1 and blocks={blocks} at least 0."
        )


class MLPEncoder(nn.Module):
    """Fully connected layers for vector observations.

    Args:
        input_size: Number of values in one observation; with `one_hot` the number of categories.
        hiddens: Sizes of the layers; the last is the code.
        activation: "tanh" or "relu", after every layer.
        normed_init: As in `ImpalaEncoder`, every layer with the norm of its dense layer.
        one_hot: Observations are integers (B,) that are turned into one-hot vectors.

    Raises:
        ValueError: If a size is not positive or the activation is unknown.
    """

    def __init__(
        self,
        input_size: int,
        *,
        hiddens: Sequence[int] = (64, 64),
        activation: str = "tanh",
        normed_init: bool = True,
        one_hot: bool = False,
    ) -> None:
        super().__init__()
        if activation not in _ACTIVATIONS:
            raise ValueError(
                f"activation {activation!r} is unknown; use one of {', '.join(_ACTIVATIONS)}."
            )
        if input_size < 1 or not hiddens or min(hiddens) < 1:
            raise ValueError(
                f"input_size={input_size} and hiddens {tuple(hiddens)} must be positive numbers, "
                "with one layer or more."
            )
        self.input_size = input_size
        self.one_hot = one_hot
        self.output_size = hiddens[-1]
        sizes = [input_size, *hiddens]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, hiddens, strict=False))
        self.activation = _ACTIVATIONS[activation]()
        if normed_init:
            for layer in self.layers:
                assert isinstance(layer, nn.Linear)
                _rescale_rows(layer, _DENSE_NORM)

    def forward(self, obs: Tensor) -> Tensor:
        """Encode observations (B, ...), or (B,) integers when one-hot, into codes (B, hidden)."""
        if self.one_hot:
            x = F.one_hot(obs.long().flatten(), self.input_size).float()
        else:
            x = _to_float(obs.reshape(len(obs), -1))
        for layer in self.layers:
            x = self.activation(layer(x))
        return x


class PhasicOutput(NamedTuple):
    """What one forward pass gives: logits (B, A), true value (B,), auxiliary value (B,)."""

    logits: Tensor
    vf: Tensor
    aux_vf: Tensor


class PhasicNetwork(nn.Module):
    """Encoder(s) with policy, value and auxiliary value head, each head one linear layer.

    The policy and the auxiliary value head stand on the policy encoder. The value head stands, by
    `arch`: "dual" on an encoder of its own; "detach" on the policy encoder's code, without gradient
    into it in either phase; "shared" on the same code with gradient.

    Args:
        make_encoder: Makes an encoder module with an `output_size`; called once, or twice for dual.
        num_outputs: Outputs of the policy head, A.
        arch: "dual", "detach" or "shared".
        normed_init: Heads start with weight norm 0.1 and no bias.

    Raises:
        ValueError: If `arch` is unknown or `num_outputs` is not positive.

    Source: Cobbe et al. 2020 (arXiv:2009.04416), section 2 and appendix; the three architectures of
    openai/phasic-policy-gradient@7295473.
    """

    def __init__(
        self,
        make_encoder: Callable[[], nn.Module],
        num_outputs: int,
        *,
        arch: Arch = "dual",
        normed_init: bool = True,
    ) -> None:
        super().__init__()
        if arch not in get_args(Arch):
            raise ValueError(f"arch {arch!r} is unknown; use one of {', '.join(get_args(Arch))}.")
        if num_outputs < 1:
            raise ValueError(f"num_outputs={num_outputs} must be at least 1.")
        self.arch = arch
        self.policy_encoder = make_encoder()
        if arch == "dual":
            self.value_encoder = make_encoder()
        code_size = int(self.policy_encoder.output_size)  # type: ignore[arg-type]
        self.policy_head = nn.Linear(code_size, num_outputs)
        self.value_head = nn.Linear(code_size, 1)
        self.aux_value_head = nn.Linear(code_size, 1)
        if normed_init:
            for head in (self.policy_head, self.value_head, self.aux_value_head):
                _rescale_rows(head, _HEAD_NORM)

    @property
    def separate_value_encoder(self) -> bool:
        """Whether the true value costs a second encoder pass."""
        return self.arch == "dual"

    def forward(self, obs: Tensor) -> PhasicOutput:
        """Compute all three heads for observations (B, ...)."""
        code = self.policy_encoder(obs)
        aux_vf = self.aux_value_head(code).squeeze(-1)
        value_code = self.value_encoder(obs) if self.separate_value_encoder else code
        return PhasicOutput(self.policy_head(code), self._value(value_code), aux_vf)

    def policy(self, obs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Compute logits (B, A) and, where it costs no second encoder, the true value (B,)."""
        code = self.policy_encoder(obs)
        vf = None if self.separate_value_encoder else self._value(code)
        return self.policy_head(code), vf

    def value(self, obs: Tensor) -> Tensor:
        """Compute the true value (B,) only."""
        encoder = self.value_encoder if self.separate_value_encoder else self.policy_encoder
        # "detach" needs no graph of the encoder: its code gets no gradient anyway.
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.arch != "detach"):
            code = encoder(obs)
        return self._value(code)

    def _value(self, code: Tensor) -> Tensor:
        if self.arch == "detach":
            code = code.detach()
        vf: Tensor = self.value_head(code).squeeze(-1)
        return vf
