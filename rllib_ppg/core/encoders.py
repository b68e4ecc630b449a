"""Core: encoders, from images and vectors to codes.

Shape key: B rows, H W C image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Row norms of the reference's "normed" initialisation (openai/phasic-policy-gradient@7295473).
_FIRST_CONV_NORM = 1.0
_DENSE_NORM = 1.4

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU}


def rescale_rows(layer: nn.Conv2d | nn.Linear, norm: float) -> None:
    """Give every output unit's weights the L2 norm `norm`, and no bias."""
    with torch.no_grad():
        norms = layer.weight.flatten(1).norm(dim=1)
        layer.weight.mul_((norm / norms).view(-1, *[1] * (layer.weight.dim() - 1)))
        if layer.bias is not None:
            layer.bias.zero_()


def _to_float(obs: Tensor) -> Tensor:
    """Return float32 observations; bytes are scaled to [0, 1]."""
    return obs.float().div_(255.0) if obs.dtype == torch.uint8 else obs.float()


class ExtendedEncoder(nn.Module):
    """An encoder whose passes may take more than observations; subclass it for such a one.

    Any other module is called with the observations alone, whatever attributes it has. A subclass
    takes `forward(obs, prev_actions=None, kept=None)`.

    Attributes:
        num_actions: The previous action, one of so many, is an input of every pass; 0: it is none.
        dropout_share: Share of units that a pass with `kept` leaves out; 0: there is no such pass.
    """

    num_actions: int = 0
    dropout_share: float = 0.0

    def draw_kept(
        self, count: int, generator: np.random.Generator
    ) -> dict[str, npt.NDArray[np.bool_]]:
        """Draw what dropout keeps of `count` rows, as arrays with so many entries; by name."""
        raise NotImplementedError(f"{type(self).__name__} has dropout, and no draw_kept.")


class _ResidualBlock(nn.Module):
    """x + conv(relu(conv(relu(x))))."""

    def __init__(self, width: int, norm: float | None) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(width, width, 3, padding=1)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        if norm is not None:
            rescale_rows(self.conv0, norm)
            rescale_rows(self.conv1, norm)

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
            rescale_rows(self.conv, _FIRST_CONV_NORM)
        self.blocks = nn.ModuleList(_ResidualBlock(width, block_norm) for _ in range(blocks))

    def forward(self, x: Tensor, factors: Tensor | None = None) -> Tensor:
        x = F.max_pool2d(self.conv(x), kernel_size=3, stride=2, padding=1)
        if factors is not None:  # dropout of whole channels (B, C)
            x = x * factors[..., None, None]
        for block in self.blocks:
            x = block(x)
        return x


class ImpalaEncoder(ExtendedEncoder):
    """The residual convolutional encoder of IMPALA.

    Args:
        obs_shape: (H, W, C) of one observation.
        widths: Channels of each stage; every stage halves the image.
        hidden_size: Units of the dense layer.
        blocks: Residual blocks in a stage.
        normed_init: Rescale the initial weights of each unit to a fixed norm and zero all biases;
            otherwise PyTorch's default.
        frame_differences: The image is a stack of two RGB frames, older and newer, and their
            difference (older - newer) is put beside them: nine channels.
        num_actions: The previous action, one of so many, is put as a one-hot vector beside the
            flattened image, and once more beside the dense layer's output; 0: it is no input.
        dropout: Share of the channels after each max-pooling, and of the dense layer's units, that
            a pass with `kept` leaves out.

    Attributes:
        output_size: Size of the code: `hidden_size`, and `num_actions`.

    Raises:
        ValueError: If a size is not positive, `obs_shape` is not (H, W, C), or `frame_differences`
            does not find six channels.

    Source: Espeholt et al. 2018 (arXiv:1802.01561), figure 3; initialisation of
    openai/phasic-policy-gradient@7295473; differences of Dipamc77/procgen-competition@f473f51;
    previous action and dropout of wulfebw/neurips2020-procgen@e131684.
    """

    def __init__(
        self,
        obs_shape: Sequence[int],
        *,
        widths: Sequence[int] = (16, 32, 32),
        hidden_size: int = 256,
        blocks: int = 2,
        normed_init: bool = True,
        frame_differences: bool = False,
        num_actions: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        _check_impala_sizes(obs_shape, widths, hidden_size, blocks)
        _check_impala_inputs(obs_shape, frame_differences, num_actions, dropout)
        height, width, channels = (int(size) for size in obs_shape)
        norm = (len(widths) * max(blocks, 1)) ** -0.25 if normed_init else None
        self.frame_differences, self.num_actions = frame_differences, num_actions
        self.dropout_share = dropout
        if frame_differences:
            channels += channels // 2
        self.stages = nn.ModuleList()
        for out_channels in widths:
            self.stages.append(_Stage(channels, out_channels, blocks, norm))
            height, width, channels = -(-height // 2), -(-width // 2), out_channels
        self.dense = nn.Linear(channels * height * width + num_actions, hidden_size)
        if normed_init:
            rescale_rows(self.dense, _DENSE_NORM)
        self.output_size = hidden_size + num_actions
        self._droppable = {f"stage{i}": int(n) for i, n in enumerate(widths)}
        self._droppable["dense"] = hidden_size
        # A permuted (B, H, W, C) frame is channels-last already; weights in the same layout spare
        # a reordering in every convolution.
        self.stages.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def draw_kept(
        self, count: int, generator: np.random.Generator
    ) -> dict[str, npt.NDArray[np.bool_]]:
        """Draw what dropout keeps of `count` rows.

        Returns:
            `stage<i>` (B, channels) and `dense` (B, hidden_size).
        """
        return {
            name: generator.random((count, size), np.float32) >= self.dropout_share
            for name, size in self._droppable.items()
        }

    def forward(
        self,
        obs: Tensor,
        prev_actions: Tensor | None = None,
        kept: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Encode frames into codes (B, output_size).

        Args:
            obs: Frames (B, H, W, C), uint8 or already scaled floats.
            prev_actions: The actions before, whole numbers (B,); with `num_actions`.
            kept: What dropout keeps, as `draw_kept` names it; None keeps all.

        Raises:
            ValueError: If the previous actions are missing.
        """
        x = self._planes(obs.permute(0, 3, 1, 2))
        for i, stage in enumerate(self.stages):
            x = stage(x, self._factors(kept, f"stage{i}"))
        beside = self._one_hot(prev_actions)
        x = F.relu(self.dense(_joined(F.relu(x.flatten(1)), beside)))
        factors = self._factors(kept, "dense")
        if factors is not None:
            x = x * factors
        return _joined(x, beside)

    def _planes(self, obs: Tensor) -> Tensor:
        """Return float channels (B, C, H, W), the frames' difference among them."""
        if not self.frame_differences:
            return _to_float(obs)
        older, newer = obs.float().chunk(2, dim=1)
        x = torch.cat([older, newer, older - newer], dim=1)
        return x.div_(255.0) if obs.dtype == torch.uint8 else x

    def _one_hot(self, prev_actions: Tensor | None) -> Tensor | None:
        if not self.num_actions:
            return None
        if prev_actions is None:
            raise ValueError("this network needs the previous actions beside the observations.")
        return F.one_hot(prev_actions.long(), self.num_actions).float()

    def _factors(self, kept: Mapping[str, Tensor] | None, name: str) -> Tensor | None:
        return None if kept is None else kept[name].float() / (1.0 - self.dropout_share)


def _joined(x: Tensor, beside: Tensor | None) -> Tensor:
    return x if beside is None else torch.cat([x, beside], dim=1)


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


def _check_impala_inputs(
    obs_shape: Sequence[int], frame_differences: bool, num_actions: int, dropout: float
) -> None:
    if frame_differences and obs_shape[2] != 6:
        raise ValueError(
            f"frame_differences takes two stacked RGB frames, six channels, not {obs_shape[2]}."
        )
    if num_actions < 0 or not 0 <= dropout < 1:
        raise ValueError(
            f"num_actions={num_actions} must not be negative and dropout={dropout} must be at "
            "least 0 and less than 1."
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
                rescale_rows(layer, _DENSE_NORM)

    def forward(self, obs: Tensor) -> Tensor:
        """Encode observations (B, ...), or (B,) integers when one-hot, into codes (B, hidden)."""
        if self.one_hot:
            x = F.one_hot(obs.long().flatten(), self.input_size).float()
        else:
            x = _to_float(obs.reshape(len(obs), -1))
        for layer in self.layers:
            x = self.activation(layer(x))
        return x
