"""Core: returns, advantages and the running normalisation of rewards.

Shape key: T steps, N environments. Arrays have the time first.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


def compute_gae(
    rewards: FloatArray,
    vf_preds: FloatArray,
    bootstrap: FloatArray,
    dones: npt.NDArray[np.bool_],
    *,
    gamma: float,
    lambda_: float,
    final_values: FloatArray | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Compute generalised advantage estimates and value targets.

    Args:
        rewards: Rewards after normalisation (T, N).
        vf_preds: V(s_t) under the acting policy (T, N).
        bootstrap: V of the observation after the last step (N,).
        dones: True where the episode ended with step t, by termination or time limit (T, N).
        gamma: Discount per environment step, in [0, 1].
        lambda_: GAE trade-off, in [0, 1].
        final_values: V of the true last observation of episodes that a time limit cut, at the step
            that ended them, 0 elsewhere (T, N); read where `dones` is true only. None cuts the
            bootstrap at time limits too, as the reference does.

    Returns:
        Advantages and value targets (advantage + V), both float32 (T, N).

    Raises:
        ValueError: If the shapes differ.

    Source: Schulman et al. 2016 (arXiv:1506.02438), eq. 16; value targets as in
    openai/phasic-policy-gradient@7295473.
    """
    _check_shapes(rewards, vf_preds=vf_preds, dones=dones, final_values=final_values)
    if bootstrap.shape != rewards.shape[1:]:
        raise ValueError(f"bootstrap {bootstrap.shape} must be (N,) of rewards {rewards.shape}.")
    values = np.asarray(vf_preds, np.float64)
    next_values = np.concatenate([values[1:], np.asarray(bootstrap, np.float64)[None]])
    next_values = np.where(dones, 0.0 if final_values is None else final_values, next_values)
    deltas = rewards + gamma * next_values - values
    decay = gamma * lambda_ * ~np.asarray(dones, bool)
    advantages = np.empty_like(deltas)
    running = np.zeros(rewards.shape[1:])
    for t in range(len(rewards) - 1, -1, -1):
        running = deltas[t] + decay[t] * running
        advantages[t] = running
    return advantages.astype(np.float32), (advantages + values).astype(np.float32)


def _check_shapes(rewards: FloatArray, **others: npt.NDArray[Any] | None) -> None:
    if rewards.ndim != 2:
        raise ValueError(f"rewards {rewards.shape} must be (T, N).")
    for name, array in others.items():
        if array is not None and array.shape != rewards.shape:
            raise ValueError(f"{name} {array.shape} must have the rewards' shape {rewards.shape}.")


def standardize(
    advantages: FloatArray, eps: float = 1e-8, std_min: float | None = None
) -> FloatArray:
    """Shift and scale to mean 0 and standard deviation 1 over all entries at once.

    The deviation is the population's (divided by the count, not by one less). The sums are
    taken in float64, so that rounding cannot make the variance negative.

    Args:
        advantages: Any shape.
        eps: Added to the standard deviation.
        std_min: If given, the divisor is the standard deviation, but no less than this, and `eps`
            is not added.

    Returns:
        Float32 of the same shape.
    """
    values = np.asarray(advantages, np.float64)
    std = values.std()
    divisor = std + eps if std_min is None else max(std_min, std)
    return np.asarray((values - values.mean()) / divisor, np.float32)


def explained_variance(predictions: npt.ArrayLike, targets: npt.ArrayLike) -> float:
    """Return 1 - var(targets - predictions) / var(targets); NaN where the targets are constant."""
    truth = np.asarray(targets, np.float64)
    variance = truth.var()
    if variance == 0:
        return math.nan
    return float(1 - (truth - np.asarray(predictions, np.float64)).var() / variance)


def discounted_sums(
    rewards: npt.NDArray[Any],
    firsts: npt.NDArray[np.bool_],
    carried: npt.NDArray[Any],
    *,
    gamma: float,
) -> npt.NDArray[np.float64]:
    """Sum past rewards, each discounted by its age, starting anew with each episode.

    Args:
        rewards: (T, N).
        firsts: True where the observation of step t is the first of an episode (T, N).
        carried: The sums before the first step (N,).
        gamma: Discount per step.

    Returns:
        The sums after each step, float64 (T, N).
    """
    sums = np.empty(rewards.shape)
    keep = gamma * ~np.asarray(firsts, bool)
    for t in range(len(rewards)):
        carried = rewards[t] + keep[t] * carried
        sums[t] = carried
    return sums


class RunningMoments:
    """Mean, population variance and count of everything seen so far.

    Args:
        count: What the starting point, mean 0 and variance 1, counts; little, so that the first
            batch outweighs it.
    """

    def __init__(self, count: float = 1e-4) -> None:
        self.mean = 0.0
        self.var = 1.0
        self.count = count

    def update(self, values: npt.ArrayLike) -> None:
        """Pool the moments with those of `values` (any shape).

        Source: Chan, Golub and LeVeque 1979, the parallel form of the variance.
        """
        batch = np.asarray(values, np.float64)
        if batch.size == 0:
            return
        total = self.count + batch.size
        delta = float(batch.mean()) - self.mean
        spread = self.var * self.count + float(batch.var()) * batch.size
        spread += delta * delta * self.count * batch.size / total
        self.mean += delta * batch.size / total
        self.var = spread / total
        self.count = total

    def get_state(self) -> dict[str, float]:
        """Return the moments as plain numbers."""
        return {"mean": self.mean, "var": self.var, "count": self.count}

    def set_state(self, state: dict[str, float]) -> None:
        """Take the moments of `get_state`."""
        self.mean, self.var, self.count = (float(state[k]) for k in ("mean", "var", "count"))


class RewardNormalizer:
    """Divides rewards by the running deviation of their discounted sums, and clips them.

    Every environment carries a discounted sum of its past rewards, forward in time and from call to
    call, that restarts with each episode. A call first updates the moments with all its sums, then
    scales its rewards. The mean is not subtracted.

    Args:
        num_envs: Number of environments whose sums are carried.
        gamma: Discount of the sums per step; the reference keeps 0.99 whatever the agent's.
        clip: Largest absolute reward afterwards.
        eps: Added to the variance.

    Source: openai/phasic-policy-gradient@7295473, reward_normalizer.py.
    """

    def __init__(
        self, num_envs: int, *, gamma: float = 0.99, clip: float = 10.0, eps: float = 1e-8
    ) -> None:
        self.gamma = gamma
        self.clip = clip
        self.eps = eps
        self.moments = RunningMoments()
        self.returns = np.zeros(num_envs)  # (N,)

    @property
    def scale(self) -> float:
        """What rewards are divided by."""
        return math.sqrt(self.moments.var + self.eps)

    def __call__(
        self,
        rewards: FloatArray,
        firsts: npt.NDArray[np.bool_],
        envs: npt.NDArray[np.int64] | None = None,
    ) -> FloatArray:
        """Normalise the rewards of one rollout and learn from them.

        Args:
            rewards: Raw rewards (T, N).
            firsts: True where the observation of step t is the first of an episode (T, N).
            envs: The environments that the columns belong to, where some are missing; all of them
                in order by default.

        Returns:
            Float32 (T, N).

        Raises:
            ValueError: If the shapes do not fit.
            FloatingPointError: If a reward is not finite; the statistics are left untouched.
        """
        columns = np.arange(len(self.returns)) if envs is None else np.asarray(envs)
        check_rewards(rewards, firsts, columns)
        sums = discounted_sums(rewards, firsts, self.returns[columns], gamma=self.gamma)
        self.returns[columns] = sums[-1]
        self.moments.update(sums)
        return np.clip(rewards / self.scale, -self.clip, self.clip).astype(np.float32)

    def get_state(self) -> dict[str, Any]:
        """Return the moments and the carried sums."""
        return {"moments": self.moments.get_state(), "returns": self.returns.copy()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take the state of `get_state`.

        Raises:
            ValueError: If it belongs to another number of environments.
        """
        returns = np.array(state["returns"], np.float64)
        if returns.shape != self.returns.shape:
            raise ValueError(
                f"the reward statistics belong to {len(returns)} environments, "
                f"not {len(self.returns)}; restore with the same number of environments."
            )
        self.returns = returns
        self.moments.set_state(state["moments"])


def check_rewards(
    rewards: FloatArray, firsts: npt.NDArray[np.bool_], envs: npt.NDArray[np.int64]
) -> None:
    """Refuse rewards of a wrong shape, and those that are not finite.

    Args:
        rewards: Raw rewards (T, N).
        firsts: True where the observation of step t is the first of an episode (T, N).
        envs: The environment of each column (N,).

    Raises:
        ValueError: If the shapes do not fit.
        FloatingPointError: If a reward is not finite.
    """
    _check_shapes(rewards, firsts=firsts)
    if rewards.shape[1:] != envs.shape:
        raise ValueError(f"rewards {rewards.shape} must have {len(envs)} columns.")
    _check_finite(rewards, envs)


def _check_finite(rewards: FloatArray, columns: npt.NDArray[np.int64]) -> None:
    finite = np.isfinite(rewards)
    if not finite.all():
        t, column = np.argwhere(~finite)[0]
        raise FloatingPointError(
            f"environment {columns[column]} gave the reward {rewards[t, column]} at step {t} of "
            "the rollout; rewards must be finite."
        )
