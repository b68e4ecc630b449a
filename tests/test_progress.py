"""The numbers that a person watches, from training results."""

import math

import pytest
from app_helpers import result

from rllib_ppg.app.progress import Progress, counted, show, show_count, show_time


def after(*results: dict, **stop: float) -> Progress:
    progress = Progress(stop or {"timesteps_total": 1000})
    for each in results:
        progress.update(each)
    return progress


def test_steps_speed_and_time_to_go():
    progress = after(result(1, 100), result(2, 200))
    assert (progress.steps, progress.iteration) == (200, 2)
    assert progress.speed == pytest.approx(200 / 4)
    assert progress.share_done == pytest.approx(0.2)
    assert progress.eta_s == pytest.approx(800 / 50)


def test_the_speed_of_a_resumed_run_is_that_of_this_process():
    progress = after(result(51, 5100))
    assert progress.speed == pytest.approx(100 / 2)


def test_auxiliary_slices_count_into_the_speed():
    slice_ = {**result(2, 100, phase__in_aux_phase=1), "num_env_steps_sampled_this_iter": 0}
    assert after(result(1, 100), slice_).speed == pytest.approx(100 / 4)


def test_the_nearest_end_is_shown():
    progress = after(result(1, 100), timesteps_total=1000, time_total_s=4)
    assert progress.budget() == ("time_total_s", 2.0, 4)
    assert progress.eta_s == 2.0
    assert after(result(1, 100), training_iteration=5).eta_s == pytest.approx(8)


def test_the_algorithms_own_budget_is_an_end_too():
    config = {"budget_env_steps": 450, "budget_s": None, "train_batch_size": 100}
    progress = after({**result(2, 200), "config": config}, timesteps_total=1000)
    # The run ends with the iteration that takes it to the budget or beyond.
    assert progress.budget() == ("timesteps_total", 200, 500)
    assert progress.eta_s == pytest.approx(300 / 50)
    config = {"budget_env_steps": None, "budget_s": 60, "budget_margin_s": 10}
    progress = after({**result(1, 100, time__run_s=40), "config": config}, timesteps_total=1000)
    assert progress.budget() == ("time/run_s", 40, 50) and progress.eta_s == 10


def test_without_a_budget_nothing_is_pretended():
    progress = after(result(1, 100), **{"env_runners/episode_return_mean": 9})
    assert progress.budget()[0] == "" and math.isnan(progress.eta_s)
    assert math.isnan(progress.share_done)


def test_a_statistic_that_was_not_made_is_nan():
    progress = after(result(1, 100, policy_phase__entropy=2.5))
    assert progress.stat("policy_phase/entropy") == 2.5
    assert math.isnan(progress.stat("aux_phase/vf_aux"))
    assert math.isnan(progress.stat("no/such/name"))


@pytest.mark.parametrize(
    ("stats", "phase"),
    [
        ({"phase__policy_iterations": 3}, "policy 3/4"),
        ({"phase__aux_epochs": 0}, "policy"),
        (
            {"phase__in_aux_phase": 1, "phase__aux_epoch": 0, "phase__aux_progress": 1 / 3},
            "aux 0/2 33%",
        ),
        (
            {"phase__in_aux_phase": 1, "phase__aux_epoch": 1, "phase__aux_progress": 0.5},
            "aux 1/2 50%",
        ),
        (
            {"phase__in_aux_phase": 1, "phase__aux_epoch": 1, "phase__aux_progress": 2 / 3},
            "aux 1/2 67%",
        ),
        (
            {"phase__in_aux_phase": 1, "phase__aux_epoch": 2, "phase__aux_progress": 1.0},
            "aux 2/2 100%",
        ),
    ],
)
def test_the_phase_is_the_one_that_was_just_worked_in(stats: dict, phase: str):
    assert after(result(1, 100, **stats)).phase == phase


def test_times_add_up_to_the_time_of_the_iterations():
    stats = {"time__sample_s": 0.5, "time__policy_phase_s": 1.0}
    progress = after(result(1, 100, **stats), result(2, 200, **stats))
    assert progress.times["sample"] == 1.0 and progress.times["policy_phase"] == 2.0
    assert sum(progress.times.values()) == pytest.approx(4.0)


def test_results_of_other_algorithms_are_understood_too():
    plain = {"training_iteration": 1, "num_env_steps_sampled_lifetime": 50, "time_this_iter_s": 5.0}
    progress = after(
        plain, {**plain, "training_iteration": 2, "num_env_steps_sampled_lifetime": 99}
    )
    assert not progress.is_ppg and progress.phase == ""
    assert progress.speed == pytest.approx(9.9)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"), (59.4, "59s"), (60, "1m00s"), (3599.9, "1h00m"), (11_520, "3h12m"),
        (90_000, "1d01h"), (math.nan, "-"), (math.inf, "-"),
    ],
)  # fmt: skip
def test_time_is_short(seconds: float, text: str):
    assert show_time(seconds) == text


def test_numbers_are_short_and_nan_is_a_dash():
    assert (show(0.012345), show(math.nan), show_count(1234567.0)) == ("0.0123", "-", "1,234,567")


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 phases"), (1, "1 phase"), (2, "2 phases"), (1000, "1,000 phases")]
)
def test_one_is_counted_in_the_singular(number: int, text: str):
    assert counted(number, "phase") == text
    assert counted(2, "minibatch") == "2 minibatches"
