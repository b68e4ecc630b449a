"""Encoders of a user's own: whatever their attributes are called, and what they must have."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from torch import nn
from toy_envs import CodedEnv

from rllib_ppg import PPGConfig
from rllib_ppg.algorithm.model import encoder_maker
from rllib_ppg.core.encoders import ExtendedEncoder
from rllib_ppg.core.networks import PhasicNetwork
from rllib_ppg.errors import UserError

VECTOR = Box(-1, 1, (3,), np.float32)


class Plain(nn.Module):
    """Has attributes with names that an `ExtendedEncoder` has a use for."""

    def __init__(self, obs_shape: tuple[int, ...], width: int = 8) -> None:
        super().__init__()
        self.layer = nn.Linear(math.prod(obs_shape), width)
        self.dropout = nn.Dropout(0.5)
        self.dropout_share = nn.Dropout(0.5)
        self.num_actions = 7
        self.output_size = width

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        return self.dropout(torch.relu(self.layer(obs.flatten(1).float())))


class Extended(ExtendedEncoder):
    """Takes the previous action, and leaves units out."""

    def __init__(self, obs_shape: tuple[int, ...], num_actions: int = 3, share: Any = 0.5) -> None:
        super().__init__()
        self.num_actions, self.dropout_share = num_actions, share
        self.layer = nn.Linear(math.prod(obs_shape) + num_actions, 8)
        self.output_size = 8

    def draw_kept(self, count: int, generator: np.random.Generator) -> dict[str, Any]:
        return {"units": generator.random((count, 8)) >= self.dropout_share}

    def forward(
        self,
        obs: torch.Tensor,
        prev_actions: torch.Tensor | None = None,
        kept: Mapping[str, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        before = nn.functional.one_hot(prev_actions.long(), self.num_actions)
        code = torch.relu(self.layer(torch.cat([obs, before], dim=1)))
        return code if kept is None else code * kept["units"]


class Sizeless(nn.Module):
    def __init__(self, obs_shape: tuple[int, ...]) -> None:
        super().__init__()


class Drawless(ExtendedEncoder):
    dropout_share = 0.1
    output_size = 4

    def __init__(self, obs_shape: tuple[int, ...]) -> None:
        super().__init__()


def settings(kind: type, **options: Any) -> dict[str, Any]:
    return {"encoder": f"{__name__}.{kind.__name__}", "encoder_options": options}


def network(kind: type, **options: Any) -> PhasicNetwork:
    make = encoder_maker("ppg_encoder", settings(kind, **options), VECTOR, Discrete(3))
    return PhasicNetwork(make, 3)


def test_attributes_of_any_name_mean_nothing_in_a_plain_encoder():
    made = network(Plain)
    assert made.dropout == 0 and not made.takes_prev_actions
    assert made(torch.zeros(5, 3)).logits.shape == (5, 3)


def test_an_extended_encoder_gets_what_it_asks_for():
    made = network(Extended)
    assert made.dropout == 0.5 and made.takes_prev_actions
    kept = made.draw_kept(5, np.random.default_rng(0))
    tensors = {name: torch.from_numpy(values) for name, values in kept.items()}
    before = torch.zeros(5, dtype=torch.int64)
    with_all = made(torch.ones(5, 3), before)
    with_some = made(torch.ones(5, 3), before, tensors)
    assert not torch.equal(with_all.logits, with_some.logits)


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        (Sizeless, {}, "has no attribute output_size"),
        (Drawless, {}, "has dropout_share=0.1 and no draw_kept"),
        (Extended, {"share": 1.5}, "has dropout_share=1.5, which must be"),
        (Extended, {"share": "much"}, "has dropout_share='much', which must be"),
        (Extended, {"num_actions": 15}, "has num_actions=15, and the environment Discrete(3)"),
        (Plain, {"widht": 3}, "unexpected keyword argument 'widht'"),
    ],
)
def test_what_an_encoder_lacks_is_said(kind: type, options: dict[str, Any], words: str):
    with pytest.raises(UserError) as error:
        network(kind, **options)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_previous_actions_need_discrete_actions():
    make = encoder_maker("ppg_encoder", settings(Extended), VECTOR, VECTOR)
    with pytest.raises(UserError, match=r"set it to 0 for an encoder without previous actions"):
        make()


@pytest.mark.parametrize("kind", [Plain, Extended])
def test_both_kinds_train_through_both_phases(ray_local, kind: type):
    config = PPGConfig().environment(CodedEnv).training(
        model={"custom_model": "ppg_encoder", "custom_model_config": settings(kind)},
        n_pi=1, n_aux_epochs=1, aux_mbsize=2, nminibatch=2, rollout_fragment_length=4,
    ).env_runners(num_envs=4)  # fmt: skip
    algorithm = config.build_algo()
    for _ in range(3):
        algorithm.train()
    assert algorithm._totals["aux_phases"] == 1
    algorithm.stop()
