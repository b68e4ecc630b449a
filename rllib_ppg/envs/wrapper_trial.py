"""Envs: a wrapper of the user's own tried for a few steps, before workers are started with it."""

from __future__ import annotations

from copy import deepcopy

import numpy as np

from rllib_ppg.dotted_names import blamed
from rllib_ppg.envs.arrays import ArrayEnv, Transition, frame_stack_of
from rllib_ppg.errors import UserError

_STEPS = 3


def try_wrapper(name: str, env: ArrayEnv) -> None:
    """Step wrapped environments a little, and give them their own state.

    Args:
        name: The outermost wrapper's name, for messages.
        env: The environments.

    Raises:
        UserError: If something fails, or observations are not those of the space, or stacks do not
            hold the frames of the stack before, which `ArrayEnv.frame_stack` promises.
    """
    with blamed(f"wrapper {name} fails"):
        before = np.array(env.reset())
        _check_shape(name, env, before)
        space = deepcopy(env.action_space)
        space.seed(0)
        for _ in range(_STEPS):
            transition = env.step(np.stack([space.sample() for _ in range(env.num_envs)]))
            after = np.array(transition.obs)
            _check_shape(name, env, after)
            _check_stack(name, env, before, transition, after)
            before = after
        env.set_state(env.get_state())


def _check_shape(name: str, env: ArrayEnv, obs: np.ndarray) -> None:
    space = env.observation_space
    expected, dtype = (env.num_envs, *(space.shape or ())), np.dtype(space.dtype)
    said = f"and its observation_space says {expected} of {dtype}"
    if obs.shape != expected:
        raise UserError(
            f"wrapper {name} gives observations {obs.shape} of {obs.dtype}, {said}; set "
            "self.observation_space in its constructor."
        )
    if obs.dtype != dtype and not obs.dtype.kind == dtype.kind == "f":
        raise UserError(
            f"wrapper {name} gives observations {obs.shape} of {obs.dtype}, {said}; give them with "
            f".astype(np.{dtype}), or set self.observation_space in its constructor."
        )


def _check_stack(
    name: str, env: ArrayEnv, before: np.ndarray, transition: Transition, after: np.ndarray
) -> None:
    """Compare the older frames of stacks with what was shown before."""
    num_frames = frame_stack_of(env)
    channels = after.shape[-1] // num_frames
    goes_on = ~(transition.terminateds | transition.truncateds)
    older = after[goes_on][..., : after.shape[-1] - channels]
    same = np.array_equal(older, before[goes_on][..., channels:], equal_nan=older.dtype.kind == "f")
    if num_frames > 1 and not same:
        raise UserError(
            f"wrapper {name} shows other older frames in its stacks than it showed before, and "
            "frames are stored one by one; change every frame alike, or set self.frame_stack = 1 "
            "in its constructor, after which whole stacks are stored."
        )
