"""App: the trials of a challenge: one Tune experiment a track."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from rllib_ppg.algorithm import resources
from rllib_ppg.algorithm.config import PPGConfig
from rllib_ppg.algorithm.registration import register
from rllib_ppg.app import cluster
from rllib_ppg.app.challenge_file import Challenge
from rllib_ppg.app.challenge_protocol import DIFFICULTY, TRAIN_LEVELS, Protocol
from rllib_ppg.app.challenge_scale import scaled_config, sizes_of
from rllib_ppg.app.checks import check_ppg
from rllib_ppg.app.experiment import Experiment
from rllib_ppg.errors import UserError


@dataclass(frozen=True)
class Sized:
    """A challenge whose sizes are known.

    Attributes:
        config: The experiment's configuration, scaled.
        rows: Environment steps of an iteration, N x T.
        steps: Environment steps of a trial: whole iterations within the budget.
        aux_phases: Auxiliary phases within that.
    """

    config: dict[str, Any]
    rows: int
    steps: int
    aux_phases: int


def size(challenge: Challenge, settings: cluster.RaySettings) -> Sized:
    """Check the configuration, and scale it.

    Raises:
        UserError: If it is wrong, or the budget leaves nothing of it.
    """
    register()
    protocol, experiment = challenge.protocol, challenge.experiment
    config = {**deepcopy(experiment.config), **_budget(protocol, protocol.budget_steps)}
    there = cluster.nodes(settings)
    cpus, gpus = (sum(node.get(kind, 0.0) for node in there) for kind in ("CPU", "GPU"))
    with resources.assume(cpus, gpus):
        checked = _checked(experiment, config, protocol.games[0])
        if protocol.budget_scale < 1:
            config = scaled_config(config, checked, protocol.steps, protocol.budget_scale)
            checked = _checked(experiment, config, protocol.games[0])
    config["aux_slice_s"] = min(checked.aux_slice_s, max(1.0, protocol.margin / 2))
    sizes = sizes_of(checked)
    if protocol.steps < sizes.rows:
        raise UserError(
            f"budget_steps={protocol.steps:,} is less than the {sizes.rows:,} environment steps of "
            f"one iteration (num_envs {sizes.num_envs} x rollout_fragment_length {sizes.fragment});"
            " give more steps, a smaller num_envs, or --budget-scale."
        )
    steps = protocol.steps // sizes.rows * sizes.rows
    config |= _budget(protocol, steps)
    return Sized(config, sizes.rows, steps, sizes.aux_phases(steps))


def _budget(protocol: Protocol, steps: int) -> dict[str, Any]:
    """The protocol's budget as the algorithm's own, so that it ends its runs itself."""
    return {
        "budget_env_steps": steps,
        "budget_s": protocol.seconds,
        "budget_margin_s": protocol.margin,
    }


def _checked(experiment: Experiment, config: Mapping[str, Any], game: str) -> PPGConfig:
    env = {**(config.get("env_config") or {}), "env_name": game, "distribution_mode": DIFFICULTY}
    try:
        return check_ppg({**config, "env_config": env})
    except UserError as error:
        raise UserError(experiment.source.message(("config",), str(error))) from None


def track_experiment(challenge: Challenge, sized: Sized, track: str) -> Experiment:
    """The Tune experiment of a track: a trial for each game and seed."""
    protocol, experiment = challenge.protocol, challenge.experiment
    levels = {"num_levels": TRAIN_LEVELS[track], "start_level": 0}
    env_config = {
        **(sized.config.get("env_config") or {}),
        "env_name": {"grid_search": list(protocol.games)},
        "distribution_mode": DIFFICULTY,
        **levels,
    }
    config = {
        **deepcopy(sized.config),
        "env_config": env_config,
        "seed": {"grid_search": list(protocol.seeds)},
    }
    keys = experiment.keys.model_copy(deep=True)
    keys.config, keys.stop = config, {"timesteps_total": sized.steps}
    keys.storage_path = str(challenge.folder)
    return Experiment(track, keys, experiment.source)
