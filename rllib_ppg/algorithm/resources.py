"""Algorithm: what machine or cluster there is, and how `auto` resource keys are resolved."""

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from rllib_ppg.errors import UserError

DEFAULT_NUM_ENVS = 64
"""[N] The environments of one of the reference's workers."""

MIN_ENVS_PER_RUNNER = 8
"""Below this many games a worker's network call costs more than its share of a larger one."""


def divisors(number: int) -> list[int]:
    """All divisors of `number`, ascending."""
    small = [d for d in range(1, int(number**0.5) + 1) if number % d == 0]
    return sorted({*small, *(number // d for d in small)})


_assumed: dict[str, float] = {}


@contextmanager
def assume(cpus: float | None, gpus: float | None) -> Iterator[None]:
    """Context in which `available` answers with these numbers (None: this machine's).

    For a configuration that is checked before its Ray is started.
    """
    before = dict(_assumed)
    _assumed["CPU"] = float(machine_cpus() if cpus is None else cpus)
    _assumed["GPU"] = float(machine_gpus() if gpus is None else gpus)
    try:
        yield
    finally:
        _assumed.clear()
        _assumed.update(before)


def available() -> dict[str, float]:
    """CPUs and GPUs of the Ray cluster that this process is connected to, else of this machine."""
    import ray

    if _assumed:
        return dict(_assumed)
    if ray.is_initialized():
        total = ray.cluster_resources()
        return {"CPU": total.get("CPU", 0.0), "GPU": total.get("GPU", 0.0)}
    return {"CPU": float(machine_cpus()), "GPU": float(machine_gpus())}


def machine_cpus() -> int:
    """CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def machine_gpus() -> int:
    """CUDA devices that torch can use here."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


_V2, _V1 = Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/memory")
_CGROUP_FILES = (
    (_V2 / "memory.max", _V2 / "memory.current", _V2 / "memory.stat"),
    (_V1 / "memory.limit_in_bytes", _V1 / "memory.usage_in_bytes", _V1 / "memory.stat"),
)
"""A container's limit, its use and its statistics, in both versions of Linux's control groups."""


def machine_memory() -> int:
    """Bytes of memory of this machine, or of the container that limits it."""
    total = int(psutil.virtual_memory().total)
    for path, _, _ in _CGROUP_FILES:
        try:
            limit = path.read_text().strip()
        except OSError:
            continue
        if limit.isdigit():
            total = min(total, int(limit))
    return total


def free_memory() -> int:
    """Bytes of memory that this machine, or the container that limits it, has left."""
    free = int(psutil.virtual_memory().available)
    for limit, used, cache in _CGROUP_FILES:
        try:
            bound, taken = limit.read_text().strip(), int(used.read_text())
            stat = dict(line.split() for line in cache.read_text().splitlines())
        except (OSError, ValueError):
            continue
        # The kernel gives file pages back before it lets a process fail.
        reclaimable = sum(
            int(stat.get(f"total_{kind}", stat.get(kind, 0)))
            for kind in ("inactive_file", "active_file", "slab_reclaimable")
        )
        if bound.isdigit():
            free = min(free, int(bound) - taken + reclaimable)
    return max(0, free)


def choose_env_runners(num_envs: int, cpus: float, *, main_cpus: float, cpus_each: float) -> int:
    """How many rollout workers `num_env_runners: auto` means.

    Args:
        num_envs: [N] Environments in total.
        cpus: CPUs of the machine or cluster.
        main_cpus: CPUs that the learner's process reserves.
        cpus_each: CPUs that each worker reserves.

    Returns:
        The largest divisor of `num_envs` that fits and leaves each worker at least
        `MIN_ENVS_PER_RUNNER` environments; 0 (the learner's process samples) where no CPU is left.
    """
    room = int((cpus - main_cpus) / cpus_each) if cpus_each > 0 else num_envs
    if room < 1:
        return 0
    limit = min(room, max(1, num_envs // MIN_ENVS_PER_RUNNER))
    return max(d for d in divisors(num_envs) if d <= limit)


def gpu_share(gpus: float) -> float | int:
    """GPUs of a learner where so many are there for it: one, or a share that fills whole GPUs.

    Where several trials are to run at once each has less than one: of three GPUs for four trials
    each takes a half.
    """
    if gpus >= 1:
        return 1
    return 1 / math.ceil(1 / gpus) if gpus > 0 else 0


def cpus_of_each(runners: int, main_cpus: float) -> float | int:
    """What `num_cpus_per_env_runner: auto` means: one CPU, or a share where there are too few.

    Args:
        runners: Rollout workers.
        main_cpus: CPUs that the learner's process and evaluation workers reserve.
    """
    room = available()["CPU"] - main_cpus
    if runners < 1 or room >= runners:
        return 1
    return max(0.0, math.floor(100 * room / runners) / 100)


def gpus_of_each(runners: int, learner_gpus: float) -> float | int:
    """What `num_gpus_per_env_runner: auto` means: a share of the GPUs that the learner leaves over.

    Args:
        runners: Rollout workers.
        learner_gpus: GPUs of the learner.
    """
    left = available()["GPU"] - learner_gpus
    if runners < 1 or left <= 0:
        return 0
    return gpu_share(left / runners)


def resolve_all(values: Mapping[str, Any], *, main_cpus: float) -> dict[str, Any]:
    """Replace all `auto` by numbers: `resolve_auto`, and what each worker reserves.

    Args:
        values: What `resolve_auto` takes, `num_cpus_per_env_runner` and `num_gpus_per_env_runner`.
        main_cpus: CPUs that the learner's process and evaluation workers reserve.

    Raises:
        UserError: If the counts contradict each other.
    """
    shares = {name: values[name] for name in ("num_cpus_per_env_runner", "num_gpus_per_env_runner")}
    cpus, gpus = shares.values()
    counts = {name: value for name, value in values.items() if name not in shares}
    # As many workers as there are whole CPUs, where both are chosen.
    resolved = resolve_auto(counts, main_cpus=main_cpus, cpus_each=1 if cpus == "auto" else cpus)
    runners, learner = resolved["num_env_runners"], resolved["num_gpus"]
    return {
        **resolved,
        "num_cpus_per_env_runner": cpus_of_each(runners, main_cpus) if cpus == "auto" else cpus,
        "num_gpus_per_env_runner": gpus_of_each(runners, learner) if gpus == "auto" else gpus,
    }


def resolve_auto(
    values: Mapping[str, Any], *, main_cpus: float, cpus_each: float
) -> dict[str, Any]:
    """Replace `auto` and missing counts of environments and workers by numbers.

    Args:
        values: `num_envs`, `num_env_runners`, `num_envs_per_env_runner` and `num_gpus`.
        main_cpus: CPUs that the learner's process reserves.
        cpus_each: CPUs that each worker reserves.

    Returns:
        The four keys as numbers, with `num_envs = num_envs_per_env_runner * max(1, workers)`.

    Raises:
        UserError: If the counts contradict each other.
    """
    num_envs, each = values["num_envs"], values["num_envs_per_env_runner"]
    runners, gpus = values["num_env_runners"], values["num_gpus"]
    if runners == "auto":
        if each and num_envs:
            runners = num_envs // each
        else:
            runners = choose_env_runners(
                num_envs or DEFAULT_NUM_ENVS,
                available()["CPU"],
                main_cpus=main_cpus,
                cpus_each=cpus_each,
            )
    total = num_envs or (each * max(1, runners) if each else DEFAULT_NUM_ENVS)
    if gpus == "auto":
        gpus = gpu_share(available()["GPU"])
    check_counts(total, runners, each)
    per_runner = total // max(1, runners)
    return {
        "num_envs": total,
        "num_env_runners": runners,
        "num_envs_per_env_runner": per_runner,
        "num_gpus": gpus,
    }


def check_counts(num_envs: int, runners: int, each: int | None) -> None:
    """Refuse environment and worker counts that do not multiply.

    Raises:
        UserError: With the worker counts that divide `num_envs`.
    """
    workers = max(1, runners)
    if each and each * workers != num_envs:
        raise UserError(
            f"num_envs={num_envs} contradicts num_envs_per_env_runner={each} times {workers} "
            f"worker(s) = {each * workers}; leave num_envs_per_env_runner out."
        )
    if num_envs % workers:
        raise UserError(
            f"num_env_runners={runners} does not divide num_envs={num_envs}; "
            f"use {_choices(num_envs, workers)}, or auto."
        )


def _choices(number: int, near: int) -> str:
    """The divisors of `number` nearest to `near`, as text."""
    ordered = sorted(divisors(number), key=lambda d: abs(d - near))[:6]
    return ", ".join(map(str, sorted(ordered)))


def check_divides(name: str, size: int, total: int, what: str) -> None:
    """Refuse a size that does not divide a total.

    Raises:
        UserError: With the sizes that do.
    """
    if total % size:
        raise UserError(
            f"{name}={size} does not divide {what} = {total}; use {_choices(total, size)}."
        )
