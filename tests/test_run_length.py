"""How long a run is, whichever of its budget and its stop keys comes first."""

from typing import Any

import pytest

from rllib_ppg import PPGConfig
from rllib_ppg.app.run_length import (
    RunLength,
    aux_updates,
    best_weights_notes,
    policy_updates,
    run_length,
    seconds_of,
    steps_of,
)

ROWS = 64 * 256


def config(**keys: Any) -> PPGConfig:
    made = PPGConfig().environment("CartPole-v1").update_from_dict(keys)
    made.validate()
    return made


@pytest.mark.parametrize(
    ("keys", "policy", "aux"),
    [
        ({}, 8, 6 * 512),
        ({"n_epoch_pi": 3, "n_epoch_vf": 3, "n_aux_epochs": 0}, 24, 0),
        ({"n_epoch_pi": 2, "n_epoch_vf": 1, "aux_mbsize": 16}, 24, 6 * 128),
    ],
)
def test_optimiser_steps_are_those_of_the_learner(keys: dict, policy: int, aux: int):
    made = config(**keys)
    assert (policy_updates(made), aux_updates(made)) == (policy, aux)


@pytest.mark.parametrize(
    ("steps", "sampled", "phases"),
    [(1, 1, 0), (ROWS, 1, 0), (ROWS + 1, 2, 0), (32 * ROWS, 32, 0), (33 * ROWS, 33, 1)],
)
def test_a_stop_key_ends_the_run_with_the_result_that_meets_it(
    steps: int, sampled: int, phases: int
):
    expected = RunLength(steps, sampled, sampled, phases)
    assert run_length(config(), {"timesteps_total": steps}) == expected


@pytest.mark.parametrize(
    ("budget", "sampled", "learned", "phases"),
    [
        (ROWS - 1, 1, 0, 0),
        (ROWS, 1, 1, 0),
        (32 * ROWS, 32, 32, 0),
        (32 * ROWS + 1, 33, 32, 1),
        (33 * ROWS, 33, 33, 1),
    ],
)
def test_an_iteration_beyond_the_budget_is_not_learned_from(
    budget: int, sampled: int, learned: int, phases: int
):
    made = config(budget_env_steps=budget)
    for stop in ({}, {"timesteps_total": 99 * ROWS}):
        assert run_length(made, stop) == RunLength(budget, sampled, learned, phases)


def test_the_first_end_counts():
    made = config(budget_env_steps=10 * ROWS + 1)
    assert run_length(made, {"timesteps_total": 10 * ROWS}) == RunLength(10 * ROWS, 10, 10, 0)
    assert run_length(made, {"timesteps_total": 10 * ROWS + 1}).learned == 10
    assert steps_of({"timesteps_total": 5, "num_env_steps_sampled_lifetime": 3}) == 3
    assert steps_of({"training_iteration": 5}) is None
    assert run_length(config(), {"training_iteration": 5}) is None
    assert seconds_of(config(budget_s=100, budget_margin_s=10), {"time_total_s": 95}) == 90
    assert seconds_of(config(), {"time_total_s": 95}) == 95 and seconds_of(config(), {}) is None


def test_phases_are_counted_with_their_skipped_iterations_and_their_limit():
    for off in ({"n_aux_epochs": 0}, {"max_aux_phases": 0}):
        assert run_length(config(**off), {"timesteps_total": 10_000_000}).aux_phases == 0
    made = config(n_pi=4, aux_skips=1, max_aux_phases=2)
    found = [run_length(made, {"timesteps_total": n * ROWS}).aux_phases for n in (5, 6, 11, 99)]
    assert found == [0, 1, 2, 2]


BEST = {"best_weights": True, "best_weights_min_env_steps": 0, "budget_env_steps": 10 * ROWS}


@pytest.mark.parametrize(
    "stop",
    [
        {},
        {"timesteps_total": 10 * ROWS},
        {"timesteps_total": 9 * ROWS + 1},
        {"num_env_steps_sampled": 99 * ROWS},
    ],
)
def test_best_weights_that_take_effect_need_no_words(stop: dict[str, float]):
    assert not list(best_weights_notes(config(**BEST), stop))
    assert not list(best_weights_notes(config(), {"timesteps_total": 1}))


@pytest.mark.parametrize(
    ("stop", "named"),
    [
        ({"timesteps_total": 9 * ROWS}, "stop.timesteps_total=147,456"),
        ({"time_total_s": 100}, "stop.time_total_s=100"),
        ({"training_iteration": 5}, "stop.training_iteration=5"),
        ({"env_runners/episode_return_mean": 9.5}, "stop.env_runners/episode_return_mean=9.5"),
    ],
)
def test_it_is_said_where_a_stop_key_may_come_before(stop: dict[str, float], named: str):
    (note,) = best_weights_notes(config(**BEST), stop)
    assert f"a run that {named} ends before keeps its last weights" in note
    (note,) = best_weights_notes(config(**BEST), {}, 60.0)
    assert "a run that time_budget_s ends before" in note


def test_seconds_are_compared_with_seconds():
    made = config(**{**BEST, "budget_s": 100})
    assert not list(best_weights_notes(made, {"time_total_s": 100}))
    assert list(best_weights_notes(made, {"time_total_s": 99}))


def test_it_is_said_where_the_run_is_too_short_for_best_weights():
    (note,) = best_weights_notes(config(**{**BEST, "best_weights_min_env_steps": 10 * ROWS}), {})
    assert note == (
        "best_weights has no effect: the run ends with 163,840 environment steps, which are no "
        "more than best_weights_min_env_steps=163,840."
    )
