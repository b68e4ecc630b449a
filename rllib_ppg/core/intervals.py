"""Core: what a few runs say about an algorithm: aggregates of scores and their intervals.

Shape key: R runs (seeds), M games, K thresholds, B bootstrap samples. Scores are one number a run
and game, normalised so that games compare. An aggregate takes them as (..., R, M), whatever axes
lead, so that many bootstrap samples are one call.

A bootstrap here resamples the runs of each game apart from the other games' (stratified). So an
interval tells how far the result would move with other seeds on the same games, and nothing about
other games.

Source: Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice"
(arXiv:2108.13264).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rllib_ppg.errors import UserError

FloatArray = npt.NDArray[np.float64]
Aggregate = Callable[[FloatArray], FloatArray]

# Numbers held at once while resampling: 8 MiB an array, and a handful of arrays.
MAX_CELLS = 2**20


class MeanEstimate(NamedTuple):
    """A mean, its standard error (NaN from a single value) and the number of values."""

    mean: float
    standard_error: float
    num_values: int


class Interval(NamedTuple):
    """An estimate from all runs and the bounds of its interval (NaN from a single run)."""

    estimate: float
    low: float
    high: float


class Profile(NamedTuple):
    """The share of runs above each threshold and the bounds of its interval, each (K,)."""

    estimate: FloatArray
    low: FloatArray
    high: FloatArray


def mean_and_standard_error(values: npt.ArrayLike) -> MeanEstimate:
    """Return the mean of independent values, and its standard error.

    The standard error is the sample deviation (divided by one less than their
    number) over the root of their number.

    Args:
        values: Any shape, flattened.

    Raises:
        UserError: There are no values, or one is not finite.
    """
    flat = np.asarray(values, np.float64).ravel()
    _check_finite(flat, "values")
    error = flat.std(ddof=1) / math.sqrt(flat.size) if flat.size > 1 else math.nan
    return MeanEstimate(float(flat.mean()), float(error), flat.size)


def mean(scores: FloatArray) -> FloatArray:
    """Return the mean over runs and games, (...,) of (..., R, M)."""
    return np.asarray(scores.mean((-2, -1)))


def median(scores: FloatArray) -> FloatArray:
    """Return the median over games of each game's mean over runs, (...,) of (..., R, M)."""
    return np.asarray(np.median(scores.mean(-2), -1))


def interquartile_mean(scores: FloatArray) -> FloatArray:
    """Return the mean of the middle half of all runs of all games (IQM), (...,) of (..., R, M).

    A quarter of the R x M scores is left out at each end, rounded down to whole scores.
    """
    count = scores.shape[-2] * scores.shape[-1]
    cut = count // 4
    flat = scores.reshape(*scores.shape[:-2], count)
    ordered = np.partition(flat, (cut, count - cut - 1), -1)
    return np.asarray(ordered[..., cut : count - cut].mean(-1))


def optimality_gap(scores: FloatArray, target: float = 1.0) -> FloatArray:
    """Return how much is missing to `target`, on average, (...,) of (..., R, M).

    Scores above the target count as the target: one game's surplus does not make up for another.
    """
    return np.asarray(np.maximum(target - scores, 0).mean((-2, -1)))


AGGREGATES: Mapping[str, Aggregate] = MappingProxyType(
    {
        "mean": mean,
        "median": median,
        "iqm": interquartile_mean,
        "optimality_gap": optimality_gap,
    }
)


def bootstrap_interval(
    scores: npt.ArrayLike,
    aggregate: Aggregate = interquartile_mean,
    *,
    confidence: float = 0.95,
    num_resamples: int = 50_000,
    seed: int = 0,
) -> Interval:
    """Return an aggregate of all scores and its stratified percentile bootstrap interval.

    Args:
        scores: One number a run and game (R, M); for one game (R, 1).
        aggregate: Takes (..., R, M), returns (...,); one of `AGGREGATES` or your own.
        confidence: Share of the resamples that lie within the interval, in (0, 1).
        num_resamples: Number of bootstrap samples.
        seed: Same seed and scores, same interval.

    Returns:
        The estimate and its bounds. The bounds are NaN where there is a single run, which tells
        nothing about other runs.

    Raises:
        UserError: There are no scores, one is not finite, or an option is out of range.
        ValueError: The scores are not (R, M).
    """
    array = _as_scores(scores, "scores")
    options = _Resampling(confidence, num_resamples, seed)
    low, high = _bounds([array], lambda drawn: aggregate(drawn[0]), array.size, options)
    return Interval(float(aggregate(array)), float(low), float(high))


def improvement_probability(x: FloatArray, y: FloatArray) -> FloatArray:
    """Return the probability that a run of X beats one of Y, averaged over games.

    It is Mann-Whitney's U over the number of pairs; a tie counts half.

    Args:
        x: Scores of X (..., R, M).
        y: Scores of Y (..., R', M), the same games in the same order.

    Returns:
        (...,) in [0, 1]; 0.5 where neither is better.
    """
    pairs = np.sign(x[..., :, None, :] - y[..., None, :, :])
    return np.asarray(0.5 + 0.5 * pairs.mean((-3, -2, -1)))


def probability_of_improvement(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    confidence: float = 0.95,
    num_resamples: int = 50_000,
    seed: int = 0,
) -> Interval:
    """Return `improvement_probability` of X over Y and its bootstrap interval.

    The runs of X and of Y are resampled independently.

    Args:
        x: Scores of X (R, M).
        y: Scores of Y (R', M), the same games in the same order.
        confidence: Share of the resamples that lie within the interval, in (0, 1).
        num_resamples: Number of bootstrap samples.
        seed: Same seed and scores, same interval.

    Returns:
        The estimate and its bounds, NaN where X or Y has a single run.

    Raises:
        UserError: There are no scores, one is not finite, the numbers of games differ, or an option
            is out of range.
        ValueError: The scores are not (R, M).
    """
    first, second = _as_scores(x, "scores of X"), _as_scores(y, "scores of Y")
    if first.shape[1] != second.shape[1]:
        raise UserError(
            f"X has scores of {first.shape[1]} games and Y of {second.shape[1]}; compare them on "
            "the games that both have."
        )
    low, high = _bounds(
        [first, second],
        lambda drawn: improvement_probability(*drawn),
        first.size * len(second),
        _Resampling(confidence, num_resamples, seed),
    )
    return Interval(float(improvement_probability(first, second)), float(low), float(high))


def performance_profile(
    scores: npt.ArrayLike,
    thresholds: npt.ArrayLike,
    *,
    confidence: float = 0.95,
    num_resamples: int = 2_000,
    seed: int = 0,
) -> Profile:
    """Return the share of all runs of all games that score above each threshold, with intervals.

    The intervals hold for each threshold by itself, not for the profile as a whole.

    Args:
        scores: One number a run and game (R, M).
        thresholds: Scores to compare with (K,).
        confidence: Share of the resamples that lie within the interval, in (0, 1).
        num_resamples: Number of bootstrap samples.
        seed: Same seed and scores, same intervals.

    Returns:
        Shares in [0, 1] and their bounds, NaN where there is a single run.

    Raises:
        UserError: There are no scores or thresholds, one is not finite, or an option is out of
            range.
        ValueError: The scores are not (R, M) or the thresholds not (K,).
    """
    array = _as_scores(scores, "scores")
    taus = np.asarray(thresholds, np.float64)
    if taus.ndim != 1:
        raise ValueError(f"thresholds {taus.shape} must be (K,).")
    _check_finite(taus, "thresholds")

    def shares(drawn: FloatArray) -> FloatArray:
        return np.asarray((drawn[..., None] > taus).mean((-3, -2)))

    options = _Resampling(confidence, num_resamples, seed)
    low, high = _bounds([array], lambda drawn: shares(drawn[0]), array.size * taus.size, options)
    return Profile(shares(array), low, high)


class _Resampling(NamedTuple):
    confidence: float
    num_resamples: int
    seed: int


def _bounds(
    samples: list[FloatArray],
    statistic: Callable[[list[FloatArray]], FloatArray],
    cells: int,
    options: _Resampling,
) -> tuple[FloatArray, FloatArray]:
    """Return the percentile bounds of a statistic over stratified resamples.

    Args:
        samples: Independent sets of scores, each (R, M) with its own R.
        statistic: Takes resamples of each set (B, R, M), returns (B,) or (B, K).
        cells: Numbers that the statistic of one resample handles, which bounds B.
        options: Confidence, number of resamples and seed.
    """
    _check_options(options)
    if min(map(len, samples)) == 1:
        shape = statistic([sample[None] for sample in samples]).shape[1:]
        return np.full(shape, math.nan), np.full(shape, math.nan)
    # One generator a set: what is drawn does not depend on the size of the blocks.
    generators = np.random.default_rng(options.seed).spawn(len(samples))
    block = max(1, MAX_CELLS // cells)
    statistics = [
        statistic([_resample(*pair, size) for pair in zip(samples, generators, strict=True)])
        for size in _block_sizes(options.num_resamples, block)
    ]
    tail = (1 - options.confidence) / 2
    low, high = np.quantile(np.concatenate(statistics), (tail, 1 - tail), axis=0)
    return low, high


def _resample(scores: FloatArray, generator: np.random.Generator, size: int) -> FloatArray:
    """Draw each game's R runs with replacement, `size` times: (size, R, M)."""
    runs = generator.integers(len(scores), size=(size, *scores.shape))
    return np.take_along_axis(scores[None], runs, axis=1)


def _block_sizes(total: int, block: int) -> list[int]:
    sizes = [block] * (total // block)
    return [*sizes, total % block] if total % block else sizes


def _as_scores(scores: npt.ArrayLike, name: str) -> FloatArray:
    array = np.asarray(scores, np.float64)
    if array.ndim != 2:
        raise ValueError(f"{name} {array.shape} must be (R, M): runs by games.")
    _check_finite(array, name)
    return array


def _check_finite(array: FloatArray, name: str) -> None:
    if array.size == 0:
        raise UserError(f"The {name} are empty; give at least one.")
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        place = tuple(int(index) for index in bad[0])
        raise UserError(
            f"The {name} hold {array[place]} at index {list(place)}; all must be finite, so "
            "leave out what was not measured."
        )


def _check_options(options: _Resampling) -> None:
    if not 0 < options.confidence < 1:
        raise UserError(f"confidence is {options.confidence}; give a share above 0 and below 1.")
    if options.num_resamples < 1:
        raise UserError(f"num_resamples is {options.num_resamples}; give at least 1.")
