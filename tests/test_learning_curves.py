"""Learning speed: areas and steps by hand, and what cannot matter."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rllib_ppg.core.learning_curves import area_under_curve, steps_to_threshold
from rllib_ppg.errors import UserError

STEPS = [100, 200, 400]
VALUES = [0.0, 4.0, 2.0]


@st.composite
def curves(draw, min_points: int = 2):
    steps = draw(st.lists(st.integers(0, 1000), min_size=min_points, max_size=8, unique=True))
    values = st.lists(st.integers(-50, 50), min_size=len(steps), max_size=len(steps))
    return np.array(sorted(steps), float), np.array(draw(values), float)


def test_area_by_hand():
    # Trapezoids: 100 wide and 2 high on average, 200 wide and 3 high: 800 over a width of 300.
    assert area_under_curve(STEPS, VALUES) == pytest.approx(800 / 300)


def test_area_of_a_range_by_hand():
    # From 150 (height 2) to 300 (height 3): 50 wide and 3 high, 100 wide and 3.5 high.
    assert area_under_curve(STEPS, VALUES, start=150, end=300) == pytest.approx(500 / 150)
    # A range between two points: from 220 (3.8) to 260 (3.4).
    assert area_under_curve(STEPS, VALUES, start=220, end=260) == pytest.approx(3.6)
    assert area_under_curve(STEPS, VALUES, end=200) == pytest.approx(2)
    assert area_under_curve(STEPS, VALUES, start=200) == pytest.approx(3)


@pytest.mark.parametrize(
    "limits", [{"start": 99}, {"end": 401}, {"start": 400}, {"end": 100}, {"start": 500}]
)
def test_a_range_that_the_curve_does_not_cover_has_no_area(limits):
    assert math.isnan(area_under_curve(STEPS, VALUES, **limits))


@given(curves())
def test_area_agrees_with_numpy_and_lies_between_the_extremes(curve):
    steps, values = curve
    area = area_under_curve(steps, values)
    assert area == pytest.approx(np.trapz(values, steps) / np.ptp(steps))
    assert values.min() - 1e-9 <= area <= values.max() + 1e-9


@given(curves(), st.floats(0.1, 10), st.floats(-5, 5), st.floats(0.5, 1000))
def test_area_follows_the_values_and_not_the_unit_of_the_steps(curve, scale, shift, unit):
    steps, values = curve
    found = area_under_curve(unit * steps, scale * values + shift)
    assert found == pytest.approx(scale * area_under_curve(steps, values) + shift, abs=1e-9)


def test_steps_by_hand():
    assert steps_to_threshold(STEPS, VALUES, 1.0) == pytest.approx(125)
    assert steps_to_threshold(STEPS, VALUES, 4.0) == 200
    # Reached on the way up; that the curve falls again does not matter.
    assert steps_to_threshold(STEPS, VALUES, 3.0) == pytest.approx(175)
    assert steps_to_threshold([0, 10, 20, 30], [0, 2, 0, 4], 3) == pytest.approx(27.5)


def test_a_curve_that_starts_at_the_threshold_is_there_at_once():
    assert steps_to_threshold(STEPS, VALUES, 0.0) == 100
    assert steps_to_threshold(STEPS, VALUES, -1.0) == 100


def test_a_threshold_that_is_never_reached_has_no_steps():
    assert math.isnan(steps_to_threshold(STEPS, VALUES, 4.01))


@given(curves(), st.floats(-60, 60), st.floats(0.05, 0.95))
def test_a_point_on_the_line_changes_nothing(curve, threshold, share):
    steps, values = curve
    middle = steps[0] + share * (steps[1] - steps[0])
    denser = np.insert(steps, 1, middle)
    heights = np.interp(denser, steps, values)
    assert area_under_curve(denser, heights) == pytest.approx(
        area_under_curve(steps, values), abs=1e-9
    )
    np.testing.assert_allclose(
        steps_to_threshold(denser, heights, threshold),
        steps_to_threshold(steps, values, threshold),
        atol=1e-6,
    )


@given(curves(), st.floats(-60, 60), st.floats(0, 20))
def test_a_higher_threshold_is_not_reached_earlier(curve, threshold, more):
    sooner = steps_to_threshold(*curve, threshold)
    later = steps_to_threshold(*curve, threshold + more)
    assert math.isnan(later) or sooner <= later


def test_points_without_a_value_are_left_out():
    steps = [0, 100, 150, 200, 400, 500]
    values = [math.nan, 0.0, math.nan, 4.0, 2.0, math.nan]
    assert area_under_curve(steps, values) == area_under_curve(STEPS, VALUES)
    assert steps_to_threshold(steps, values, 3.0) == steps_to_threshold(STEPS, VALUES, 3.0)


@pytest.mark.parametrize(("steps", "values"), [([], []), ([5], [math.nan]), ([5], [1.0])])
def test_too_few_points_have_no_area(steps, values):
    assert math.isnan(area_under_curve(steps, values))


def test_a_curve_without_points_reaches_nothing_and_a_point_may():
    assert math.isnan(steps_to_threshold([], [], 1.0))
    assert math.isnan(steps_to_threshold([5], [math.nan], 1.0))
    assert steps_to_threshold([5], [1.0], 1.0) == 5


@pytest.mark.parametrize("measure", [area_under_curve, lambda x, y: steps_to_threshold(x, y, 1.0)])
@pytest.mark.parametrize(
    ("steps", "values", "says"),
    [
        ([1, 3, 2], [0, 1, 2], "increase"),
        ([1, 1, 2], [0, 1, 2], "increase"),
        ([1, math.nan, 2], [0, 1, 2], "finite"),
        ([1, 2, math.inf], [0, 1, 2], "finite"),
        ([1, 2, 3], [0, math.inf, 2], "infinite value"),
    ],
)
def test_mistakes_are_told(measure, steps, values, says):
    with pytest.raises(UserError, match=says):
        measure(steps, values)
    with pytest.raises(ValueError, match=r"must both be \(K,\)"):
        measure([1, 2], [1, 2, 3])


def test_a_range_that_ends_before_it_starts_is_told():
    with pytest.raises(UserError, match="from step 300 to 200"):
        area_under_curve(STEPS, VALUES, start=300, end=200)
