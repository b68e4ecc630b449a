"""Core: the temperature at which actions are drawn, other than from the policy as it is.

Shape key: B rows.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rllib_ppg.core.distributions import ActionSpec
from rllib_ppg.errors import UserError

LOWEST_TEMPERATURE = 1e-3
"""Below this, logits divided by the temperature leave float32's precision; 0 is greedy."""


def check_temperature(temperature: float | None) -> None:
    """Refuse a temperature that means nothing.

    Raises:
        UserError: If it is neither 0 nor a number from `LOWEST_TEMPERATURE`.
    """
    if temperature is None or temperature == 0:
        return
    if not (math.isfinite(temperature) and temperature >= LOWEST_TEMPERATURE):
        raise UserError(
            f"temperature={temperature:g}: must be 0 (the most probable action) or at least "
            f"{LOWEST_TEMPERATURE:g}; 1 samples from the policy as it is."
        )


def tempered(spec: ActionSpec, inputs: Tensor, temperature: float) -> Tensor:
    """The inputs (B, num_inputs) of the distribution p^(1/T), up to its constant.

    For discrete actions that is softmax(logits / T), for continuous ones a deviation times the root
    of T. A T of 0 leaves them as they are: then the mode is taken.

    Source: RLlib's SoftQ, with which a winner of the Procgen challenge acted at 0.5
    (Dipamc77/procgen-competition@f473f51).
    """
    if temperature in (0.0, 1.0):
        return inputs
    if spec.kind != "gaussian":
        return inputs / temperature
    mean, log_std = inputs.chunk(2, dim=-1)
    return torch.cat([mean, log_std + 0.5 * math.log(temperature)], dim=-1)
