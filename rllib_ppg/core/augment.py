"""Core: random changes of image batches, drawn first and applied then; mixtures of them.

What is random is drawn for a whole minibatch at once, as arrays with one entry a frame; `apply`
then is a plain function of frames and draws, on any device, and `take` cuts the draws for a part of
the minibatch. Nothing works in place. Shape key: B frames, H W C image, M members of a mixture.

Channels are those of the whole observation: the frames of a stack move together, and a colour has a
value for each channel of each of them. Every change moves pixels or sets them, so the dtype stays:
bytes stay bytes, and floats are taken for bytes divided by 255, as the encoder takes them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rllib_ppg.errors import UserError

# Arrays by name; their first axis is the frames'.
Draws = dict[str, npt.NDArray[Any]]


class Augmentation(ABC):
    """A random change of frames; subclass it for one of your own.

    It keeps no state, so threads may share it.

    Attributes:
        keeps_actions: Whether the best actions stay the same, so that the policy of a changed frame
            may be held to that of the clean one. A mirrored game needs mirrored actions.
    """

    keeps_actions: ClassVar[bool] = True

    @abstractmethod
    def draw(self, shape: Sequence[int], generator: np.random.Generator) -> Draws:
        """Draw all that is random.

        Args:
            shape: Of the frames: (B, H, W, C).
            generator: What to draw from.

        Returns:
            At least one array, each with B entries along its first axis.

        Raises:
            UserError: If such frames cannot be changed this way.
        """

    @abstractmethod
    def apply(self, frames: Tensor, draws: Draws) -> Tensor:
        """Return changed frames, and leave those given as they are.

        Args:
            frames: (B, H, W, C), on any device.
            draws: As `draw` made them for these frames.
        """

    def policy_mask(self, draws: Draws) -> npt.NDArray[np.float32]:
        """Return 1 for each frame whose policy may be held to that of the clean one, else 0 (B,).

        The kind of change decides, even where the draws leave a frame as it was.
        """
        count = len(next(iter(draws.values())))
        return np.full(count, float(self.keeps_actions), np.float32)

    def __call__(self, frames: Tensor, generator: np.random.Generator) -> Tensor:
        """Draw and apply."""
        return self.apply(frames, self.draw(frames.shape, generator))


def take(draws: Draws, rows: slice | npt.NDArray[Any]) -> Draws:
    """Return the draws of some frames, by slice, numbers or mask."""
    return {name: values[rows] for name, values in draws.items()}


def checked(draws: Draws, name: str, frames: Tensor) -> npt.NDArray[Any]:
    """Return one array of draws; broadcasting one of a wrong length would hide a mistake.

    Raises:
        ValueError: If it has not one entry for each frame.
    """
    values = draws[name]
    if len(values) != len(frames):
        raise ValueError(f"{len(values)} draws of {name} do not fit {len(frames)} frames.")
    return values


def change_groups(
    frames: Tensor, groups: npt.NDArray[Any], changes: Mapping[int, Callable[[Tensor], Tensor]]
) -> Tensor:
    """Return a copy of the frames, each group changed in its own way, in order of its frames.

    Args:
        frames: (B, H, W, C).
        groups: The group of each frame, whole numbers or bools (B,).
        changes: How a group is changed; others stay as they are.
    """
    # Sorted by group and back: torch gathers whole frames much faster than it writes some.
    order = np.argsort(groups, kind="stable")
    numbers, lengths = np.unique(groups, return_counts=True)
    pieces = frames.index_select(0, _rows(order, frames)).split(lengths.tolist())
    changed = [
        changes[number](piece) if number in changes else piece
        for number, piece in zip(numbers.tolist(), pieces, strict=True)
    ]
    return torch.cat(changed).index_select(0, _rows(np.argsort(order), frames))


def _rows(numbers: npt.NDArray[np.int64], frames: Tensor) -> Tensor:
    return torch.from_numpy(numbers).to(frames.device)


@dataclass(frozen=True)
class Mixture(Augmentation):
    """Changes each frame with at most one of several augmentations.

    Every member draws for all frames, so that the draws of a part are a part of the draws.

    Args:
        members: The augmentations (M,).

    Raises:
        UserError: If there is none, or one is no augmentation.
    """

    members: tuple[Augmentation, ...]

    def __post_init__(self) -> None:
        wrong = [member for member in self.members if not isinstance(member, Augmentation)]
        if wrong or not self.members:
            found = repr(wrong[0]) if wrong else "none"
            raise UserError(f"members must be augmentations, at least one; found {found}.")

    @abstractmethod
    def choose(self, count: int, generator: np.random.Generator) -> npt.NDArray[np.int64]:
        """Draw the number of the member that changes each of `count` frames; M and above: none."""

    def draw(self, shape: Sequence[int], generator: np.random.Generator) -> Draws:
        """Draw `choice` (B,) and what the members draw, by the name `<member's number>/<name>`."""
        draws: Draws = {"choice": self.choose(shape[0], generator)}
        for i, member in enumerate(self.members):
            own = member.draw(shape, generator)
            draws |= {f"{i}/{name}": values for name, values in own.items()}
        return draws

    def apply(self, frames: Tensor, draws: Draws) -> Tensor:
        """Return each frame changed by the member chosen for it, or a copy of it."""
        choice = checked(draws, "choice", frames)
        changes = {
            i: partial(member.apply, draws=take(_of_member(draws, i), choice == i))
            for i, member in enumerate(self.members)
        }
        return change_groups(frames, choice, changes)

    def policy_mask(self, draws: Draws) -> npt.NDArray[np.float32]:
        """Return the masks of the members where they were chosen, 1 elsewhere (B,)."""
        mask = np.ones(len(draws["choice"]), np.float32)
        for i, member in enumerate(self.members):
            chosen = draws["choice"] == i
            mask[chosen] = member.policy_mask(take(_of_member(draws, i), chosen))
        return mask


@dataclass(frozen=True)
class OneOf(Mixture):
    """Changes each frame with an augmentation of its own random choice.

    A number is drawn uniformly from 0 .. num_choices - 1 for each frame; it names a member, or,
    from M on, leaves the frame clean. Two members and three choices: a third of the frames each.

    Args:
        members: The augmentations (M,).
        num_choices: M by default, so that every frame is changed.

    Raises:
        UserError: If `num_choices` is less than M.

    Source: Dipamc77/procgen-competition@f473f51, with pad_and_crop, tied_cutout_color and three
    choices.
    """

    num_choices: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_choices is not None:
            check_count("num_choices", self.num_choices, len(self.members))

    def choose(self, count: int, generator: np.random.Generator) -> npt.NDArray[np.int64]:
        """Draw independently for each frame."""
        return generator.integers(0, self.num_choices or len(self.members), count)


@dataclass(frozen=True)
class OnePerChunk(Mixture):
    """Cuts the minibatch into M chunks, and changes each with another augmentation.

    Which one gets which is a random permutation.

    Source: wulfebw/neurips2020-procgen@e131684, the mode "independent".
    """

    def choose(self, count: int, generator: np.random.Generator) -> npt.NDArray[np.int64]:
        """Draw a permutation of the members for the chunks."""
        return chunk_members(generator.permutation(len(self.members)), count)


def chunk_members(permutation: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """Return the member of each of `count` rows: chunks of count // M rows, in order.

    The last chunk takes what is left over: all rows where there are fewer than M.

    Args:
        permutation: The member of each chunk (M,).
        count: Rows.
    """
    size = count // len(permutation)
    lengths = np.full(len(permutation), size)
    lengths[-1] = count - size * (len(permutation) - 1)
    return np.repeat(permutation, lengths)


def check_count(name: str, value: object, smallest: int) -> None:
    """Refuse an option that is no whole number, or too small.

    Raises:
        UserError: Naming it.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < smallest:
        raise UserError(f"{name}={value!r} must be a whole number, at least {smallest}.")


def _of_member(draws: Draws, number: int) -> Draws:
    start = f"{number}/"
    return {k.removeprefix(start): v for k, v in draws.items() if k.startswith(start)}
