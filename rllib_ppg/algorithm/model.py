"""Algorithm: thin TorchModelV2 adapters over `PhasicNetwork`.

`ppg_impala` takes images, `ppg_mlp` vectors; both are configured by `model.custom_model_config`.
RLlib's stock algorithms can use them too: `forward` gives the logits, `value_function` the value.
"""

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import gymnasium as gym
import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError
from torch import nn

from rllib_ppg._ray_compat import ModelCatalog, TorchModelV2
from rllib_ppg.algorithm.settings import Integer, describe
from rllib_ppg.core.encoders import ImpalaEncoder, MLPEncoder
from rllib_ppg.core.networks import PhasicNetwork
from rllib_ppg.errors import UserError
from rllib_ppg.spelling import did_you_mean

Size = Annotated[Integer, Field(ge=1, le=65536)]


class NetworkSettings(BaseModel):
    """`custom_model_config` keys that both networks share."""

    model_config = ConfigDict(extra="forbid")

    arch: Literal["dual", "detach", "shared"] = Field(
        "dual",
        description="dual: separate policy and value networks; detach: one network, the "
        "value head reads it without gradient; shared: one network.",
    )
    normed_init: StrictBool = Field(
        True, description="Rescale each output unit's initial weights to a fixed L2 norm."
    )


class ImpalaSettings(NetworkSettings):
    """`custom_model_config` of `ppg_impala`."""

    widths: Annotated[list[Size], Field(min_length=1, max_length=16)] = Field(
        [16, 32, 32], description="Channels of each convolution stage."
    )
    hidden_size: Size = Field(256, description="Units of the dense layer.")
    blocks: Annotated[Integer, Field(ge=1, le=64)] = Field(
        2, description="Residual blocks per stage."
    )


class MLPSettings(NetworkSettings):
    """`custom_model_config` of `ppg_mlp`."""

    hiddens: Annotated[list[Size], Field(min_length=1, max_length=64)] = Field(
        [64, 64], description="Units of each hidden layer."
    )
    activation: Literal["tanh", "relu"] = Field("tanh", description="Activation function.")


MODEL_SETTINGS: dict[str, type[NetworkSettings]] = {
    "ppg_impala": ImpalaSettings,
    "ppg_mlp": MLPSettings,
}


def parse_model_settings(name: str, config: Mapping[str, Any]) -> Any:
    """Check `custom_model_config` for the model registered as `name`.

    Raises:
        UserError: Naming unknown keys with the nearest allowed one, and bad values.
    """
    settings = MODEL_SETTINGS[name]
    prefix = "model.custom_model_config."
    for key in config:
        if key not in settings.model_fields:
            allowed = ", ".join(settings.model_fields)
            hint = did_you_mean(key, settings.model_fields)
            raise UserError(f'Unknown key "{prefix}{key}" of {name}.{hint} Allowed: {allowed}.')
    try:
        return settings(**config)
    except ValidationError as error:
        raise UserError(describe(error, prefix)) from None


def is_image(space: Any) -> bool:
    """Whether observations of `space` are images (H, W, C), which `ppg_impala` takes."""
    return isinstance(space, gym.spaces.Box) and len(space.shape) == 3 and min(space.shape[:2]) > 3


def default_model(observation_space: Any) -> str:
    """The registered model that fits the observations."""
    return "ppg_impala" if is_image(observation_space) else "ppg_mlp"


def check_model(name: str | None, config: Mapping[str, Any], space: Any) -> None:
    """Check a `custom_model_config` against the observations that the network will get.

    Args:
        name: The model; None: the one that fits the observations.
        config: Its `custom_model_config`.
        space: Observation space.

    Raises:
        UserError: If the model does not take such observations, or not such a configuration.
    """
    name = name or default_model(space)
    parse_model_settings(name, config)
    if name == "ppg_impala":
        check_images(space)


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
        )
        self._value: torch.Tensor | None = None

    def encoder_maker(self, space: Any, settings: Any) -> Callable[[], nn.Module]:
        """Return a function that makes one encoder for `space`."""
        raise NotImplementedError

    def forward(
        self, input_dict: dict[str, Any], state: list[Any], seq_lens: Any
    ) -> tuple[torch.Tensor, list[Any]]:
        """Logits (B, A) for observations (B, ...); remembers the values."""
        output = self.network(input_dict["obs"])
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
        return impala_maker(space, settings)


class MLPModel(PPGModel):
    """`ppg_mlp`: a multilayer perceptron for vectors and discrete observations."""

    registered_name = "ppg_mlp"

    def encoder_maker(self, space: Any, settings: MLPSettings) -> Callable[[], nn.Module]:
        """Return a function that makes one MLP encoder."""
        return mlp_maker(space, settings)


def impala_maker(space: Any, settings: ImpalaSettings) -> Callable[[], nn.Module]:
    """Return a function that makes one IMPALA encoder.

    Raises:
        UserError: If the observations are no images.
    """
    check_images(space)
    shape = (space.shape[0], space.shape[1], space.shape[2])
    return lambda: ImpalaEncoder(
        shape,
        widths=tuple(settings.widths),
        hidden_size=settings.hidden_size,
        blocks=settings.blocks,
        normed_init=settings.normed_init,
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


def parameter_count(name: str | None, config: Mapping[str, Any], space: Any) -> int:
    """Parameters of a network, beside those of the policy head; nothing of their size is made.

    Args:
        name: `ppg_impala` or `ppg_mlp`; None: the one that fits the observations.
        config: Its `custom_model_config`.
        space: Observation space.
    """
    name = name or default_model(space)
    # Rescaled weights count the same, and take seconds with torch's meta device.
    settings = parse_model_settings(name, {**config, "normed_init": False})
    make = (impala_maker if name == "ppg_impala" else mlp_maker)(space, settings)
    with torch.device("meta"):
        network = PhasicNetwork(make, 1, arch=settings.arch, normed_init=False)
    return sum(parameter.numel() for parameter in network.parameters())


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


MODELS: dict[str, type[PPGModel]] = {m.registered_name: m for m in (ImpalaModel, MLPModel)}


def register_models() -> None:
    """Register `ppg_impala` and `ppg_mlp` with RLlib's catalog."""
    for name, model in MODELS.items():
        ModelCatalog.register_custom_model(name, model)


register_models()
