"""The clock of a run: it counts everything, and a run that asks it ends within its seconds."""

import pytest

from rllib_ppg.core.budget import BudgetSettings, RunBudget
from rllib_ppg.core.run_clock import RunClock

EVERY = 5
"""Iterations from one evaluation to the next."""


class Clock:
    """Time that a test sets."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def play(
    iterations: list[float],
    *,
    slice_s: float = 0.0,
    saving: float = 0.0,
    evaluating: float = 0.0,
    seconds: float = 100.0,
    margin_s: float = 5.0,
) -> float:
    """Run iterations of some seconds until the budget's end; returns the seconds of it all."""
    now = Clock()
    clock = RunClock(now)
    budget = RunBudget(BudgetSettings(seconds=seconds, margin_s=margin_s))
    for number, length in enumerate(iterations, start=1):
        clock.begin()
        with clock.measured("iteration"):
            now.now += length
        over = budget.time_is_up(clock.elapsed_s + clock.ahead_s(slice_s))
        if evaluating and (over or number % EVERY == 0):
            with clock.measured("evaluation"):
                now.now += evaluating
        clock.end()
        now.now += saving
        if over:
            assert clock.elapsed_s == now.now - 1000.0
            return clock.elapsed_s
    raise AssertionError("the run never ended")


@pytest.mark.parametrize("length", [0.5, 1.0, 3.0, 7.0])
def test_a_run_ends_within_its_seconds_and_uses_most_of_them(length: float):
    assert 95 - 2.2 * length <= play([length] * 300) <= 95


def test_the_longest_iteration_counts_not_the_last_one():
    assert play([20.0] + [1.0] * 200) <= 95 - 20


def test_a_slice_of_an_auxiliary_phase_is_expected_before_there_was_one():
    assert play([1.0] * 200, slice_s=30) <= 95 - 30


@pytest.mark.parametrize("saving", [1.0, 4.0, 10.0])
def test_the_last_checkpoint_is_written_in_time_however_long_one_takes(saving: float):
    found = play([1.0] * 200, saving=saving)
    assert 100 - 5 - 1.1 * (2 + 4 * saving) <= found <= 100, "it is used, and enough"


@pytest.mark.parametrize("evaluating", [2.0, 8.0])
def test_evaluations_count_and_the_last_one_is_played_in_time(evaluating: float):
    found = play([1.0] * 200, saving=1.0, evaluating=evaluating)
    assert 100 - 5 - 1.1 * (2 + 4 + 4 * evaluating) <= found <= 100


def test_seconds_of_an_earlier_process_count_and_the_pause_does_not():
    now = Clock()
    clock = RunClock(now)
    clock.begin()
    clock.end()
    now.now += 500.0
    clock.go_on(60.0)
    clock.begin()
    assert clock.elapsed_s == 60.0 and clock.ahead_s() == 0.0
    now.now += 7.0
    assert clock.elapsed_s == 67.0
