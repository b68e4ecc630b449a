"""The layers hold: a module imports only downwards, and RLlib's old stack in one place only."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import rllib_ppg

PACKAGE = Path(rllib_ppg.__file__).parent
MAX_LINES = 400

# What each layer may import of the package. A module of the root is a layer of its own.
ROOT = {"errors", "spelling", "dotted_names", "_version"}
ALLOWED = {
    **{name: set() for name in (*ROOT, "_ray_compat")},
    "dotted_names": {"errors"},
    "core": {*ROOT, "core"},
    "envs": {*ROOT, "core", "_ray_compat", "envs"},
    "algorithm": {*ROOT, "core", "_ray_compat", "envs", "algorithm"},
    "app": {*ROOT, "core", "_ray_compat", "envs", "algorithm", "app", "__init__"},
    "__init__": {*ROOT, "core", "_ray_compat", "envs", "algorithm", "app"},
    "__main__": {"app"},
}


class Import(NamedTuple):
    """One imported module (dotted, absolute) and where the statement stands."""

    target: str
    line: int


def is_module(dotted: str) -> bool:
    path = PACKAGE.parent.joinpath(*dotted.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def from_targets(node: ast.ImportFrom, package: str) -> list[str]:
    """Return what a `from` statement imports: submodules by name, else the module itself."""
    base = node.module or ""
    if node.level:
        parents = package.split(".")[: len(package.split(".")) - node.level + 1]
        base = ".".join([*parents, base] if base else parents)
    if base.split(".")[0] != "rllib_ppg":
        return [base]
    names = [f"{base}.{alias.name}" for alias in node.names]
    return [name if is_module(name) else base for name in names]


def imports(source: str, package: str) -> Iterator[Import]:
    """Yield every import of a module's source, those inside functions and by name included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (Import(target, node.lineno) for target in from_targets(node, package))
        elif isinstance(node, ast.Call) and "import_module" in ast.unparse(node.func):
            if node.args and isinstance(node.args[0], ast.Constant):
                yield Import(str(node.args[0].value), node.lineno)


def modules() -> dict[str, Path]:
    """Return the package's modules: dotted name below the package to path."""
    paths = sorted(PACKAGE.rglob("*.py"))
    return {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in paths}


def imports_of(name: str) -> list[Import]:
    parents = ["rllib_ppg", *name.split(".")[:-1]]
    return list(imports(modules()[name].read_text(encoding="utf-8"), ".".join(parents)))


def layer(target: str) -> str:
    """Return the layer that `rllib_ppg...` belongs to; the bare package is `__init__`."""
    parts = target.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def is_rllib(target: str) -> bool:
    return target == "ray.rllib" or target.startswith("ray.rllib.")


SAMPLE = """
import torch.nn as nn
from .losses import policy_loss
from ..envs import ProcgenVectorEnv, arrays
from rllib_ppg import PPGConfig
from ray.rllib.policy.policy import Policy

def late():
    from rllib_ppg.errors import UserError
    importlib.import_module("ray.tune")
"""


def test_the_collector_sees_relative_late_and_named_imports():
    assert {found.target for found in imports(SAMPLE, "rllib_ppg.core")} == {
        "torch.nn",
        "rllib_ppg.core.losses",
        "rllib_ppg.envs",
        "rllib_ppg.envs.arrays",
        "rllib_ppg",
        "ray.rllib.policy.policy",
        "rllib_ppg.errors",
        "ray.tune",
    }


def test_every_module_belongs_to_a_layer():
    assert {name.split(".")[0] for name in modules()} == set(ALLOWED)


@pytest.mark.parametrize("name", modules())
def test_a_module_imports_only_downwards(name: str):
    allowed = ALLOWED[name.split(".")[0]]
    own = [found for found in imports_of(name) if found.target.split(".")[0] == "rllib_ppg"]
    assert [found for found in own if layer(found.target) not in allowed] == []


@pytest.mark.parametrize("name", [name for name in modules() if name.startswith("core.")])
def test_core_imports_numpy_torch_and_their_file_format_only(name: str):
    allowed = {*sys.stdlib_module_names, "numpy", "torch", "safetensors", "rllib_ppg"}
    found = [entry for entry in imports_of(name) if entry.target.split(".")[0] not in allowed]
    assert found == []


@pytest.mark.parametrize("name", [name for name in modules() if name != "_ray_compat"])
def test_rllib_is_imported_in_one_module_only(name: str):
    assert [found for found in imports_of(name) if is_rllib(found.target)] == []


@pytest.mark.parametrize("name", [name for name in modules() if name != "__main__"])
def test_nobody_imports_the_command_line(name: str):
    targets = [found.target for found in imports_of(name)]
    assert [target for target in targets if target.startswith("rllib_ppg.app.cli")] == []


@pytest.mark.parametrize("name", modules())
def test_a_module_is_short_enough_to_read(name: str):
    assert len(modules()[name].read_text(encoding="utf-8").splitlines()) <= MAX_LINES


def loaded_by(statement: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter holds after a statement."""
    code = f"{statement}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_importing_the_package_loads_nothing_heavy():
    heavy = {"ray", "torch", "numpy", "procgen", "gymnasium"}
    assert loaded_by("import rllib_ppg") & heavy == set()


def test_importing_core_loads_no_ray_and_no_environment():
    names = [f"rllib_ppg.{name.removesuffix('.__init__')}" for name in modules()]
    core = [name for name in names if name.startswith("rllib_ppg.core")]
    forbidden = {"ray", "procgen", "gym", "gym3", "gymnasium", "pydantic"}
    assert loaded_by(f"import {', '.join(core)}") & forbidden == set()
