"""Core: an encoder of the user's own tried on a few observations, before a run begins."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from rllib_ppg.core.encoders import ExtendedEncoder
from rllib_ppg.dotted_names import blamed
from rllib_ppg.errors import UserError


def try_encoder(name: str, encoder: nn.Module, obs: np.ndarray) -> None:
    """Encode observations once, and once with dropout where the encoder has some.

    Args:
        name: The encoder's name, for messages.
        encoder: The encoder; its mode is changed.
        obs: Observations as they are stored (B, ...).

    Raises:
        UserError: If it fails, or its codes are not (B, output_size) of float32.
    """
    encoder.eval()
    for beside in _passes(encoder, len(obs)):
        with (
            blamed(f"encoder {name} fails on observations {obs.shape[1:]} of {obs.dtype}"),
            torch.inference_mode(),
        ):
            codes: Any = encoder(torch.from_numpy(obs), *beside)
        if not isinstance(codes, torch.Tensor):
            raise UserError(
                f"encoder {name} gives a {type(codes).__name__}; it must give a tensor."
            )
        expected = (len(obs), encoder.output_size)
        if codes.shape != expected or codes.dtype != torch.float32:
            made = f"{tuple(codes.shape)} of {str(codes.dtype).removeprefix('torch.')}"
            raise UserError(
                f"encoder {name} makes codes {made} from {len(obs)} observations; they must be "
                f"{expected} of float32, as its output_size says."
            )


def _passes(encoder: nn.Module, count: int) -> list[tuple[Any, ...]]:
    """What the encoder gets beside the observations, pass by pass, as `PhasicNetwork` gives it."""
    if not isinstance(encoder, ExtendedEncoder):
        return [()]
    actions = torch.zeros(count, dtype=torch.int64) if encoder.num_actions else None
    passes: list[tuple[Any, ...]] = [() if actions is None else (actions,)]
    if encoder.dropout_share:
        with blamed(f"{type(encoder).__name__}.draw_kept fails"):
            drawn = encoder.draw_kept(count, np.random.default_rng(0))
            kept = {key: torch.from_numpy(np.asarray(values)) for key, values in drawn.items()}
        passes.append((actions, kept))
    return passes
