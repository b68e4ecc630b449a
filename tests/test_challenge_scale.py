"""A rehearsal: what shrinks with the budget, and that two auxiliary phases fit into it."""

from pathlib import Path

import pytest

from rllib_ppg.algorithm.registration import register
from rllib_ppg.app.challenge_scale import Sizes, scaled_config, scaled_sizes, sizes_of
from rllib_ppg.app.checks import check_ppg
from rllib_ppg.app.experiment_files import load_experiments
from rllib_ppg.app.flags import TrainFlags
from rllib_ppg.errors import UserError

PUBLISHED = Sizes(64, 256, 32)
STEPS = 8_000_000

register()


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001])
@pytest.mark.parametrize("sizes", [PUBLISHED, Sizes(112, 256, 32), Sizes(875, 16, 32)])
def test_two_auxiliary_phases_run_at_every_scale(sizes: Sizes, scale: float):
    steps = int(STEPS * scale)
    found = scaled_sizes(sizes, steps, scale)
    assert found.aux_phases(steps) >= 2
    assert found.num_envs <= sizes.num_envs and found.n_pi <= sizes.n_pi
    assert found.fragment <= sizes.fragment


def test_the_published_size_is_left_alone_and_small_scales_keep_the_rollouts_length():
    assert scaled_sizes(PUBLISHED, STEPS, 1.0) == PUBLISHED
    assert scaled_sizes(PUBLISHED, 80_000, 0.01) == Sizes(6, 256, 3)
    assert scaled_sizes(PUBLISHED, 8_000, 0.001) == Sizes(4, 256, 2)


def test_the_phase_after_the_last_iteration_is_not_counted():
    sizes = Sizes(4, 10, 3)
    assert [sizes.aux_phases(40 * iterations) for iterations in (3, 4, 6, 7)] == [0, 1, 1, 2]
    assert not sizes.fits(40 * 6) and sizes.fits(40 * 7)


def test_what_leaves_nothing_is_refused():
    with pytest.raises(UserError, match=r"leaves 80 environment steps.*needs 320"):
        scaled_sizes(PUBLISHED, 80, 0.00001)


def configuration(**keys) -> dict:
    return {
        "env": "procgen",
        "env_config": {"env_name": "maze", "distribution_mode": "easy"},
        **keys,
    }


def scaled(scale: float, **keys) -> dict:
    given = configuration(**keys)
    return scaled_config(given, check_ppg(given), int(STEPS * scale), scale)


@pytest.mark.parametrize("scale", [0.1, 0.01, 0.001])
@pytest.mark.parametrize("unit", ["segment", "step"])
def test_a_scaled_configuration_is_valid(scale: float, unit: str):
    found = scaled(scale, minibatch_unit=unit, num_env_runners=4, micro_batch_size=2048)
    config = check_ppg(found)
    assert sizes_of(config).aux_phases(int(STEPS * scale)) >= 2
    assert config.num_envs % config.num_env_runners == 0


def test_schedules_shrink_with_the_budget():
    found = scaled(0.01, lr_schedule=[[0, 1e-3], [8_000_000, 1e-4]], train_batch_size=64 * 256)
    assert found["lr_schedule"] == [[0, 1e-3], [80_000, 1e-4]]
    assert "train_batch_size" not in found


def test_without_auxiliary_phases_only_iterations_count():
    found = scaled(0.001, n_aux_epochs=0, n_epoch_pi=3, n_epoch_vf=3)
    assert "n_pi" not in found and check_ppg(found).num_envs == 4


def test_environments_fixed_by_worker_contradict_a_scale():
    with pytest.raises(UserError, match="num_envs_per_env_runner contradicts"):
        scaled(0.1, num_envs_per_env_runner=64)


WINNERS = ("winner_generalization", "winner_generalization_19f6ab2", "winner_sample_efficiency")


@pytest.mark.parametrize("scale", [0.5, 0.1, 0.01, 0.003, 0.001])
@pytest.mark.parametrize("name", WINNERS)
def test_the_winners_files_can_be_scaled(name: str, scale: float):
    path = Path(__file__).parents[1] / "experiments" / f"{name}.yaml"
    (experiment,) = load_experiments(TrainFlags(files=[str(path)]))
    before = check_ppg(experiment.config)
    steps = int(STEPS * scale)
    found = check_ppg(scaled_config(experiment.config, before, steps, scale))
    assert sizes_of(found).aux_phases(steps) >= 2
    assert found.policy_minibatches() <= before.policy_minibatches()
    assert bool(found.aux_skips) == bool(before.aux_skips)
    if name != "winner_sample_efficiency":
        assert found.value_lr_schedule == found.lr_schedule
        assert found.lr_schedule[-1][0] == steps
    if before.best_weights_min_env_steps:
        assert found.best_weights_min_env_steps <= 1_000_000 * (scale if before.best_weights else 1)


def test_skipped_iterations_belong_to_a_phase_and_phases_may_be_limited():
    sizes = Sizes(4, 10, 3, skips=2, most=2)
    assert [sizes.aux_phases(40 * iterations) for iterations in (5, 6, 11, 40)] == [0, 1, 2, 2]
    assert not sizes.fits(40 * 10) and sizes.fits(40 * 11)
    assert scaled_sizes(sizes, 8000, 0.01).skips == 1
