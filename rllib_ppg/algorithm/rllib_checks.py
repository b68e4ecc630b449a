"""Algorithm: what RLlib's own keys may not be set to, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from rllib_ppg._ray_compat import RLlibCallback
from rllib_ppg.algorithm.keys import rllib_defaults
from rllib_ppg.algorithm.rollout import PPGRolloutWorker
from rllib_ppg.errors import UserError, shown
from rllib_ppg.spelling import did_you_mean

if TYPE_CHECKING:
    from rllib_ppg.algorithm.config import PPGConfig

FIXED = {
    "framework_str": ("torch", "PPG runs on torch"),
    "enable_rl_module_and_learner": (False, "PPG runs on RLlib's old API stack"),
    "enable_env_runner_and_connector_v2": (False, "PPG runs on RLlib's old API stack"),
    "_disable_preprocessor_api": (True, "PPG's networks take the raw observations"),
    "preprocessor_pref": (None, "PPG's networks take the raw observations"),
    "_model_config": ({}, "RLlib's RLModules are not used; set model"),
    "_rl_module_spec": (None, "RLlib's RLModules are not used; set model"),
}
"""RLlib keys that PPG sets itself, and why they cannot be changed."""


def check_rllib_keys(config: PPGConfig) -> None:
    """Refuse values of RLlib's keys that PPG cannot work with.

    Raises:
        UserError: Naming the key, and why.
    """
    _check_fixed(config)
    _check_exploration(config)
    _check_callbacks(config)
    _check_compiler(config)


def _check_fixed(config: PPGConfig) -> None:
    for name, (value, why) in FIXED.items():
        if getattr(config, name) != value:
            raise UserError(f"{name}={getattr(config, name)!r}: {why}; leave it out.")
    worker = config.env_runner_cls
    if not (isinstance(worker, type) and issubclass(worker, PPGRolloutWorker)):
        raise UserError(f"env_runner_cls={worker!r}: must be a subclass of PPGRolloutWorker.")


def _check_exploration(config: PPGConfig) -> None:
    kind = (config.exploration_config or {}).get("type", "StochasticSampling")
    kind = getattr(kind, "__name__", kind)
    if str(kind).rsplit(".", 1)[-1] != "StochasticSampling":
        raise UserError(
            f"exploration_config.type={kind!r}: PPG samples from its policy "
            "(StochasticSampling), or takes its most likely action (explore: false)."
        )


def _check_callbacks(config: PPGConfig) -> None:
    if isinstance(config.callbacks_class, list | tuple):
        raise UserError("callbacks: RLlib's old API stack takes one class, not several.")
    for name in ("on_postprocess_trajectory", "on_learn_on_batch"):
        if getattr(config.callbacks_class, name, None) is not getattr(RLlibCallback, name, None):
            raise UserError(
                f"The callback {name} is never called by PPG, whose learner works on whole "
                "rollouts; use on_sample_end."
            )


def _check_compiler(config: PPGConfig) -> None:
    backend = config.torch_compile_learner_dynamo_backend
    if backend == rllib_defaults()["torch_compile_learner_dynamo_backend"]:
        return  # torch takes seconds to list what there is
    known = torch._dynamo.list_backends(None)
    if backend not in known:
        hint = did_you_mean(str(backend), known) or f" Use one of {', '.join(known)}."
        raise UserError(
            f"torch_compile_learner_dynamo_backend={shown(backend)}: torch knows no such "
            f"backend.{hint}"
        )
