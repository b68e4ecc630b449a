"""Algorithm: the policy of a checkpoint, and its description for `core.exported`."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from ray import cloudpickle
from ray.tune.registry import RLLIB_MODEL, _global_registry

from rllib_ppg._version import __version__
from rllib_ppg.algorithm.actions import start
from rllib_ppg.algorithm.checkpoint_files import POLICY_STATE, check_checkpoint, checkpoint_path
from rllib_ppg.algorithm.evaluate_agents import default_temperature
from rllib_ppg.algorithm.model import FromZero, default_model, observation_layout
from rllib_ppg.algorithm.model_settings import EXPORTABLE, parse_model_settings
from rllib_ppg.algorithm.policy import PPGTorchPolicy
from rllib_ppg.core.policy_meta import (
    EnvActions,
    NetworkKind,
    NetworkSpec,
    Observations,
    PolicyMeta,
)
from rllib_ppg.envs.procgen_options import parse_options
from rllib_ppg.errors import UserError


def read_policy(source: Any) -> tuple[PPGTorchPolicy, int]:
    """Read a checkpoint's policy, on the CPU, without environments or workers.

    The checkpoint is checked first. Then a file is unpickled, which runs what it holds.

    Args:
        source: The checkpoint: its folder, or Ray's `Checkpoint`.

    Returns:
        The policy, and the environment steps of its training.

    Raises:
        UserError: If it is broken, not one of PPG, or needs a module or model that is not here.
    """
    folder = checkpoint_path(source)
    check_checkpoint(folder)
    state = _unpickled(folder)
    kind = state["policy_spec"]["policy_class"]
    if not (isinstance(kind, type) and issubclass(kind, PPGTorchPolicy)):
        name = getattr(kind, "__name__", kind)
        raise UserError(f"{folder} holds a policy of the class {name}, not one of PPG.")
    # One network on the CPU, whatever it was trained on.
    config = {**state["policy_spec"]["config"], "num_gpus": 0}
    _check_model_is_here(folder, config["model"]["custom_model"])
    state["policy_spec"] = {**state["policy_spec"], "config": config}
    return PPGTorchPolicy.from_state(state), state["global_timestep"]


def _unpickled(folder: Path) -> dict[str, Any]:
    path = folder / POLICY_STATE
    try:
        state = cloudpickle.loads(path.read_bytes())
    except ModuleNotFoundError as error:
        raise UserError(
            f"{folder} needs the module {error.name}, which cannot be imported here; add its "
            "folder to PYTHONPATH."
        ) from error
    except Exception as error:  # the pickle of other versions of a library raises anything
        reason = f"{type(error).__name__}: {error}".splitlines()[0].rstrip(".")
        raise UserError(f"{path} cannot be read ({reason}).") from error
    if not isinstance(state, dict) or not {"policy_spec", "global_timestep"} <= set(state):
        raise UserError(f"{path} holds no state of a policy.")
    return state


def _check_model_is_here(folder: Path, name: Any) -> None:
    if isinstance(name, str) and not _global_registry.contains(RLLIB_MODEL, name):
        raise UserError(
            f"{folder} holds the model {name!r}, which is not registered here; import the module "
            "that registers it first."
        )


def check_exportable(policy: PPGTorchPolicy) -> None:
    """Refuse networks that `core.exported` cannot build.

    Raises:
        UserError: Naming those that it can.
    """
    model = policy.config["model"]["custom_model"]
    if model is not None and model not in EXPORTABLE:
        known = " and ".join(EXPORTABLE)
        raise UserError(f"The policy has the model {model!r}; only {known} can be exported.")


def describe(policy: PPGTorchPolicy, env_steps: int) -> PolicyMeta:
    """Describe a policy for its export.

    Args:
        policy: A policy.
        env_steps: Environment steps of its training.

    Raises:
        UserError: If its model is not one of ours.
    """
    check_exportable(policy)
    env = policy.config["env"]
    options = env_options(env, policy.config["env_config"])
    return PolicyMeta(
        network=_network(policy),
        observations=_observations(policy.observation_space),
        action=policy.action_spec,
        env_actions=_env_actions(policy.action_space, policy.config),
        env=env_name(env),
        env_options=options,
        frame_stack=options["frame_stack"] if env == "procgen" else 1,
        env_steps=env_steps,
        version=__version__,
        temperature=default_temperature(policy.config),
    )


def _network(policy: PPGTorchPolicy) -> NetworkSpec:
    config = policy.config["model"]
    name = config["custom_model"] or default_model(policy.observation_space)
    settings = parse_model_settings(name, config["custom_model_config"]).model_dump()
    arch, aux_value_head = settings.pop("arch"), settings.pop("aux_value_head")
    del settings["normed_init"]  # only the initial weights depend on it
    if settings.pop("previous_action", False):
        settings["num_actions"] = policy.action_spec.num_inputs
    kind: NetworkKind = "impala" if name == "ppg_impala" else "mlp"
    return NetworkSpec(kind, arch, settings, aux_value_head)


def _observations(space: gym.Space) -> Observations:
    shape, dtype = observation_layout(space)
    if isinstance(space, gym.spaces.Discrete):
        return Observations(shape, dtype.name, int(space.n), int(space.start))
    return Observations(shape, dtype.name)


def _env_actions(space: Any, config: Mapping[str, Any]) -> EnvActions:
    """The mapping that `actions.to_env_actions` does, as data."""
    shape = tuple(space.shape)
    if not isinstance(space, gym.spaces.Box):
        starts = np.broadcast_to(np.asarray(start(space), np.int64), shape)
        return EnvActions(shape, "int64", tuple(starts.ravel().tolist()))
    dtype, both = np.dtype(space.dtype), np.result_type(space.dtype, np.float32)
    low, high = (tuple(bound.ravel().tolist()) for bound in (space.low, space.high))
    if config["normalize_actions"]:
        # RLlib leaves other spaces as they are.
        if space.is_bounded("both") and dtype in (np.float32, np.float64):
            return EnvActions(shape, dtype.name, scaling="unsquash", low=low, high=high)
        return EnvActions(shape, dtype.name)
    if config["clip_actions"]:
        return EnvActions(shape, both.name, scaling="clip", low=low, high=high)
    return EnvActions(shape, "float32")


def env_name(env: Any) -> str:
    """Name of an environment that may be given as a class."""
    return env if isinstance(env, str) else f"{env.__module__}.{env.__qualname__}"


def env_options(env: Any, env_config: Mapping[str, Any]) -> dict[str, Any]:
    """An environment's configuration as plain JSON; Procgen's with its defaults."""
    if env == "procgen":
        return parse_options(env_config).model_dump(mode="json")
    options: dict[str, Any] = plain(env_config)
    return options


def plain(value: Any) -> Any:
    """A value as plain JSON; what JSON cannot hold becomes text."""
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def weights(policy: PPGTorchPolicy) -> dict[str, torch.Tensor]:
    """The network's state, by the names that the network of `describe` gives them."""
    names = exported_names(policy)
    return {names[name]: tensor for name, tensor in policy.network.state_dict().items()}


def exported_names(policy: PPGTorchPolicy) -> dict[str, str]:
    """The names of the network's parameters and buffers in the network of `describe`, by its own.

    That one has no `FromZero`: an exported policy shifts categories itself.
    """
    network = policy.network
    wrappers = [name for name, part in network.named_modules() if isinstance(part, FromZero)]
    names = {}
    for name in network.state_dict():
        names[name] = name
        for wrapper in wrappers:
            names[name] = names[name].replace(f"{wrapper}.encoder.", f"{wrapper}.", 1)
    return names
