"""Core: what happens to raw rewards before returns are computed from them.

A transform learns from each rollout and rescales it; then rewards are clipped and scaled. The
transform is chosen by name, as augmentations are. Shape key: T steps, N environments.
"""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from rllib_ppg.core.returns import RewardNormalizer, RunningMoments, check_rewards
from rllib_ppg.dotted_names import blamed, find_class, is_dotted
from rllib_ppg.errors import UserError
from rllib_ppg.spelling import did_you_mean

FloatArray = npt.NDArray[np.floating[Any]]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

Reset = Literal["never", "episode", "late"]


class RewardTransform(ABC):
    """Rescales the rewards of one rollout after another; subclass it for one of your own.

    Args:
        num_envs: Number of environments.
        gamma: `reward_norm_gamma`, for those that discount.
    """

    def __init__(self, num_envs: int, *, gamma: float) -> None:
        self.num_envs = num_envs
        self.gamma = gamma

    @abstractmethod
    def __call__(self, rewards: FloatArray, firsts: BoolArray, envs: IntArray) -> FloatArray:
        """Learn from the rewards of a rollout and return them rescaled, neither clipped.

        Args:
            rewards: Raw rewards (T, N).
            firsts: True where the observation of step t is the first of an episode (T, N).
            envs: The environment of each column (N,); some may be missing.

        Returns:
            Float32 (T, N).
        """

    @property
    @abstractmethod
    def scale(self) -> float:
        """What rewards are divided by at this moment, for a person to see."""

    @abstractmethod
    def get_state(self) -> dict[str, Any]:
        """Return all that it has learnt, in numpy and plain Python."""

    @abstractmethod
    def set_state(self, state: dict[str, Any]) -> None:
        """Take the state of `get_state`.

        Raises:
            ValueError: If it belongs to another number of environments.
        """


class RolloutTransform(RewardTransform):
    """Divides by the deviation of discounted sums, learnt from the whole rollout first.

    Source: openai/phasic-policy-gradient@7295473; see `RewardNormalizer`.
    """

    def __init__(self, num_envs: int, *, gamma: float) -> None:
        super().__init__(num_envs, gamma=gamma)
        self._normalizer = RewardNormalizer(num_envs, gamma=gamma, clip=math.inf)

    def __call__(self, rewards: FloatArray, firsts: BoolArray, envs: IntArray) -> FloatArray:
        """Learn from all steps, then divide all of them by one number."""
        return self._normalizer(rewards, firsts, envs)

    @property
    def scale(self) -> float:
        """The deviation after the last rollout."""
        return self._normalizer.scale

    def get_state(self) -> dict[str, Any]:
        """Return the moments and the carried sums."""
        return self._normalizer.get_state()

    def set_state(self, state: dict[str, Any]) -> None:
        """Take the state of `get_state`."""
        self._normalizer.set_state(state)


class StepTransform(RewardTransform):
    """Divides by the deviation of discounted sums, learnt anew before each step.

    The sums of all environments after a step enter the moments together; then the step's rewards
    are divided. Mean 0, variance 1 and count 1e-4 are the start.

    Args:
        num_envs: Number of environments.
        gamma: Discount of the sums per step.
        reset: When a sum is emptied: "episode" with each new episode; "never"; "late" after the
            first reward of each new episode (one step late, a flaw of the original that its
            submission had switched off).

    Raises:
        UserError: If `reset` is none of these.

    Source: openai/baselines, as openai/train-procgen@1a2ae21 uses it ("episode");
    Dipamc77/procgen-competition@f473f51 ("never", "late").
    """

    def __init__(self, num_envs: int, *, gamma: float, reset: Reset = "never") -> None:
        super().__init__(num_envs, gamma=gamma)
        if reset not in get_args(Reset):
            raise UserError(f"reset={reset!r} must be one of {', '.join(get_args(Reset))}.")
        self.reset = reset
        self.eps = 1e-8
        self.moments = RunningMoments()
        self.returns = np.zeros(num_envs)  # (N,)
        self._begun = False

    @property
    def scale(self) -> float:
        """The deviation after the last step."""
        return math.sqrt(self.moments.var + self.eps)

    def __call__(self, rewards: FloatArray, firsts: BoolArray, envs: IntArray) -> FloatArray:
        """Learn from each step, then divide it."""
        check_rewards(rewards, firsts, envs)
        empty = np.array(firsts, bool)
        if not self._begun:
            empty[0] = False  # no episode came before the first
        self._begun = True
        sums = self.returns[envs]
        out = np.empty(rewards.shape, np.float32)
        for t in range(len(rewards)):
            if self.reset == "episode":
                sums = np.where(empty[t], 0.0, sums)
            sums = self.gamma * sums + rewards[t]
            self.moments.update(sums)
            out[t] = rewards[t] / self.scale
            if self.reset == "late":
                sums = np.where(empty[t], 0.0, sums)
        self.returns[envs] = sums
        return out

    def get_state(self) -> dict[str, Any]:
        """Return the moments and the carried sums."""
        moments, returns = self.moments.get_state(), self.returns.copy()
        return {"moments": moments, "returns": returns, "begun": self._begun}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take the state of `get_state`."""
        returns = np.array(state["returns"], np.float64)
        _check_count("environments", len(returns), len(self.returns))
        self.returns = returns
        self.moments.set_state(state["moments"])
        self._begun = bool(state["begun"])


class FragmentTransform(RewardTransform):
    """Divides by the moving deviation of what an environment earns in a fragment.

    A fragment is an environment's steps up to the end of its episode or of the rollout. Fragments
    are taken in the order in which they end, those that end together by environment. The sum of
    each enters the statistics, then the fragment is divided. `gamma` has no effect.

    Args:
        num_envs: Number of environments.
        gamma: Not used.
        alpha: What the newest sum counts in the moving mean and variance, in (0, 1].
        groups: The environments are cut into this many equal groups in order, each with statistics
            of its own. The original has one for each of its 7 rollout workers; here the
            machine's number of workers changes nothing. 1 pools all.

    Raises:
        UserError: If an option is out of its range, or the groups are not equal.

    Source: wulfebw/neurips2020-procgen@e131684, reward mode "running_return".
    """

    def __init__(
        self, num_envs: int, *, gamma: float, alpha: float = 0.005, groups: int = 1
    ) -> None:
        super().__init__(num_envs, gamma=gamma)
        if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 < alpha <= 1:
            raise UserError(f"alpha={alpha!r} must be a number above 0, at most 1.")
        if isinstance(groups, bool) or not isinstance(groups, int) or groups < 1:
            raise UserError(f"groups={groups!r} must be a whole number, at least 1.")
        if num_envs % groups:
            raise UserError(f"groups={groups} does not divide num_envs={num_envs}.")
        self.alpha = alpha
        self.eps = 1e-8
        self.mean = np.zeros(groups)
        self.var = np.ones(groups)
        self.count = np.zeros(groups, np.int64)

    @property
    def scale(self) -> float:
        """The mean deviation of the groups."""
        return float(np.sqrt(self.var).mean()) + self.eps

    def __call__(self, rewards: FloatArray, firsts: BoolArray, envs: IntArray) -> FloatArray:
        """Learn from each fragment in order of its end, then divide it."""
        check_rewards(rewards, firsts, envs)
        groups = np.asarray(envs) * len(self.var) // self.num_envs
        out = np.empty(rewards.shape, np.float32)
        for column, start, stop in fragments(firsts):
            group = groups[column]
            self._update(group, float(rewards[start:stop, column].sum(dtype=np.float64)))
            deviation = math.sqrt(self.var[group]) + self.eps
            out[start:stop, column] = rewards[start:stop, column] / deviation
        return out

    def _update(self, group: int, total: float) -> None:
        self.count[group] += 1
        if self.count[group] == 1:
            self.mean[group] = total
            return
        delta = total - self.mean[group]
        self.mean[group] += self.alpha * delta
        self.var[group] = (1 - self.alpha) * (self.var[group] + self.alpha * delta**2)

    def get_state(self) -> dict[str, Any]:
        """Return the statistics of each group."""
        return {"mean": self.mean.copy(), "var": self.var.copy(), "count": self.count.copy()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take the state of `get_state`."""
        _check_count("groups", len(state["var"]), len(self.var))
        self.mean, self.var = np.array(state["mean"]), np.array(state["var"])
        self.count = np.array(state["count"], np.int64)


def fragments(firsts: BoolArray) -> Iterator[tuple[int, int, int]]:
    """Yield a rollout's fragments in the order in which they end.

    Args:
        firsts: True where the observation of step t is the first of an episode (T, N).

    Yields:
        Column, first step and one past the last step; those that end together by column.
    """
    steps, columns = firsts.shape
    starts = np.zeros(columns, np.int64)
    for stop in range(1, steps + 1):
        ended = np.arange(columns) if stop == steps else np.flatnonzero(firsts[stop])
        for column in ended.tolist():
            yield column, int(starts[column]), stop
        starts[ended] = stop


class RewardPipeline:
    """Raw rewards to those that returns are computed from: transform, clip, scale.

    Args:
        transform: Rescales first; None takes the raw rewards, which are not clipped then.
        clip: Largest absolute reward after the transform; None does not clip.
        scale: Factor after the clip.
    """

    def __init__(
        self, transform: RewardTransform | None, *, clip: float | None, scale: float = 1.0
    ) -> None:
        self.transform = transform
        self.clip = clip
        self._factor = scale

    @property
    def scale(self) -> float:
        """What the transform divides rewards by."""
        return self.transform.scale if self.transform else 1.0

    def __call__(self, rewards: FloatArray, firsts: BoolArray, envs: IntArray) -> FloatArray:
        """Process the rewards of one rollout and learn from them.

        Args:
            rewards: Raw rewards (T, N).
            firsts: True where the observation of step t is the first of an episode (T, N).
            envs: The environment of each column (N,).

        Returns:
            Float32 (T, N).

        Raises:
            FloatingPointError: If a reward is not finite; the statistics are left untouched.
        """
        if self.transform is not None:
            rewards = self.transform(rewards, firsts, envs)
            if self.clip is not None:
                rewards = np.clip(rewards, -self.clip, self.clip)
        scaled = rewards if self._factor == 1 else rewards * self._factor
        return np.asarray(scaled, np.float32)

    def get_state(self) -> dict[str, Any]:
        """Return the transform's state."""
        return self.transform.get_state() if self.transform else {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take the state of `get_state`.

        Raises:
            ValueError: If it belongs to another transform or number of environments.
        """
        if self.transform is None:
            return
        if set(state) != set(self.transform.get_state()):
            raise ValueError("the reward statistics belong to another reward_transform.")
        self.transform.set_state(state)


REWARD_TRANSFORMS: Mapping[str, type[RewardTransform]] = {
    "rollout": RolloutTransform,
    "step": StepTransform,
    "fragment": FragmentTransform,
}


def make_reward_transform(
    setting: str | Mapping[str, Any], num_envs: int, *, gamma: float
) -> RewardTransform:
    """Make the reward transform that a setting describes.

    Args:
        setting: A name, or a mapping of `type`, which is the name, and options. A name is one of
            `REWARD_TRANSFORMS`, or the dotted path of a `RewardTransform` of an installed package.
        num_envs: Number of environments.
        gamma: Discount of the sums, for those that have some.

    Raises:
        UserError: If the name or an option is unknown, missing, or has a value that is not allowed.
    """
    options = {"type": setting} if isinstance(setting, str) else dict(setting)
    name = options.pop("type", None)
    if not isinstance(name, str):
        raise UserError(
            f"reward_transform={setting!r}: must be a name, or a mapping with the name as `type` "
            "and its options."
        )
    kind = REWARD_TRANSFORMS.get(name) or _import(name)
    try:
        inspect.signature(kind).bind(num_envs, gamma=gamma, **options)
    except TypeError as error:
        known = [n for n in inspect.signature(kind).parameters if n not in ("num_envs", "gamma")]
        raise UserError(
            f"reward_transform {name}: {error}; its options: {', '.join(known) or 'none'}."
        ) from error
    try:
        with blamed("cannot be made"):
            return kind(num_envs, gamma=gamma, **options)
    except UserError as error:
        raise UserError(f"reward_transform {name}: {error}") from error


def _import(name: str) -> type[RewardTransform]:
    if not is_dotted(name):
        raise UserError(
            f'unknown reward_transform "{name}".{did_you_mean(name, REWARD_TRANSFORMS)} Use '
            f"{', '.join(REWARD_TRANSFORMS)}, or the dotted path of a class of your own."
        )
    kind: type[RewardTransform] = find_class(name, RewardTransform, "reward_transform")
    return kind


def _check_count(what: str, found: int, own: int) -> None:
    if found != own:
        raise ValueError(
            f"the reward statistics belong to {found} {what}, not {own}; restore with the same "
            f"number of {what}."
        )
