"""Algorithm: the kinds of values that configuration keys take. No Ray is imported."""

from itertools import pairwise
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BeforeValidator, Field, ValidationError

from rllib_ppg.errors import shown


def parse_number(value: Any) -> Any:
    """Turn a number string such as `"5e-4"` into a number; refuse booleans.

    PyYAML reads `5e-4` and `1e6` as strings, and Python takes True for 1.

    Raises:
        ValueError: If `value` is a boolean or a string that is not a number.
    """
    if isinstance(value, bool):
        raise ValueError("must be a number, not a boolean")
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise ValueError("must be a number") from None
    return value


def parse_integer(value: Any) -> Any:
    """Like `parse_number`, for whole numbers: `"1e6"` and `64.0` are taken, `0.5` is not."""
    try:
        value = parse_number(value)
    except ValueError as error:
        raise ValueError(str(error).replace("a number", "a whole number")) from None
    if isinstance(value, float):
        if not value.is_integer():
            raise ValueError("must be a whole number")
        value = int(value)
    return value


Number = Annotated[float, BeforeValidator(parse_number), Field(allow_inf_nan=False)]
Integer = Annotated[int, BeforeValidator(parse_integer)]


def check_gpus(gpus: float) -> float | int:
    """Refuse a count of GPUs that is neither whole nor a share of one."""
    if gpus > 1 and not float(gpus).is_integer():
        raise ValueError("must be a whole number, or a share of one GPU below 1")
    return int(gpus) if gpus >= 1 else gpus


Gpus = Annotated[Number, Field(ge=0, le=1024), AfterValidator(check_gpus)]


def check_pairs(schedule: Any) -> Any:
    """Refuse what is no list of pairs, with one message for all its forms."""
    pairs = schedule if isinstance(schedule, list | tuple) else [None]
    if not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
        raise ValueError("must be a list of [env steps, value] pairs")
    return schedule


def check_schedule(schedule: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Refuse a schedule that is empty, runs backwards or turns negative."""
    steps = [step for step, _ in schedule]
    if not schedule or any(a >= b for a, b in pairwise(steps)):
        raise ValueError("must hold [env steps, value] pairs with increasing steps")
    if min(steps) < 0 or min(value for _, value in schedule) < 0:
        raise ValueError("must hold no negative number")
    return schedule


Schedule = Annotated[
    list[tuple[Integer, Number]], BeforeValidator(check_pairs), AfterValidator(check_schedule)
]
Auto = Literal["auto"]
# As `core.precision.Precision`, which would import torch.
Precision = Literal["float32", "bfloat16", "float16"]


def interpolate(schedule: Schedule, env_steps: int) -> float:
    """Value of a piecewise linear schedule at `env_steps`, constant beyond both ends."""
    steps, values = zip(*schedule, strict=True)
    return float(np.interp(env_steps, steps, values))


def describe(error: ValidationError, prefix: str = "") -> str:
    """Put a pydantic error into one sentence a key: the key, what was given, what is allowed."""
    messages: dict[str, list[str]] = {}
    for item in error.errors(include_url=False):
        path = [str(part) for part in item["loc"]]
        reason = item["msg"].removeprefix("Value error, ")
        reason = reason.replace("Input should be", "must be")
        reason = reason.replace("must be a valid boolean", "must be true or false")
        # What is about several keys names them itself.
        given = f"{prefix}{path[0]}={shown(item['input'])}" if path else prefix.rstrip(".")
        messages.setdefault(given, []).append(reason)
    return "; ".join(
        f"{given}: {' or '.join(dict.fromkeys(why))}" if given else "; ".join(why)
        for given, why in messages.items()
    )
