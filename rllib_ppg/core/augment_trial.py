"""Core: an augmentation tried on empty observations, before a run reaches its first use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from rllib_ppg.core.augment import Augmentation, Draws, Mixture
from rllib_ppg.core.augment_setting import name_of
from rllib_ppg.dotted_names import blamed
from rllib_ppg.errors import UserError

# Enough to tell the axis of the rows from the others; nothing depends on the number.
_ROWS = 5


def try_augmentation(
    augmentation: Augmentation, obs_shape: Sequence[int], dtype: npt.DTypeLike
) -> None:
    """Draw and apply an augmentation once, and each member of a mixture by itself.

    Args:
        augmentation: The augmentation.
        obs_shape: Shape of one observation.
        dtype: That of the observations.

    Raises:
        UserError: If it fails, or does not keep the observations' shape and type, or changes the
            observations that it is given.
    """
    if isinstance(augmentation, Mixture):  # a small minibatch may choose none of some member
        for member in augmentation.members:
            try_augmentation(member, obs_shape, dtype)
    clean = torch.from_numpy(np.zeros((_ROWS, *obs_shape), dtype))
    name, what = name_of(augmentation), f"observations {tuple(obs_shape)} of {np.dtype(dtype)}"
    changed: Any = None
    with blamed(f"{name} fails on {what}"):
        draws = augmentation.draw(clean.shape, np.random.default_rng(0))
        _check_draws(name, draws)
        changed = augmentation.apply(clean, draws)
        augmentation.policy_mask(draws)
    if not isinstance(changed, torch.Tensor):
        raise UserError(f"{name} gives a {type(changed).__name__}; apply must return a tensor.")
    if changed.shape != clean.shape or changed.dtype != clean.dtype:
        made = f"{tuple(changed.shape[1:])} of {str(changed.dtype).removeprefix('torch.')}"
        raise UserError(f"{name} makes {made} from {what}; it must keep shape and type.")
    if clean.any():
        raise UserError(
            f"{name} changes the observations that it is given; apply must change a copy."
        )


def _check_draws(name: str, draws: Draws) -> None:
    if not draws:
        raise UserError(
            f"{name}: draw returns no array, and so no number of observations; where nothing is "
            'random return for example {"rows": np.arange(shape[0])}.'
        )
    wrong = [key for key, values in draws.items() if len(values) != _ROWS]
    if wrong:
        raise UserError(
            f"{name}: {wrong[0]} has not one entry for each observation along its first axis; draw "
            "must return arrays that have."
        )
