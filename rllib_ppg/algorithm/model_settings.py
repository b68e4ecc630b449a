"""Algorithm: the configuration of the networks: `model.custom_model_config`, key by key."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError, model_validator

from rllib_ppg.algorithm.setting_types import Integer, Number, describe
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
    aux_value_head: StrictBool = Field(
        True,
        description="An auxiliary value head on the policy's encoder. false: one value head, which "
        "needs arch: shared.",
    )

    @model_validator(mode="after")
    def _check_heads(self) -> "NetworkSettings":
        if not self.aux_value_head and self.arch != "shared":
            raise ValueError(
                f"aux_value_head=False needs arch: shared, not {self.arch}: without that head only "
                "the true value's gradient trains the policy's encoder in the auxiliary phase"
            )
        return self


class ImpalaSettings(NetworkSettings):
    """`custom_model_config` of `ppg_impala`."""

    widths: Annotated[list[Size], Field(min_length=1, max_length=16)] = Field(
        [16, 32, 32], description="Channels of each convolution stage."
    )
    hidden_size: Size = Field(256, description="Units of the dense layer.")
    blocks: Annotated[Integer, Field(ge=1, le=64)] = Field(
        2, description="Residual blocks per stage."
    )
    frame_differences: StrictBool = Field(
        False,
        description="The network puts the difference of two stacked RGB frames beside them: nine "
        "channels; needs frame_stack: 2.",
    )
    previous_action: StrictBool = Field(
        False,
        description="The previous action, one-hot (0 where an episode begins), is an input of the "
        "dense layer and of the heads; needs Discrete actions.",
    )
    dropout: Annotated[Number, Field(ge=0, le=0.9)] = Field(
        0.0,
        description="Share of the channels after each max-pooling and of the dense layer's units "
        "that training passes of the auxiliary phase leave out; no other pass does.",
    )


class EncoderSettings(NetworkSettings):
    """`custom_model_config` of `ppg_encoder`."""

    encoder: str = Field(
        "",
        description="Your encoder: the dotted name of a torch.nn.Module in an installed package. "
        "It is called with the shape of one observation, has the attribute output_size, and turns "
        "observations (B, ...) into codes (B, output_size).",
    )
    encoder_options: dict[str, Any] = Field({}, description="Its further keyword arguments.")


class MLPSettings(NetworkSettings):
    """`custom_model_config` of `ppg_mlp`."""

    hiddens: Annotated[list[Size], Field(min_length=1, max_length=64)] = Field(
        [64, 64], description="Units of each hidden layer."
    )
    activation: Literal["tanh", "relu"] = Field("tanh", description="Activation function.")


class RandomSettings(NetworkSettings):
    """`custom_model_config` of `ppg_random`."""

    arch: Literal["shared"] = Field(
        "shared", description="shared: one network, for there is nothing to keep apart."
    )


MODEL_SETTINGS: dict[str, type[NetworkSettings]] = {
    "ppg_impala": ImpalaSettings,
    "ppg_mlp": MLPSettings,
    "ppg_encoder": EncoderSettings,
    "ppg_random": RandomSettings,
}


EXPORTABLE = ("ppg_impala", "ppg_mlp")
"""Models that are described by data alone, so that a policy needs no code beside the package's."""


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
