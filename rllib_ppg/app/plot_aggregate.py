"""App: from the curves of a group to its mean and interval, at every point.

Shape key: R runs (seeds), M games, K points.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rllib_ppg.app.plot_runs import Curve, Note
from rllib_ppg.app.plot_tables import FloatArray
from rllib_ppg.core.intervals import AGGREGATES, Interval, bootstrap_interval
from rllib_ppg.errors import UserError

AGGREGATE_NAMES = {
    "mean": "mean",
    "median": "median",
    "iqm": "interquartile mean",
    "optimality_gap": "optimality gap",
}

INTERVALS = ("bootstrap", "t", "none")
NUM_RESAMPLES = 2_000
"""As many as the profiles take; a bound of the interval then varies by a few percent of it."""

MAX_POINTS = 200
"""Points of a mean curve: more than that cannot be told apart in a figure."""

FEW_RUNS = 5


@dataclass(frozen=True)
class Band:
    """The mean curve of a group and its interval.

    Attributes:
        name: The group's name.
        x: Points (K,).
        estimate: Mean or other aggregate over runs and games (K,).
        low: Lower bounds, NaN without an interval (K,).
        high: Upper bounds (K,).
        num_runs: Runs of each game.
        num_games: Games.
        curves: What it was made of.
        reference: Whether it was published elsewhere.
    """

    name: str
    x: FloatArray
    estimate: FloatArray
    low: FloatArray
    high: FloatArray
    num_runs: int
    num_games: int
    curves: Sequence[Curve]
    reference: bool


def smooth(curve: Curve, factor: float) -> Curve:
    """Average a curve exponentially over its points, the earlier ones weighted by `factor`.

    The mean is divided by the sum of its weights, so that it does not begin near 0.
    """
    if not factor:
        return curve
    total = weight = 0.0
    values = np.empty_like(curve.y)
    for k, value in enumerate(curve.y):
        total, weight = factor * total + value, factor * weight + 1
        values[k] = total / weight
    return replace(curve, y=values)


def balance(name: str, items: Sequence[Curve], note: Note) -> list[list[Curve]]:
    """Sort curves by game, with as many runs of each: M lists of R curves.

    Runs beyond the number that every game has are left out with a note, for a game with more runs
    would count more.
    """
    games: dict[str | None, list[Curve]] = {}
    for item in items:
        games.setdefault(item.origin.game, []).append(item)
    fewest = min(map(len, games.values()))
    surplus = sum(len(found) - fewest for found in games.values())
    if surplus:
        note(f"{name}: {fewest} runs of every game are used; {surplus} more of some are left out.")
    return [found[:fewest] for found in games.values()]


def band(
    name: str,
    curves: Sequence[Curve],
    *,
    aggregate: str = "mean",
    interval: str = "bootstrap",
    note: Note = print,
) -> Band:
    """Return the mean curve of a group over the range that all its runs cover.

    Curves are straight between their points. Beyond the end of the shortest run nothing is drawn:
    a mean of the runs that are left would jump.

    Args:
        name: The group's name.
        curves: Its runs, of one game or more.
        aggregate: One of `AGGREGATES`, over runs and games.
        interval: One of `INTERVALS`, at 95 %.
        note: Takes what was left out.

    Raises:
        UserError: If the runs share no range.
    """
    games = balance(name, curves, note)
    used = [curve for game in games for curve in game]
    begin, end = _common_range(name, used, note)
    x = _points(used, begin, end)
    rows = [[np.interp(x, curve.x, curve.y) for curve in game] for game in games]
    scores = np.array(rows).transpose(2, 1, 0)
    estimate = AGGREGATES[aggregate](scores)
    low, high = _bounds(scores, aggregate, interval)
    reference = all(curve.origin.reference for curve in used)
    _, num_runs, num_games = scores.shape
    return Band(name, x, estimate, low, high, num_runs, num_games, used, reference)


def _common_range(name: str, curves: Sequence[Curve], note: Note) -> tuple[float, float]:
    """Return where all curves are known."""
    begin, end = max(curve.x[0] for curve in curves), min(curve.x[-1] for curve in curves)
    if begin > end:
        raise UserError(
            f"{name}: one run ends at {_place(end)} and another begins at {_place(begin)}, so that "
            "they have no mean; use --group run."
        )
    longest = max(curve.x[-1] for curve in curves)
    if longest > end:
        note(
            f"{name}: the mean ends at {_place(end)} with the shortest run; the longest goes to "
            f"{_place(longest)}."
        )
    return begin, end


def _place(x: float) -> str:
    """Where on the x axis: whole steps or iterations, or hours."""
    return f"{x:,.0f}" if x.is_integer() else f"{x:.3g}"


def _points(curves: Sequence[Curve], begin: float, end: float) -> FloatArray:
    if len(curves) == 1:
        return curves[0].x
    x = np.unique(np.concatenate([curve.x for curve in curves]))
    x = x[(x >= begin) & (x <= end)]
    return x if len(x) <= MAX_POINTS else np.linspace(begin, end, MAX_POINTS)


def _bounds(scores: FloatArray, aggregate: str, interval: str) -> tuple[FloatArray, FloatArray]:
    """Bounds at each point for scores (K, R, M), NaN without an interval."""
    if interval == "none" or scores.shape[1] == 1:
        nothing = np.full(len(scores), math.nan)
        return nothing, nothing
    found = [interval_of(at, aggregate, interval, NUM_RESAMPLES) for at in scores]
    return np.array([one.low for one in found]), np.array([one.high for one in found])


def interval_of(scores: FloatArray, aggregate: str, interval: str, resamples: int) -> Interval:
    """Return an aggregate of scores (R, M) and its 95 % interval, NaN from a single run.

    Raises:
        UserError: If Student's t is asked of another aggregate than the mean.
    """
    if interval == "bootstrap":
        return bootstrap_interval(scores, AGGREGATES[aggregate], num_resamples=resamples)
    estimate = float(AGGREGATES[aggregate](scores))
    if interval == "none" or len(scores) == 1:
        return Interval(estimate, math.nan, math.nan)
    if aggregate != "mean":
        raise UserError(f"--interval t holds for the mean, not for --aggregate {aggregate}.")
    half = _student_half_width(scores)
    return Interval(estimate, estimate - half, estimate + half)


def _student_half_width(scores: FloatArray) -> float:
    """Half of the 95 % interval of the mean of the games' means, after Welch and Satterthwaite."""
    from scipy.stats import t

    runs, games = scores.shape
    variances = scores.var(0, ddof=1) / runs / games**2
    total = variances.sum()
    if total == 0:
        return 0.0
    freedom = total**2 / (variances**2 / (runs - 1)).sum()
    return float(t.ppf(0.975, freedom) * math.sqrt(total))


def interval_text(interval: str) -> str:
    """What the intervals of a figure are, in words; empty without any."""
    kinds = {"bootstrap": "bootstrap", "t": "Student's t"}
    return f"95 % {kinds[interval]} interval over runs" if interval in kinds else ""
