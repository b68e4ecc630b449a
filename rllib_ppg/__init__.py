"""Phasic Policy Gradient for Ray RLlib.

Shapes, everywhere: T steps of a rollout, N environments in total, S stored segments (one
environment's T steps), B minibatch rows, A actions, H W C image. Arrays that leave a worker are
environment-major (N, T, ...); `core.returns` works on (T, N). Observations stay uint8 until the
encoder.

Words: a *rollout* is T steps of N environments; a *policy iteration* trains on one rollout; a
*phase* is `n_pi` policy iterations and the *auxiliary phase* that follows them; a *training
iteration* (one `train()`, one Tune result) is a policy iteration or a slice of an auxiliary phase.

Touching `PPGConfig` or `PPG`, or calling `register()`, registers the algorithm `PPG`, the
environment `procgen` and the models `ppg_impala` and `ppg_mlp` with Ray. The bare import is cheap.
"""

from typing import Any

from rllib_ppg._version import __version__

__all__ = ["PPG", "PPGConfig", "UserError", "__version__", "evaluate", "load_policy", "register"]

_LAZY = {
    "PPG": "rllib_ppg.algorithm.ppg",
    "PPGConfig": "rllib_ppg.algorithm.config",
    "UserError": "rllib_ppg.errors",
    "evaluate": "rllib_ppg.app.evaluate",
    "load_policy": "rllib_ppg.core.exported",
    "register": "rllib_ppg.algorithm.registration",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'rllib_ppg' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_LAZY[name]), name)
    if name in ("PPG", "PPGConfig"):
        from rllib_ppg.algorithm.registration import register

        register()
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
