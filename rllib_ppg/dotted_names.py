"""Classes and functions of installed packages, by dotted name; every layer may use it.

An experiment file may name code, and never brings any: a name leads to what the person has
installed on the machine, not to a file that lies beside the experiment.
"""

import inspect
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import distributions, packages_distributions
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from rllib_ppg.errors import UserError


def find_class(name: str, base: type, what: str) -> Any:
    """Return a class of an installed package.

    Args:
        name: `package.module.Class`.
        base: What it must be a subclass of.
        what: What it is for, as messages call it.

    Raises:
        UserError: If there is none, its package is not installed, or it is another kind of class
            or lacks a method.
    """
    found = _find(name, what)
    if not (inspect.isclass(found) and issubclass(found, base)):
        raise UserError(f'{what} "{name}" is no subclass of {base.__module__}.{base.__qualname__}.')
    if inspect.isabstract(found):
        missing = ", ".join(sorted(getattr(found, "__abstractmethods__", ())))
        raise UserError(f'{what} "{name}" lacks {missing}; define that in the class.')
    return found


def find_callable(name: str, what: str) -> Callable[..., Any]:
    """Return a function or class of an installed package.

    Args:
        name: `package.module.function`.
        what: What it is for, as messages call it.

    Raises:
        UserError: If there is none, its package is not installed, or it cannot be called.
    """
    found = _find(name, what)
    if not callable(found):
        raise UserError(f'{what} "{name}" is no function and no class.')
    made: Callable[..., Any] = found
    return made


def check_options(what: str, function: Callable[..., Any], options: dict[str, Any]) -> None:
    """Refuse options that a class or function does not take, and missing ones.

    Args:
        what: What it is, as messages call it.
        function: What will be called with keyword arguments.
        options: Those arguments.

    Raises:
        UserError: Naming the options that there are.
    """
    signature = inspect.signature(function)
    try:
        signature.bind(**options)
    except TypeError as error:
        allowed = ", ".join(signature.parameters) or "none"
        raise UserError(f"{what}: {error}; its options: {allowed}.") from error


@contextmanager
def blamed(what: str) -> Iterator[None]:
    """Turn whatever code of the user's own raises into one sentence.

    Args:
        what: What fails, as the message calls it: "encoder a.b.C cannot be made".

    Raises:
        UserError: For any exception from inside, but one that is a UserError already, or says that
            memory ran out.
    """
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:  # whatever a class of the user's own does
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{what}: {reason.rstrip('.: ')}.") from error


def is_dotted(name: str) -> bool:
    """Whether a name has the form `package.module.name`."""
    return "." in name and all(part.isidentifier() for part in name.split("."))


def _find(name: str, what: str) -> Any:
    if not isinstance(name, str) or not is_dotted(name):
        raise UserError(f"{what} {name!r} must be a dotted name, such as package.module.Name.")
    module, _, attribute = name.rpartition(".")
    top = module.split(".")[0]
    if not _is_installed(top):
        raise UserError(
            f'{what} "{name}": there is no installed package {top}; install it (pip install), or '
            "add its folder to PYTHONPATH."
        )
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(f'{what} "{name}" cannot be imported: {error}.') from error


def _is_installed(top: str) -> bool:
    """Whether a top-level module is one that the person, and no file, has put there."""
    if top in sys.modules or top in sys.stdlib_module_names:
        return True
    spec = find_spec(top)
    if spec is None:
        return False
    if top in packages_distributions():
        return True
    places = [Path(place) for place in spec.submodule_search_locations or [spec.origin or ""]]
    folders = [*_python_path(), *_editable_projects()]
    return any(place.resolve().is_relative_to(f) for place in places for f in folders)


def _python_path() -> Iterator[Path]:
    for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep):
        if folder:
            yield Path(folder).resolve()


def _editable_projects() -> Iterator[Path]:
    """The folders of projects that were installed with `pip install -e` (PEP 610)."""
    for distribution in distributions():
        text = distribution.read_text("direct_url.json")
        found = json.loads(text) if text else {}
        if found.get("dir_info", {}).get("editable"):
            yield Path(unquote(urlparse(found["url"]).path)).resolve()
