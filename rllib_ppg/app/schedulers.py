"""App: what ends trials early or copies the better ones: `scheduler: {type: asha, ...}`."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, StrictStr

from rllib_ppg.algorithm.setting_types import Integer, Number
from rllib_ppg.app.result_keys import stop_value
from rllib_ppg.app.spaces import described, is_node, is_space
from rllib_ppg.app.typed import KeyProblems, problem, read_typed
from rllib_ppg.errors import shown

Time = Annotated[Number, Field(gt=0)]
_TIME_ATTR = "Result key that counts its time; null: timesteps_total (PPG), else "
_TIME_ATTR += "training_iteration."


class FifoKeys(BaseModel):
    """Every trial is trained to its end, in the order they were made."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["fifo"] = "fifo"


class AshaKeys(BaseModel):
    """ASHA ends a trial at a rung if it is not among the best that have come so far."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["asha"]
    time_attr: StrictStr | None = Field(None, description=_TIME_ATTR)
    max_t: Time | None = Field(
        None, description="Time at which a trial ends anyway; null: that of the stop keys."
    )
    reduction_factor: Annotated[Number, Field(gt=1, le=100)] = Field(
        4.0, description="One in so many goes on from each rung; rungs are so far apart."
    )
    grace_period: Time | None = Field(
        None, description="Time of the first rung; null: max_t / reduction_factor^2."
    )
    brackets: Annotated[Integer, Field(ge=1, le=20)] = Field(
        1, description="Groups of trials, each with a later first rung than the one before."
    )


class MedianKeys(BaseModel):
    """A trial ends whose best result so far is below the median of the others' running means."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["median_stopping"]
    time_attr: StrictStr | None = Field(None, description=_TIME_ATTR)
    grace_period: Time = Field(
        ..., description="Time before which no trial ends, and from which on means are taken."
    )
    min_samples_required: Annotated[Integer, Field(ge=1)] = Field(
        3, description="Other trials that must have come so far."
    )


class HyperBandKeys(BaseModel):
    """HyperBand halves groups of trials again and again; trials wait for the others of theirs."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["hyperband"]
    time_attr: StrictStr | None = Field(
        "training_iteration", description="Result key that counts its time."
    )
    max_t: Annotated[Integer, Field(ge=1, le=10_000)] | None = Field(
        None,
        description="Time at which a trial ends anyway; null: that of the stop keys. At most "
        "10,000: it decides on the number of trials in a group too.",
    )
    reduction_factor: Annotated[Number, Field(gt=1, le=100)] = Field(
        3.0, description="One in so many goes on."
    )


def check_factors(factors: tuple[float, float]) -> tuple[float, float]:
    """Refuse factors of which none makes smaller, or none larger."""
    if not min(factors) < 1 < max(factors):
        raise ValueError("must be one number above 1 and one below")
    return factors


Factor = Annotated[Number, Field(gt=0)]


class PbtKeys(BaseModel):
    """PBT: the worst trials go on from checkpoints of the best, with changed hyper-parameters."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["pbt"]
    time_attr: StrictStr | None = Field(None, description=_TIME_ATTR)
    perturbation_interval: Time = Field(
        ..., description="Time between two looks at a trial, each of which writes a checkpoint."
    )
    burn_in_period: Annotated[Number, Field(ge=0)] = Field(
        0.0, description="Time before the first."
    )
    hyperparam_mutations: dict[str, Any] = Field(
        ..., description="Spaces of what changes, nested like config."
    )
    quantile_fraction: Annotated[Number, Field(gt=0, le=0.5)] = Field(
        0.25, description="The worst share, which copies the best share."
    )
    resample_probability: Annotated[Number, Field(ge=0, le=1)] = Field(
        0.25, description="Of a new value out of its space; else the old one is changed a little."
    )
    perturbation_factors: Annotated[tuple[Factor, Factor], AfterValidator(check_factors)] = Field(
        (1.2, 0.8),
        description="A little: a range's value times one of these, kept within its "
        "bounds; of a choice, one of its neighbours.",
    )
    synch: StrictBool = Field(False, description="All trials wait for each other at each look.")


SchedulerKeys = FifoKeys | AshaKeys | MedianKeys | HyperBandKeys | PbtKeys

MODELS: dict[str, type[SchedulerKeys]] = {
    "fifo": FifoKeys,
    "asha": AshaKeys,
    "median_stopping": MedianKeys,
    "hyperband": HyperBandKeys,
    "pbt": PbtKeys,
}

ALIASES = {
    "async_hyperband": "asha",
    "asynchyperband": "asha",
    "median_stopping_rule": "median_stopping",
    "medianstopping": "median_stopping",
    "median": "median_stopping",
    "population_based_training": "pbt",
}
"""Tune's names."""

_IN_PYTHON = "use Ray Tune in Python"
REFUSED = {
    "hb_bohb": f"works with the searcher BOHB only; {_IN_PYTHON}",
    "pb2": f"needs packages that were not tried here, pbt does not; {_IN_PYTHON}",
    "pbt_replay": f"repeats the file of another run; {_IN_PYTHON}",
    "resource_changing": f"takes a Python function; {_IN_PYTHON}",
}


def read_scheduler(given: Any, run: str, stop: Mapping[str, Any]) -> SchedulerKeys:
    """Check the key `scheduler` of an experiment.

    Args:
        given: A name, or a mapping with `type` and arguments; None for fifo.
        run: The algorithm.
        stop: The stop keys, which give what is not given.

    Returns:
        The keys, `time_attr` and `max_t` filled in.

    Raises:
        KeyProblems: Naming the wrong keys.
    """
    for name in ("metric", "mode") if isinstance(given, Mapping) else ():
        if name in given:
            raise problem(("scheduler", name), f"{name} stands beside scheduler, not in it")
    found = read_typed("scheduler", given, MODELS, default="fifo", aliases=ALIASES, refused=REFUSED)
    assert not isinstance(found, dict)
    if isinstance(found, FifoKeys):
        return found
    if found.time_attr is None:
        found.time_attr = "timesteps_total" if run == "PPG" else "training_iteration"
    if isinstance(found, AshaKeys | HyperBandKeys):
        _fill_max_t(found, stop)
    if isinstance(found, PbtKeys):
        problems = list(_mutation_problems(found.hyperparam_mutations))
        if problems:
            raise KeyProblems(*problems)
    return found


def _fill_max_t(keys: AshaKeys | HyperBandKeys, stop: Mapping[str, Any]) -> None:
    name = str(keys.time_attr)
    if keys.max_t is None:
        if name not in stop:
            text = f"is missing, and stop sets no {name} to take it from"
            raise problem(("scheduler", "max_t"), text)
        try:
            keys.max_t = stop_value(name, stop[name])
        except ValueError as error:
            given = f"stop: {name}={shown(stop[name])} {error}"
            raise problem(("scheduler", "max_t"), given) from None
    if isinstance(keys, HyperBandKeys):
        if keys.max_t > 10_000:
            text = f"stop.{name}={keys.max_t:,} is more than 10,000; count in "
            raise problem(("scheduler", "max_t"), f"{text}training_iteration")
        return
    if keys.grace_period is None:
        keys.grace_period = max(1.0, keys.max_t / keys.reduction_factor**2)
    if keys.grace_period >= keys.max_t:
        text = f"{keys.grace_period:,g} must be less than max_t ({keys.max_t:,g})"
        raise problem(("scheduler", "grace_period"), text)


def _mutation_problems(mutations: Mapping[str, Any], path: tuple[str, ...] = ()) -> Any:
    """What is wrong with the leaves of `hyperparam_mutations`."""
    inside = ("scheduler", "hyperparam_mutations", *path)
    if not mutations:
        yield inside, f"{'.'.join(inside)}: is empty; name what may change and its space."
    for name, value in mutations.items():
        where = (*inside, name)
        if isinstance(value, Mapping) and not is_node(value):
            yield from _mutation_problems(value, (*path, name))
        elif not is_space(value):
            hint = "write {choice: [...]}" if isinstance(value, list) else "give its space"
            yield where, f"{'.'.join(where)}: {described(value)} is no sampled space; {hint}."
