"""App: the configuration that a run is started with, `auto` keys resolved to numbers once."""

import math
from collections.abc import Collection
from copy import deepcopy
from typing import Any

from rllib_ppg.algorithm import resources
from rllib_ppg.algorithm.keys import WORKER_SHARES
from rllib_ppg.algorithm.settings import DEFAULTS
from rllib_ppg.app.checks import Checked
from rllib_ppg.app.spaces import CHOICE, GRID, is_node

DERIVED = ("num_envs_per_env_runner", "train_batch_size")
"""Keys that follow from others; written down they would only contradict a later change."""


def param_space(checked: Checked) -> dict[str, Any]:
    """The configuration for Tune: what the user gave, and numbers in place of `auto`.

    Raises:
        UserError: If the workers of a grid over `num_envs` cannot be chosen.
    """
    config = deepcopy(checked.experiment.config)
    if not checked.is_ppg:
        return config
    for name in ("num_env_runners", "num_gpus", *WORKER_SHARES):
        value = config.get(name, DEFAULTS.get(name))
        if is_node(value, GRID, CHOICE):
            ((kind, given),) = dict(value or {}).items()
            values = [_number(checked, name) if v == "auto" else v for v in given]
            config[name] = {kind: values}
        elif value == "auto":
            config[name] = _number(checked, name)
    totals = {c.num_envs for c in checked.configs}
    if len(totals) == 1 and not is_node(config.get("num_envs")):
        config["num_envs"] = totals.pop()
    return config


def _number(checked: Checked, name: str) -> int | float:
    """What `auto` means for all variants that say so."""
    pairs = zip(checked.variants, checked.configs, strict=True)
    chosen = [c for v, c in pairs if v.get(name, DEFAULTS.get(name)) == "auto"]
    found = {getattr(config, name) for config in chosen}
    if len(found) == 1:
        number: int | float = found.pop()
        return number
    if name != "num_env_runners":  # what all variants have
        least: int | float = min(found)
        return least
    # A grid over num_envs: as many workers as divide all of its values.
    first = chosen[0]
    return resources.choose_env_runners(
        math.gcd(*(config.num_envs for config in chosen)),
        resources.available()["CPU"],
        main_cpus=first.num_cpus_for_main_process + first.evaluation_cpus(),
        cpus_each=first.num_cpus_per_env_runner,
    )


def complete(
    checked: Checked, config: dict[str, Any], left_out: Collection[str] = ()
) -> dict[str, Any]:
    """A resolved configuration with PPG's defaults filled in, so that it stands by itself.

    Args:
        checked: The experiment.
        config: Its resolved configuration.
        left_out: Keys that get their first value elsewhere.
    """
    if not checked.is_ppg:
        return config
    names = set(DEFAULTS) - {*DERIVED, *left_out}
    defaults = {name: value for name, value in DEFAULTS.items() if name in names}
    if "lambda" in config or "lambda" in left_out:
        del defaults["lambda_"]
    return {**config, **{k: v for k, v in defaults.items() if k not in config}}
