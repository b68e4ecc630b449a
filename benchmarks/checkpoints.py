"""Size, seconds and memory of a checkpoint of the default experiment with a full frame store.

The frames are Procgen's own; the network is a cheap one, so that they are there within minutes.
Memory needs a process of its own: this module is run as a program, with the sizes as its argument.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.measure import Progress, Row, peak_memory, reset_peak_memory, size_row
from benchmarks.memory import CHEAP_NETWORK, FRAME_BYTES
from rllib_ppg.core.segments import SegmentStore

ALLOWANCE = 0.5e9  # bytes that saving may add


@dataclass(frozen=True)
class Sizes:
    """Games, steps and policy iterations of a phase, as in `PPGConfig`."""

    num_envs: int = 64
    steps: int = 256
    n_pi: int = 32

    @property
    def raw(self) -> int:
        """Bytes of the frames of all iterations."""
        return self.num_envs * self.steps * self.n_pi * FRAME_BYTES


@dataclass(frozen=True)
class Found:
    """Seconds, and bytes: files, and the memory that saving and restoring added."""

    save_s: float
    restore_s: float
    raw_s: float
    frames: int
    rest: int
    save_memory: int
    restore_memory: int


def run(quick: bool, progress: Progress) -> list[Row]:
    """Save and restore right before the auxiliary phase, when the store is full."""
    sizes = Sizes(4, 16, 2) if quick else Sizes()
    progress(f"checkpoints: {sizes}")
    command = [sys.executable, "-m", "benchmarks.checkpoints", json.dumps(asdict(sizes))]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"The checkpoint run failed:\n{done.stderr[-3000:]}")
    found = Found(**json.loads(done.stdout.splitlines()[-1]))
    store = f"{sizes.raw / 1e6:,.0f} MB of frames"
    return [
        size_row("checkpoints", f"frames file, {store}", found.frames, "raw frames", sizes.raw),
        size_row("checkpoints", "all other files", found.rest, "raw frames", sizes.raw),
        _seconds("saving", found.save_s, found.raw_s),
        _seconds("restoring", found.restore_s, found.raw_s),
        size_row(
            "checkpoints", f"memory that saving adds, {store}", found.save_memory,
            f"{ALLOWANCE / 1e9:.1f} GB", ALLOWANCE, target=1.0,
        ),
        size_row(
            "checkpoints", f"memory that restoring adds, {store}", found.restore_memory,
            f"{ALLOWANCE / 1e9:.1f} GB", ALLOWANCE,
        ),
    ]  # fmt: skip


def _seconds(what: str, ours: float, raw: float) -> Row:
    ratio = ours / raw
    against = "writing the raw frames and flushing them"
    return Row("checkpoints", what, "s", ours, against, raw, ratio, ratio, ratio, rounds=1)


def measure(sizes: Sizes) -> Found:
    """Fill the store, then save and restore here."""
    from benchmarks.cycles import Setting
    from benchmarks.work import ENV_CONFIG, private_ray

    setting = Setting(
        "detach", sizes.num_envs, sizes.steps, n_pi=sizes.n_pi, aux_mbsize=sizes.num_envs
    )
    with private_ray(), tempfile.TemporaryDirectory() as folder:
        config = setting.config()
        config.training(model={"custom_model": "ppg_mlp", "custom_model_config": CHEAP_NETWORK})
        algorithm = config.environment("procgen", env_config=ENV_CONFIG).build_algo()
        for _ in range(sizes.n_pi):
            algorithm.train()
        raw_s = _write_raw(algorithm._store, Path(folder) / "raw")
        place = Path(folder) / "checkpoint_000000"
        save_s, save_memory = _timed(lambda: algorithm.save(str(place)))
        restore_s, restore_memory = _timed(lambda: algorithm.restore(str(place)))
        files = {path: path.stat().st_size for path in place.rglob("*") if path.is_file()}
        frames = files.pop(place / "frames")
        algorithm.stop()
    rest = sum(files.values())
    return Found(save_s, restore_s, raw_s, frames, rest, save_memory, restore_memory)


def _write_raw(store: SegmentStore, path: Path) -> float:
    """Seconds to write the frames as they are; the file is gone afterwards."""
    begin = time.perf_counter()
    with path.open("wb", buffering=0) as file:
        for row in range(store.count):
            file.write(memoryview(np.ascontiguousarray(store.read_frames(slice(row, row + 1)))))
        os.fsync(file.fileno())
    seconds = time.perf_counter() - begin
    path.unlink()
    return seconds


def _timed(call: Callable[[], object]) -> tuple[float, int]:
    """Seconds of a call, and the bytes by which memory rose at most meanwhile."""
    gc.collect()
    before = reset_peak_memory()
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin, peak_memory() - before


if __name__ == "__main__":
    from rllib_ppg.app.cluster import RaySettings, prepare_environment

    prepare_environment(RaySettings())
    print(json.dumps(asdict(measure(Sizes(**json.loads(sys.argv[1]))))))
