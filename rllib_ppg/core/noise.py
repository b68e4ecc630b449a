"""Core: what is random in the inputs of a training pass: augmented frames, and dropout.

It is drawn for a whole minibatch, on the host, before the minibatch is shared out. So the numbers
are the same whatever number of threads, devices or micro-batches works on it, and a run goes on
from a checkpoint with the numbers that it would have had. Shape key: R rows, B rows of a minibatch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rllib_ppg.core.augment import Augmentation, Draws, take
from rllib_ppg.core.frames import Frames, Inputs, Rows
from rllib_ppg.core.networks import PhasicNetwork
from rllib_ppg.core.replicas import Replica
from rllib_ppg.core.segments import IndexArray

AUGMENT, KEPT = "augment/", "kept/"
"""What the names of draws begin with."""

# Gives the draws for the shape (B, ...) of a minibatch's observations.
Draw = Callable[[Sequence[int]], Draws]


class NoiseState(NamedTuple):
    """What a draw depends on.

    Attributes:
        augmentation: The augmentation at that moment; DrAC's choice replaces it.
        generator: Where the generator stands.
    """

    augmentation: Augmentation | None
    generator: Mapping[str, Any]


class Noise:
    """Augmentation and dropout of a network's training passes.

    Args:
        augmentation: Changes the observations; None leaves them.
        network: Says whether there is dropout.
        generator: What to draw from.
        draw: Gives the draws instead of the generator, their names beginning with `AUGMENT` and
            `KEPT`.
    """

    def __init__(
        self,
        augmentation: Augmentation | None,
        network: PhasicNetwork,
        generator: np.random.Generator,
        draw: Draw | None = None,
    ) -> None:
        self.augmentation = augmentation
        self._network = network
        self._generator = generator
        self._draw = draw

    @property
    def active(self) -> bool:
        """Whether there is anything to draw."""
        return self.augmentation is not None or self._network.dropout > 0

    def get_state(self) -> NoiseState:
        """Return what the next draw depends on, so that `at` can repeat it."""
        return NoiseState(self.augmentation, self._generator.bit_generator.state)

    def at(self, state: NoiseState) -> Noise:
        """Return the same source as it was at `state`; this one goes on where it is."""
        other = type(self._generator.bit_generator)()
        other.state = state.generator
        generator = np.random.Generator(other)
        return Noise(state.augmentation, self._network, generator, self._draw)

    def draw(self, shape: Sequence[int]) -> Draws:
        """Draw for a minibatch.

        Args:
            shape: Of its observations (B, ...).

        Returns:
            Arrays with B entries along their first axes.
        """
        if self._draw is not None:
            return self._draw(shape)
        draws: Draws = {}
        if self.augmentation is not None:
            own = self.augmentation.draw(shape, self._generator)
            draws |= {f"{AUGMENT}{name}": values for name, values in own.items()}
        if self._network.dropout > 0:
            kept = self._network.draw_kept(shape[0], self._generator)
            draws |= {f"{KEPT}{name}": values for name, values in kept.items()}
        return draws

    def apply(self, inputs: Inputs, draws: Draws) -> Inputs:
        """Return a pass's inputs with the draws of its rows applied; those given stay as they are.

        Raises:
            ValueError: If the augmentation gives observations of another shape or type.
        """
        obs = inputs.obs
        if self.augmentation is not None:
            obs = self.augmentation.apply(obs, _part(draws, AUGMENT))
            if obs.shape != inputs.obs.shape or obs.dtype != inputs.obs.dtype:
                raise ValueError(
                    f"the augmentation made observations {tuple(obs.shape)} of {obs.dtype} from "
                    f"{tuple(inputs.obs.shape)} of {inputs.obs.dtype}; it must keep both."
                )
        kept = {
            name: torch.from_numpy(values).to(obs.device)
            for name, values in _part(draws, KEPT).items()
        }
        return Inputs(obs, inputs.prev_actions, kept or None)


def _part(draws: Draws, start: str) -> Draws:
    return {k.removeprefix(start): v for k, v in draws.items() if k.startswith(start)}


class NoisyFrames:
    """The observations of R rows, with noise in those of the minibatch under way.

    Args:
        frames: The observations.
        noise: What is random; None for nothing.
        obs_shape: Shape of one observation.
    """

    def __init__(self, frames: Frames, noise: Noise | None, obs_shape: Sequence[int]) -> None:
        self.frames = frames
        self._noise = noise if noise is not None and noise.active else None
        self._shape = tuple(obs_shape)
        self._draws: Draws = {}
        count = len(frames) if self._noise else 0
        self._place: npt.NDArray[np.int64] = np.zeros(count, np.int64)

    def begin(self, rows: IndexArray) -> NoiseState | None:
        """Draw for a minibatch of these rows.

        Returns:
            What `again` needs; None without noise.
        """
        if self._noise is None:
            return None
        state = self._noise.get_state()
        self._use(rows, self._noise.draw((len(rows), *self._shape)))
        return state

    def again(self, rows: IndexArray, state: NoiseState | None) -> Draws:
        """Draw for a minibatch what it had when `begin` gave `state`; nothing is drawn after."""
        if self._noise is None or state is None:
            return {}
        self._noise = self._noise.at(state)
        draws = self._noise.draw((len(rows), *self._shape))
        self._use(rows, draws)
        return draws

    def _use(self, rows: IndexArray, draws: Draws) -> None:
        self._place[rows] = np.arange(len(rows))
        self._draws = draws

    def inputs(self, rows: Rows, device: torch.device) -> Inputs:
        """Return what the network takes for some rows of the minibatch, on `device`."""
        clean = self.frames.inputs(rows, device)
        if self._noise is None:
            return clean
        return self._noise.apply(clean, take(self._draws, self._place[rows.host.numpy()]))

    def policy_mask(self, rows: Rows, device: torch.device) -> Tensor:
        """Return 1 where the policy may be held to that of the clean row, else 0 (B,)."""
        assert self._noise is not None and self._noise.augmentation is not None
        draws = take(self._draws, self._place[rows.host.numpy()])
        mask = self._noise.augmentation.policy_mask(_part(draws, AUGMENT))
        return torch.from_numpy(mask).to(device)

    def __call__(self, replica: Replica, rows: Rows) -> Inputs:
        """Return what a replica takes for some rows of the minibatch."""
        return self.inputs(rows, replica.device)


class DrawnFrames:
    """Observations with noise that was drawn before, in place of `NoisyFrames`.

    Args:
        frames: The observations, changed already.
        kept: What dropout keeps of each row, by name.
        mask: As `NoisyFrames.policy_mask` gives it, of each row; None where nobody asks.
    """

    def __init__(
        self, frames: Frames, kept: Mapping[str, Tensor], mask: Tensor | None = None
    ) -> None:
        self._frames = frames
        self._kept = kept
        self._mask = mask

    def policy_mask(self, rows: Rows, device: torch.device) -> Tensor:
        """Return 1 where the policy may be held to that of the clean row, else 0 (B,)."""
        assert self._mask is not None
        return self._mask[rows.host].to(device)

    def __call__(self, replica: Replica, rows: Rows) -> Inputs:
        """Return what a replica takes for some rows."""
        clean = self._frames.inputs(rows, replica.device)
        own = {name: values[rows.host].to(replica.device) for name, values in self._kept.items()}
        return clean._replace(kept=own or None)
