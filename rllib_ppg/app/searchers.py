"""App: what chooses the values of sampled spaces: `search: {type: optuna, ...}`."""

import importlib.util
import inspect
import logging
import warnings
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool

from rllib_ppg.algorithm.settings import Integer
from rllib_ppg.app.spaces import CONDITIONAL, GRID, is_node
from rllib_ppg.app.typed import KeyProblems, problem, read_typed
from rllib_ppg.app.variants import nodes

Seed = Annotated[Integer, Field(ge=0, le=2**32 - 1)] | None


class RandomKeys(BaseModel):
    """Grids in full, and sampled spaces at random."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["random"] = "random"
    seed: Seed = Field(default=None, description="Of the sampled values; null: others each time.")
    constant_grid_search: StrictBool = Field(
        default=False,
        description="Sample once for a whole grid, not for each combination.",
    )


class OptunaKeys(BaseModel):
    """Optuna's TPE, which learns from the trials that have ended where to look next."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["optuna"]
    seed: Seed = Field(default=None, description="Of the sampler; null: others each time.")
    n_startup_trials: Annotated[Integer, Field(ge=1, le=100_000)] = Field(
        10, description="Trials that are sampled at random before it learns from them."
    )
    multivariate: StrictBool = Field(
        False, description="Learn from values together, not from each by itself."
    )


OWN: dict[str, type[RandomKeys] | type[OptunaKeys]] = {"random": RandomKeys, "optuna": OptunaKeys}

OTHERS = {
    "ax": "ax",
    "bayesopt": "bayes_opt",
    "hebo": "hebo",
    "hyperopt": "hyperopt",
    "nevergrad": "nevergrad",
    "zoopt": "zoopt",
}
"""Tune's other searchers and the packages they need; they take plain arguments as Tune names them.

`bohb` is not among them: it works with a scheduler of its own only.
"""

SearchKeys = RandomKeys | OptunaKeys | dict[str, Any]


def read_search(given: Any, config: Mapping[str, Any]) -> SearchKeys:
    """Check the key `search` of an experiment against its configuration.

    Args:
        given: A name, or a mapping with `type` and arguments; None for random.
        config: The experiment's configuration.

    Returns:
        The keys; of a searcher that is only Tune's, as they were given.

    Raises:
        KeyProblems: Naming the wrong key.
    """
    found = read_typed("search", given, OWN, default="random", others=OTHERS)
    name = found["type"] if isinstance(found, dict) else found.type
    if name == "random":
        return found
    for path, node in nodes(dict(config)):
        where = ".".join(map(str, ("config", *path)))
        if is_node(node, GRID):
            raise _unfit(
                f"{name} searches sampled spaces only, and {where} is a grid; write choice"
            )
        if any(isinstance(part, int) or "/" in part for part in path):
            raise _unfit(f"{name} takes spaces of whole keys only; {where} is a part of one")
        if is_node(node, CONDITIONAL) and name != "optuna":
            raise _unfit(f"{name} does not know conditionals ({where}); use random or optuna")
    if not any(True for _ in nodes(dict(config))):
        raise _unfit(f"{name} has nothing to search: config holds no space")
    return found


def make_searcher(keys: SearchKeys, config: Mapping[str, Any], metric: str, mode: str) -> Any:
    """Tune's searcher.

    Args:
        keys: Those of a searcher other than `random`.
        config: The configuration with its spaces.
        metric: The objective.
        mode: `max` or `min`.

    Raises:
        KeyProblems: If its package is not installed, or it refuses its arguments.
    """
    if isinstance(keys, OptunaKeys):
        return _optuna(keys, config, metric, mode)
    assert isinstance(keys, dict)
    return _another(keys, metric, mode)


def check_installed(keys: SearchKeys) -> None:
    """Refuse a searcher whose package is not there.

    Raises:
        KeyProblems: With how to install it.
    """
    name = keys["type"] if isinstance(keys, dict) else keys.type
    package = OTHERS.get(name, "optuna" if name == "optuna" else None)
    if package is not None and importlib.util.find_spec(package) is None:
        extra = f'"rllib-ppg[{name}]"' if name == "optuna" else PIP_NAMES.get(name, name)
        text = f"{name} needs its package, which is not installed: pip install {extra}"
        raise problem(("search", "type"), text)


PIP_NAMES = {"ax": "ax-platform", "bayesopt": "bayesian-optimization", "hebo": "HEBO"}


def _optuna(keys: OptunaKeys, config: Mapping[str, Any], metric: str, mode: str) -> Any:
    import optuna
    from ray.tune.search.optuna import OptunaSearch

    from rllib_ppg.app.tune_spaces import OptunaSpace

    optuna.logging.set_verbosity(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(
            seed=keys.seed,
            n_startup_trials=keys.n_startup_trials,
            multivariate=keys.multivariate,
            # With conditionals not all trials have all values.
            group=keys.multivariate,
        )
    return OptunaSearch(OptunaSpace(config), metric=metric, mode=mode, sampler=sampler)


def _another(keys: Mapping[str, Any], metric: str, mode: str) -> Any:
    """One of Tune's other searchers, which reads Tune's own domains."""
    from ray.tune.search import SEARCH_ALG_IMPORT

    arguments = dict(keys)
    name = arguments.pop("type")
    try:
        kind = SEARCH_ALG_IMPORT[name]()
        parameters = inspect.signature(kind).parameters
        for argument in arguments:
            if argument not in parameters or argument in ("space", "metric", "mode"):
                raise problem(("search", argument), f'{name} takes no "{argument}"')
        return kind(metric=metric, mode=mode, **arguments)
    except KeyProblems:
        raise
    except Exception as error:  # each checks its arguments in its own way
        raise problem(("search",), f"{name}: {str(error) or type(error).__name__}") from None


def _unfit(text: str) -> KeyProblems:
    return problem(("search", "type"), text)
