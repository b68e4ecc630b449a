"""App: the trials of a challenge: one Tune experiment a track."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from rllib_ppg.algorithm import resources
from rllib_ppg.algorithm.config import PPGConfig
from rllib_ppg.algorithm.evaluation_settings import parse_levels
from rllib_ppg.algorithm.registration import register
from rllib_ppg.app import cluster
from rllib_ppg.app.challenge_file import Challenge
from rllib_ppg.app.challenge_protocol import DIFFICULTY, TRAIN_LEVELS, Protocol
from rllib_ppg.app.challenge_scale import Sizes, scaled_config, sizes_of
from rllib_ppg.app.challenge_space import DiskSpace, estimate, trials_at_a_time
from rllib_ppg.app.checks import check_ppg
from rllib_ppg.app.experiment import Experiment
from rllib_ppg.envs.levels import LEVELS
from rllib_ppg.errors import UserError


@dataclass(frozen=True)
class Sized:
    """A challenge whose sizes are known.

    Attributes:
        config: The experiment's configuration, scaled.
        rows: Environment steps of an iteration, N x T.
        steps: Environment steps of a trial: whole iterations within the budget.
        aux_phases: Auxiliary phases within that.
        sizes: What decides on a phase's environment steps.
        space: What all trials take on disk.
        notes: What to say before it starts.
    """

    config: dict[str, Any]
    rows: int
    steps: int
    aux_phases: int
    sizes: Sizes
    space: DiskSpace
    notes: list[str] = field(default_factory=list)


def size(challenge: Challenge, settings: cluster.RaySettings, sizes: Sizes | None = None) -> Sized:
    """Check the configuration, and scale it.

    Args:
        challenge: The challenge.
        settings: Where it runs.
        sizes: Scaled sizes of another challenge, which it is compared with; None: its own.

    Raises:
        UserError: If it is wrong, or the budget leaves nothing of it.
    """
    register()
    protocol = challenge.protocol
    config = {**deepcopy(challenge.experiment.config), **_budget(protocol, protocol.budget_steps)}
    there = cluster.nodes(settings)
    cpus, gpus = (sum(node.get(kind, 0.0) for node in there) for kind in ("CPU", "GPU"))
    with resources.assume(cpus, gpus):
        checked = _checked(challenge, config)
        if protocol.budget_scale < 1:
            config = scaled_config(config, checked, protocol.steps, protocol.budget_scale, sizes)
            checked = _checked(challenge, config)
    config["aux_slice_s"] = min(checked.aux_slice_s, max(1.0, protocol.margin / 2))
    found = sizes_of(checked)
    if protocol.steps < found.rows:
        raise UserError(
            f"budget_steps={protocol.steps:,} is less than the {found.rows:,} environment steps of "
            f"one iteration (num_envs {found.num_envs} x rollout_fragment_length {found.fragment});"
            " give more steps, a smaller num_envs, or --budget-scale."
        )
    steps = protocol.steps // found.rows * found.rows
    config |= _budget(protocol, steps)
    space = estimate(
        checked,
        challenge.experiment.keys.checkpoint_config,
        iterations=steps // found.rows,
        trials=protocol.num_trials,
        at_a_time=trials_at_a_time(
            checked, {"CPU": cpus, "GPU": gpus}, challenge.experiment.keys.max_concurrent_trials
        ),
    )
    notes = _notes(challenge, config)
    return Sized(config, found.rows, steps, found.aux_phases(steps), found, space, notes)


def _budget(protocol: Protocol, steps: int) -> dict[str, Any]:
    """The protocol's budget as the algorithm's own, so that it ends its runs itself."""
    return {
        "budget_env_steps": steps,
        "budget_s": protocol.seconds,
        "budget_margin_s": protocol.margin,
    }


def _notes(challenge: Challenge, config: Mapping[str, Any]) -> list[str]:
    if not config.get("evaluation_interval"):
        return []
    return [
        f"Track {track} trains on all levels and so has no test levels: evaluations during its "
        "training play all levels in place of those of evaluation_levels."
        for track in challenge.protocol.tracks
        if _lacks_levels(config, track)
    ]


def _checked(challenge: Challenge, config: Mapping[str, Any]) -> PPGConfig:
    """Check a configuration on every track; their sizes are the same."""
    game = challenge.protocol.games[0]
    source = challenge.experiment.source
    for track in challenge.protocol.tracks:
        try:
            checked = check_ppg(track_config(config, track, game))
        except UserError as error:
            raise UserError(source.message(("config",), str(error))) from None
    return checked


def track_config(config: Mapping[str, Any], track: str, game: Any) -> dict[str, Any]:
    """Return the configuration of a track's trials, but for their seed.

    Args:
        config: The experiment's.
        track: The track.
        game: The game, or a grid of them.
    """
    own = {
        "env_name": game,
        "distribution_mode": DIFFICULTY,
        "num_levels": TRAIN_LEVELS[track],
        "start_level": 0,
    }
    found = {**deepcopy(dict(config)), "env_config": {**(config.get("env_config") or {}), **own}}
    if _lacks_levels(config, track):
        found["evaluation_levels"] = ["all"]
    return found


def _lacks_levels(config: Mapping[str, Any], track: str) -> bool:
    """Whether evaluations during the training want test levels where a track has none."""
    wanted = parse_levels(config.get("evaluation_levels"))
    known = isinstance(wanted, list) and all(level in LEVELS for level in wanted)
    return known and "test" in wanted and not TRAIN_LEVELS[track]


def track_experiment(challenge: Challenge, sized: Sized, track: str) -> Experiment:
    """The Tune experiment of a track: a trial for each game and seed."""
    protocol, experiment = challenge.protocol, challenge.experiment
    config = track_config(sized.config, track, {"grid_search": list(protocol.games)})
    config["seed"] = {"grid_search": list(protocol.seeds)}
    keys = experiment.keys.model_copy(deep=True)
    keys.config, keys.stop = config, {"timesteps_total": sized.steps}
    keys.storage_path = str(challenge.folder)
    return Experiment(track, keys, experiment.source)
