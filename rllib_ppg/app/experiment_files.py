"""App: experiments from files and flags; flags override what stands in the files."""

from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

from rllib_ppg.app.experiment import TOP_LEVEL_KEYS, Experiment, RawExperiment, Source, check_shape
from rllib_ppg.app.flags import TrainFlags
from rllib_ppg.app.spaces import is_node
from rllib_ppg.app.yaml_reader import MAX_CHARACTERS, KeyPath, read_yaml
from rllib_ppg.errors import UserError
from rllib_ppg.spelling import did_you_mean, nearest


class Override(NamedTuple):
    """One change that a flag makes to every experiment.

    Attributes:
        path: The key's path within an experiment.
        value: Its new value; mappings are merged into mappings unless `replace`.
        flag: The flag, for messages.
        replace: Put it in place of what was there.
    """

    path: KeyPath
    value: Any
    flag: str
    replace: bool = False


def load_experiments(flags: TrainFlags) -> list[Experiment]:
    """Read the experiments that `rllib train` was given, flags applied, shapes checked.

    Raises:
        UserError: If a file is missing or broken, or an experiment has a wrong key; also if there
            is nothing to train.
    """
    files = [*(flags.files or []), *positional_files(flags.words or [])]
    overrides = flag_overrides(flags)
    if files:
        raws = [raw for file in files for raw in read_file(file)]
    elif flags.run:
        raws = [RawExperiment(_default_name(flags), {}, Source("", "the command line"))]
    else:
        raise UserError(
            "Nothing to train: give an experiment file (rllib train -f FILE), or an algorithm and "
            "an environment (rllib train --run PPG --env procgen)."
        )
    for raw in raws:
        for override in overrides:
            apply_override(raw, override)
    _rename(raws, flags.experiment_name)
    experiments, problems = [], []
    for raw in raws:
        try:
            experiments.append(check_shape(raw))
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError("\n".join(problems))
    return experiments


def positional_files(words: list[str]) -> list[str]:
    """The files of `rllib train file FILE`, or of `rllib train FILE`.

    Raises:
        UserError: If a word is neither `file` nor a YAML file's name.
    """
    files = words[1:] if words[:1] == ["file"] else words
    if words and not files:
        raise UserError("rllib train file: give the experiment file's name after it.")
    for name in files:
        if not name.endswith((".yaml", ".yml", ".json")) and not Path(name).is_file():
            hint = did_you_mean(name, ["file"])
            raise UserError(f'"{name}" is no experiment file.{hint} See rllib train --help.')
    return files


def read_file(name: str) -> list[RawExperiment]:
    """Read the experiments of one file.

    Raises:
        UserError: If it is missing, is not YAML, or does not hold `name: {run: ...}`.
    """
    document = read_yaml(_read_text(name), name)
    if not document.data:
        raise UserError(f"{name}: the file is empty; write NAME: {{run: PPG, env: procgen, ...}}.")
    if isinstance(document.data, dict) and isinstance(document.data.get("run"), str):
        raise UserError(
            f"{name}: the experiment has no name; write NAME: first and indent the rest below it."
        )
    raws = []
    for title, data in document.data.items() if isinstance(document.data, dict) else [("", None)]:
        if not isinstance(data, dict):
            line = document.lines.get((title,), 1)
            raise UserError(
                f"{name}:{line}: an experiment is a mapping: NAME: {{run: PPG, env: procgen, ...}}."
            )
        places = {
            path[1:]: f"{name}:{line}" for path, line in document.lines.items() if path[0] == title
        }
        raws.append(RawExperiment(title, data, Source(title, name, places)))
    return raws


def _read_text(name: str) -> str:
    path = Path(name)
    if path.suffix == ".py":
        raise UserError(f"{name}: Python files are not run; write the experiment in YAML.")
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(MAX_CHARACTERS + 1)  # enough to be refused; a device has no end
    except FileNotFoundError:
        raise UserError(f"There is no file {name}.{_similar_file(path)}") from None
    except IsADirectoryError:
        raise UserError(f"{name} is a folder; give an experiment file.") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: not a text file in UTF-8 (byte {error.start}).") from None
    except OSError as error:
        raise UserError(f"{name} cannot be read: {error.strerror}.") from None


def _similar_file(path: Path) -> str:
    """A hint with the most similar experiment file nearby."""
    for folder in (path.parent, Path("experiments"), path.parent / "experiments"):
        names = [found.name for found in folder.glob("*.y*ml")] if folder.is_dir() else []
        found = nearest(path.with_suffix("").name + ".yaml", names)
        if found:
            return f" Did you mean {folder / found}?"
    return ""


def _default_name(flags: TrainFlags) -> str:
    env = (flags.env or "").rsplit("/", 1)[-1].rsplit(".", 1)[-1]
    return "-".join(part.lower() for part in (flags.run or "", env) if part)


def _rename(raws: list[RawExperiment], name: str | None) -> None:
    if name is not None and len(raws) > 1:
        raise UserError(
            f"--experiment-name names one experiment, but there are {len(raws)}: "
            f"{', '.join(raw.name for raw in raws)}."
        )
    for raw in raws:
        raw.name = raw.source.name = name if name is not None else raw.name
    names = [raw.name for raw in raws]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f'Two experiments have the name "{twice}", which names their folder.')


def flag_overrides(flags: TrainFlags) -> list[Override]:
    """What the flags change in every experiment, in the order of effect.

    Raises:
        UserError: If a flag's value cannot be read.
    """
    overrides = []
    for name, (flag, path) in _VALUE_FLAGS.items():
        value = getattr(flags, name)
        if value is not None:
            overrides.append(Override(path, value, flag, replace=True))
    if flags.config is not None:
        overrides.append(Override(("config",), _mapping(flags.config, "--config"), "--config"))
    if flags.stop is not None:
        overrides.append(Override(("stop",), _mapping(flags.stop, "--stop"), "--stop", True))
    overrides += _scheduler_overrides(flags) + _score_overrides(flags)
    overrides += [_setting(text) for text in flags.settings or []]
    if flags.seed is not None:
        overrides.append(Override(("config", "seed"), flags.seed, "--seed", True))
    return overrides


_VALUE_FLAGS: dict[str, tuple[str, KeyPath]] = {
    "run": ("--run", ("run",)),
    "env": ("--env", ("env",)),
    "framework": ("--framework", ("config", "framework")),
    "num_samples": ("--num-samples", ("num_samples",)),
    "storage_path": ("--storage-path", ("storage_path",)),
    "restore": ("--restore", ("restore",)),
    "max_failures": ("--max-failures", ("max_failures",)),
    "checkpoint_freq": ("--checkpoint-freq", ("checkpoint_config", "checkpoint_frequency")),
    "checkpoint_at_end": ("--checkpoint-at-end", ("checkpoint_config", "checkpoint_at_end")),
    "keep_checkpoints_num": ("--keep-checkpoints-num", ("checkpoint_config", "num_to_keep")),
}


def _scheduler_overrides(flags: TrainFlags) -> list[Override]:
    made = []
    if flags.scheduler is not None:
        made.append(Override(("scheduler",), {"type": flags.scheduler}, "--scheduler", True))
    if flags.scheduler_config is not None:
        value = _mapping(flags.scheduler_config, "--scheduler-config")
        made.append(Override(("scheduler",), value, "--scheduler-config"))
    return made


def _score_overrides(flags: TrainFlags) -> list[Override]:
    name = flags.checkpoint_score_attr
    if name is None:
        return []
    lowest = name.startswith("min-")
    key, order = name.removeprefix("min-"), "min" if lowest else "max"
    path, flag = ("checkpoint_config",), "--checkpoint-score-attr"
    return [
        Override((*path, "checkpoint_score_attribute"), key, flag, True),
        Override((*path, "checkpoint_score_order"), order, flag, True),
    ]


def _mapping(text: str, flag: str) -> dict[str, Any]:
    value = read_yaml(text, flag).data
    if not isinstance(value, dict):
        raise UserError(f"{flag} takes a mapping such as '{{\"key\": 1}}', not {text!r}.")
    return value


def _setting(text: str) -> Override:
    """The change of one `--set KEY=VALUE`.

    A key that is none of an experiment's top-level ones stands in `config`.
    """
    key, equals, value = text.partition("=")
    path = tuple(key.strip().split("."))
    if not equals or not all(path):
        raise UserError(f"--set {text}: write KEY=VALUE, for example --set lr=1e-3.")
    if path[0] not in TOP_LEVEL_KEYS:
        path = ("config", *path)
    flag = f"--set {key.strip()}"
    return Override(path, read_yaml(value, flag).data, flag, replace=True)


def apply_override(raw: RawExperiment, override: Override) -> None:
    """Apply one flag to an experiment, in place.

    Raises:
        UserError: If the path leads through something that is not a mapping.
    """
    path, value = override.path, deepcopy(override.value)
    if path == ("env",) and isinstance(raw.data.get("config"), dict):
        raw.data["config"].pop("env", None)
    node = raw.data
    for depth, name in enumerate(path[:-1], start=1):
        inner = node.get(name)
        if inner is None or is_node(inner):
            inner = node[name] = {}
        if not isinstance(inner, dict):
            where = ".".join(path[:depth])
            raise UserError(f"{override.flag}: {where} is {inner!r} and takes no keys.")
        node = inner
    old = node.get(path[-1])
    merge = isinstance(value, dict) and isinstance(old, dict) and not override.replace
    node[path[-1]] = _merged(old, value) if merge else value  # type: ignore[arg-type]
    _mark(raw.source, path, value, override.flag)


def _merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """`new` over `old`, mappings merged; a space or its replacement is put in whole."""
    if is_node(old) or is_node(new):
        return new
    both = dict(old)
    for name, value in new.items():
        mappings = isinstance(value, dict) and isinstance(both.get(name), dict)
        both[name] = _merged(both[name], value) if mappings else value
    return both


def _mark(source: Source, path: KeyPath, value: Any, flag: str) -> None:
    """Note that the keys at `path` and below come from a flag."""
    if not isinstance(value, dict):
        source.places = {p: w for p, w in source.places.items() if p[: len(path)] != path}
    source.places[path] = flag
    for name, item in value.items() if isinstance(value, dict) else ():
        _mark(source, (*path, name), item, flag)
