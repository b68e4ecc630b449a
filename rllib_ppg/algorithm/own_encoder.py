"""Algorithm: encoders of the user's own: found, made and tried before anything is started."""

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter

from rllib_ppg.algorithm.model_settings import EncoderSettings
from rllib_ppg.core.encoder_trial import try_encoder
from rllib_ppg.core.encoders import ExtendedEncoder
from rllib_ppg.dotted_names import blamed, check_options, find_class
from rllib_ppg.errors import UserError

MOST_TRIED = 25_000_000
"""Parameters of a network whose encoder is made to be tried."""

_ROWS = 5  # nothing depends on the number


def own_maker(space: Any, settings: EncoderSettings, action_space: Any) -> Callable[[], nn.Module]:
    """Return a function that makes one encoder of the user's own.

    Raises:
        UserError: If there is no such class, or it does not take the options; where one is made,
            if it lacks what it must have.
    """
    kind: Any = find_class(settings.encoder, nn.Module, "encoder")
    options = dict(settings.encoder_options)
    check_options(f"encoder {settings.encoder}", partial(kind, tuple(space.shape)), options)

    def make() -> nn.Module:
        with blamed(f"encoder {settings.encoder} cannot be made"):
            encoder: nn.Module = kind(tuple(space.shape), **options)
        problem = _own_problem(encoder, action_space)
        if problem:
            raise UserError(f"encoder {settings.encoder} {problem}.")
        return encoder

    return make


def try_own(name: str, make: Callable[[], nn.Module], space: Any, dtype: npt.DTypeLike) -> None:
    """Make an encoder and try it on observations of the space.

    Args:
        name: Its name, for messages.
        make: From `own_maker`.
        space: Observation space.
        dtype: That of stored observations.

    Raises:
        UserError: If it cannot be made, or fails.
    """
    space = deepcopy(space)
    space.seed(0)
    obs = np.stack([space.sample() for _ in range(_ROWS)]).astype(dtype)
    with torch.random.fork_rng(devices=[]):
        try_encoder(name, make(), obs)


def _own_problem(encoder: nn.Module, action_space: Any) -> str | None:
    """What an encoder of the user's own lacks; None if nothing."""
    size = getattr(encoder, "output_size", None)
    if not isinstance(size, int) or size < 1:
        return (
            "has no attribute output_size, the size of its codes, a whole number; set it in the "
            "constructor"
        )
    if any(isinstance(parameter, UninitializedParameter) for parameter in encoder.parameters()):
        return "has lazy layers, whose sizes are not known when it is made; give them their sizes"
    if not isinstance(encoder, ExtendedEncoder):
        return None
    discrete = isinstance(action_space, gym.spaces.Discrete)
    count = int(action_space.n) if discrete else 0
    if encoder.num_actions not in (0, count):
        return (
            f"has num_actions={encoder.num_actions!r}, and the environment {action_space}; set it "
            f"to {f'{count}, or to ' if count else ''}0 for an encoder without previous actions"
        )
    share: Any = encoder.dropout_share
    if not isinstance(share, int | float) or not 0 <= share < 1:
        return f"has dropout_share={share!r}, which must be at least 0 and less than 1"
    if share and type(encoder).draw_kept is ExtendedEncoder.draw_kept:
        return f"has dropout_share={share!r} and no draw_kept; define it"
    return None
