"""Minibatches of a rehearsal: none is left over, and each optimiser step is whole."""

import math
from typing import Any

import pytest

from rllib_ppg import PPGConfig
from rllib_ppg.app.challenge_minibatches import aux_minibatches, divisor, policy_minibatches


def config(**keys: Any) -> PPGConfig:
    made = PPGConfig().environment("CartPole-v1").update_from_dict(keys)
    made.validate()
    return made


def test_the_largest_divisor_is_found():
    assert [divisor(12, most) for most in (1, 4, 5, 11, 12, 99)] == [1, 4, 4, 6, 12, 12]


def test_an_iteration_is_cut_into_as_many_minibatches_of_rows_as_before():
    before = config(num_envs=112, minibatch_unit="step", mbsize_rows=896, num_accumulates=4)
    assert policy_minibatches(before, 11, 2816) == {"mbsize_rows": 88}
    # 100 rows make no 32 equal minibatches: 25 would leave one over, 20 make five steps.
    assert policy_minibatches(before, 5, 100) == {"mbsize_rows": 5}


def test_the_number_that_makes_a_step_shrinks_where_no_cut_suits_it():
    before = config(num_envs=8, nminibatch=8, num_accumulates=4)
    assert policy_minibatches(before, 7, 70) == {"nminibatch": 7, "num_accumulates": 1}
    assert policy_minibatches(before, 6, 60) == {"nminibatch": 6, "num_accumulates": 3}
    several = config(
        num_envs=8,
        nminibatch=8,
        num_accumulates=4,
        n_epoch_pi=3,
        n_epoch_vf=2,
        minibatch_unit="step",
    )
    assert policy_minibatches(several, 7, 70) == {"nminibatch": 7, "num_accumulates": 1}


def test_auxiliary_minibatches_shrink_with_what_they_are_counted_in():
    segments = config(num_envs=112, aux_mbsize=4, aux_num_accumulates=2)
    assert aux_minibatches(segments, 3, 12, 256) == {"aux_mbsize": 3}  # 36 segments: 12 of three
    assert aux_minibatches(segments, 3, 11, 256) == {"aux_mbsize": 3, "aux_num_accumulates": 1}
    rows = config(
        num_envs=875, rollout_fragment_length=16, minibatch_unit="step", mbsize_rows=1750,
        aux_mbsize_rows=1750,
    )  # fmt: skip
    assert aux_minibatches(rows, 3, 88, 16) == {"aux_mbsize_rows": 176}


@pytest.mark.parametrize("rows", [16, 64, 100, 997, 2816])
@pytest.mark.parametrize("accumulates", [1, 2, 4])
def test_every_cut_makes_whole_steps(rows: int, accumulates: int):
    before = config(
        num_envs=112, minibatch_unit="step", mbsize_rows=896, num_accumulates=accumulates
    )
    found = policy_minibatches(before, 4, rows)
    count = math.ceil(rows / found["mbsize_rows"])
    assert count % found.get("num_accumulates", accumulates) == 0 and count <= 32
