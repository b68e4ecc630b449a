"""What `pip install` brings: checked on a wheel built from a copy of the project."""

import configparser
import importlib
import shutil
import subprocess
import sys
import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path

import pytest

import rllib_ppg
from rllib_ppg._version import __version__

ROOT = Path(__file__).resolve().parent.parent
BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Return the project's wheel, built without network and without a trace in the project."""
    source = tmp_path_factory.mktemp("source")
    target = tmp_path_factory.mktemp("wheel")
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "rllib_ppg", source / "rllib_ppg")
    subprocess.run(
        [sys.executable, "-c", BUILD, str(target)], cwd=source, check=True, capture_output=True
    )
    (path,) = target.glob("*.whl")
    return zipfile.ZipFile(path)


def member(wheel: zipfile.ZipFile, name: str) -> str:
    """Return the text of a file of the wheel's metadata folder."""
    return wheel.read(f"rllib_ppg-{__version__}.dist-info/{name}").decode()


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    return message_from_string(member(wheel, "METADATA"))


def test_the_wheel_holds_every_module_and_the_type_marker(wheel: zipfile.ZipFile):
    packaged = {name for name in wheel.namelist() if name.startswith("rllib_ppg/")}
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "rllib_ppg").rglob("*.py")}
    assert packaged == {*sources, "rllib_ppg/py.typed"}


def test_the_wheel_installs_no_other_package(wheel: zipfile.ZipFile):
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert tops == {"rllib_ppg", f"rllib_ppg-{__version__}.dist-info"}


@pytest.mark.parametrize("command", ["rllib", "rllib-ppg"])
def test_both_commands_point_at_a_callable(wheel: zipfile.ZipFile, command: str):
    entry_points = configparser.ConfigParser(delimiters=("=",))
    entry_points.read_string(member(wheel, "entry_points.txt"))
    module, _, function = entry_points["console_scripts"][command].partition(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_the_version_stands_in_one_place(metadata: Message):
    assert metadata["Version"] == __version__ == rllib_ppg.__version__
    files = [*(ROOT / "rllib_ppg").rglob("*.py"), ROOT / "setup.py", ROOT / "pyproject.toml"]
    quoted = f'"{__version__}"'
    holders = [path.name for path in files if quoted in path.read_text(encoding="utf-8")]
    assert holders == ["_version.py"]


def test_the_changelog_tells_of_the_version():
    assert f"\n## {__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_metadata_name_pythons_licence_and_extras(metadata: Message):
    assert metadata["Name"] == "rllib-ppg"
    assert set(metadata["Requires-Python"].split(",")) == {">=3.10", "<3.13"}
    assert metadata["License-Expression"] == "MIT"
    extras = {"cluster", "dev", "mlflow", "optuna", "video", "wandb"}
    assert set(metadata.get_all("Provides-Extra")) == extras


def test_python_dash_m_does_what_the_command_does():
    run = subprocess.run(
        [sys.executable, "-m", "rllib_ppg", "--help"], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert "train" in run.stdout
