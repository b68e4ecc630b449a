"""Envs: N environments behind one array interface, and any Gymnasium environments behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import gymnasium
import numpy as np

from rllib_ppg.errors import UserError


class Transition(NamedTuple):
    """What one step of N environments gave.

    Attributes:
        obs: The observations to act on next (N, ...); where an episode ended, the first one of
            the next episode.
        rewards: The environments' own rewards, float32 (N,).
        terminateds: True where the episode ended by itself, bool (N,).
        truncateds: True where a limit from outside cut the episode, bool (N,). Never true
            together with `terminateds`.
        final_obs: The true last observation of each truncated environment, by its index.
        shaping: What the learner gets beside the rewards, float32 (N,); returns of episodes leave
            it out. None: nothing.
        columns: Further numbers (N,) of the step for the sample batch, those of `sample_columns`.
    """

    obs: np.ndarray
    rewards: np.ndarray
    terminateds: np.ndarray
    truncateds: np.ndarray
    final_obs: dict[int, np.ndarray]
    shaping: np.ndarray | None = None
    columns: Mapping[str, np.ndarray] | None = None

    @property
    def newest_frames(self) -> np.ndarray | None:
        """The newest frames of stacked observations, where `obs` need not be read for them."""
        return None


class UnreadStacks(NamedTuple):
    """Observations of stacked frames that are put together when somebody reads them.

    Attributes:
        newest_frames: The newest frame of each (N, ..., C).
        read: Returns the observations (N, ..., k * C).
    """

    newest_frames: np.ndarray
    read: Callable[[], np.ndarray]


class StackedTransition(Transition):
    """A transition whose observations are put together when they are read; given `UnreadStacks`.

    Stacks are for networks. Who keeps frames takes the newest ones; who plays at random, none.
    """

    __slots__ = ()

    @property
    def obs(self) -> np.ndarray:
        """The observations to act on next; to be read before the environments' next step."""
        given: Any = tuple.__getitem__(self, 0)
        return given.read() if isinstance(given, UnreadStacks) else given

    @property
    def newest_frames(self) -> np.ndarray | None:
        """The newest frames (N, ..., C); None where a wrapper has replaced the observations."""
        given: Any = tuple.__getitem__(self, 0)
        return given.newest_frames if isinstance(given, UnreadStacks) else None

    def __iter__(self) -> Iterator[Any]:
        """Read the observations for who unpacks the transition."""
        return iter((self.obs, *list(super().__iter__())[1:]))

    def __getitem__(self, index: Any) -> Any:
        """Read the observations for who counts the fields."""
        return tuple(iter(self))[index]

    def _replace(self, **changes: Any) -> StackedTransition:
        """Replace fields; observations that are not among them stay unread."""
        fields = dict(zip(self._fields, tuple.__iter__(self), strict=True))
        return StackedTransition(**{**fields, **changes})


@runtime_checkable
class ArrayEnv(Protocol):
    """N environments that step together and start their next episode within the same step.

    The arrays that `reset`, `observe` and `step` return may be reused by the next call: who
    wants to keep one copies it.

    It may have an attribute `frame_stack`, the number k of frames that an observation stacks on its
    last axis, the newest last; without one k is 1. It promises that an observation is the one
    before it with the oldest frame dropped and a new one added, or, where an episode begins, k
    times the first frame. Then each frame is sent and stored once. Where it has the newest frames
    by themselves, a `StackedTransition` saves taking them out of the stacks again.

    It may have an attribute `sample_columns`, the names and dtypes of the numbers that every
    transition gives in `columns`.

    It may have a method `reseed(seed)`, after which the next `reset` begins other episodes than a
    new object does. Without one, environments that have to begin anew on a resume begin as the run
    did.

    Attributes:
        num_envs: N.
        observation_space: The space of one environment's observations.
        action_space: The space of one environment's actions.
    """

    num_envs: int
    observation_space: gymnasium.Space[Any]
    action_space: gymnasium.Space[Any]

    def reset(self) -> np.ndarray:
        """Begin an episode in every environment and return the observations (N, ...)."""

    def observe(self) -> np.ndarray:
        """Return the current observations (N, ...) without stepping."""

    def step(self, actions: np.ndarray) -> Transition:
        """Step every environment with its row of `actions` (N, ...)."""

    def infos(self) -> list[dict[str, Any]]:
        """Return the N info dictionaries of the last step (or of the reset)."""

    def render(self, index: int) -> np.ndarray:
        """Return a picture of environment `index`, uint8 (H, W, 3)."""

    def get_state(self) -> Any | None:
        """Return what `set_state` needs to go on identically, or None where that is unknown."""

    def set_state(self, state: Any | None) -> None:
        """Go on from a state that `get_state` returned; None changes nothing."""

    def close(self) -> None:
        """Free what the environments hold."""


def frame_stack_of(env: Any) -> int:
    """Return the frames k of one observation, 1 for anything but an `ArrayEnv` that says so.

    Raises:
        UserError: It does not divide the observations' last axis.
    """
    if not isinstance(env, ArrayEnv):
        return 1
    num_frames = getattr(env, "frame_stack", 1)
    shape = env.observation_space.shape or (1,)
    if num_frames < 1 or shape[-1] % num_frames:
        raise UserError(
            f"{type(env).__name__}.frame_stack={num_frames} does not divide the last axis of its "
            f"observations {shape}; leave it out, or stack that many frames there."
        )
    return int(num_frames)


def sample_columns_of(env: Any) -> Mapping[str, np.dtype[Any]]:
    """Return the names and dtypes of an environment's own columns of the sample batch."""
    columns: Mapping[str, np.dtype[Any]] = getattr(env, "sample_columns", {})
    return columns


def _array_space(space: gymnasium.Space[Any]) -> gymnasium.Space[Any]:
    """Return the space of the observations handed out: float64 boxes become float32."""
    if space.shape is None or space.dtype is None:
        raise UserError(
            f"Observation space {space} does not fit into one array; PPG takes Box and Discrete "
            "observations. Flatten it, for example with gymnasium.wrappers.FlattenObservation."
        )
    if isinstance(space, gymnasium.spaces.Box) and space.dtype == np.float64:
        low, high = space.low.astype(np.float32), space.high.astype(np.float32)
        return gymnasium.spaces.Box(low, high, dtype=np.float32)
    return space


class GymnasiumArrayEnv:
    """Step Gymnasium environments one after the other behind the `ArrayEnv` interface.

    A plain loop: gymnasium's own SyncVectorEnv makes info arrays and deep copies that nobody
    reads here, and is slower.

    Args:
        envs: N environments, made already, with equal spaces.
        seeds: One seed each for the first `reset`, or None for none.

    Raises:
        UserError: There is no environment, the spaces differ, or observations do not fit into
            one array.
        ValueError: The number of seeds is not N.
    """

    def __init__(self, envs: Sequence[gymnasium.Env[Any, Any]], seeds: Sequence[int] | None = None):
        if not envs:
            raise UserError("No environment was given; at least one is needed.")
        if seeds is not None and len(seeds) != len(envs):
            raise ValueError(f"{len(seeds)} seeds for {len(envs)} environments; give one each.")
        self.envs = list(envs)
        self.num_envs = len(self.envs)
        for env in self.envs[1:]:
            _check_same_spaces(self.envs[0], env)
        self.observation_space = _array_space(self.envs[0].observation_space)
        self.action_space = self.envs[0].action_space
        self._seeds: Sequence[int] | None = seeds
        self._obs = np.zeros(
            (self.num_envs, *(self.observation_space.shape or ())), self.observation_space.dtype
        )
        self._infos: list[dict[str, Any]] = [{} for _ in self.envs]

    def reset(self) -> np.ndarray:
        """Begin an episode in every environment; the seeds are used the first time only."""
        seeds: Sequence[int | None] = self._seeds or [None] * self.num_envs
        self._seeds = None
        for index, (env, seed) in enumerate(zip(self.envs, seeds, strict=True)):
            self._obs[index], self._infos[index] = env.reset(seed=seed)
        return self._obs

    def reseed(self, seed: int) -> None:
        """Let the next `reset` seed every environment, with numbers that come from `seed`."""
        seeds = np.random.SeedSequence(seed).generate_state(self.num_envs)
        self._seeds = [int(number) >> 1 for number in seeds]  # below 2^31, as some want it

    def observe(self) -> np.ndarray:
        """Return the current observations (N, ...) without stepping."""
        return self._obs

    def step(self, actions: np.ndarray) -> Transition:
        """Step every environment; an ended one is reset at once.

        An episode that is both terminated and truncated counts as terminated.

        Args:
            actions: One action a row (N, ...).

        Returns:
            The transition; its `obs` is overwritten by the next step.
        """
        rewards = np.zeros(self.num_envs, np.float32)
        terminateds = np.zeros(self.num_envs, np.bool_)
        truncateds = np.zeros(self.num_envs, np.bool_)
        final_obs: dict[int, np.ndarray] = {}
        for index, env in enumerate(self.envs):
            obs, reward, terminated, truncated, self._infos[index] = env.step(actions[index])
            rewards[index] = reward
            if terminated:
                terminateds[index] = True
                obs, _ = env.reset()
            elif truncated:
                truncateds[index] = True
                final_obs[index] = np.array(obs, self._obs.dtype)
                obs, _ = env.reset()
            self._obs[index] = obs
        return Transition(self._obs, rewards, terminateds, truncateds, final_obs)

    def infos(self) -> list[dict[str, Any]]:
        """Return the info dictionaries of the last step; for an ended episode its own last one."""
        return self._infos

    def render(self, index: int) -> np.ndarray:
        """Return a picture of environment `index`, uint8 (H, W, 3).

        Raises:
            UserError: The environment was not made with `render_mode="rgb_array"`.
        """
        env = self.envs[index]
        if env.render_mode != "rgb_array":
            raise UserError(
                f"This environment makes no pictures (render_mode={env.render_mode!r}); make it "
                "with render_mode='rgb_array'."
            )
        return np.asarray(env.render())

    def get_state(self) -> None:
        """Return None: Gymnasium has no way to save an environment in the middle of an episode."""
        return None

    def set_state(self, state: Any | None) -> None:
        """Do nothing for None, the only state there is.

        Raises:
            ValueError: A state is given.
        """
        if state is not None:
            raise ValueError("Gymnasium environments have no state to restore.")

    def close(self) -> None:
        """Close every environment."""
        for env in self.envs:
            env.close()


def _check_same_spaces(first: gymnasium.Env[Any, Any], other: gymnasium.Env[Any, Any]) -> None:
    """Raise UserError where two environments could not share one batch."""
    for name in ("observation_space", "action_space"):
        mine, others = getattr(first, name), getattr(other, name)
        if mine != others:
            raise UserError(
                f"Environments of one worker must have the same {name}: {mine} and {others}."
            )
