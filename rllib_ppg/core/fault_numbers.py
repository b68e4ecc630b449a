"""Core: tensors of a numeric fault in a few numbers each."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

EXTREME = {
    "obs": 1e3,  # a network's first layer expects numbers of order one
    "advantages": 30.0,  # they are standardised
    "logp": 50.0,
    "log_ratio": 20.0,  # the loss takes its exponential
    "value_targets": 1e4,
    "vf_preds": 1e4,
    "old_inputs": 1e3,
    "rewards": 1e6,
}
"""Absolute values of inputs beyond which they are worth a look."""


class Numbers(NamedTuple):
    """One input of a loss.

    Attributes:
        name: Its name.
        shape: Its shape, rows first.
        least: Its least finite entry; NaN without one.
        greatest: Its greatest finite entry.
        broken: Entries that are NaN or infinite.
        extreme: Whether a finite entry is beyond `EXTREME`.
    """

    name: str
    shape: tuple[int, ...]
    least: float
    greatest: float
    broken: int
    extreme: bool


class Layer(NamedTuple):
    """One parameter and its gradient.

    Attributes:
        name: Its name.
        largest: Its largest finite absolute value; NaN without one.
        broken: Entries that are NaN or infinite.
        gradient: The gradient's largest finite absolute value; NaN without one.
        broken_gradient: The gradient's entries that are NaN or infinite.
    """

    name: str
    largest: float
    broken: int
    gradient: float
    broken_gradient: int


class Module(NamedTuple):
    """A module whose output is not finite.

    Attributes:
        name: Its name in the network.
        kind: Its class.
        inputs_finite: Whether what went in was finite.
        weights_finite: Whether its weights are.
    """

    name: str
    kind: str
    inputs_finite: bool
    weights_finite: bool


def describe(name: str, tensor: Tensor) -> Numbers:
    """Return an input's extremes and what is not finite in it."""
    values = tensor.double().flatten()
    finite = values[torch.isfinite(values)]
    least, greatest = (
        (float(finite.min()), float(finite.max())) if len(finite) else (math.nan, math.nan)
    )
    scaled = name == "obs" and tensor.dtype == torch.uint8  # the network divides bytes
    extreme = not scaled and max(-least, greatest) > EXTREME.get(name, math.inf)
    return Numbers(name, tuple(tensor.shape), least, greatest, len(values) - len(finite), extreme)


def describe_layer(name: str, parameter: Tensor) -> Layer:
    """Return a parameter's and its gradient's extremes and what is not finite in them."""
    weights = describe(name, parameter.detach())
    none = torch.empty(0)
    gradient = describe(name, none if parameter.grad is None else parameter.grad)
    return Layer(
        name,
        max(-weights.least, weights.greatest),
        weights.broken,
        max(-gradient.least, gradient.greatest),
        gradient.broken,
    )
