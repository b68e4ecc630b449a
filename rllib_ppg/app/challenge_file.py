"""App: a challenge from its file and flags: the protocol, and the experiment that plays it.

The file is `NAME: {protocol: {...}, experiment: ...}`. The experiment is another file's name, or
stands there itself. What the protocol decides cannot stand in it; where another file has it, for
its own use, the protocol's takes its place.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rllib_ppg.app.challenge_flags import ChallengeFlags
from rllib_ppg.app.challenge_protocol import DIFFICULTY, KEYS, Protocol, make_protocol
from rllib_ppg.app.experiment import Experiment, RawExperiment, Source, check_shape
from rllib_ppg.app.experiment_files import apply_override, flag_overrides, read_file
from rllib_ppg.app.flags import TrainFlags
from rllib_ppg.app.run_folder import experiment_folder, is_remote
from rllib_ppg.app.variants import nodes
from rllib_ppg.app.yaml_reader import KeyPath
from rllib_ppg.errors import UserError
from rllib_ppg.spelling import did_you_mean

OWN_KEYS: dict[KeyPath, str] = {
    ("stop",): "budget_steps and budget_seconds",
    ("config", "seed"): "seeds",
    ("config", "budget_env_steps"): "budget_steps",
    ("config", "budget_s"): "budget_seconds",
    ("config", "budget_margin_s"): "margin_seconds",
    ("config", "env_config", "env_name"): "games",
    ("config", "env_config", "num_levels"): "track",
    ("config", "env_config", "start_level"): "track",
    ("config", "env_config", "distribution_mode"): "distribution_mode",
}
"""Keys of an experiment that the protocol sets, and by which of its keys."""

TOP_LEVEL = ("protocol", "experiment")

_PROTOCOL_FLAGS = {
    "track": "track",
    "games": "games",
    "seeds": "seeds",
    "episodes": "episodes",
    "table": "score_table",
    "threshold": "threshold",
    "budget_steps": "budget_steps",
    "budget_seconds": "budget_seconds",
    "budget_scale": "budget_scale",
}


@dataclass
class Challenge:
    """A challenge with its shape checked.

    Attributes:
        name: Its name, and that of its results folder.
        protocol: The protocol.
        experiment: What it is played with, under the challenge's name; game, levels, seed and stop
            are not set.
        replaced: Keys of the experiment's file that the protocol's take the place of.
    """

    name: str
    protocol: Protocol
    experiment: Experiment
    replaced: list[str] = field(default_factory=list)

    @property
    def notes(self) -> list[str]:
        """What to say before it starts."""
        if not self.replaced:
            return []
        return [f"The protocol takes the place of {', '.join(self.replaced)} of the experiment."]

    @property
    def folder(self) -> Path:
        """Its results folder."""
        return Path(experiment_folder(self.experiment))


def load_challenge(flags: ChallengeFlags) -> Challenge:
    """Read a challenge, flags applied.

    Raises:
        UserError: If a file is missing or broken, or something in it is wrong.
    """
    raw = _read(flags.file)
    if flags.experiment_name is not None:
        raw.name = raw.source.name = flags.experiment_name
    source = raw.source
    data = raw.data.get("protocol")
    if not isinstance(data, dict):
        raise UserError(source.message(("protocol",), f"protocol takes keys: {', '.join(KEYS)}."))
    protocol = protocol_with_flags(data, flags, source)
    experiment, inline = _experiment(raw, flags.file)
    return make_challenge(experiment, protocol, flags, inline=inline)


def make_challenge(
    raw: RawExperiment, protocol: Protocol, flags: ChallengeFlags, *, inline: bool = False
) -> Challenge:
    """Return the challenge that plays an experiment by a protocol, the flags' changes applied.

    Args:
        raw: The experiment, named like the challenge.
        protocol: The protocol.
        flags: The flags; `settings` and `storage_path` change the experiment.
        inline: The experiment stands in the challenge's file.

    Raises:
        UserError: If something in it is wrong, or has no place in a challenge.
    """
    for override in flag_overrides(_as_train_flags(flags)):
        apply_override(raw, override)
    replaced = list(_own_keys(raw, inline))
    checked = check_shape(raw)
    _check_experiment(checked)
    return Challenge(raw.name, protocol, checked, replaced)


def _as_train_flags(flags: ChallengeFlags) -> TrainFlags:
    return TrainFlags(settings=flags.settings, storage_path=flags.storage_path)


def _read(name: str) -> RawExperiment:
    raws = read_file(name)
    if len(raws) > 1:
        names = ", ".join(raw.name for raw in raws)
        raise UserError(f"{name} holds several challenges ({names}); give a file with one.")
    (raw,) = raws
    if "protocol" not in raw.data:
        what = "an experiment, not a challenge" if "run" in raw.data else "no challenge"
        raise UserError(
            f"{name} is {what}: write NAME: {{protocol: {{track: ..., games: ...}}, experiment: "
            "FILE}; experiments/challenge_generalization.yaml is one."
        )
    for key in raw.data:
        if key not in TOP_LEVEL:
            hint = did_you_mean(key, TOP_LEVEL) or f" Allowed: {', '.join(TOP_LEVEL)}."
            raise UserError(raw.source.message((key,), f'unknown key "{key}".{hint}'))
    return raw


def protocol_with_flags(data: dict[str, Any], flags: ChallengeFlags, source: Source) -> Protocol:
    """Return the protocol of some keys, with those of the flags in their place.

    Raises:
        UserError: If something in it is wrong.
    """
    if flags.budget_scale is not None and (flags.budget_steps or flags.budget_seconds):
        raise UserError(
            "--budget-scale shortens the file's budget, and --budget-steps and --budget-seconds "
            "set another; give one or the other."
        )
    data = dict(data)
    for flag, key in _PROTOCOL_FLAGS.items():
        value = getattr(flags, flag)
        if value is not None:
            data[key] = value
            source.places["protocol", key] = f"--{flag.replace('_', '-')}"
    return make_protocol(data, source)


def _experiment(raw: RawExperiment, file: str) -> tuple[RawExperiment, bool]:
    """The experiment, and whether it stands in the challenge's file itself."""
    given = raw.data.get("experiment")
    if isinstance(given, dict):
        places = {
            p[1:]: where for p, where in raw.source.places.items() if p[:1] == ("experiment",)
        }
        return RawExperiment(raw.name, deepcopy(given), Source(raw.name, file, places)), True
    if not isinstance(given, str):
        problem = "experiment takes the name of an experiment file, or {run: PPG, ...} itself."
        raise UserError(raw.source.message(("experiment",), problem))
    path = Path(file).parent / Path(given).expanduser()
    found = read_file(str(path))
    if len(found) > 1:
        raise UserError(f"{path} holds several experiments; give a file with one.")
    (experiment,) = found
    experiment.name = experiment.source.name = raw.name
    return experiment, False


def _own_keys(raw: RawExperiment, inline: bool) -> Iterator[str]:
    """Take the protocol's keys out of an experiment; yields those that were there.

    Raises:
        UserError: If one was given on purpose: in the challenge's own file, or by a flag.
    """
    for path, key in OWN_KEYS.items():
        *parents, last = path
        node: Any = raw.data
        for name in parents:
            node = node.get(name) if isinstance(node, dict) else None
        if not isinstance(node, dict) or last not in node:
            continue
        value = node.pop(last)
        where = raw.source.at(*path)
        if last == "distribution_mode" and value == DIFFICULTY:
            continue
        if inline or where.startswith("--"):
            problem = f"{'.'.join(path)} is set by the protocol: {key}; leave it out here."
            raise UserError(raw.source.message(path, problem))
        yield ".".join(path)


def _check_experiment(experiment: Experiment) -> None:
    """Refuse what has no place in a challenge."""
    keys, config = experiment.keys, experiment.config
    env = config.get("env_config")
    problems: list[tuple[KeyPath, bool, str]] = [
        (("run",), keys.run != "PPG", f"run={keys.run}: only PPG can be evaluated here."),
        (
            ("config", "env"),
            config.get("env") != "procgen",
            f"env={config.get('env')!r}: the challenge is played on procgen.",
        ),
        (("num_samples",), keys.num_samples > 1, "num_samples: give seeds in protocol instead."),
        (("restore",), bool(keys.restore), "restore: every trial begins anew."),
        (
            ("scheduler",),
            keys.scheduler is not None,
            "scheduler: every trial has the same budget; leave it out.",
        ),
        (("search",), keys.search is not None, "search: nothing is searched; leave it out."),
        (
            ("average_over",),
            keys.average_over is not None,
            "average_over: give games and seeds in protocol instead.",
        ),
        (
            ("time_budget_s",),
            keys.time_budget_s is not None,
            "time_budget_s: give budget_seconds in protocol instead.",
        ),
        (
            ("checkpoint_config", "checkpoint_at_end"),
            not keys.checkpoint_config.checkpoint_at_end,
            "checkpoint_at_end: the last checkpoint is what is scored; leave it at true.",
        ),
        (
            ("config",),
            any(True for _ in nodes(config)),
            "grids and spaces: one configuration plays all games; leave them out.",
        ),
        (
            ("config", "env_config", "use_sequential_levels"),
            isinstance(env, dict) and bool(env.get("use_sequential_levels")),
            "use_sequential_levels goes on beyond the levels of the training; leave it out.",
        ),
        (
            ("storage_path",),
            is_remote(keys.storage_path or ""),
            "storage_path: a challenge needs a folder, not an address.",
        ),
    ]
    found = [experiment.source.message(path, problem) for path, bad, problem in problems if bad]
    if found:
        raise UserError("\n".join(found))
