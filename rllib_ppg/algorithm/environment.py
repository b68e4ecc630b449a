"""Algorithm: whether PPG can learn in an environment, found out before anything is started."""

from collections.abc import Callable, Collection
from typing import Any

from rllib_ppg._ray_compat import BaseEnv, EnvContext, MultiAgentEnv, VectorEnv
from rllib_ppg.algorithm.actions import action_spec
from rllib_ppg.algorithm.model import check_observation_space, observation_layout
from rllib_ppg.algorithm.parts import augmentation_of
from rllib_ppg.core.augment_trial import try_augmentation
from rllib_ppg.envs.arrays import ArrayEnv, frame_stack_of, sample_columns_of
from rllib_ppg.envs.state_counts import EPISODE_STEP, NUM_UNIQUE_STATES
from rllib_ppg.errors import UserError


def check_environment(env: Any) -> None:
    """Refuse environments that PPG cannot sample from or learn in.

    Args:
        env: What an environment creator returned.

    Raises:
        UserError: Saying what PPG takes instead.
    """
    if isinstance(env, MultiAgentEnv):
        raise UserError(f"{type(env).__name__} has several agents; PPG is for one.")
    if isinstance(env, BaseEnv) or (isinstance(env, VectorEnv) and not isinstance(env, ArrayEnv)):
        raise UserError(
            f"{type(env).__name__} is RLlib's own kind of vectorised environment; PPG takes "
            "Gymnasium environments, or objects with rllib_ppg.envs.arrays.ArrayEnv's methods."
        )
    check_observation_space(env.observation_space)
    action_spec(env.action_space)
    frame_stack_of(env)


def check_fit(env: Any, config: Any) -> None:
    """Refuse environments that parts of the configuration cannot work with.

    Args:
        env: What an environment creator returned.
        config: PPG's configuration.

    Raises:
        UserError: Naming what is missing.
    """
    check_counts(sample_columns_of(env), config)
    check_augmentations(config, env.observation_space)


def check_augmentations(config: Any, space: Any) -> None:
    """Refuse augmentations that cannot change such observations.

    The first training pass that needs one may be hours away.

    Raises:
        UserError: Naming the key.
    """
    for key in ("aux_augmentation", "drac_augmentation"):
        augmentation = augmentation_of(config, key)
        used = config.has_aux_phases if key == "aux_augmentation" else config.drac_weight
        if augmentation is None or not used:
            continue
        try:
            try_augmentation(augmentation, *observation_layout(space))
        except UserError as error:
            raise UserError(f"{key}: {error}") from error


def check_counts(given: Collection[str], config: Any) -> None:
    """Refuse environments that do not count what `alternate_entropy_coeff` looks at.

    Args:
        given: Names of the columns that they count.
        config: The configuration.

    Raises:
        UserError: Naming what is missing.
    """
    if config.alternate_entropy_coeff is None:
        return
    for name in (NUM_UNIQUE_STATES, EPISODE_STEP):
        if name not in given:
            raise UserError(
                f"alternate_entropy_coeff needs environments that count {name}, and {config.env} "
                "does not; leave it out."
            )


def try_environment(creator: Callable[[EnvContext], Any], config: Any) -> int:
    """Make one environment (or an array of one) here, check it and close it.

    RLlib's remote workers hide what went wrong in their constructors, so it is tried first where
    the message reaches the user.

    Returns:
        The frames that one observation stacks.

    Raises:
        UserError: If PPG cannot learn in it.
    """
    context = EnvContext(config.env_config, worker_index=1, num_workers=config.num_env_runners)
    context.num_envs, context.seed = 1, config.seed  # one is enough to look at
    env = creator(context)
    try:
        check_environment(env)
        check_fit(env, config)
        return frame_stack_of(env)
    finally:
        env.close()
