"""A temperature raises probabilities to a power."""

import numpy as np
import pytest
import torch

from rllib_ppg.core.distributions import ActionSpec
from rllib_ppg.core.temperature import check_temperature, tempered
from rllib_ppg.errors import UserError

CHOICE, NORMAL = ActionSpec("categorical", (3,)), ActionSpec("gaussian", (1,))


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_probabilities_are_raised_to_a_power(temperature: float):
    logits = torch.tensor([[0.3, -1.0, 2.0]])
    given = torch.softmax(tempered(CHOICE, logits, temperature), -1)
    power = torch.softmax(logits, -1) ** (1 / temperature)
    assert torch.allclose(given, power / power.sum())
    # A normal density to the power 1/T is a normal one with T times the variance.
    mean, log_std = tempered(NORMAL, torch.tensor([[0.5, 0.1]]), temperature)[0]
    assert mean == 0.5 and (2 * log_std).exp() == pytest.approx(temperature * np.exp(0.2))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_policy_as_it_is_and_its_mode_need_no_other_inputs(temperature: float):
    logits = torch.tensor([[0.3, -1.0, 2.0]])
    assert tempered(CHOICE, logits, temperature) is logits


@pytest.mark.parametrize("temperature", [-1.0, float("nan"), float("inf"), 1e-9])
def test_a_temperature_that_makes_no_sense_is_refused(temperature: float):
    with pytest.raises(UserError, match="must be 0"):
        check_temperature(temperature)
    for allowed in (None, 0, 1e-3, 5.0):
        check_temperature(allowed)
