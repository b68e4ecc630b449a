"""Core: a reward transform of the user's own tried on small rewards, before a run has any."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rllib_ppg.core.reward_norm import REWARD_TRANSFORMS, make_reward_transform
from rllib_ppg.dotted_names import blamed
from rllib_ppg.errors import UserError


def try_reward_transform(
    setting: str | Mapping[str, Any], num_envs: int, steps: int, *, gamma: float
) -> None:
    """Rescale the rewards of one rollout, and carry the state over to another one.

    Args:
        setting: As for `make_reward_transform`; transforms of this package are not tried.
        num_envs: Number of environments, N.
        steps: Steps of a rollout, T.
        gamma: Discount of the sums, for those that have some.

    Raises:
        UserError: If it fails, or does not give an array (T, N).
    """
    name = setting if isinstance(setting, str) else setting.get("type")
    if name in REWARD_TRANSFORMS:
        return
    transform = make_reward_transform(setting, num_envs, gamma=gamma)
    rewards = (np.arange(steps * num_envs) % 2).astype(np.float32).reshape(steps, num_envs)
    firsts = np.zeros(rewards.shape, bool)
    firsts[0] = True
    rescaled: Any = None
    with blamed(f"reward_transform {name} fails"):
        rescaled = transform(rewards, firsts, np.arange(num_envs))
        float(transform.scale)
        make_reward_transform(setting, num_envs, gamma=gamma).set_state(transform.get_state())
    if not isinstance(rescaled, np.ndarray) or rescaled.shape != rewards.shape:
        found = getattr(rescaled, "shape", type(rescaled).__name__)
        raise UserError(
            f"reward_transform {name} makes {found} of rewards {rewards.shape}; it must give an "
            "array (T, N) of the same shape."
        )
