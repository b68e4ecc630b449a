"""Peak memory of the learner and of a worker beside the bytes of the stored frames.

Each number needs a process of its own, because a peak never goes down: this module is run as a
program, with the sizes as its argument, and prints what it saw as its last line.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.measure import Progress, Row, peak_memory, size_row

FACTOR, ALLOWANCE = 1.05, 1.5e9  # what the learner may take: factor x store + allowance
CHEAP_NETWORK = {"arch": "detach", "hiddens": [8]}
FRAME_BYTES = 64 * 64 * 3
CHEAP = (
    "Random frames and a cheap network fill a large store in seconds; the default network's own \
needs are measured with a small one."
)


@dataclass(frozen=True)
class Case:
    """One run: sizes as in `PPGConfig`, the environment, and which network.

    The cheap network is one dense layer of 8 units, the other the default one (dual).
    """

    env: str
    num_envs: int
    steps: int
    n_pi: int
    workers: int
    frame_stack: int = 1
    cheap: bool = True

    @property
    def frames(self) -> int:
        """Frames of a phase."""
        return self.num_envs * self.steps * self.n_pi


@dataclass(frozen=True)
class Peaks:
    """Bytes: the store's, and the most that the learner and a remote worker ever held."""

    store: int
    learner: int
    worker: int


def run(quick: bool, progress: Progress) -> list[Row]:
    """Measure a full store of more than 1 GB, then frame stacks of 2 and 1 on Procgen."""
    full = Case("random_frames", 64, 64, 20, workers=1)
    network = Case("random_frames", 64, 8, 1, workers=0, cheap=False)
    stacks = [Case("procgen", 32, 64, 16, workers=0, frame_stack=k) for k in (1, 2)]
    if quick:
        full = Case("random_frames", 4, 8, 2, workers=1)
        network = Case("random_frames", 4, 8, 1, workers=0, cheap=False)
        stacks = [Case("procgen", 4, 64, 1, workers=0, frame_stack=k) for k in (1, 2)]
    progress(f"memory: {full}")
    peaks = measure(full)
    raw = full.frames * FRAME_BYTES
    table = [
        _peak_row("learner, a cheap network", peaks.learner, raw, note=CHEAP),
        size_row("memory", "the frame store", peaks.store, "raw bytes of the frames", raw),
        _peak_row("worker", peaks.worker, full.num_envs * full.steps * FRAME_BYTES),
    ]
    progress(f"memory: {network}")
    table.append(
        _peak_row(
            "learner, the default network", measure(network).learner, network.frames * FRAME_BYTES
        )
    )
    progress("memory: frame_stack 1 and 2")
    one, two = (measure(case) for case in stacks)
    what = f"frame_stack 2, {stacks[0].frames} frames of Procgen"
    table += [
        size_row(
            "memory", f"{what}: store", two.store, "store of frame_stack 1", one.store, target=1.1
        ),
        size_row(
            "memory",
            f"{what}: peak of the process",
            two.learner,
            "that of frame_stack 1",
            one.learner,
        ),
    ]
    return table


def _peak_row(whose: str, peak: int, raw: int, note: str = "") -> Row:
    return size_row(
        "memory",
        f"peak of the {whose}, {raw / 1e6:,.0f} MB of frames",
        peak,
        f"{FACTOR} x frames + {ALLOWANCE / 1e9:.1f} GB",
        FACTOR * raw + ALLOWANCE,
        target=1.0,
        note=note,
    )


def measure(case: Case) -> Peaks:
    """Run one whole phase in a new process.

    Raises:
        RuntimeError: With what the process wrote, if it failed.
    """
    command = [sys.executable, "-m", "benchmarks.memory", json.dumps(asdict(case))]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        try:
            out, error = run.communicate()
        except KeyboardInterrupt:
            # It may have got the Ctrl-C too; either way it has to take its Ray down first.
            run.send_signal(signal.SIGINT)
            run.wait(timeout=30)
            raise
    if run.returncode:
        raise RuntimeError(f"The memory run {case} failed:\n{error[-3000:]}")
    return Peaks(**json.loads(out.splitlines()[-1]))


def train_one_phase(case: Case) -> Peaks:
    """Run one whole phase here and return the peaks of this process and of a worker."""
    from benchmarks import toy
    from benchmarks.cycles import Setting, our_cycle
    from benchmarks.work import ENV_CONFIG, private_ray

    setting = Setting(
        "detach" if case.cheap else "dual",
        case.num_envs,
        case.steps,
        n_pi=case.n_pi,
        n_aux_epochs=1,
        aux_mbsize=case.num_envs,
        workers=case.workers,
    )
    options: dict[str, Any] = {}
    if case.env == "procgen":
        options = {**ENV_CONFIG, "frame_stack": case.frame_stack}
    with private_ray():
        toy.register()
        config = setting.config()
        if case.cheap:
            config.training(model={"custom_model": "ppg_mlp", "custom_model_config": CHEAP_NETWORK})
        config.environment(case.env, env_config=options)
        algorithm = config.build_algo()
        our_cycle(algorithm, setting)()
        group = algorithm.env_runner_group
        peaks = group.foreach_env_runner(
            lambda worker: peak_memory(), local_env_runner=not case.workers
        )
        found = Peaks(algorithm._store.nbytes, peak_memory(), max(peaks))
        algorithm.stop()
    return found


if __name__ == "__main__":
    from rllib_ppg.app.cluster import RaySettings, prepare_environment

    prepare_environment(RaySettings())
    print(json.dumps(asdict(train_one_phase(Case(**json.loads(sys.argv[1]))))))
