"""Core: an encoder of the user's own tried on empty observations, before a run begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from rllib_ppg.core.encoders import ExtendedEncoder
from rllib_ppg.dotted_names import blamed
from rllib_ppg.errors import UserError

_ROWS = 5  # nothing depends on the number


def try_encoder(
    name: str, encoder: nn.Module, obs_shape: Sequence[int], dtype: npt.DTypeLike
) -> None:
    """Encode empty observations once, and once with dropout where the encoder has some.

    Args:
        name: The encoder's name, for messages.
        encoder: The encoder; its mode is changed.
        obs_shape: Shape of one observation.
        dtype: That of the observations.

    Raises:
        UserError: If it fails, or its codes are not (rows, output_size) floating-point numbers.
    """
    encoder.eval()
    obs = torch.from_numpy(np.zeros((_ROWS, *obs_shape), dtype))
    for beside in _passes(encoder):
        what = f"encoder {name} fails on observations {tuple(obs_shape)} of {np.dtype(dtype)}"
        with blamed(what), torch.inference_mode():
            codes: Any = encoder(obs, *beside)
        if not isinstance(codes, torch.Tensor):
            raise UserError(
                f"encoder {name} gives a {type(codes).__name__}; it must give a tensor."
            )
        expected = (_ROWS, encoder.output_size)
        if codes.shape != expected or not codes.is_floating_point():
            made = f"{tuple(codes.shape)} of {str(codes.dtype).removeprefix('torch.')}"
            raise UserError(
                f"encoder {name} makes codes {made} from {_ROWS} observations; they must be "
                f"{expected} of a floating-point type, as its output_size says."
            )


def _passes(encoder: nn.Module) -> list[tuple[Any, ...]]:
    """What the encoder gets beside the observations, pass by pass."""
    if not isinstance(encoder, ExtendedEncoder):
        return [()]
    actions = torch.zeros(_ROWS, dtype=torch.int64) if encoder.num_actions else None
    passes: list[tuple[Any, ...]] = [(actions,)]
    if encoder.dropout_share:
        with blamed(f"{type(encoder).__name__}.draw_kept fails"):
            drawn = encoder.draw_kept(_ROWS, np.random.default_rng(0))
            kept = {key: torch.from_numpy(np.asarray(values)) for key, values in drawn.items()}
        passes.append((actions, kept))
    return passes
