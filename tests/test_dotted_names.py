"""Names of code lead to installed packages, and every wrong one is refused in a sentence."""

import subprocess
import sys
from pathlib import Path

import pytest
from torch import nn

from rllib_ppg.dotted_names import check_options, find_callable, find_class, is_dotted
from rllib_ppg.errors import UserError


def test_a_class_and_a_function_of_installed_packages_are_found():
    assert find_class("torch.nn.Linear", nn.Module, "encoder") is nn.Linear
    assert find_callable("math.floor", "transform")(2.5) == 2


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Linear", "'Linear' must be a dotted name"),
        ("..Linear", "must be a dotted name"),
        ("a b.C", "must be a dotted name"),
        (7, "encoder 7 must be a dotted name"),
        ("no_such_package.Net", "there is no installed package no_such_package; install it"),
        ("torch.nn.NoSuchLayer", "cannot be imported: .* no attribute 'NoSuchLayer'"),
        ("torch.no_module.Net", "cannot be imported: No module named 'torch.no_module'"),
        ("math.floor", "is no subclass of torch.nn.modules.module.Module"),
        ("collections.OrderedDict", "is no subclass of"),
    ],
)
def test_a_wrong_name_of_a_class_is_refused(name, words):
    with pytest.raises(UserError, match=words):
        find_class(name, nn.Module, "encoder")


def test_what_cannot_be_called_is_no_function():
    with pytest.raises(UserError, match=r'transform "math\.pi" is no function'):
        find_callable("math.pi", "transform")


def test_unknown_and_missing_options_name_those_that_there_are():
    def made(size, *, rate=1):
        return size, rate

    check_options("encoder x", made, {"size": 1, "rate": 2})
    with pytest.raises(UserError, match=r"encoder x: .*'speed'; its options: size, rate"):
        check_options("encoder x", made, {"size": 1, "speed": 2})
    with pytest.raises(UserError, match=r"missing .*'size'; its options: size, rate"):
        check_options("encoder x", made, {})


@pytest.mark.parametrize(("name", "dotted"), [("a.b", True), ("a", False), ("a..b", False)])
def test_a_dotted_name_has_parts(name, dotted):
    assert is_dotted(name) == dotted


SCRIPT = """
from rllib_ppg.dotted_names import find_callable
from rllib_ppg.errors import UserError
try:
    print(find_callable("beside.make", "wrapper")())
except UserError as error:
    print(error)
"""


def run_beside(folder: Path, **variables: str) -> str:
    """Look for a module that lies in the current folder, which `python -c` would import from."""
    (folder / "beside.py").write_text("def make():\n    return 'ran'\n")
    root = str(Path(__file__).parents[1])
    environment = {"PYTHONPATH": root, "PATH": "/usr/bin:/bin", **variables}
    command = [sys.executable, "-c", SCRIPT]
    result = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return result.stdout.strip()


def test_a_module_that_lies_beside_the_experiment_is_not_imported(tmp_path):
    assert "there is no installed package beside" in run_beside(tmp_path)


def test_a_folder_that_the_person_put_on_pythonpath_counts(tmp_path):
    root = str(Path(__file__).parents[1])
    assert run_beside(tmp_path, PYTHONPATH=f"{root}:{tmp_path}") == "ran"
