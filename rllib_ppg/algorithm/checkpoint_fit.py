"""Algorithm: whether a checkpoint fits a configuration, told from its manifest alone.

Spaces, network, number of environments and optimisers have to be those of the checkpoint. Where
something else differs that the phase under way or the environments' states depend on, training goes
on without those.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym

from rllib_ppg.algorithm.config import PPGConfig
from rllib_ppg.algorithm.model import default_model, observation_layout
from rllib_ppg.algorithm.model_settings import MODEL_SETTINGS, parse_model_settings
from rllib_ppg.algorithm.policy import PPGTorchPolicy
from rllib_ppg.algorithm.policy_export import env_name, env_options, plain
from rllib_ppg.algorithm.settings import DEFAULTS
from rllib_ppg.errors import UserError

_PHASE_KEYS = ("rollout_fragment_length", "n_pi", "n_aux_epochs", "aux_mbsize", "minibatch_unit")
# Noted where they are not at their defaults.
_PHASE_PARTS = (
    "aux_minibatch_unit", "aux_mbsize_rows", "aux_num_accumulates", "shuffle_minibatches",
    "aux_value_targets", "aux_skips",
)  # fmt: skip
_INITIAL_ONLY = "normed_init"  # decides on the initial weights only


class Fit(NamedTuple):
    """What of a checkpoint goes on, beside the weights, optimisers and statistics.

    Attributes:
        phase: The phase under way and its stored segments; else it begins anew.
        environments: The environments' episodes; else they begin new ones.
        notes: What does not go on and why, in sentences.
    """

    phase: bool
    environments: bool
    notes: list[str]


def describe(config: PPGConfig, policy: PPGTorchPolicy, frame_stack: int) -> dict[str, Any]:
    """Describe what decides on whether a checkpoint fits, as plain JSON.

    Args:
        config: A checked configuration.
        policy: A policy of it.
        frame_stack: Frames of one observation.
    """
    space: Any = getattr(policy.observation_space, "original_space", policy.observation_space)
    return {
        "env": env_name(config.env),
        "env_config": _without_addresses(env_options(config.env, config.env_config)),
        "observations": _observations(space),
        "actions": _actions(policy),
        "model": _model(config, space),
        "parameters": {n: str(tuple(p.shape)) for n, p in policy.network.named_parameters()},
        "num_envs": config.num_envs,
        "num_env_runners": config.num_env_runners,
        "joint_epochs": config.policy_phase_settings().joint,
        "phase": {name: getattr(config, name) for name in _PHASE_KEYS}
        | ({} if config.has_aux_phases else {"n_aux_epochs": 0})  # max_aux_phases=0 says the same
        | {"frame_stack": frame_stack}
        | {n: v for n in _PHASE_PARTS if (v := getattr(config, n)) != DEFAULTS[n]},
        "checkpoint_store": config.checkpoint_store,
    }


def _without_addresses(options: dict[str, Any]) -> dict[str, Any]:
    """Options without the memory addresses in Python's texts of objects, new in each process."""
    cleaned: dict[str, Any] = json.loads(re.sub(" at 0x[0-9a-f]+", "", json.dumps(options)))
    return cleaned


def _observations(space: gym.Space[Any]) -> str:
    if isinstance(space, gym.spaces.Discrete):
        return f"Discrete({space.n}, start={space.start})"
    shape, dtype = observation_layout(space)
    return f"{dtype.name} {shape}"


def _actions(policy: PPGTorchPolicy) -> str:
    space, spec = policy.action_space, policy.action_spec
    if spec.kind == "gaussian":
        return f"Box{tuple(space.shape)}"
    sizes = ", ".join(map(str, spec.sizes))
    return f"Discrete({sizes})" if spec.kind == "categorical" else f"MultiDiscrete([{sizes}])"


def _model(config: PPGConfig, space: gym.Space[Any]) -> dict[str, Any]:
    """The model's name, and the settings of one of ours; another's parameters speak for it."""
    name = config.model.get("custom_model") or default_model(space)
    if name not in MODEL_SETTINGS:
        return {"custom_model": name}
    settings = parse_model_settings(name, config.model.get("custom_model_config") or {})
    return {"custom_model": name, **plain(settings.model_dump(exclude={_INITIAL_ONLY}))}


def check_fit(folder: Path, summary: Mapping[str, Any], here: Mapping[str, Any]) -> Fit:
    """Compare a checkpoint with the algorithm that is to go on from it.

    Args:
        folder: The checkpoint, for messages.
        summary: The summary of its manifest: `describe`, `stored_segments` and `finished`.
        here: `describe` of the algorithm.

    Raises:
        UserError: If it does not fit, naming what differs.
    """
    missing = {*here, "stored_segments"} - set(summary)
    if missing:
        raise UserError(
            f"{folder} was written by another version of rllib_ppg: its manifest does not say "
            f"{', '.join(sorted(missing))}. Restore it with that version."
        )
    _refuse(folder, _spaces(summary, here), "an environment with the same spaces")
    settings = [*_network(summary, here), *_epochs(summary, here)]
    settings += _differences(summary, here, "num_envs")
    _refuse(folder, settings, "the settings it was made with")
    moved = [*_differences(summary, here, "env"), *_options(summary, here)]
    return _fit(summary, here, moved)


def _refuse(folder: Path, problems: Iterable[str], advice: str) -> None:
    reasons = "; ".join(problems)
    if reasons:
        raise UserError(f"The checkpoint {folder} does not fit: {reasons}. Use {advice}.")


def _spaces(summary: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[str]:
    for name in ("actions", "observations"):
        if summary[name] != here[name]:
            yield (
                f"its {name} are {summary[name]} ({_game(summary)}), "
                f"and {here[name]} here ({_game(here)})"
            )


def _game(description: Mapping[str, Any]) -> str:
    game = description["env_config"].get("env_name")
    return f"{description['env']} {game}" if game else str(description["env"])


def _network(summary: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[str]:
    there, own = summary["model"], here["model"]
    different = [name for name in {**there, **own} if there.get(name) != own.get(name)]
    if "custom_model" in different:
        different = ["custom_model"]
    for name in different:
        key = "model." if name == "custom_model" else "model.custom_model_config."
        yield _was(key + name, there.get(name), own.get(name))
    if not different:
        yield from _parameters(summary["parameters"], here["parameters"])


def _parameters(there: Mapping[str, Any], own: Mapping[str, Any]) -> Iterator[str]:
    """The first parameter that differs; others mostly follow from it."""
    for name in {**there, **own}:
        if there.get(name) != own.get(name):
            shapes = [of.get(name, "missing") for of in (there, own)]
            yield _was(f"the shape of the parameter {name}", *shapes)
            return


def _epochs(summary: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[str]:
    if summary["joint_epochs"] != here["joint_epochs"]:
        words = {True: "equal (one optimiser)", False: "different (two optimisers)"}
        there, own = words[summary["joint_epochs"]], words[here["joint_epochs"]]
        yield f"n_epoch_pi and n_epoch_vf were {there} and are {own}"


def _was(name: str, there: Any, here: Any) -> str:
    return f"{name} was {there} and is {here}"


def _options(summary: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[str]:
    """Differences of `env_config`; none where the environment is another anyway."""
    if summary["env"] == here["env"]:
        there, own = summary["env_config"], here["env_config"]
        for name in {**there, **own}:
            if there.get(name) != own.get(name):
                yield _was(f"env_config.{name}", there.get(name), own.get(name))


def _differences(summary: Mapping[str, Any], here: Mapping[str, Any], *names: str) -> Iterator[str]:
    for name in names:
        if summary[name] != here[name]:
            yield _was(name, summary[name], here[name])


def _phase(there: Mapping[str, Any], own: Mapping[str, Any]) -> Iterator[str]:
    for name in {**there, **own}:
        values = [of.get(name, DEFAULTS.get(name)) for of in (there, own)]
        if values[0] != values[1]:
            yield _was(name, *values)


def _fit(summary: Mapping[str, Any], here: Mapping[str, Any], moved: list[str]) -> Fit:
    phase = [*moved, *_phase(summary["phase"], here["phase"])]
    environments = [*moved, *_differences(summary, here, "num_env_runners")]
    notes = []
    if not summary["checkpoint_store"]:
        phase.insert(0, "it was saved without its frames (checkpoint_store: false)")
    elif summary.get("finished"):
        phase.insert(0, "its run had reached its budget, and kept no frames")
    if phase and summary["stored_segments"]:
        notes.append(f"The current phase begins anew: {'; '.join(phase)}.")
    if environments:
        notes.append(f"All environments begin new episodes: {'; '.join(environments)}.")
    return Fit(not phase, not environments, notes)
