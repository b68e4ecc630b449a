"""Algorithm: make PPG, Procgen and the networks known to Ray by name."""

import logging
from functools import cache


@cache
def register() -> None:
    """Register the algorithm `PPG`, the environment `procgen` and the models; once a process."""
    from ray.tune.registry import register_env, register_trainable

    from rllib_ppg.algorithm.model import register_models
    from rllib_ppg.algorithm.ppg import PPG
    from rllib_ppg.envs.procgen import make_procgen

    register_trainable("PPG", PPG)
    register_env("procgen", make_procgen)
    register_models()
    logging.getLogger("ray.rllib.policy.policy").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    """Drop RLlib's advice at every checkpoint to add the policy to a registry inside Ray."""
    return "Can not figure out a durable policy name" not in record.getMessage()
