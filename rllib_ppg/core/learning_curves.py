"""Core: how fast an agent learned: area under its learning curve, and steps to a threshold.

Shape key: K points. A curve is straight between its points. A point whose value is NaN, as before
the first episode ended, is left out.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from rllib_ppg.errors import UserError

FloatArray = npt.NDArray[np.float64]


def area_under_curve(
    steps: npt.ArrayLike,
    values: npt.ArrayLike,
    *,
    start: float | None = None,
    end: float | None = None,
) -> float:
    """Return the area under a learning curve over the width of the range: its mean height.

    Curves compare where `start` and `end` are the same for all of them.

    Args:
        steps: Environment steps (K,), increasing.
        values: Mean returns or scores at these steps (K,).
        start: First step of the range; the curve's first by default.
        end: Last step of the range; the curve's last by default.

    Returns:
        The mean height in the unit of `values`; NaN where the curve does not cover the range, for
        nothing is known outside it, or has fewer than two points.

    Raises:
        UserError: Steps do not increase or are not finite, a value is infinite, or `start` is not
            before `end`.
        ValueError: The shapes are not (K,).
    """
    if start is not None and end is not None and not start < end:
        raise UserError(f"The range goes from step {start:g} to {end:g}; give a later end.")
    x, y = _as_curve(steps, values)
    if len(x) == 0:
        return math.nan
    first = float(x[0] if start is None else start)
    last = float(x[-1] if end is None else end)
    if not x[0] <= first < last <= x[-1]:
        return math.nan
    grid = np.concatenate([[first], x[(x > first) & (x < last)], [last]])
    heights = np.interp(grid, x, y)
    # By hand, for the name of NumPy's own trapezoid rule changed with version 2.
    return float(np.diff(grid) @ (heights[1:] + heights[:-1]) / 2 / (last - first))


def steps_to_threshold(steps: npt.ArrayLike, values: npt.ArrayLike, threshold: float) -> float:
    """Return the environment steps after which a learning curve first reaches a threshold.

    Args:
        steps: Environment steps (K,), increasing.
        values: Mean returns or scores at these steps (K,).
        threshold: Value to reach, in the unit of `values`.

    Returns:
        Steps, interpolated; the curve's first where it starts at or above the threshold, NaN where
        it never gets there.

    Raises:
        UserError: Steps do not increase or are not finite, or a value is infinite.
        ValueError: The shapes are not (K,).
    """
    x, y = _as_curve(steps, values)
    reached = np.flatnonzero(y >= threshold)
    if reached.size == 0:
        return math.nan
    k = int(reached[0])
    if k == 0:
        return float(x[0])
    share = (threshold - y[k - 1]) / (y[k] - y[k - 1])
    return float(x[k - 1] + share * (x[k] - x[k - 1]))


def _as_curve(steps: npt.ArrayLike, values: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return the points of a curve whose value is known."""
    x, y = np.asarray(steps, np.float64), np.asarray(values, np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"steps {x.shape} and values {y.shape} must both be (K,).")
    if not np.isfinite(x).all() or not (np.diff(x) > 0).all():
        raise UserError("The steps of a learning curve must be finite and increase; sort them.")
    if np.isinf(y).any():
        raise UserError("A learning curve has an infinite value; leave that point out.")
    known = ~np.isnan(y)
    return x[known], y[known]
