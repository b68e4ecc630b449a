"""Aggregates and intervals: by hand, against scipy, against rliable, and what cannot matter."""

import math
import tracemalloc
import warnings

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rllib_ppg.core import intervals
from rllib_ppg.core.intervals import (
    AGGREGATES,
    bootstrap_interval,
    improvement_probability,
    interquartile_mean,
    mean,
    mean_and_standard_error,
    median,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
)
from rllib_ppg.errors import UserError

# Scores of two algorithms on four games: five and three runs. Some are above 1, some are equal
# between the two, and some equal a threshold below.
X = np.array(
    [
        [0.12, 0.55, 0.91, 0.30],
        [0.20, 0.48, 1.10, 0.35],
        [0.05, 0.60, 0.97, 0.10],
        [0.33, 0.52, 1.05, 0.42],
        [0.18, 0.71, 0.88, 0.25],
    ]
)
Y = np.array([[0.10, 0.55, 0.70, 0.35], [0.22, 0.40, 0.95, 0.31], [0.18, 0.45, 0.91, 0.50]])
THRESHOLDS = [0.0, 0.3, 0.5, 0.9, 1.2]

# What rliable 1.2.0 (arch 7.2.0, numpy 2.4.6) gives for these scores: estimate, low, high of
# percentile intervals of 95 % from 100,000 resamples (probability of improvement: 20,000, profile:
# 50,000). Their bounds move by about 0.001 with the seed; shares move by one run of 20 or not.
RLIABLE = {
    "mean": [(0.5035, 0.4635, 0.5435), (0.468333, 0.4225, 0.511667)],
    "median": [(0.428, 0.372, 0.486), (0.426667, 0.37, 0.483333)],
    "iqm": [(0.451, 0.396, 0.496), (0.426667, 0.37, 0.483333)],
    "optimality_gap": [(0.504, 0.4665, 0.5415), (0.531667, 0.488333, 0.576667)],
}
RLIABLE_IMPROVEMENT = (0.583333, 0.4, 0.758333)
RLIABLE_PROFILE = [
    [1.0, 0.65, 0.45, 0.2, 0.0],
    [1.0, 0.5, 0.35, 0.1, 0.0],
    [1.0, 0.8, 0.5, 0.25, 0.0],
]

# Few digits, so that ties come up and sums in another order stay comparable.
NUMBERS = st.integers(-300, 300).map(lambda number: number / 100)


def score_arrays(max_runs: int = 6, max_games: int = 5):
    shapes = st.tuples(st.integers(1, max_runs), st.integers(1, max_games))
    return shapes.flatmap(lambda shape: arrays(np.float64, shape, elements=NUMBERS))


def test_mean_and_standard_error_by_hand():
    # Deviations -3, -1, 1, 3: variance 20 / 3, divided by 4 values.
    estimate = mean_and_standard_error([1, 3, 5, 7])
    assert estimate == pytest.approx((4, math.sqrt(20 / 3 / 4), 4))


def test_standard_error_agrees_with_scipy():
    assert mean_and_standard_error(X).standard_error == pytest.approx(scipy.stats.sem(X.ravel()))


def test_one_value_has_a_mean_and_no_standard_error():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimate = mean_and_standard_error([2.5])
    assert (estimate.mean, estimate.num_values) == (2.5, 1)
    assert math.isnan(estimate.standard_error)


def test_aggregates_by_hand():
    scores = np.array([[0.0, 0.2, 2.0], [0.4, 0.6, 0.4]])
    assert mean(scores) == pytest.approx(3.6 / 6)
    # Means of the games: 0.2, 0.4, 1.2.
    assert median(scores) == pytest.approx(0.4)
    # Six scores: one (6 // 4) is left out at each end; 0.2, 0.4, 0.4, 0.6 stay.
    assert interquartile_mean(scores) == pytest.approx(0.4)
    # Missing to 1: 1, 0.8, 0 (2.0 counts as 1), 0.6, 0.4, 0.6.
    assert optimality_gap(scores) == pytest.approx(3.4 / 6)
    assert optimality_gap(scores, target=0.5) == pytest.approx((0.5 + 0.3 + 0.1 + 0.1) / 6)


@given(score_arrays())
def test_iqm_is_scipys_trimmed_mean_of_all_scores(scores):
    expected = scipy.stats.trim_mean(scores, 0.25, axis=None)
    assert interquartile_mean(scores) == pytest.approx(expected)


@pytest.mark.parametrize("aggregate", AGGREGATES.values(), ids=AGGREGATES)
def test_leading_axes_are_many_aggregates_at_once(aggregate):
    stacked = np.random.default_rng(0).random((3, 2, 5, 4))
    together = aggregate(stacked)
    assert together.shape == (3, 2)
    one_by_one = [[aggregate(scores) for scores in row] for row in stacked]
    np.testing.assert_allclose(together, one_by_one)


@pytest.mark.parametrize("aggregate", AGGREGATES.values(), ids=AGGREGATES)
@given(data=st.data())
def test_the_order_of_runs_and_games_does_not_matter(aggregate, data):
    scores = data.draw(score_arrays())
    runs = data.draw(st.permutations(range(scores.shape[0])))
    games = data.draw(st.permutations(range(scores.shape[1])))
    # A run of one game belongs to no run of another.
    shuffled = scores[:, games].copy()
    shuffled[:, 0] = shuffled[runs, 0]
    assert aggregate(shuffled) == pytest.approx(aggregate(scores), abs=1e-12)


@pytest.mark.parametrize("name", ["mean", "median", "iqm"])
@given(scores=score_arrays(), scale=st.floats(0.1, 10), shift=st.floats(-5, 5))
def test_averages_follow_a_change_of_scale(name, scores, scale, shift):
    average = AGGREGATES[name]
    expected = scale * average(scores) + shift
    assert average(scale * scores + shift) == pytest.approx(expected, abs=1e-9)


@given(score_arrays())
def test_the_gap_is_what_the_clipped_mean_lacks(scores):
    assert optimality_gap(scores) == pytest.approx(1 - np.minimum(scores, 1).mean(), abs=1e-12)


@pytest.mark.parametrize("name", RLIABLE)
def test_aggregates_and_intervals_agree_with_rliable(name):
    for scores, expected in zip((X, Y), RLIABLE[name], strict=True):
        found = bootstrap_interval(scores, AGGREGATES[name])
        assert found.estimate == pytest.approx(expected[0], abs=1e-6)
        assert found[1:] == pytest.approx(expected[1:], abs=0.003)


def test_the_interval_agrees_with_scipys_bootstrap_on_one_game():
    values = np.random.default_rng(3).gamma(2.0, size=40)
    found = bootstrap_interval(values[:, None], mean)
    reference = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=50_000, method="percentile", random_state=4
    )
    assert found[1:] == pytest.approx(tuple(reference.confidence_interval), abs=0.01)


def test_the_interval_of_two_runs_by_hand():
    # Four equally likely resamples, with means 0, 1/2, 1/2, 1: the middle 95 % reach both ends, the
    # middle 40 % are 1/2.
    runs = [[0.0], [1.0]]
    assert bootstrap_interval(runs, mean) == (0.5, 0, 1)
    assert bootstrap_interval(runs, mean, confidence=0.4) == (0.5, 0.5, 0.5)


def test_runs_are_resampled_within_their_game():
    # Games differ, runs do not: other seeds would change nothing, and no resample may either.
    scores = np.tile([0.1, 0.5, 0.9, 2.0], (3, 1))
    for aggregate in AGGREGATES.values():
        found = bootstrap_interval(scores, aggregate, num_resamples=500)
        assert found[1:] == pytest.approx((found.estimate,) * 2)


def test_games_are_resampled_apart_from_each_other():
    # Runs of the two games sum to 1 only where the same run is drawn in both: together the mean
    # would always be 0.5.
    found = bootstrap_interval([[0.0, 1.0], [1.0, 0.0]], mean, num_resamples=2_000)
    assert found == (0.5, 0, 1)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(7)
    true_means = np.array([0.2, 0.8])
    covered = 0
    for repetition in range(300):
        scores = rng.normal(true_means, 0.3, (20, 2))
        found = bootstrap_interval(
            scores, mean, confidence=0.8, num_resamples=1_000, seed=repetition
        )
        covered += found.low <= true_means.mean() <= found.high
    # 300 draws at 0.8 deviate by 0.023; percentile intervals of 20 runs are a little narrow.
    assert 0.72 < covered / 300 < 0.86


def test_more_confidence_is_a_wider_interval():
    widths = []
    for confidence in (0.5, 0.8, 0.95):
        found = bootstrap_interval(X, confidence=confidence)
        widths.append(found.high - found.low)
    assert widths[0] < widths[1] < widths[2]


@pytest.mark.parametrize(
    "interval",
    [
        lambda seed: bootstrap_interval(X, num_resamples=60, seed=seed),
        lambda seed: probability_of_improvement(X, Y, num_resamples=60, seed=seed),
        lambda seed: np.ravel(performance_profile(X, THRESHOLDS, num_resamples=60, seed=seed)),
    ],
    ids=["aggregate", "improvement", "profile"],
)
def test_the_seed_decides_and_the_block_size_does_not(interval, monkeypatch):
    first = interval(1)
    np.testing.assert_array_equal(interval(1), first)
    assert any(not np.array_equal(interval(seed), first) for seed in range(2, 8))
    # Resamples one by one (less than a resample fits), in sevens, and at once.
    for cells in (1, 7 * X.size, 10**9):
        monkeypatch.setattr(intervals, "MAX_CELLS", cells)
        np.testing.assert_array_equal(interval(1), first)


def test_resamples_are_held_a_block_at_a_time(monkeypatch):
    monkeypatch.setattr(intervals, "MAX_CELLS", 10 * X.size)
    held = []

    def watched(scores):
        held.append(scores.size)
        return mean(scores)

    bootstrap_interval(X, watched, num_resamples=95)
    assert max(held) == 10 * X.size
    assert sum(held) == 95 * X.size + X.size  # and the estimate


@pytest.mark.parametrize(
    "interval",
    [
        lambda scores: bootstrap_interval(scores, num_resamples=6_000),
        lambda scores: probability_of_improvement(scores, scores, num_resamples=300),
        lambda scores: performance_profile(scores, np.linspace(0, 1, 200), num_resamples=300),
    ],
    ids=["aggregate", "improvement", "profile"],
)
def test_memory_does_not_grow_with_what_is_compared(interval, monkeypatch):
    # All resamples at once are 2 million numbers or more, 15 MiB as floats and again as steps.
    monkeypatch.setattr(intervals, "MAX_CELLS", 2**16)
    scores = np.random.default_rng(0).random((20, 16))
    tracemalloc.start()
    try:
        interval(scores)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6 * 2**20


def test_improvement_by_hand():
    # Pairs of game 1: 2 > 1, 2 = 2, 4 > 1, 4 > 2: 3.5 of 4. Game 2: 0 < 5 always: 0.
    assert improvement_probability(
        np.array([[2.0, 0.0], [4.0, 0.0]]), np.array([[1.0, 5.0], [2.0, 5.0]])
    ) == pytest.approx(3.5 / 8)


def test_improvement_is_mann_whitneys_u_over_the_pairs():
    u = [scipy.stats.mannwhitneyu(X[:, m], Y[:, m]).statistic for m in range(4)]
    assert improvement_probability(X, Y) == pytest.approx(np.mean(u) / 15)


def test_improvement_agrees_with_rliable():
    found = probability_of_improvement(X, Y)
    assert found.estimate == pytest.approx(RLIABLE_IMPROVEMENT[0], abs=1e-6)
    assert found[1:] == pytest.approx(RLIABLE_IMPROVEMENT[1:], abs=0.01)


@given(st.data(), st.integers(1, 4))
def test_one_improves_as_far_as_the_other_does_not(data, num_games):
    x, y = (
        data.draw(arrays(np.float64, (data.draw(st.integers(1, 5)), num_games), elements=NUMBERS))
        for _ in range(2)
    )
    forth, back = improvement_probability(x, y), improvement_probability(y, x)
    assert 0 <= forth <= 1
    assert forth + back == pytest.approx(1)
    assert improvement_probability(x, x) == pytest.approx(0.5)
    # Only the order of scores counts: any increasing change of scale leaves it.
    assert improvement_probability(np.exp(x), np.exp(y)) == pytest.approx(forth)


def test_the_runs_of_the_two_are_drawn_apart():
    # Drawn together, X's run would always meet its equal.
    same = np.array([[0.0], [1.0]])
    found = probability_of_improvement(same, same)
    assert found == (0.5, 0, 1)


def test_profile_agrees_with_rliable():
    found = np.array(performance_profile(X, THRESHOLDS))
    np.testing.assert_allclose(found[0], RLIABLE_PROFILE[0])
    np.testing.assert_allclose(found[1:], RLIABLE_PROFILE[1:], atol=0.0501)


def test_a_run_at_a_threshold_is_not_above_it():
    found = performance_profile([[0.3, 0.4], [0.3, 0.5]], [0.3], num_resamples=10)
    assert found.estimate == [0.5]


@settings(deadline=None, max_examples=25)
@given(score_arrays(), st.lists(NUMBERS, min_size=1, max_size=6).map(sorted))
def test_profiles_fall_from_1_to_0(scores, thresholds):
    ends = [scores.min() - 1, *thresholds, scores.max() + 1]
    found = performance_profile(scores, sorted(ends), num_resamples=50)
    for line in found:
        # A single run has no bounds.
        known = line[~np.isnan(line)]
        assert (np.diff(known) <= 0).all()
    assert (found.estimate.max(), found.estimate.min()) == (1, 0)


def test_the_area_under_a_profile_is_the_mean():
    grid = np.linspace(0, 2, 2001)
    shares = performance_profile(X, grid, num_resamples=1).estimate
    assert shares.mean() * 2 == pytest.approx(X.mean(), abs=0.002)


def test_a_single_run_has_estimates_and_no_intervals():
    one = [[0.2, 0.6, 0.7]]
    found = bootstrap_interval(one, mean)
    assert found.estimate == pytest.approx(0.5)
    assert np.isnan(found[1:]).all()
    profile = performance_profile(one, [0.5, 0.65])
    np.testing.assert_allclose(profile.estimate, [2 / 3, 1 / 3])
    assert np.isnan(profile[1:]).all()
    assert profile.low.shape == profile.high.shape == (2,)
    for pair in ((one, Y[:, :3]), (Y[:, :3], one)):
        assert np.isnan(probability_of_improvement(*pair)[1:]).all()


@pytest.mark.parametrize(
    ("mistake", "says"),
    [
        (lambda: mean_and_standard_error([]), "values are empty"),
        (lambda: mean_and_standard_error([1, math.inf]), "inf at index [1]"),
        (lambda: bootstrap_interval([[0.1, 0.2], [0.3, math.nan]]), "scores hold nan at index [1,"),
        (lambda: bootstrap_interval(np.empty((0, 3))), "scores are empty"),
        (lambda: bootstrap_interval(np.empty((3, 0))), "scores are empty"),
        (lambda: bootstrap_interval(X, confidence=95), "confidence is 95"),
        (lambda: bootstrap_interval(X, confidence=math.nan), "confidence is nan"),
        (lambda: bootstrap_interval(X, num_resamples=0), "num_resamples is 0"),
        (lambda: bootstrap_interval(X[:1], num_resamples=0), "num_resamples is 0"),
        (lambda: probability_of_improvement(X, [[math.nan] * 4]), "scores of Y hold nan"),
        (lambda: probability_of_improvement(X, Y[:, :2]), "4 games and Y of 2"),
        (lambda: performance_profile(X, []), "thresholds are empty"),
        (lambda: performance_profile(X, [math.inf]), "thresholds hold inf"),
    ],
)
def test_mistakes_are_told(mistake, says):
    with pytest.raises(UserError) as error:
        mistake()
    assert says in str(error.value)


@pytest.mark.parametrize(
    "mistake",
    [
        lambda: bootstrap_interval([0.1, 0.2]),
        lambda: bootstrap_interval(np.zeros((2, 2, 2))),
        lambda: probability_of_improvement(X, [0.1, 0.2, 0.3, 0.4]),
        lambda: performance_profile(X, 0.5),
    ],
)
def test_wrong_shapes_are_refused(mistake):
    with pytest.raises(ValueError, match="must be"):
        mistake()
