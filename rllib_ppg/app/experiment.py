"""App: experiments, as files and flags describe them, in RLlib's shape `name: {run, env, ...}`.

Only the shape is checked here, without Ray; `checks` then looks at what stands in it.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictStr,
    ValidationError,
    model_validator,
)

from rllib_ppg.algorithm.setting_types import Integer, Number
from rllib_ppg.app.spaces import node_problems
from rllib_ppg.app.yaml_reader import KeyPath
from rllib_ppg.errors import UserError, shown
from rllib_ppg.spelling import did_you_mean

OUTDATED = {
    "checkpoint_freq": "write checkpoint_config: {checkpoint_frequency: N}",
    "checkpoint_at_end": "write checkpoint_config: {checkpoint_at_end: true}",
    "keep_checkpoints_num": "write checkpoint_config: {num_to_keep: N}",
    "checkpoint_score_attr": "write checkpoint_config: {checkpoint_score_attribute: NAME, "
    "checkpoint_score_order: max}",
    "local_dir": "use storage_path, the folder for results",
    "upload_dir": "use storage_path, which may be a cloud address",
    "sync_config": "use storage_path, which may be a cloud address",
    "resources_per_trial": "PPG asks Ray for what it needs; set config: {num_env_runners: N, "
    "num_gpus: N}",
    "trial_resources": "set config: {num_env_runners: N, num_gpus: N}",
    "repeat": "use num_samples",
    "scheduler_config": "write scheduler: {type: NAME, ...}",
    "algorithm": "use run",
    "algo": "use run",
    "trainable": "use run",
    "name": "the name stands before the colon: NAME: {run: PPG, ...}",
    "resume": "use the flag --resume",
    "verbose": "use the flags -v and -vv",
    "queue_trials": "use the flag --wait-for-resources",
    "search_alg": "use search: {type: NAME, ...}",
    "searcher": "use search: {type: NAME, ...}",
    "hyperparam_mutations": "it stands in scheduler: {type: pbt, hyperparam_mutations: ...}",
    "objective": "use metric and mode",
    "max_concurrent": "use max_concurrent_trials",
    "callbacks": "it stands in config: {callbacks: ...}",
    "protocol": "it belongs to a challenge: rllib challenge -f FILE",
    "export_formats": "PPG has nothing to export there; its checkpoints hold the weights",
    "trial_name_creator": "it takes a Python function; use Ray Tune in Python",
    "trial_dirname_creator": "it takes a Python function; use Ray Tune in Python",
}
"""Keys of older or other tools at an experiment's top level, and what to do instead."""


def check_place(path: str) -> str:
    """Refuse a folder or address that can never be one."""
    scheme, separator, rest = path.partition("://")
    if separator and not (re.fullmatch(r"[A-Za-z][\w+.-]*", scheme) and rest):
        raise ValueError("must be a folder, or an address such as s3://bucket/folder")
    if len(path) > 4000 or any(len(part.encode()) > 255 for part in path.split("/")):
        raise ValueError("must be shorter: no folder can have such a name")
    try:
        Path(path).expanduser()
    except RuntimeError:
        raise ValueError("must not begin with ~ and the name of no user here") from None
    return path


Place = Annotated[StrictStr, Field(min_length=1), AfterValidator(check_place)]


PPG_CHECKPOINT_FREQUENCY, PPG_NUM_TO_KEEP = 10, 3
"""Checkpoints of a PPG run whose experiment does not say how often it wants them."""


class CheckpointKeys(BaseModel):
    """When checkpoints are written and how many are kept; Ray's `CheckpointConfig`."""

    model_config = ConfigDict(extra="forbid")

    checkpoint_frequency: Annotated[Integer, Field(ge=0)] = 0
    checkpoint_at_end: StrictBool = True
    num_to_keep: Annotated[Integer, Field(ge=1)] | None = None
    checkpoint_score_attribute: StrictStr | None = None
    checkpoint_score_order: Literal["max", "min"] = "max"


class ExperimentKeys(BaseModel):
    """The top-level keys of an experiment."""

    model_config = ConfigDict(extra="forbid")

    run: StrictStr
    env: StrictStr | dict[str, Any] | None = None
    stop: dict[str, Any] = Field(default_factory=dict)
    config: dict[str, Any] = Field(default_factory=dict)
    num_samples: Annotated[Integer, Field(ge=1, le=100_000)] = 1
    max_concurrent_trials: Annotated[Integer, Field(ge=1)] | None = None
    checkpoint_config: CheckpointKeys = Field(default_factory=CheckpointKeys)
    max_failures: Annotated[Integer, Field(ge=-1)] = 0
    storage_path: Place | None = None
    restore: Place | None = None
    time_budget_s: Annotated[Number, Field(gt=0)] | None = None
    metric: StrictStr | None = None
    mode: Literal["max", "min"] = "max"
    scheduler: StrictStr | dict[str, Any] | None = None
    search: StrictStr | dict[str, Any] | None = None
    average_over: dict[str, Any] | None = None
    log_to_file: StrictBool = False

    @model_validator(mode="after")
    def _save_on_the_way(self) -> "ExperimentKeys":
        """Where nothing is said about it, no more than a few iterations of PPG can be lost."""
        given = self.checkpoint_config.model_fields_set
        if self.run == "PPG" and "checkpoint_frequency" not in given:
            self.checkpoint_config.checkpoint_frequency = PPG_CHECKPOINT_FREQUENCY
            # PBT copies trials from checkpoints of any age.
            if "num_to_keep" not in given and not _is_pbt(self.scheduler):
                self.checkpoint_config.num_to_keep = PPG_NUM_TO_KEEP
        return self


def _is_pbt(scheduler: str | dict[str, Any] | None) -> bool:
    name = scheduler.get("type") if isinstance(scheduler, dict) else scheduler
    return str(name).lower() in ("pbt", "population_based_training")


SWEEP_KEYS = ("num_samples", "metric", "mode", "scheduler", "search", "average_over")
"""Those that decide on the trials of a sweep; a resumed run keeps its own."""

TOP_LEVEL_KEYS = tuple(ExperimentKeys.model_fields)


@dataclass
class Source:
    """Where the keys of an experiment came from, for messages.

    Attributes:
        name: The experiment's name.
        default: The file, or what to say where none was given.
        places: `file:line` or the flag, by the key's path.
    """

    name: str
    default: str
    places: dict[KeyPath, str] = field(default_factory=dict)

    def at(self, *path: str) -> str:
        """`FILE:LINE` or the flag of the key at `path`, or of what it stands in."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.places:
                return self.places[path[:length]]
        return self.default

    def message(self, path: KeyPath, problem: str) -> str:
        """A line that says where, in which experiment, and what."""
        return f'{self.at(*path)}: experiment "{self.name}": {problem}'


@dataclass
class Experiment:
    """One experiment with its shape checked.

    Attributes:
        name: Its name, and that of its results folder.
        keys: The top-level keys. `config` holds `env` too, and may hold grids and spaces.
        source: Where the keys came from.
    """

    name: str
    keys: ExperimentKeys
    source: Source

    @property
    def config(self) -> dict[str, Any]:
        """The algorithm's configuration, `env` included."""
        return self.keys.config


@dataclass
class RawExperiment:
    """One experiment as read, before its shape is checked."""

    name: str
    data: dict[str, Any]
    source: Source


def check_shape(raw: RawExperiment) -> Experiment:
    """Check the top-level keys of an experiment.

    Raises:
        UserError: Naming every wrong key with file and line.
    """
    source = raw.source
    name = raw.name
    if not re.fullmatch(r"[^/\\\x00-\x1f]{1,100}", name) or name in (".", ".."):
        problem = "its name becomes a folder's; use at most 100 letters, digits, - and _."
        raise UserError(f'{source.at()}: experiment "{name[:100]}": {problem}')
    problems = [*_key_problems(raw), *_node_problems(raw)]
    if problems:
        raise UserError("\n".join(dict.fromkeys(problems)))
    try:
        keys = ExperimentKeys(**raw.data)
    except ValidationError as error:
        raise UserError(_describe(error, source)) from None
    _move_env(keys, source)
    return Experiment(raw.name, keys, source)


def _key_problems(raw: RawExperiment) -> Iterator[str]:
    data, source = raw.data, raw.source
    if data.get("run") is None:
        hint = "name the algorithm, for example run: PPG"
        yield source.message((), f'"run" is missing; {hint}.')
    for name in data:
        if name in OUTDATED:
            yield source.message((name,), f'unknown key "{name}": {OUTDATED[name]}.')
        elif name not in TOP_LEVEL_KEYS:
            hint = did_you_mean(name, TOP_LEVEL_KEYS)
            hint = hint or f" Keys of the algorithm stand in config. Allowed: {_listed()}."
            yield source.message((name,), f'unknown key "{name}".{hint}')
    checkpoint = data.get("checkpoint_config")
    for name in checkpoint if isinstance(checkpoint, Mapping) else ():
        if name not in CheckpointKeys.model_fields:
            hint = OUTDATED.get(name) or did_you_mean(name, CheckpointKeys.model_fields).strip()
            hint = hint or f"Allowed: {', '.join(CheckpointKeys.model_fields)}."
            path = ("checkpoint_config", name)
            yield source.message(path, f'unknown key "checkpoint_config.{name}". {hint}')


def _listed() -> str:
    return ", ".join(TOP_LEVEL_KEYS)


def _node_problems(raw: RawExperiment) -> Iterator[str]:
    """Refuse malformed spaces, those that stand where none can, and code that Tune would run."""
    for path, problem in node_problems(raw.data, ()):
        yield raw.source.message(path, problem)


def _move_env(keys: ExperimentKeys, source: Source) -> None:
    """Put `env` where Tune wants it: into `config`."""
    inner = keys.config.get("env")
    if keys.env is not None and inner is not None and inner != keys.env:
        problem = f"env is {keys.env!r} here and {inner!r} in config; keep one."
        raise UserError(source.message(("env",), problem))
    if keys.env is None:
        return
    keys.config = {"env": keys.env, **keys.config}
    source.places.setdefault(("config", "env"), source.at("env"))


def _describe(error: ValidationError, source: Source) -> str:
    """One line for each wrong key: where, which, what was given, what is allowed."""
    lines: dict[tuple[KeyPath, str], list[str]] = {}
    for item in error.errors(include_url=False):
        known = 2 if item["loc"][0] == "checkpoint_config" else 1
        path = tuple(str(part) for part in item["loc"][:known])
        reason = item["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
        reason = reason.replace("a valid dictionary", "a mapping such as {key: value}")
        reason = reason.replace("a valid string", "text").replace(
            "a valid boolean", "true or false"
        )
        lines.setdefault((path, shown(item["input"])), []).append(reason)
    return "\n".join(
        source.message(path, f"{'.'.join(path)}={given}: {' or '.join(dict.fromkeys(why))}.")
        for (path, given), why in lines.items()
    )
