"""App: the results folder of an experiment, and what we write into it beside Tune's files."""

import fcntl
import importlib.metadata
import json
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from pyarrow.fs import FileSystem

from rllib_ppg._version import __version__
from rllib_ppg.app.experiment import Experiment
from rllib_ppg.errors import UserError, told

DEFAULT_STORAGE = "~/ray_results"

_NEEDED = 1 << 16
"""Bytes that a results folder has to take at least: what describes a run and its first results."""

LOCK = ".lock"
"""The file by which two processes do not train in one folder; its lock ends with the process."""

VERSIONS = "versions.json"
"""The file that says with which versions a run was started, and resumed."""

PACKAGES = ("ray", "torch", "numpy", "gymnasium", "procgen", "procgen-mirror", "pydantic")


def storage_path(experiment: Experiment) -> str:
    """Where the experiment's folder goes: an absolute path, or a cloud address."""
    given = (experiment.keys.storage_path or DEFAULT_STORAGE).removeprefix("file://")
    return given if is_remote(given) else str(Path(given).expanduser().absolute())


def is_remote(path: str) -> bool:
    """Whether a path is an address such as `s3://bucket/folder`."""
    return "://" in path


def experiment_folder(experiment: Experiment) -> str:
    """The experiment's results folder; of an address, settings after a `?` stay at its end."""
    storage = storage_path(experiment)
    place, mark, settings = storage.partition("?") if is_remote(storage) else (storage, "", "")
    return f"{place.rstrip('/')}/{experiment.name}{mark}{settings}"


def check_writable(experiment: Experiment) -> None:
    """Refuse a results folder that cannot be written; makes nothing that stays.

    An address is only asked whether it is there: an object store cannot be tried without a trace.

    Raises:
        UserError: With the reason and `--storage-path`.
    """
    folder = experiment_folder(experiment)
    try:
        if is_remote(folder):
            filesystem, path = FileSystem.from_uri(folder)
            filesystem.get_file_info(path)
        else:
            _try_to_write(Path(folder))
    except (OSError, ValueError) as error:  # pyarrow's complaint of an address is a ValueError
        reason = told(error) if isinstance(error, OSError) else " ".join(str(error).split())
        problem = f"results cannot be written to {folder} ({reason}); use --storage-path."
        raise UserError(experiment.source.message(("storage_path",), problem)) from None


def _try_to_write(folder: Path) -> None:
    """Write a file that vanishes at once into a folder, or the nearest one above that exists."""
    place = folder
    while not place.exists():
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(bytes(_NEEDED))
            file.flush()
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(place)) from None


@contextmanager
def locked(experiment: Experiment) -> Iterator[None]:
    """Context in which no other process trains in the experiment's folder.

    Raises:
        UserError: If one does already.
    """
    folder = experiment_folder(experiment)
    if is_remote(folder):
        yield
        return
    Path(folder).mkdir(parents=True, exist_ok=True)
    with open(Path(folder) / LOCK, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            problem = (
                f"another process ({file.read().strip() or 'unknown'}) trains in {folder}; wait "
                "for its end, or use --experiment-name for a run of its own."
            )
            raise UserError(experiment.source.message((), problem)) from None
        except OSError:  # a file system without locks
            yield
            return
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}\n")
        file.flush()
        yield


def write_description(
    experiment: Experiment, config: dict[str, Any], command: Sequence[str], *, resumed: bool
) -> None:
    """Write config.yaml, command.txt and versions.json into the results folder.

    Args:
        experiment: The experiment.
        config: Its complete, resolved configuration.
        command: The words of the command line after `rllib`.
        resumed: The run goes on: its configuration stays, command and versions are added.
    """
    folder = experiment_folder(experiment)
    if is_remote(folder):
        return  # Tune's own params.json is there
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    if not resumed:
        _set_aside(place)
        write_text(place / "config.yaml", as_yaml(experiment, config))
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    line = f"{now}  {shlex.join(['rllib', *command])}\n"
    write_text(place / "command.txt", _read(place / "command.txt") + line)
    launches = json.loads(_read(place / VERSIONS) or "[]")
    launches.append({"time": now, **versions()})
    write_text(place / VERSIONS, json.dumps(launches, indent=2) + "\n")


def _set_aside(place: Path) -> None:
    """Keep the description of an earlier run in the same folder under another name."""
    if not (place / "config.yaml").exists():
        return
    number = 1
    while (place / f"config.{number}.yaml").exists():
        number += 1
    for name, ending in (("config", "yaml"), ("command", "txt"), ("versions", "json")):
        old = place / f"{name}.{ending}"
        if old.exists():
            old.rename(place / f"{name}.{number}.{ending}")


def as_yaml(experiment: Experiment, config: dict[str, Any]) -> str:
    """An experiment file that repeats the run."""
    keys = experiment.keys.model_dump(exclude_unset=True, exclude={"env", "config", "stop"})
    content = {experiment.name: {**keys, "stop": experiment.keys.stop, "config": config}}
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def write_text(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def versions() -> dict[str, Any]:
    """Versions of all that decides on a run's numbers."""
    found: dict[str, Any] = {"rllib_ppg": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    commit = _commit()
    if commit:
        found["commit"] = commit
    return {**found, "platform": platform.platform()}


def _commit() -> str | None:
    """The commit of the source that runs, if it runs from a clone; with `+` if it was changed."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--dirty=+"]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return run.stdout.strip()


def free_megabytes(folder: Path) -> float:
    """Free space where a folder is or would be, in MB."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free / 1e6
