"""Algorithm: environments by name: is there one, what does it look like, many of it as arrays."""

import importlib
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from rllib_ppg._ray_compat import EnvContext
from rllib_ppg.algorithm.environment import check_environment
from rllib_ppg.envs.array_wrapper import wrap, wrapper_name
from rllib_ppg.envs.arrays import (
    ArrayEnv,
    GymnasiumArrayEnv,
    frame_stack_of,
    sample_columns_of,
)
from rllib_ppg.envs.procgen import (
    ProcgenOptions,
    derive_rand_seed,
    make_procgen_array,
    parse_options,
)
from rllib_ppg.envs.state_counts import STATE_COLUMNS
from rllib_ppg.envs.wrapper_trial import try_wrapper
from rllib_ppg.errors import UserError
from rllib_ppg.spelling import did_you_mean

Creator = Callable[[EnvContext], Any]


class Spaces(NamedTuple):
    """What an environment looks like to an agent.

    Attributes:
        observations: Space of an observation.
        actions: Space of an action.
        frame_stack: Frames of one observation.
        columns: Names of the columns that it counts into the sample batch.
    """

    observations: gym.Space[Any]
    actions: gym.Space[Any]
    frame_stack: int
    columns: tuple[str, ...] = ()


def find_creator(name: Any) -> Creator:
    """The function that makes the environment of this name.

    Args:
        name: `procgen`, a name registered with Ray, a Gymnasium id, a dotted path to a class, or
            such a class.

    Raises:
        UserError: If there is none, with the nearest name.
    """
    if isinstance(name, type):
        return name
    if not isinstance(name, str):
        raise UserError(f"env={name!r}: must be an environment's name.")
    registered = _registered(name)
    if registered is not None:
        return registered
    if _is_gymnasium_id(name):
        return lambda context: gym.make(name, **context)
    if "." in name and "/" not in name and ":" not in name:
        return _imported(name)
    names = ["procgen", *registered_names(), *gym.registry]
    raise UserError(
        f'Unknown environment "{name}".{did_you_mean(name, names)} It may be procgen, a Gymnasium '
        "id such as CartPole-v1, a class's path package.module.Class, or a name that a module "
        "given with --from registers with Ray."
    )


def _registered(name: str) -> Creator | None:
    from ray.tune.registry import ENV_CREATOR, _global_registry

    if not _global_registry.contains(ENV_CREATOR, name):
        return None
    creator: Creator = _global_registry.get(ENV_CREATOR, name)
    return creator


def registered_names() -> list[str]:
    """Environments registered with Ray in this process."""
    from ray.tune.registry import ENV_CREATOR, _global_registry

    keys = {*_global_registry._to_flush, *_global_registry._registered}
    return sorted(name for category, name in keys if category == ENV_CREATOR)


def _is_gymnasium_id(name: str) -> bool:
    """Whether Gymnasium knows an id; one of the form `module:id` imports the module."""
    try:
        gym.spec(name)
    except ImportError as error:
        raise UserError(f'Environment "{name}": its module cannot be imported: {error}.') from None
    except gym.error.Error:
        return False
    return True


def _imported(path: str) -> Creator:
    module_name, _, class_name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except Exception as error:  # whatever the module does when it is imported
        raise UserError(f'Environment "{path}" cannot be imported: {error}.') from None
    if not isinstance(found, type):
        raise UserError(f'Environment "{path}" is not a class.')
    # RLlib calls a class given by its path with the keys of env_config.
    return lambda context: found(**context)


def spaces(name: Any, env_config: Mapping[str, Any]) -> Spaces:
    """The spaces of an environment in which PPG can learn.

    Anything but Procgen is made for it, once, and closed.

    Raises:
        UserError: If it cannot be made (with the environment's own error), or PPG cannot use it.
    """
    if name == "procgen":
        options = parse_options(env_config)
        if options.wrappers:
            return _wrapped_spaces(options)
        images = gym.spaces.Box(0, 255, (64, 64, 3 * options.frame_stack), np.uint8)
        columns = STATE_COLUMNS if options.count_states else ()
        return Spaces(images, gym.spaces.Discrete(15), options.separable_frames, columns)
    context = EnvContext(deepcopy(dict(env_config)), worker_index=0)
    context.num_envs = 1
    env = _make(find_creator(name), name, context)
    try:
        return _spaces_of(env)
    finally:
        env.close()


def _wrapped_spaces(options: ProcgenOptions) -> Spaces:
    env = make_procgen_array(options.model_copy(update={"wrappers": ()}), 1, rand_seed=0)
    try:
        for setting in options.wrappers:
            env = wrap(env, [setting])
            try_wrapper(wrapper_name(setting), env)
        return _spaces_of(env)
    finally:
        env.close()


def _spaces_of(env: Any) -> Spaces:
    check_environment(env)
    columns = tuple(sample_columns_of(env))
    return Spaces(env.observation_space, env.action_space, frame_stack_of(env), columns)


def _make(creator: Creator, name: Any, context: EnvContext) -> Any:
    try:
        return creator(context)
    except UserError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f'Environment "{name}" cannot be made: {reason}') from error


def make_array_env(name: Any, env_config: Mapping[str, Any], num_envs: int, seed: int) -> ArrayEnv:
    """Make `num_envs` environments that step together.

    Args:
        name: As for `find_creator`.
        env_config: Its configuration.
        num_envs: N.
        seed: The same seed makes the same episodes begin, whoever plays.

    Raises:
        UserError: If it cannot be made.
    """
    if name == "procgen":
        return make_procgen_array(env_config, num_envs, rand_seed=derive_rand_seed(seed))
    creator = find_creator(name)
    envs = []
    for index in range(num_envs):
        context = EnvContext(deepcopy(dict(env_config)), worker_index=0, vector_index=index)
        context.num_envs, context.seed = num_envs, seed
        env = _make(creator, name, context)
        if isinstance(env, ArrayEnv):
            return env
        envs.append(env)
    seeds = np.random.SeedSequence(seed).generate_state(num_envs)
    return GymnasiumArrayEnv(envs, [int(word >> 1) for word in seeds])
