"""Encoders of a user's own are tried once: what is said of those that would fail in a run."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from torch import nn

from rllib_ppg.algorithm.model import check_model, parameter_count
from rllib_ppg.core.encoder_trial import try_encoder
from rllib_ppg.core.encoders import ExtendedEncoder
from rllib_ppg.errors import UserError

SHAPE = (6, 5, 3)
IMAGES = Box(0, 255, SHAPE, np.uint8)


class Own(nn.Module):
    """Looks at its own weights and at a probe's codes while it is made."""

    def __init__(self, obs_shape: tuple[int, ...], wrong: str = "") -> None:
        super().__init__()
        self.wrong = wrong
        self.layer = nn.Linear(math.prod(obs_shape), 4)
        self.register_buffer("mean", torch.from_numpy(np.full(math.prod(obs_shape), 0.5, "f4")))
        if wrong == "constructor":
            raise RuntimeError("no such width")
        with torch.no_grad():
            self.layer.weight.mul_(1 / self.layer.weight.norm().item())
        self.output_size = self(torch.zeros(1, *obs_shape)).shape[1] + (wrong == "size")

    def forward(self, obs: torch.Tensor) -> Any:
        if self.wrong == "forward" and len(obs) > 1:
            raise RuntimeError("does not\n  fit")
        codes = self.layer(obs.flatten(1).float() / 255 - self.mean)
        if self.wrong == "type" and len(obs) > 1:
            return codes.long()
        return [codes] if self.wrong == "list" and len(obs) > 1 else codes


class Dropping(ExtendedEncoder):
    """Has dropout, and a pass with `kept` that fails."""

    dropout_share = 0.5
    output_size = 3

    def draw_kept(self, count: int, generator: np.random.Generator) -> dict[str, Any]:
        return {"units": generator.random((count, 3)) > 0.5}

    def forward(self, obs: torch.Tensor, prev_actions: Any = None, kept: Any = None) -> Any:
        codes = obs.float().mean((1, 2))
        return codes if kept is None else codes * kept["unit"]


class Alone(ExtendedEncoder):
    """Takes nothing beside the observations, which begin at 1."""

    def __init__(self, obs_shape: tuple[int, ...], dtype: str = "float32") -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.dtype, self.output_size = getattr(torch, dtype), 4

    def forward(self, obs: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return self.embedding(obs - 1).to(self.dtype)


class Lazy(nn.Module):
    def __init__(self, obs_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.layer, self.output_size = nn.LazyLinear(4), 4

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        return self.layer(obs.flatten(1).float())


class Huge(nn.Module):
    """Cannot be made: a terabyte."""

    def __init__(self, obs_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.layer, self.output_size = nn.Linear(2**19, 2**19), 2**19


def settings(**options: Any) -> dict[str, Any]:
    return {"encoder": f"{__name__}.Own", "encoder_options": options}


def test_an_encoder_that_needs_numbers_to_be_made_is_counted():
    state = torch.get_rng_state()
    check_model("ppg_encoder", settings(), IMAGES, Discrete(3))
    found = parameter_count("ppg_encoder", settings(), IMAGES, Discrete(3))
    assert found == 2 * (90 * 4 + 4) + 3 * (4 + 1)  # dual, and heads of one output
    assert torch.equal(torch.get_rng_state(), state), "a check must not change a run's numbers"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("constructor", r"encoder \S+\.Own cannot be made: RuntimeError: no such width\."),
        ("forward", r"fails on observations \(6, 5, 3\) of uint8: RuntimeError: does not fit\."),
        ("size", r"makes codes \(5, 4\) of float32 from 5 observations; they must be \(5, 5\) of"),
        ("type", r"makes codes \(5, 4\) of int64"),
        ("list", r"gives a list; it must give a tensor"),
    ],
)
def test_an_encoder_that_would_fail_is_one_sentence(wrong: str, message: str):
    with pytest.raises(UserError, match=message):
        check_model("ppg_encoder", settings(wrong=wrong), IMAGES, Discrete(3))


def test_a_pass_with_dropout_is_tried_too():
    with pytest.raises(UserError, match=r"encoder mine fails on .*KeyError: 'unit'"):
        try_encoder("mine", Dropping(), np.zeros((2, *SHAPE), np.uint8))


def test_an_encoder_gets_observations_of_its_space_and_nothing_that_it_does_not_take():
    space = Discrete(5, start=1)
    own = {"encoder": f"{__name__}.Alone"}
    check_model("ppg_encoder", own, space, Discrete(3))
    with pytest.raises(UserError, match=r"of float64 from 5 observations; .* of float32"):
        check_model("ppg_encoder", {**own, "encoder_options": {"dtype": "float64"}}, space, space)


def test_lazy_layers_are_refused():
    with pytest.raises(UserError, match="has lazy layers"):
        check_model("ppg_encoder", {"encoder": f"{__name__}.Lazy"}, IMAGES, Discrete(3))


def test_what_may_not_fit_is_left_to_the_check_of_memory():
    own = {"encoder": f"{__name__}.Huge"}
    check_model("ppg_encoder", own, IMAGES, Discrete(3))
    assert parameter_count("ppg_encoder", own, IMAGES, Discrete(3)) > 2 * 2**38
