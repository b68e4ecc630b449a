"""App: what a job on a cluster is sent: experiment files, modules, the package, its environment."""

import shlex
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rllib_ppg
from rllib_ppg.app.submit_flags import COMMAND_VARIABLE, INSTALLED, ON_CLUSTER, SubmitFlags
from rllib_ppg.app.yaml_reader import read_yaml
from rllib_ppg.errors import UserError, told

STOP_SECONDS = 600
"""How long a job that is told to stop may take for its last checkpoint; Ray's own 3 are too few."""

_CACHES = shutil.ignore_patterns("__pycache__", "*.py[cod]")


@dataclass(frozen=True)
class Upload:
    """What a job is made of.

    Attributes:
        words: Its command, to be run in the uploaded folder.
        runtime_env: Ray's runtime environment, with local paths that Ray uploads.
        notes: What to say before it is submitted.
    """

    words: list[str]
    runtime_env: dict[str, Any]
    notes: list[str]


def make_upload(flags: SubmitFlags, folder: Path) -> Upload:
    """Gather what a job needs.

    Args:
        flags: The flags of the command line.
        folder: An empty folder, which has to stay until the job has been submitted.

    Raises:
        UserError: If a file, module or wheel that was given is not one.
    """
    working = folder / "working_dir"
    working.mkdir()
    files = _copy_experiments(flags.files, working)
    imports, notes = _copy_imports(flags.imports, working)
    environment = _runtime_env(flags.runtime_env)
    environment["working_dir"] = str(working)
    environment["env_vars"][COMMAND_VARIABLE] = shlex.join(flags.command)
    package = _package(flags.package, folder)
    if package is not None:
        environment["py_modules"] = [str(package), *environment.get("py_modules", [])]
    words = ["python", "-m", "rllib_ppg", "train"]
    words += [word for name in files for word in ("-f", name)]
    words += [word for name in imports for word in ("--from", name)]
    return Upload([*words, *flags.train], environment, notes)


def _copy_experiments(files: Sequence[str], working: Path) -> list[str]:
    """Copy experiment files; returns their names there, made unique."""
    names = []
    for number, given in enumerate(files):
        name = Path(given).name
        if name in names:
            name = f"{number}_{name}"
        shutil.copyfile(given, working / name)
        names.append(name)
    return names


def _copy_imports(imports: Sequence[str], working: Path) -> tuple[list[str], list[str]]:
    """Copy .py files and modules of the current folder; returns names for `--from`, and notes."""
    names, notes = [], []
    for given in imports:
        if given.endswith(".py"):
            if not Path(given).is_file():
                raise UserError(f"--from {given}: there is no such file.")
            shutil.copyfile(given, working / Path(given).name)
            names.append(Path(given).name)
            continue
        names.append(given)
        if not _copy_module(given.partition(".")[0], working):
            notes.append(f"--from {given}: not in this folder; the nodes have to have it.")
    return names, notes


def _copy_module(name: str, working: Path) -> bool:
    """Copy a top-level module or package of the current folder; whether there is one."""
    package, module = Path(name), Path(f"{name}.py")
    if package.is_dir():
        shutil.copytree(package, working / name, ignore=_CACHES, dirs_exist_ok=True)
    elif module.is_file():
        shutil.copyfile(module, working / module)
    else:
        return False
    return True


def _runtime_env(name: str | None) -> dict[str, Any]:
    """The user's runtime environment, with what every job of ours needs.

    Raises:
        UserError: If the file is missing or holds something else.
    """
    given: Any = {}
    if name is not None:
        try:
            given = read_yaml(Path(name).read_text(encoding="utf-8"), name).data or {}
        except OSError as error:
            raise UserError(f"--runtime-env {name} cannot be read: {told(error)}.") from None
    if not isinstance(given, dict):
        raise UserError(f"{name}: a runtime environment is a mapping such as {{pip: [torch]}}.")
    if "working_dir" in given:
        raise UserError(
            f"{name}: working_dir is the folder of what is uploaded. Name modules with --from, and "
            "packages with py_modules."
        )
    variables = given.get("env_vars") or {}
    if not isinstance(variables, dict):
        raise UserError(f"{name}: env_vars is a mapping of names to texts.")
    texts = {str(key): str(value) for key, value in variables.items()}
    return {**given, "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS), **texts}}


def _package(what: str, folder: Path) -> Path | None:
    """The folder of the package to upload; None where the nodes have it.

    Raises:
        UserError: If a wheel is not one of ours.
    """
    if what == ON_CLUSTER:
        return None
    target = folder / "rllib_ppg"
    if what == INSTALLED:
        shutil.copytree(Path(rllib_ppg.__file__).parent, target, ignore=_CACHES)
    elif what.endswith(".whl"):
        _unpack_wheel(Path(what), folder)
    else:
        raise UserError(
            f"--package {what}: must be {INSTALLED} (the package that runs here), {ON_CLUSTER} "
            "(the one on the nodes), or the path of a wheel (.whl)."
        )
    return target


def _unpack_wheel(wheel: Path, folder: Path) -> None:
    """Take the package out of a wheel.

    Ray would install a wheel together with all that it needs, on every node and for every job.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = [name for name in archive.namelist() if name.startswith("rllib_ppg/")]
            archive.extractall(folder, members)
    except OSError as error:
        raise UserError(f"--package {wheel} cannot be read: {told(error)}.") from None
    except zipfile.BadZipFile:
        raise UserError(f"--package {wheel}: not a wheel.") from None
    if "rllib_ppg/__init__.py" not in members:
        raise UserError(f"--package {wheel}: a wheel of something else than rllib_ppg.")
