"""Algorithm: make PPG, Procgen and the networks known to Ray by name."""

import logging


def register() -> None:
    """Register the algorithm `PPG`, the environment `procgen` and the models.

    May be called any number of times. Ray forgets registrations when it is shut down, so each call
    looks anew.
    """
    from ray.tune.registry import (
        ENV_CREATOR,
        TRAINABLE_CLASS,
        _global_registry,
        register_env,
        register_trainable,
    )

    from rllib_ppg.algorithm.model import register_models
    from rllib_ppg.algorithm.ppg import PPG
    from rllib_ppg.envs.procgen import make_procgen

    known = ((TRAINABLE_CLASS, "PPG"), (ENV_CREATOR, "procgen"))
    if all(_global_registry.contains(*each) for each in known):
        return
    register_trainable("PPG", PPG)
    register_env("procgen", make_procgen)
    register_models()
    logging.getLogger("ray.rllib.policy.policy").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    """Drop RLlib's advice at every checkpoint to add the policy to a registry inside Ray."""
    return "Can not figure out a durable policy name" not in record.getMessage()
