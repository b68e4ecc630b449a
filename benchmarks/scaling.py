"""How steps/s grow with CPU cores and GPUs, from measured parts: `python -m benchmarks.scaling`.

docs/scaling.md explains the model. What a GPU costs is `benchmarks.estimate`'s arithmetic; what CPU
cores, the object store and an iteration cost was measured: `--measure` does it again, in a minute.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.estimate import A100, GPU, STEPS, Core, Encoder, pass_seconds, table
from benchmarks.report import insert

FRAME = 64 * 64 * 3
ROW = FRAME + 15 * 4 + 5 * 4  # bytes of a step on its way: frame, logits, action and four numbers
LAUNCHES = 3e-3  # seconds to launch a forward and a backward pass of one encoder on a GPU


@dataclass(frozen=True)
class Measured:
    """What was measured, on a machine of two cores (docs/scaling.md).

    Attributes:
        core: One core that acts.
        call: Seconds of a forward pass of the network besides its rows, on one thread.
        object_store: Bytes/s from a worker's arrays to the learner's.
        iteration: Seconds of a training iteration that do not depend on its size.
        policy: Rows/s and core of the policy phase's passes, one encoder.
        aux: The same of the auxiliary phase.
        plain: The same without gradient.
    """

    core: Core = field(default_factory=Core)
    call: float = 0.0008
    object_store: float = 1.0e9
    iteration: float = 0.05
    policy: float = 283.0
    aux: float = 260.0
    plain: float = 618.0


@dataclass(frozen=True)
class Setting:
    """A run; the defaults are PPG's own."""

    encoders: int = 1  # 2 for dual
    num_envs: int = 64
    fragment: int = 256
    n_pi: int = 32
    nminibatch: int = 8
    aux_epochs: int = 6
    aux_rows: int = 1024  # of a minibatch: aux_mbsize x T
    encoder: Encoder = field(default_factory=Encoder)

    @property
    def batch(self) -> int:
        """Steps of an iteration, N x T."""
        return self.num_envs * self.fragment


@dataclass(frozen=True)
class Cluster:
    """Where it runs.

    Attributes:
        cores: CPU cores in all; one is the learner's where it has a GPU.
        gpus: Of the learner's machine; 0: it takes all CPU cores of its own node.
        gpu: Their kind.
        learner_cores: Cores of the learner's node, where there is no GPU.
        network: Bytes/s that reach the learner's node; None: all is on that node.
    """

    cores: int
    gpus: int = 0
    gpu: GPU = A100
    learner_cores: int = 1
    network: float | None = None

    def workers(self, num_envs: int) -> int:
        """Workers that `num_env_runners: auto` takes; 0: the learner's process samples."""
        most = max(1, self.cores - 1) if self.gpus else max(1, self.cores)
        return max(count for count in range(1, most + 1) if num_envs % count == 0)


@dataclass(frozen=True)
class Parts:
    """Seconds of one environment step, by what they go to."""

    acting: float
    transfer: float
    policy: float
    aux: float
    fixed: float

    @property
    def steps_per_s(self) -> float:
        """Steps/s, all parts one after the other."""
        return 1 / (self.acting + self.transfer + self.policy + self.aux + self.fixed)

    @property
    def limit(self) -> str:
        """The largest part."""
        names = ("acting", "transfer", "policy", "aux", "fixed")
        return max(names, key=lambda name: float(getattr(self, name)))


def parts(setting: Setting, cluster: Cluster, measured: Measured = Measured()) -> Parts:
    """What an environment step costs.

    Acting: each worker makes one pass for its share of the environments. Transfer: frames through
    the object store and, from other nodes, through the network into the learner's; weights back to
    every worker's node, once an iteration. Learning: passes over the rows, shared by cores or GPUs.
    """
    workers = cluster.workers(setting.num_envs)
    rows = setting.num_envs / workers
    acting = (measured.call + rows * measured.core.seconds(setting.encoder)) / setting.num_envs
    weights = setting.encoder.parameters * setting.encoders * 4
    transfer = ROW / measured.object_store
    if cluster.network is not None:
        nodes = math.ceil(cluster.cores / 64)
        transfer += (ROW + weights * nodes / setting.batch) / cluster.network
    learn = _gpu_seconds if cluster.gpus else _cpu_seconds
    policy, aux = learn(setting, cluster, measured)
    return Parts(acting, transfer, policy, aux, measured.iteration / setting.batch)


def _cpu_seconds(setting: Setting, cluster: Cluster, measured: Measured) -> tuple[float, float]:
    cores, encoders = cluster.learner_cores, setting.encoders
    values = 1 / measured.plain if encoders == 2 else 0.0
    policy = (encoders / measured.policy + values) / cores
    aux = (setting.aux_epochs * encoders / measured.aux + 1 / measured.plain) / cores
    return policy, aux if setting.aux_epochs else 0.0


def _gpu_seconds(setting: Setting, cluster: Cluster, measured: Measured) -> tuple[float, float]:
    gpus, encoders = cluster.gpus, setting.encoders
    row = pass_seconds(setting.encoder, cluster.gpu, training=True) * encoders
    plain = pass_seconds(setting.encoder, cluster.gpu, training=False)

    def per_row(rows: int) -> float:
        # One process launches for all GPUs; each needs the others' gradients once a minibatch.
        exchange = 0.0 if gpus == 1 else setting.encoder.parameters * encoders * 8 / 12e9
        return max(row / gpus, LAUNCHES * encoders * gpus / rows) + exchange / rows

    policy = per_row(setting.batch // setting.nminibatch) + (plain / gpus if encoders == 2 else 0)
    aux = setting.aux_epochs * per_row(setting.aux_rows) + plain / gpus
    return policy + FRAME / cluster.gpu.upload, aux if setting.aux_epochs else 0.0


DETACH, DUAL = Setting(), Setting(encoders=2)
TEN_GBIT = 0.8 * 10e9 / 8
COLUMNS = (
    "cores", "GPUs", "arch", "num_envs", "T", "workers", "acting µs", "transfer µs", "policy µs",
    "aux µs", "steps/s", "hours for 8 million", "most goes to",
)  # fmt: skip


def grown(setting: Setting, cores: int) -> Setting:
    """The setting with as many environments as workers can be, and the same batch."""
    if cores <= 8:
        return replace(setting, num_envs=56, fragment=292)
    if cores <= 64:
        return setting
    return replace(setting, num_envs=512, fragment=32)


def scaling_table() -> list[list[str]]:
    """Return what the model says for 8, 64 and 512 cores with no, 1, 4 and 8 GPUs."""
    lines = []
    for cores in (8, 64, 512):
        for gpus in (0, 1, 4, 8):
            network = None if cores <= 64 else TEN_GBIT
            cluster = Cluster(cores, gpus, learner_cores=min(cores, 64), network=network)
            for name, base in (("detach", DETACH), ("dual", DUAL)):
                setting = grown(base, cores)
                found = parts(setting, cluster)
                size = [name, str(setting.num_envs), str(setting.fragment)]
                workers = str(cluster.workers(setting.num_envs))
                seconds = (found.acting, found.transfer, found.policy, found.aux)
                hours = STEPS / found.steps_per_s / 3600
                lines.append(
                    [str(cores), str(gpus), *size, workers]
                    + [f"{1e6 * each:,.0f}" for each in seconds]
                    + [f"{found.steps_per_s:,.0f}", f"{hours:.1f}", found.limit]
                )
    return lines


@dataclass(frozen=True)
class Fleet:
    """Machines that are rented together.

    Attributes:
        name: What they are.
        cluster: The same for the model; a vCPU is counted as a core, as on the machine measured.
        price: US dollars an hour.
        arithmetic: How the price adds up.
    """

    name: str
    cluster: Cluster
    price: float
    arithmetic: str


# Peaks by NVIDIA's data sheet: 30.3 TFLOP/s float32, 121 TFLOP/s half precision (dense), 300 GB/s.
L4 = GPU("L4", 30.3e12, 121e12, 300e9, 12e9)

# List prices for us-east-1, on demand, in US dollars an hour; a spot vCPU is taken at 40 % of it.
PRICES = {"m7i.xlarge": 0.2016, "c7i.4xlarge": 0.714, "g6.4xlarge": 1.3232}
SPOT = 0.4


def fleets() -> list[Fleet]:
    """Return the fleets of docs/cluster.md; `cluster/aws.yaml` is the last."""
    head, cpu, gpu = (PRICES[name] for name in ("m7i.xlarge", "c7i.4xlarge", "g6.4xlarge"))
    workers = 4 * cpu * SPOT
    return [
        Fleet("one g6.4xlarge", Cluster(16, 1, L4), gpu, "1.32"),
        Fleet(
            "c7i.4xlarge alone, no GPU", Cluster(16, learner_cores=16), cpu, "0.71",
        ),
        Fleet(
            "cluster/aws.yaml: head, g6.4xlarge, 2 spot c7i.4xlarge",
            Cluster(48, 1, L4, network=TEN_GBIT), head + gpu + workers / 2,
            f"0.20 + 1.32 + 2 x 0.71 x {SPOT}",
        ),
        Fleet(
            "the same with 4 spot c7i.4xlarge",
            Cluster(80, 1, L4, network=TEN_GBIT), head + gpu + workers,
            f"0.20 + 1.32 + 4 x 0.71 x {SPOT}",
        ),
    ]  # fmt: skip


COSTS = ("machines", "arch", "$ an hour", "steps/s", "hours", "$", "most goes to")


def cost_table() -> list[list[str]]:
    """Return what 8 million steps cost on each fleet."""
    lines = []
    for fleet in fleets():
        for name, setting in (("detach", DETACH), ("dual", DUAL)):
            found = parts(setting, fleet.cluster)
            hours = STEPS / found.steps_per_s / 3600
            numbers = [f"{fleet.arithmetic} = {fleet.price:.2f}", f"{found.steps_per_s:,.0f}"]
            numbers += [f"{hours:.1f}", f"{hours * fleet.price:.2f}"]
            lines.append([fleet.name, name, *numbers, found.limit])
    return lines


@dataclass(frozen=True)
class Phase:
    """A whole phase that was measured (`--phases`), on a machine of two cores.

    Attributes:
        setting: What was run, without remote workers.
        cores: Cores that it had.
        speed: Steps/s, the faster of two phases.
        acting: Steps/s of acting with both cores at work (BENCHMARKS.md, commit 1b02f9e); None: as
            the model has it, for one core.
    """

    setting: Setting
    cores: int
    speed: float
    acting: float | None = None

    def __str__(self) -> str:
        """Describe it for the table."""
        setting, arch = self.setting, ARCHS[self.setting.encoders]
        return (
            f"{arch}, N = {setting.num_envs}, T = {setting.fragment}, n_pi = {setting.n_pi}, "
            f"E_aux = {setting.aux_epochs}"
        )

    def model(self) -> float:
        """Steps/s by the model, without transfer: nothing is remote there."""
        found = parts(self.setting, Cluster(self.cores, learner_cores=self.cores))
        acting = found.acting if self.acting is None else 1 / self.acting
        return 1 / (acting + found.policy + found.aux)


ARCHS = {1: "detach", 2: "dual"}
SMALL = Setting(num_envs=32, fragment=16, n_pi=2, nminibatch=1, aux_epochs=2, aux_rows=512)
MANY = Setting(num_envs=64, fragment=8, n_pi=1, nminibatch=1, aux_epochs=6, aux_rows=512)
PHASES = (
    Phase(SMALL, 1, 69.9),
    Phase(MANY, 1, 39.7),
    Phase(replace(SMALL, encoders=2), 1, 41.4),
    Phase(SMALL, 2, 132.5, acting=1036.0),
    Phase(MANY, 2, 58.8, acting=1036.0),
    Phase(replace(SMALL, encoders=2), 2, 69.1, acting=1004.0),
)
VALIDITY = ("cores", "phase", "model, steps/s", "measured, steps/s", "model / measured")


def validity_table() -> list[list[str]]:
    """Return the model beside measured phases."""
    lines = []
    for phase in PHASES:
        model, speed = phase.model(), phase.speed
        numbers = [f"{model:.0f}", f"{speed:.0f}", f"{model / speed:.2f}"]
        lines.append([str(phase.cores), str(phase), *numbers])
    return lines


def tables() -> dict[str, str]:
    """Return the documentation's tables by their names."""
    return {
        "scaling": table(COLUMNS, scaling_table()),
        "costs": table(COSTS, cost_table()),
        "validity": table(VALIDITY, validity_table()),
    }


def best(work: Callable[[], object], rounds: int = 15) -> float:
    """Seconds of the fastest of some rounds: what else runs on a machine only adds."""
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return min(times)


def main() -> None:
    """Print the tables, put them into a page, or measure the parts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--markdown", type=Path, nargs="+", help="pages to put the tables into")
    parser.add_argument("--measure", action="store_true", help="measure the parts on this machine")
    parser.add_argument("--phases", action="store_true", help="measure whole phases on it")
    given = parser.parse_args()
    if given.measure:
        from benchmarks.scaling_parts import measure

        measure()
        return
    if given.phases:
        from benchmarks.scaling_parts import measure_phases

        measure_phases()
        return
    for name, text in tables().items():
        if given.markdown is None:
            print(f"{name}\n\n{text}\n")
        for page in given.markdown or ():
            if f"<!-- {name} -->" in page.read_text(encoding="utf-8"):
                insert(page, name, text)


if __name__ == "__main__":
    main()
