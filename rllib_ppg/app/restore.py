"""App: the checkpoint that a new run begins from, checked before anything is started.

It is `--restore`, or `restore` in an experiment file. Nothing is unpickled here.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rllib_ppg.algorithm.checkpoint_files import (
    ALGORITHM,
    MANIFEST,
    RLLIB_FILES,
    check_checkpoint,
    checkpoint_path,
    pickled_algorithm,
)
from rllib_ppg.algorithm.checkpoint_fit import check_fit, describe
from rllib_ppg.algorithm.config import PPGConfig
from rllib_ppg.algorithm.named_environments import Spaces
from rllib_ppg.algorithm.policy import PPGTorchPolicy
from rllib_ppg.app.experiment import Experiment
from rllib_ppg.app.run_folder import is_remote
from rllib_ppg.errors import UserError

TRUST = (
    "which unpickles it and so runs what it holds: restore only checkpoints from sources that you "
    "trust."
)


def check_restore(experiment: Experiment, configs: Sequence[tuple[PPGConfig, Spaces]]) -> list[str]:
    """Check the checkpoint of an experiment against all its configurations.

    Its path becomes absolute. A remote one is left to the trial, which checks the same.

    Args:
        experiment: The experiment.
        configs: PPG's checked configurations with their environments' spaces; none for others.

    Returns:
        What to say before it is loaded; nothing where none is given.

    Raises:
        UserError: If it is broken, or does not fit a configuration.
    """
    given = experiment.keys.restore
    if given is None:
        return []
    if is_remote(given):
        return [f"{experiment.name}: restoring {given} (checked by the trial), {TRUST}"]
    try:
        folder = checkpoint_path(given)
        if experiment.keys.run == ALGORITHM:
            notes = _fit_notes(folder, configs)
        else:
            notes = _check_anothers(folder, experiment.keys.run)
    except UserError as error:
        raise UserError(experiment.source.message(("restore",), str(error))) from None
    experiment.keys.restore = str(folder)
    return [f"{experiment.name}: {note}" for note in (f"restoring {folder}, {TRUST}", *notes)]


def _fit_notes(folder: Path, configs: Sequence[tuple[PPGConfig, Spaces]]) -> list[str]:
    summary = check_checkpoint(folder)
    fits = [check_fit(folder, summary, _described(*each)) for each in configs]
    return list(dict.fromkeys(note for fit in fits for note in fit.notes))


def unfit_copies(configs: Sequence[tuple[PPGConfig, Spaces]]) -> Iterator[str]:
    """Why trials of some of these configurations could not copy each other's checkpoints."""
    states = [_of_learning(config) for config, _ in configs]
    for name, value in states[0].items() if states else ():
        other = next((state[name] for state in states if state[name] != value), value)
        if other != value:
            yield f"The checkpoint of another trial does not fit: {name} was {value} and is {other}"
            return
    different = {_of_network(config): (config, spaces) for config, spaces in configs}
    described = [_described(*each) for each in different.values()]
    for other in described[1:]:
        try:
            check_fit(Path("of another trial"), {**described[0], "stored_segments": 0}, other)
        except UserError as error:
            yield str(error).split(" Use ")[0].rstrip(".")
            return


def _of_network(config: PPGConfig) -> str:
    """What decides on whether a checkpoint fits, as far as configurations of one sweep differ."""
    epochs = config.n_epoch_pi == config.n_epoch_vf
    return repr((config.env, config.env_config, config.model, config.num_envs, epochs))


def _of_learning(config: PPGConfig) -> dict[str, Any]:
    """What else decides on which states a checkpoint holds."""
    transform: Any = config.reward_transform
    options = {"type": transform} if isinstance(transform, str) else dict(transform)
    normalised = {name: options.get(name) for name in ("type", "groups")}
    return {
        "optimizers": config.optimizers,
        "normalize_rewards": config.normalize_rewards,
        "reward_transform": normalised if config.normalize_rewards else None,
        "drac_weight above 0": config.drac_weight > 0,
        "adaptive_gamma": config.adaptive_gamma,
    }


def _described(config: PPGConfig, spaces: Spaces) -> dict[str, Any]:
    plain = config.copy(copy_frozen=False)
    plain.num_gpus = 0  # the trial has them, maybe on another machine
    try:
        policy = PPGTorchPolicy(spaces.observations, spaces.actions, plain.to_dict())
    except UserError:
        raise
    except Exception as error:  # a model of the user's own raises anything
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"the model cannot be made: {' '.join(reason.split())}") from error
    return describe(config, policy, spaces.frame_stack)


def _check_anothers(folder: Path, algorithm: str) -> list[str]:
    """Check the checkpoint of another algorithm of RLlib's, as far as its files tell."""
    if (folder / MANIFEST).exists():
        raise UserError(f"{folder} is a checkpoint of {ALGORITHM}, not of {algorithm}.")
    if not any((folder / name).is_file() for name in RLLIB_FILES):
        raise UserError(f"{folder} is no checkpoint folder.")
    found = pickled_algorithm(folder)
    if found not in (None, algorithm):
        raise UserError(f"{folder} is a checkpoint of {found}, not of {algorithm}.")
    return []
