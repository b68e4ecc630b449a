"""Algorithm: make PPG, Procgen and the networks known to Ray by name."""

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
