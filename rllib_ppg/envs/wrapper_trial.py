"""Envs: a wrapper of the user's own tried for a few steps, before workers are started with it."""

from __future__ import annotations

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
        for _ in range(_STEPS):
            transition = env.step(np.zeros(env.num_envs, np.int64))
            after = np.array(transition.obs)
            _check_shape(name, env, after)
            _check_stack(name, env, before, transition, after)
            before = after
        env.set_state(env.get_state())


def _check_shape(name: str, env: ArrayEnv, obs: np.ndarray) -> None:
    expected = (env.num_envs, *(env.observation_space.shape or ()))
    if obs.shape != expected or obs.dtype != env.observation_space.dtype:
        raise UserError(
            f"wrapper {name} gives observations {obs.shape} of {obs.dtype}, and its "
            f"observation_space says {expected} of {env.observation_space.dtype}; set "
            "self.observation_space in its constructor."
        )


def _check_stack(
    name: str, env: ArrayEnv, before: np.ndarray, transition: Transition, after: np.ndarray
) -> None:
    """Compare the older frames of stacks with what was shown before."""
    num_frames = frame_stack_of(env)
    channels = after.shape[-1] // num_frames
    goes_on = ~(transition.terminateds | transition.truncateds)
    older = after[goes_on][..., : after.shape[-1] - channels]
    if num_frames > 1 and not np.array_equal(older, before[goes_on][..., channels:]):
        raise UserError(
            f"wrapper {name} shows other older frames in its stacks than it showed before, and "
            "frames are stored one by one; change every frame alike, or set self.frame_stack = 1 "
            "in its constructor, after which whole stacks are stored."
        )
