"""Mean curves and their intervals: against scipy and the exact bootstrap, on a common range."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from rllib_ppg.app.plot_aggregate import AGGREGATE_NAMES, MAX_POINTS, band, interval_of, smooth
from rllib_ppg.app.plot_runs import Curve, Origin
from rllib_ppg.core.intervals import AGGREGATES
from rllib_ppg.errors import UserError


def curve(x: list[float], y: list[float], game: str = "maze", seed: int = 0) -> Curve:
    origin = Origin(Path("p"), "e", game=game, seed=seed)
    return Curve(origin, np.array(x, float), np.array(y, float), "return")


def test_every_aggregate_has_a_name_in_words():
    assert AGGREGATE_NAMES.keys() == AGGREGATES.keys()


def test_the_mean_covers_the_range_of_all_runs_and_goes_straight_between_points():
    notes: list[str] = []
    made = band("g", [curve([0, 10, 20], [0, 10, 20]), curve([5, 15], [0, 10])], note=notes.append)
    assert made.x.tolist() == [5, 10, 15]
    assert made.estimate.tolist() == [2.5, 7.5, 12.5]
    assert len(notes) == 1 and "ends at 15" in notes[0] and "goes to 20" in notes[0]


def test_a_single_run_keeps_its_points_and_has_no_interval():
    made = band("g", [curve([1, 2, 9], [3, 5, 4])])
    assert made.x.tolist() == [1, 2, 9] and made.estimate.tolist() == [3, 5, 4]
    assert np.isnan(made.low).all() and np.isnan(made.high).all()


def test_the_bootstrap_interval_of_three_runs_spans_them():
    # The lowest run alone makes up 1/27 of all resamples, more than the 2.5 % left out.
    made = band("g", [curve([0, 1], [y, 2 * y]) for y in (1, 5, 6)])
    assert made.low.tolist() == [1, 2] and made.high.tolist() == [6, 12]


def test_the_bootstrap_interval_is_near_that_of_all_resamples():
    values = [0.1, 0.4, 0.45, 0.7, 1.3]
    made = band("g", [curve([0], [y]) for y in values])
    means = [np.mean(draw) for draw in itertools.product(values, repeat=5)]
    low, high = np.quantile(means, (0.025, 0.975))
    assert made.low[0] == pytest.approx(low, abs=0.03)
    assert made.high[0] == pytest.approx(high, abs=0.03)


def test_the_t_interval_of_one_game_is_scipys():
    values = np.array([1.0, 2.5, 4.0, 3.0])
    found = interval_of(values[:, None], "mean", "t", 10)
    low, high = stats.t.interval(0.95, 3, values.mean(), stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high))


def test_the_t_interval_of_two_games_is_that_of_welchs_test():
    # The mean of x and -y is half of their difference, whose interval scipy has.
    x, y = np.array([1.0, 2.5, 4.0]), np.array([0.5, 3.0, 9.0])
    found = interval_of(np.stack([x, -y], axis=1), "mean", "t", 10)
    expected = stats.ttest_ind(x, y, equal_var=False).confidence_interval(0.95)
    assert (2 * found.low, 2 * found.high) == pytest.approx((expected.low, expected.high))


def test_a_mean_over_games_weighs_each_alike():
    notes: list[str] = []
    runs = [curve([0], [0.0], "maze"), curve([0], [4.0], "maze"), curve([0], [1.0], "heist")]
    made = band("g", runs, note=notes.append)
    assert made.estimate[0] == 0.5 and (made.num_runs, made.num_games) == (1, 2)
    assert "1 more of some are left out" in notes[0]


def test_the_interval_over_games_does_not_count_differences_between_games():
    runs = [
        curve([0], [y], game) for game, y in (("maze", 0), ("maze", 0), ("heist", 9), ("heist", 9))
    ]
    made = band("g", runs)
    assert made.low[0] == made.high[0] == made.estimate[0] == 4.5


def test_long_curves_are_thinned_to_a_grid_from_end_to_end():
    x = np.arange(5000.0)
    made = band("g", [curve(x, 2 * x), curve(x, 4 * x)], interval="none")
    assert len(made.x) == MAX_POINTS and (made.x[0], made.x[-1]) == (0, 4999)
    assert np.allclose(made.estimate, 3 * made.x)


def test_runs_without_a_common_range_are_refused():
    with pytest.raises(UserError, match="--group run"):
        band("g", [curve([0, 1], [0, 0]), curve([2, 3], [0, 0])])


def test_smoothing_keeps_a_constant_and_starts_at_the_first_value():
    assert np.allclose(smooth(curve([1, 2, 3], [7, 7, 7]), 0.9).y, 7)
    assert np.allclose(smooth(curve([1, 2, 3], [1, 2, 4]), 0.5).y, [1, 5 / 3, 5.25 / 1.75])
