"""PPG learns to the mark, in the time that it may take. `test_ppg.py` has a quick look at both."""

import pytest
from learning import CARTPOLE, PENDULUM, train

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_cartpole_reaches_450_within_three_minutes(ray_local, seed: int):
    reached = train("CartPole-v1", {**CARTPOLE, "seed": seed}, target=450, seconds=180)
    assert reached >= 450


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_pendulum_reaches_minus_500_within_ten_minutes(ray_local, seed: int):
    reached = train("Pendulum-v1", {**PENDULUM, "seed": seed}, target=-500, seconds=600)
    assert reached >= -500


def test_cartpole_reaches_450_without_auxiliary_phases_too(ray_local):
    config = {**CARTPOLE, "n_aux_epochs": 0, "seed": 1}
    assert train("CartPole-v1", config, target=450, seconds=180) >= 450
