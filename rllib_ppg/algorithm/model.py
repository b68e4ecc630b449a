"""Algorithm: thin TorchModelV2 adapters over `PhasicNetwork`.

`ppg_impala` takes images, `ppg_mlp` vectors, `ppg_encoder` what an encoder of the user's own takes,
and `ppg_random` looks at nothing; all are configured by `model.custom_model_config`.
RLlib's stock algorithms can use them too: `forward` gives the logits, `value_function` the value.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import nn

from rllib_ppg._ray_compat import ModelCatalog, SampleBatch, TorchModelV2, ViewRequirement
from rllib_ppg.algorithm.actions import start
from rllib_ppg.algorithm.model_settings import (
    EncoderSettings,
    ImpalaSettings,
    MLPSettings,
    NetworkSettings,
    parse_model_settings,
)
from rllib_ppg.algorithm.own_encoder import MOST_TRIED, own_maker, try_own
from rllib_ppg.core.encoders import ImpalaEncoder, MLPEncoder
from rllib_ppg.core.networks import PhasicNetwork
from rllib_ppg.errors import UserError


def is_image(space: Any) -> bool:
    """Whether observations of `space` are images (H, W, C), which `ppg_impala` takes."""
    return isinstance(space, gym.spaces.Box) and len(space.shape) == 3 and min(space.shape[:2]) > 3


def default_model(observation_space: Any) -> str:
    """The registered model that fits the observations."""
    return "ppg_impala" if is_image(observation_space) else "ppg_mlp"


def check_model(name: str | None, config: Mapping[str, Any], space: Any, action_space: Any) -> None:
    """Check a `custom_model_config` against the environment that the network will act in.

    Args:
        name: The model; None: the one that fits the observations.
        config: Its `custom_model_config`.
        space: Observation space.
        action_space: Action space.

    Raises:
        UserError: If the model does not take such observations, actions or settings; an encoder of
            the user's own is made and tried.
    """
    make = encoder_maker(name, config, space, action_space)
    # One that may not fit is for the check of memory.
    if name == "ppg_encoder" and parameter_count(name, config, space, action_space) <= MOST_TRIED:
        try_own(str(config["encoder"]), make, space, observation_layout(space)[1])


def check_images(space: Any) -> None:
    """Refuse observations that are no images.

    Raises:
        UserError: Naming the space.
    """
    if not is_image(space):
        raise UserError(f"ppg_impala takes images (H, W, C), not {space}; use ppg_mlp.")


def check_observation_space(space: gym.Space) -> None:
    """Refuse observations other than Box or Discrete.

    Raises:
        UserError: Naming the space.
    """
    if not isinstance(space, gym.spaces.Box | gym.spaces.Discrete):
        raise UserError(
            f"PPG takes Box or Discrete observations, this environment has {space}; flatten it, "
            "for example with gymnasium.wrappers.FlattenObservation."
        )


def observation_layout(space: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype of an observation as it is stored; float64 is kept as float32."""
    dtype = np.dtype(space.dtype)
    return tuple(space.shape), np.dtype(np.float32) if dtype == np.float64 else dtype


class PPGModel(TorchModelV2, nn.Module):
    """RLlib's view of a `PhasicNetwork`, which stands in `.network`."""

    registered_name: str

    def __init__(
        self,
        obs_space: gym.Space,
        action_space: gym.Space,
        num_outputs: int,
        model_config: dict[str, Any],
        name: str,
        **custom_model_config: Any,
    ) -> None:
        TorchModelV2.__init__(self, obs_space, action_space, num_outputs, model_config, name)
        nn.Module.__init__(self)
        settings = parse_model_settings(self.registered_name, custom_model_config)
        # Not obs_space.original_space: RLlib's own algorithms hand over preprocessed observations.
        self.network = PhasicNetwork(
            self.encoder_maker(obs_space, settings),
            num_outputs,
            arch=settings.arch,
            normed_init=settings.normed_init,
            aux_value_head=settings.aux_value_head,
        )
        self._first_action = start(action_space)
        if self.network.takes_prev_actions:
            requirements: Any = self.view_requirements
            requirements[SampleBatch.PREV_ACTIONS] = ViewRequirement(
                SampleBatch.ACTIONS, shift=-1, space=action_space
            )
        self._value: torch.Tensor | None = None

    def encoder_maker(self, space: Any, settings: Any) -> Callable[[], nn.Module]:
        """Return a function that makes one encoder for `space`."""
        raise NotImplementedError

    def forward(
        self, input_dict: dict[str, Any], state: list[Any], seq_lens: Any
    ) -> tuple[torch.Tensor, list[Any]]:
        """Logits (B, A) for observations (B, ...); remembers the values.

        Previous actions that are not given are taken for those of an episode's start.
        """
        obs, before = input_dict["obs"], None
        if self.network.takes_prev_actions:
            before = input_dict.get(SampleBatch.PREV_ACTIONS)
            first = torch.full((len(obs),), self._first_action, device=obs.device)
            before = (first if before is None else before.flatten().long()) - first
        output = self.network(obs, before)
        self._value = output.vf
        return output.logits, state

    def value_function(self) -> torch.Tensor:
        """The true value head's output (B,) of the last `forward`."""
        assert self._value is not None, "forward() has to come first"
        return self._value


class ImpalaModel(PPGModel):
    """`ppg_impala`: the IMPALA residual network for images."""

    registered_name = "ppg_impala"

    def encoder_maker(self, space: Any, settings: ImpalaSettings) -> Callable[[], nn.Module]:
        """Return a function that makes one IMPALA encoder."""
        return impala_maker(space, settings, self.action_space)


class MLPModel(PPGModel):
    """`ppg_mlp`: a multilayer perceptron for vectors and discrete observations."""

    registered_name = "ppg_mlp"

    def encoder_maker(self, space: Any, settings: MLPSettings) -> Callable[[], nn.Module]:
        """Return a function that makes one MLP encoder."""
        return mlp_maker(space, settings)


class EncoderModel(PPGModel):
    """`ppg_encoder`: an encoder of the user's own, by its dotted name."""

    registered_name = "ppg_encoder"

    def encoder_maker(self, space: Any, settings: EncoderSettings) -> Callable[[], nn.Module]:
        """Return a function that makes one encoder."""
        return own_maker(space, settings, self.action_space)


class RandomModel(PPGModel):
    """`ppg_random`: no network at all; every action is equally likely, and nothing changes that.

    For Discrete and MultiDiscrete actions. The random agent of the challenge's starter kit.
    """

    registered_name = "ppg_random"

    def __init__(self, obs_space: Any, action_space: Any, *args: Any, **settings: Any) -> None:
        if isinstance(action_space, gym.spaces.Box):
            raise UserError(
                f"ppg_random takes Discrete or MultiDiscrete actions, not {action_space}; use "
                "rllib evaluate with policy random."
            )
        super().__init__(obs_space, action_space, *args, **settings)
        head = self.network.policy_head
        self.network.policy_head = _Zeros(head.in_features, head.out_features)

    def encoder_maker(self, space: Any, settings: NetworkSettings) -> Callable[[], nn.Module]:
        """Return a function that makes an encoder that sees nothing."""
        return _Blind


class _Blind(nn.Module):
    """Gives the code (B, 1) of zeros for whatever observations."""

    output_size = 1

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(obs), 1, device=obs.device)


class _Zeros(nn.Linear):
    """Gives zeros, with gradients of zero: no optimiser moves them."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * 0.0


def impala_maker(
    space: Any, settings: ImpalaSettings, action_space: Any
) -> Callable[[], nn.Module]:
    """Return a function that makes one IMPALA encoder.

    Raises:
        UserError: If the observations are no images, or not such as the settings need, or the
            actions are not.
    """
    check_images(space)
    shape = (space.shape[0], space.shape[1], space.shape[2])
    if settings.frame_differences and shape[2] != 6:
        raise UserError(
            "model.custom_model_config.frame_differences=True takes two stacked RGB frames, six "
            f"channels, and these observations have {shape[2]}; set env_config.frame_stack: 2, or "
            "leave frame_differences out."
        )
    if settings.previous_action and not isinstance(action_space, gym.spaces.Discrete):
        raise UserError(
            "model.custom_model_config.previous_action=True takes Discrete actions, not "
            f"{action_space}; leave it out."
        )
    return lambda: ImpalaEncoder(
        shape,
        widths=tuple(settings.widths),
        hidden_size=settings.hidden_size,
        blocks=settings.blocks,
        normed_init=settings.normed_init,
        frame_differences=settings.frame_differences,
        num_actions=int(action_space.n) if settings.previous_action else 0,
        dropout=settings.dropout,
    )


def mlp_maker(space: Any, settings: MLPSettings) -> Callable[[], nn.Module]:
    """Return a function that makes one MLP encoder; Discrete observations become one-hot."""
    discrete = isinstance(space, gym.spaces.Discrete)
    size = int(space.n) if discrete else math.prod(space.shape)

    def make() -> nn.Module:
        encoder = MLPEncoder(
            size,
            hiddens=tuple(settings.hiddens),
            activation=settings.activation,
            normed_init=settings.normed_init,
            one_hot=discrete,
        )
        return FromZero(encoder, int(space.start)) if discrete and space.start else encoder

    return make


def encoder_maker(
    name: str | None, config: Mapping[str, Any], space: Any, action_space: Any
) -> Callable[[], nn.Module]:
    """Return a function that makes one encoder of the model `name`.

    Args:
        name: The model; None: the one that fits the observations.
        config: Its `custom_model_config`.
        space: Observation space.
        action_space: Action space.

    Raises:
        UserError: If the model does not take such observations, actions or settings.
    """
    name = name or default_model(space)
    settings = parse_model_settings(name, config)
    if name == "ppg_impala":
        return impala_maker(space, settings, action_space)
    if name == "ppg_random":
        return _Blind
    if name == "ppg_encoder":
        return own_maker(space, settings, action_space)
    return mlp_maker(space, settings)


def parameter_count(
    name: str | None, config: Mapping[str, Any], space: Any, action_space: Any
) -> int:
    """Parameters of a network, beside those of the policy head; nothing of their size is made.

    The exception is an encoder of the user's own that asks for numbers as it is made.

    Args:
        name: A model of ours; None: the one that fits the observations.
        config: Its `custom_model_config`.
        space: Observation space.
        action_space: Action space.
    """
    # Rescaled weights count the same, and take seconds with torch's meta device.
    config = {**config, "normed_init": False}
    settings = parse_model_settings(name or default_model(space), config)
    make = encoder_maker(name, config, space, action_space)

    def count(device: str) -> int:
        with torch.random.fork_rng(devices=[]), torch.device(device):
            network = PhasicNetwork(
                make,
                1,
                arch=settings.arch,
                normed_init=False,
                aux_value_head=settings.aux_value_head,
            )
        return sum(parameter.numel() for parameter in network.parameters())

    try:
        return count("meta")
    except UserError:  # the meta device has no numbers
        return count("cpu")


class FromZero(nn.Module):
    """An encoder for Discrete observations that do not start at 0."""

    def __init__(self, encoder: MLPEncoder, start: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.start = start
        self.output_size = encoder.output_size

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        """Encode integers (B,) in [start, start + n) into codes (B, hidden)."""
        codes: torch.Tensor = self.encoder(obs - self.start)
        return codes


MODELS: dict[str, type[PPGModel]] = {
    model.registered_name: model for model in (ImpalaModel, MLPModel, EncoderModel, RandomModel)
}


def register_models() -> None:
    """Register our models with RLlib's catalog."""
    for name, model in MODELS.items():
        ModelCatalog.register_custom_model(name, model)


register_models()
