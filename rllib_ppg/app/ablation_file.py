"""App: an ablation: the experiments of a file, each played as a challenge of its own.

The first experiment has all parts; the others are compared with it.
"""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rllib_ppg.app.ablation_budget import budget_notes, budget_of
from rllib_ppg.app.ablation_flags import AblationFlags
from rllib_ppg.app.challenge_file import Challenge, make_challenge, protocol_with_flags
from rllib_ppg.app.challenge_protocol import GENERALIZATION, SAMPLE_EFFICIENCY
from rllib_ppg.app.experiment import RawExperiment
from rllib_ppg.app.experiment_files import read_file
from rllib_ppg.app.run_folder import experiment_folder
from rllib_ppg.errors import UserError, shown
from rllib_ppg.spelling import did_you_mean

SEEDS = (1, 2, 3)

_WITHOUT = "without-"
_MISSING = object()


@dataclass(frozen=True)
class Variant:
    """One experiment of an ablation.

    Attributes:
        challenge: The challenge that plays it, in a folder within the ablation's.
        changed: Keys that it has other than the first experiment, with what it has there as text;
            empty for that one.
    """

    challenge: Challenge
    changed: Mapping[str, str] = field(default_factory=dict)

    @property
    def changes(self) -> tuple[str, ...]:
        """The same as `key: value`."""
        return tuple(self.changed.values())


@dataclass(frozen=True)
class Ablation:
    """An ablation with its shape checked.

    Attributes:
        name: Its name, and that of its results folder.
        folder: Its results folder.
        variants: The experiments, the one with all parts first.
        notes: What to say before it starts.
    """

    name: str
    folder: Path
    variants: tuple[Variant, ...]
    notes: tuple[str, ...] = ()


def load_ablation(flags: AblationFlags) -> Ablation:
    """Read an ablation, flags applied.

    Raises:
        UserError: If the file is missing or broken, or something in it is wrong.
    """
    raws = read_file(flags.file)
    if len(raws) < 2:
        raise UserError(
            f"{flags.file} holds one experiment, and an ablation compares several: the first has "
            "all parts, the others lack one each; experiments/ablation_generalization.yaml is one."
        )
    name = flags.experiment_name or Path(flags.file).stem.replace("_", "-")
    _check_kind(raws, flags.file)
    chosen = _chosen(raws, flags.only)
    protocol = protocol_with_flags(_defaults(raws[0], flags), flags, raws[0].source)
    notes = list(budget_notes(chosen, flags))
    challenges = [_placed(make_challenge(raw, protocol, flags), name) for raw in chosen]
    first = challenges[0]
    variants = [Variant(first)]
    if first.replaced:
        shared = ", ".join(first.replaced)
        notes.insert(0, f"The same in all experiments, whatever their own: {shared}.")
    for challenge in challenges[1:]:
        changed = dict(differences(first.experiment.config, challenge.experiment.config))
        if changed:
            variants.append(Variant(challenge, changed))
        else:
            notes.append(f"{challenge.name} is left out: here it is the same as {first.name}.")
    if len(variants) < 2:
        raise UserError(f"{flags.file}: no experiment differs from the first one, {first.name}.")
    folder = Path(first.folder).parent
    return Ablation(name, folder, tuple(variants), tuple(notes))


def _check_kind(raws: list[RawExperiment], file: str) -> None:
    for raw in raws:
        if "protocol" in raw.data:
            raise UserError(
                f"{file} holds a challenge, not experiments: rllib challenge -f {file} runs it."
            )


def _chosen(raws: list[RawExperiment], only: str | None) -> list[RawExperiment]:
    """The first experiment, and those of the others whose names end as was asked for."""
    first, *others = raws
    if only is None:
        return raws
    ends = [end.strip() for end in only.split(",") if end.strip()]
    for end in ends:
        if not any(_ends(raw, end) for raw in others):
            known = [_short(raw, first) for raw in others]
            hint = did_you_mean(end.removeprefix(_WITHOUT), known)
            raise UserError(
                f'--only: no experiment\'s name ends with "{end}".{hint} There are '
                f"{', '.join(known)}."
            )
    return [first, *(raw for raw in others if any(_ends(raw, end) for end in ends))]


def _short(raw: RawExperiment, first: RawExperiment) -> str:
    """The end of a name that tells it from the others: `dropout` of `recipe-without-dropout`."""
    return raw.name.removeprefix(f"{first.name}-").removeprefix(_WITHOUT)


def _ends(raw: RawExperiment, end: str) -> bool:
    """Whether a name ends with a whole word: `_` is part of one."""
    return raw.name == end or raw.name.endswith(f"-{end}")


def _defaults(raw: RawExperiment, flags: AblationFlags) -> dict[str, Any]:
    """What is played unless flags say otherwise: the first experiment's game, levels and budget."""
    config = raw.data.get("config")
    env = config.get("env_config") if isinstance(config, dict) else None
    env = env if isinstance(env, dict) else {}
    track = GENERALIZATION if env.get("num_levels") else SAMPLE_EFFICIENCY
    game = env.get("env_name", "coinrun")
    budget = budget_of(raw, flags)
    return {"track": track, "games": [game], "seeds": list(SEEDS), **budget}


def _placed(challenge: Challenge, name: str) -> Challenge:
    """A challenge with its folder within the ablation's."""
    experiment = challenge.experiment
    folder = Path(experiment_folder(experiment)).parent / name
    keys = experiment.keys.model_copy(update={"storage_path": str(folder)})
    return replace(challenge, experiment=replace(experiment, keys=keys))


def differences(
    first: Mapping[str, Any], other: Mapping[str, Any], path: str = ""
) -> Iterator[tuple[str, str]]:
    """Yield what another configuration has other than the first: its key, and `key: value`.

    Args:
        first: A configuration.
        other: Another one.
        path: Where both stand, as the beginning of the keys' names.
    """
    for key in dict.fromkeys([*first, *other]):
        mine, its = first.get(key, _MISSING), other.get(key, _MISSING)
        if mine == its and type(mine) is type(its):
            continue
        name = f"{path}{key}"
        if isinstance(mine, Mapping) and isinstance(its, Mapping):
            yield from differences(mine, its, f"{name}.")
        elif its is _MISSING:
            yield name, f"{name} left out"
        else:
            yield name, f"{name}: {shown(deepcopy(its))}"
