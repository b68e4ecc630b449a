"""Core: the image transforms of the Procgen challenge's winners, one class each.

Shape key: B frames, H W C image. Sources: Dipamc77/procgen-competition@f473f51, the generalisation
winner, and wulfebw/neurips2020-procgen@e131684, the sample-efficiency winner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from rllib_ppg.core.augment import Augmentation, Draws, change_groups, check_count, checked
from rllib_ppg.errors import UserError

# Random colours are drawn below this: neither winner draws 255.
_COLOUR_END = 255

# Quarter turns: never none.
_TURNS = (-1, 1, 2)


@dataclass(frozen=True)
class PadAndCrop(Augmentation):
    """Pads with zeros on every side, then crops at a random place.

    Offsets into the padded frame are uniform in 0 .. 2 * pad - 1. The last one that would fit is
    never drawn, so the picture moves by -pad + 1 .. pad pixels, down and right being positive.

    Args:
        pad: Pixels of padding.
        size: Side of the square result; by default the frame keeps its height and width.

    Raises:
        UserError: If `pad` or `size` is less than 1.

    Source: generalisation winner.
    """

    pad: int = 10
    size: int | None = None

    def __post_init__(self) -> None:
        check_count("pad", self.pad, 1)
        if self.size is not None:
            check_count("size", self.size, 1)

    def draw(self, shape: Sequence[int], generator: np.random.Generator) -> Draws:
        """Draw `row` and `col` (B,), the corner in the padded frame."""
        count, *sides, _ = _image_shape(shape)
        ends = [side + 2 * self.pad - (self.size or side) for side in sides]
        if min(ends) < 1:
            raise UserError(
                f"size={self.size} leaves no choice in frames of {_sides(shape)} pixels with "
                f"pad={self.pad}; use at most {min(sides) + 2 * self.pad - 1}."
            )
        row, col = (generator.integers(0, end, count) for end in ends)
        return {"row": row, "col": col}

    def apply(self, frames: Tensor, draws: Draws) -> Tensor:
        """Return the crops (B, H, W, C), or (B, size, size, C)."""
        corners = np.stack([draws["row"], draws["col"]], axis=1)
        return _crop(frames, self.pad, corners, self.size)


@dataclass(frozen=True)
class RandomTranslate(Augmentation):
    """Moves the picture; the pixels that it leaves become 0.

    For rows and for columns a size is uniform in min_shift .. max_shift, then a sign is drawn. So
    no shift is as likely as both directions of any other size together.

    Args:
        min_shift: Smallest size in pixels.
        max_shift: Largest size in pixels.

    Raises:
        UserError: If not 0 <= min_shift <= max_shift.

    Source: sample-efficiency winner.
    """

    min_shift: int = 0
    max_shift: int = 5

    def __post_init__(self) -> None:
        _check_range("min_shift", self.min_shift, "max_shift", self.max_shift, 0)

    def draw(self, shape: Sequence[int], generator: np.random.Generator) -> Draws:
        """Draw `shift` (B, 2) in rows and columns; down and right are positive."""
        count = _image_shape(shape)[0]
        size = generator.integers(self.min_shift, self.max_shift + 1, (count, 2))
        return {"shift": size * generator.choice([-1, 1], (count, 2))}

    def apply(self, frames: Tensor, draws: Draws) -> Tensor:
        """Return the moved frames (B, H, W, C)."""
        shift = draws["shift"]
        pad = int(np.abs(shift).max(initial=0))
        return _crop(frames, pad, pad - shift)


@dataclass(frozen=True)
class RandomCutout(Augmentation):
    """Sets a random box of pixels to 0.

    Height and width are uniform in min_size .. max_size. The corner is uniform in 0 .. H - max_size
    and 0 .. W - max_size whatever size was drawn, so the last pixels are seldom covered.

    Args:
        min_size: Smallest height and width in pixels.
        max_size: Largest height and width in pixels.

    Raises:
        UserError: If not 1 <= min_size <= max_size.

    Source: sample-efficiency winner.
    """

    min_size: int = 4
    max_size: int = 20

    def __post_init__(self) -> None:
        _check_range("min_size", self.min_size, "max_size", self.max_size, 1)

    def draw(self, shape: Sequence[int], generator: np.random.Generator) -> Draws:
        """Draw `row` and `col`, the corner, `height` and `width` (B,)."""
        count, height, width, _ = _image_shape(shape)
        if self.max_size > min(height, width):
            raise UserError(
                f"max_size={self.max_size} does not fit frames of {_sides(shape)} pixels; use at "
                f"most {min(height, width)}."
            )
        return {
            "row": generator.integers(0, height - self.max_size + 1, count),
            "col": generator.integers(0, width - self.max_size + 1, count),
            "height": generator.integers(self.min_size, self.max_size + 1, count),
            "width": generator.integers(self.min_size, self.max_size + 1, count),
        }

    def apply(self, frames: Tensor, draws: Draws) -> Tensor:
        """Return the frames with their boxes (B, H, W, C)."""
        return _fill_boxes(frames, draws)


class RandomCutoutColor(RandomCutout):
    """Fills a random box of pixels, drawn as `RandomCutout` does, with a random colour.

    Args, Raises: As `RandomCutout`.

    Source: sample-efficiency winner.
    """

    def draw(self, shape: Sequence[int], generator: np.random.Generator) -> Draws:
        """Draw the box and `fill` (B, C), uniform in 0 .. 254."""
        return super().draw(shape, generator) | _draw_colours(shape, generator)


@dataclass(frozen=True)
class TiedCutoutColor(Augmentation):
    """Fills a box whose corner is tied to its size with a random colour.

    Height h and width w are uniform in min_size .. max_size. The box covers the rows h .. 2h - 1
    and the columns w .. 2w - 1, as far as the frame has them.

    Args:
        min_size: Smallest height and width in pixels.
        max_size: Largest height and width in pixels.

    Raises:
        UserError: If not 1 <= min_size <= max_size.

    Source: generalisation winner.
    """

    min_size: int = 10
    max_size: int = 29

    def __post_init__(self) -> None:
        _check_range("min_size", self.min_size, "max_size", self.max_size, 1)

    def draw(self, shape: Sequence[int], generator: np.random.Generator) -> Draws:
        """Draw `height` and `width` (B,), and `fill` (B, C), uniform in 0 .. 254."""
        count = _image_shape(shape)[0]
        height, width = generator.integers(self.min_size, self.max_size + 1, (2, count))
        return {"height": height, "width": width} | _draw_colours(shape, generator)

    def apply(self, frames: Tensor, draws: Draws) -> Tensor:
        """Return the frames with their boxes (B, H, W, C)."""
        return _fill_boxes(frames, draws | {"row": draws["height"], "col": draws["width"]})


@dataclass(frozen=True)
class RandomChannelDrop(Augmentation):
    """Sets one channel to 0, a random one of all that the stack has.

    Source: sample-efficiency winner.
    """

    def draw(self, shape: Sequence[int], generator: np.random.Generator) -> Draws:
        """Draw `channel` (B,)."""
        count, *_, channels = _image_shape(shape)
        return {"channel": generator.integers(0, channels, count)}

    def apply(self, frames: Tensor, draws: Draws) -> Tensor:
        """Return the frames without that channel (B, H, W, C)."""
        channel = _tensor(draws, "channel", frames)
        changed = frames.clone()
        changed[torch.arange(len(frames), device=frames.device), :, :, channel] = 0
        return changed


@dataclass(frozen=True)
class _RandomFlip(Augmentation):
    """Mirrors frames along one of their axes."""

    probability: float = 1.0

    keeps_actions: ClassVar[bool] = False
    _axis: ClassVar[int]

    def __post_init__(self) -> None:
        number = isinstance(self.probability, int | float)
        if not number or isinstance(self.probability, bool) or not 0 <= self.probability <= 1:
            raise UserError(f"probability={self.probability!r} must be a number from 0 to 1.")

    def draw(self, shape: Sequence[int], generator: np.random.Generator) -> Draws:
        """Draw `flipped` (B,), bool."""
        return {"flipped": generator.random(_image_shape(shape)[0]) < self.probability}

    def apply(self, frames: Tensor, draws: Draws) -> Tensor:
        """Return the frames (B, H, W, C), some of them mirrored."""
        flip = partial(torch.flip, dims=(self._axis,))
        return change_groups(frames, checked(draws, "flipped", frames), {True: flip})


class RandomFlipLeftRight(_RandomFlip):
    """Mirrors frames left to right.

    Args:
        probability: That of each frame to be mirrored.

    Raises:
        UserError: If it is not in [0, 1].

    Source: sample-efficiency winner.
    """

    _axis = 2


class RandomFlipUpDown(_RandomFlip):
    """Mirrors frames top to bottom; otherwise as `RandomFlipLeftRight`."""

    _axis = 1


@dataclass(frozen=True)
class RandomRotation(Augmentation):
    """Turns square frames by one, two or three quarters, each as likely.

    Source: sample-efficiency winner.
    """

    keeps_actions: ClassVar[bool] = False

    def draw(self, shape: Sequence[int], generator: np.random.Generator) -> Draws:
        """Draw `quarter_turns` (B,): 1 to the left, -1 to the right, or 2, as `numpy.rot90`."""
        count, height, width, _ = _image_shape(shape)
        if height != width:
            raise UserError(
                f"random_rotation turns square frames, and these have {_sides(shape)} pixels; "
                "choose another augmentation."
            )
        return {"quarter_turns": generator.choice(_TURNS, count)}

    def apply(self, frames: Tensor, draws: Draws) -> Tensor:
        """Return the turned frames (B, H, W, C)."""
        turns = checked(draws, "quarter_turns", frames)
        changes = {k: partial(torch.rot90, k=k, dims=(1, 2)) for k in _TURNS}
        return change_groups(frames, turns, changes)


def _image_shape(shape: Sequence[int]) -> tuple[int, int, int, int]:
    if len(shape) != 4:
        raise UserError(
            "augmentations change images (height, width, channels), and these observations have "
            f"the shape {tuple(shape[1:])}; remove the augmentation."
        )
    count, height, width, channels = shape
    return count, height, width, channels


def _sides(shape: Sequence[int]) -> str:
    return f"{shape[1]}x{shape[2]}"


def _check_range(low_name: str, low: int, high_name: str, high: int, smallest: int) -> None:
    check_count(low_name, low, smallest)
    check_count(high_name, high, smallest)
    if low > high:
        raise UserError(f"{low_name}={low} must not be larger than {high_name}={high}.")


def _draw_colours(shape: Sequence[int], generator: np.random.Generator) -> Draws:
    return {"fill": generator.integers(0, _COLOUR_END, (shape[0], shape[3]))}


def _tensor(draws: Draws, name: str, frames: Tensor) -> Tensor:
    return torch.tensor(checked(draws, name, frames), device=frames.device)


def _crop(frames: Tensor, pad: int, corners: npt.NDArray[Any], size: int | None = None) -> Tensor:
    """Cut a window out of each zero-padded frame; its corner (B, 2) is a row and a column there."""
    padded = F.pad(frames, (0, 0, pad, pad, pad, pad))
    count, height, width, channels = padded.shape
    rows, cols = (size or side for side in frames.shape[1:3])
    if len(corners) != count or np.any((corners < 0) | (corners > (height - rows, width - cols))):
        raise ValueError(f"the corners drawn do not fit {count} frames padded by {pad} pixels.")
    # Whole pixels are copied by their numbers, which is the fastest of what torch has for this.
    device = frames.device
    row, col = torch.tensor(corners, device=device)[..., None].unbind(1)
    lines = torch.arange(count, device=device)[:, None] * height + row
    lines = (lines + torch.arange(rows, device=device)) * width + col
    pixels = lines[..., None] + torch.arange(cols, device=device)
    cut = padded.view(-1, channels).index_select(0, pixels.flatten())
    return cut.view(count, rows, cols, channels)


def _fill_boxes(frames: Tensor, draws: Draws) -> Tensor:
    """Fill the box `row`, `height`, `col`, `width` of each frame with `fill`, or with 0."""
    _, height, width, channels = frames.shape
    rows = _inside(frames, draws, "row", "height", height)
    cols = _inside(frames, draws, "col", "width", width).repeat_interleave(channels, 1)
    # Products of zeros and ones over whole lines: several times faster than `where` on bytes.
    box = rows[:, :, None] * cols[:, None, :]  # (B, H, W * C)
    filled = frames.flatten(2) * (1 - box)
    if "fill" in draws:
        colour = _tensor(draws, "fill", frames).to(frames.dtype)
        if frames.is_floating_point():
            colour = colour / 255
        filled += colour.repeat(1, width)[:, None] * box
    return filled.view(frames.shape)


def _inside(frames: Tensor, draws: Draws, first: str, length: str, side: int) -> Tensor:
    """Return 1 for the rows (or columns) that a box covers, else 0, in the frames' dtype."""
    start, extent = (_tensor(draws, name, frames)[:, None] for name in (first, length))
    place = torch.arange(side, device=frames.device)
    return ((place >= start) & (place < start + extent)).to(frames.dtype)
