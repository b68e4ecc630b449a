"""What the numbers were measured on: machine, versions, commit, command."""

from __future__ import annotations

import datetime
import os
import platform
import shlex
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from rllib_ppg.algorithm.resources import machine_cpus, machine_memory

PACKAGES = ("torch", "ray", "procgen", "procgen-mirror", "numpy")
ROOT = Path(__file__).resolve().parents[1]


def describe(arguments: Sequence[str]) -> dict[str, str]:
    """Return the facts by name, in the order in which they are shown.

    Args:
        arguments: Of `python -m benchmarks`.
    """
    facts = {
        "cpu": cpu_model(),
        "cores": f"{machine_cpus()} usable of {psutil.cpu_count()}",
        "memory": f"{machine_memory() / 1e9:.1f} GB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }
    for package in PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            continue
    return facts | {
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "not set"),
        "commit": commit(),
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "command": shlex.join(["python", "-m", "benchmarks", *arguments]),
    }


def cpu_model() -> str:
    """Return the processor's name, with the vector instructions that matter here."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or "unknown"
    lines = dict(
        (part.strip() for part in line.split(":", 1)) for line in text.splitlines() if ":" in line
    )
    flags = lines.get("flags", "").split()
    wanted = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
    return f"{lines.get('model name', 'unknown')} ({', '.join(f for f in wanted if f in flags)})"


def commit() -> str:
    """Return the commit of the source, and whether it was changed since."""

    def git(*command: str) -> str:
        return subprocess.run(
            ["git", *command], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "rllib_ppg", "benchmarks")
        return git("rev-parse", "--short", "HEAD") + (" with changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
