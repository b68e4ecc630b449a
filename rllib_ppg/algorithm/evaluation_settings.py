"""Algorithm: the configuration keys of evaluations during training. No Ray is imported."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, ValidationError

from rllib_ppg.algorithm.setting_types import Auto, Integer, Number, describe, parse_integer
from rllib_ppg.spelling import did_you_mean


class EvaluationOverrides(BaseModel):
    """What evaluations during training may do otherwise than the training."""

    model_config = ConfigDict(extra="forbid")

    env_config: dict[str, Any] | None = None
    explore: StrictBool | None = None
    seed: Annotated[Integer, Field(ge=0, le=2**31 - 1)] | None = None
    num_cpus_per_env_runner: Annotated[Number, Field(ge=0, le=1024)] | None = None


def check_overrides(given: Any) -> dict[str, Any]:
    """Parse `evaluation_config`."""
    if not isinstance(given, Mapping):
        raise ValueError("must be a mapping")
    allowed = list(EvaluationOverrides.model_fields)
    # RLlib's build_algo(env=...) writes the training's environment here too.
    overrides = {name: value for name, value in given.items() if name != "env"}
    for name in overrides:
        if name not in allowed:
            hint = did_you_mean(str(name), allowed)
            raise ValueError(
                f'"{name}" cannot differ in an evaluation.{hint} Only {", ".join(allowed)} can'
            )
    try:
        parsed = EvaluationOverrides(**overrides).model_dump(exclude_unset=True)
    except ValidationError as error:
        raise ValueError(describe(error)) from None
    return {name: value for name, value in parsed.items() if value is not None}


Overrides = Annotated[dict[str, Any], BeforeValidator(check_overrides)]


def parse_levels(levels: Any) -> Any:
    """A list of levels; a single name may stand for itself."""
    return [levels] if isinstance(levels, str) and levels != "auto" else levels


def check_duration(duration: Any) -> Any:
    """Refuse `auto`, with the reason."""
    if duration == "auto":
        raise ValueError("must be a number of episodes: nothing is trained meanwhile")
    return parse_integer(duration)


def check_duration_unit(unit: Any) -> Any:
    """Refuse `timesteps`, with the reason."""
    if unit != "episodes":
        raise ValueError("must be 'episodes': a number of steps would favour short episodes")
    return unit


class EvaluationSettings(BaseModel):
    """The keys of evaluations during training."""

    evaluation_interval: Annotated[Integer, Field(ge=0)] | None = Field(
        None,
        description="Policy iterations from one evaluation to the next; an auxiliary phase counts "
        "as none. None or 0: no evaluation.",
    )
    evaluation_duration: Annotated[
        int, BeforeValidator(check_duration), Field(ge=1, le=1_000_000)
    ] = Field(10, description="Episodes of an evaluation, of each of its evaluation_levels.")
    evaluation_duration_unit: Annotated[str, BeforeValidator(check_duration_unit)] = Field(
        "episodes", description="Always episodes: so many steps would favour short episodes."
    )
    evaluation_levels: Annotated[
        list[Literal["train", "test", "all"]] | Auto, BeforeValidator(parse_levels)
    ] = Field(
        "auto",
        description="Levels of Procgen that are played: train, test (unseen ones only), all. auto: "
        "train and test; all where the training has all.",
    )
    evaluation_num_env_runners: Annotated[Integer, Field(ge=0, le=100_000)] = Field(
        0,
        description="Workers that play evaluations, beside those that sample. 0: the learner's "
        "process does. The episodes are the same.",
    )
    evaluation_sample_timeout_s: Annotated[Number, Field(gt=0)] | None = Field(
        120.0,
        description="Seconds of silence after which an evaluation worker counts as lost; its "
        "episodes are played anew. None: no limit.",
    )
    evaluation_temperature: Annotated[Number, Field(ge=0)] | None = Field(
        None,
        description="Actions of evaluations, videos and exported policies are drawn from "
        "softmax(logits / T); 0 takes the most probable one. None: 1, or 0 with explore: false.",
    )
    evaluation_config: Overrides | None = Field(
        None,
        description="What evaluations do otherwise: env_config (keys to change), explore, seed, "
        "num_cpus_per_env_runner.",
    )
