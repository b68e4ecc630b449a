"""Expected steps/s of a machine with one GPU, from arithmetic: `python -m benchmarks.estimate`.

Nothing is measured here. A pass over a row costs, for each operation, the longer of its arithmetic
and its memory traffic; docs/performance.md explains every assumption. Shape key: H W C image.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.report import insert

FLOAT, HALF, INDEX = 4, 2, 8  # bytes
STEPS, SECONDS = 8_000_000, 7200  # the challenge's limit: 1,111 steps/s
ACTING_CALL = 1e-3  # seconds to launch the some 80 kernels of a forward pass and copy the actions
KERNEL = 9  # weights of a 3 x 3 convolution, for each pair of channels


@dataclass(frozen=True)
class Operation:
    """One operation of the network on one row.

    Attributes:
        name: Stage and kind.
        flops: Of the forward pass; a multiplication and an addition count as two.
        reads: Numbers read in the forward pass.
        writes: Numbers written.
        parameters: Weights and biases.
        kind: "conv", "dense", "pool", or "elementwise", which a compiler can fuse into the others.
        first: Whether it needs no gradient of its input.
    """

    name: str
    flops: int
    reads: int
    writes: int
    parameters: int
    kind: str
    first: bool = False


@dataclass(frozen=True)
class Encoder:
    """Sizes of an IMPALA encoder; `channels` are those of the observation."""

    widths: tuple[int, ...] = (16, 32, 32)
    hidden: int = 256
    channels: int = 3
    blocks: int = 2
    size: int = 64

    def operations(self) -> Iterator[Operation]:
        """Yield the encoder's operations in order."""
        size, before = self.size, self.channels
        pixels = size * size * before
        yield Operation("bytes to floats", 0, pixels, 2 * pixels, 0, "elementwise", first=True)
        for number, width in enumerate(self.widths, 1):
            stage = f"stage {number}"
            yield from _convolution(f"{stage} first conv", before, width, size, first=number == 1)
            large, size = width * size * size, -(-size // 2)
            small = width * size * size
            yield Operation(f"{stage} pool", 0, large, small, 0, "pool")
            for _ in range(self.blocks):
                for _ in range(2):
                    yield _elementwise(f"{stage} relu", small, small)
                    yield from _convolution(f"{stage} block convs", width, width, size)
                yield _elementwise(f"{stage} add", 2 * small, small)
            before = width
        flat = before * size * size
        yield _elementwise("relu", flat, flat)
        weights = flat * self.hidden
        yield Operation("dense", 2 * weights, flat, self.hidden, weights + self.hidden, "dense")

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return sum(operation.parameters for operation in self.operations())

    @property
    def forward_flops(self) -> int:
        """FLOPs of a row's forward pass."""
        return sum(operation.flops for operation in self.operations())

    @property
    def training_flops(self) -> int:
        """FLOPs of a row's forward and backward pass."""
        return sum(o.flops * (2 if o.first else 3) for o in self.operations())


def _convolution(
    name: str, before: int, width: int, size: int, *, first: bool = False
) -> Iterator[Operation]:
    pixels = size * size
    weights = KERNEL * before * width
    flops = 2 * weights * pixels
    reads, writes = before * pixels, width * pixels
    yield Operation(name, flops, reads, writes, weights + width, "conv", first)
    yield _elementwise(f"{name} bias", writes, writes)


def _elementwise(name: str, reads: int, writes: int) -> Operation:
    return Operation(name, 0, reads, writes, 0, "elementwise")


@dataclass(frozen=True)
class GPU:
    """A GPU and what share of its peak is assumed to be reached.

    Attributes:
        name: Its name.
        flops: Peak of float32 (A100: TF32 off, as PyTorch's default for matrix products).
        half_flops: Peak of the tensor cores in half precision.
        bandwidth: Of its memory, bytes/s.
        efficiency: Share of the float32 peak that convolutions of few channels reach.
        half_efficiency: The same of the tensor cores.
        streaming: Share of the bandwidth that is reached.
        upload: PCIe, bytes/s, as reached.
    """

    name: str
    flops: float
    half_flops: float
    bandwidth: float
    upload: float
    efficiency: float = 0.30
    half_efficiency: float = 0.08
    streaming: float = 0.70


V100 = GPU("V100", 15.7e12, 125e12, 900e9, 12e9)
A100 = GPU("A100", 19.5e12, 312e12, 1555e9, 24e9)


@dataclass(frozen=True)
class Options:
    """Which options of `PPGConfig` are on.

    Attributes:
        half_aux: `aux_precision` float16 or bfloat16.
        half_policy: The same for the policy phase.
        compiled: `torch_compile_learner`.
        overlap: `overlap_aux`.
        act_on_gpu: Workers run the network on the GPU too (`num_gpus_per_env_runner`).
        workers: Rollout workers, one CPU core each.
    """

    half_aux: bool = False
    half_policy: bool = False
    compiled: bool = False
    overlap: bool = False
    act_on_gpu: bool = False
    workers: int = 7


@dataclass(frozen=True)
class Setting:
    """A training setting.

    Attributes:
        name: Its name.
        encoder: Sizes of the network.
        encoders: 2 for dual, 1 for detach and shared.
        num_envs: N.
        n_pi: Policy iterations of a phase.
        policy_epochs: E_pi = E_V.
        aux_epochs: E_aux.
        aux_share: Share of the steps that ever enter an auxiliary phase.
    """

    name: str
    encoder: Encoder = Encoder()
    encoders: int = 1
    num_envs: int = 64
    n_pi: int = 32
    policy_epochs: int = 1
    aux_epochs: int = 6
    aux_share: float = 1.0


SETTINGS = (
    Setting("dual", encoders=2),
    Setting("detach"),
    # 8 phases of 32 iterations out of 279, and two frames with their difference: 9 channels.
    Setting("winner A", Encoder((32, 64, 64), 512, 9), num_envs=112, aux_share=256 / 279),
    # 17 phases of 448,000 steps out of 8 million.
    Setting(
        "winner B",
        Encoder((32, 48, 64), 256, 6),
        num_envs=875,
        aux_epochs=2,
        aux_share=17 * 0.448 / 8,
    ),
)


@dataclass(frozen=True)
class Core:
    """One CPU core of a worker, as measured by this benchmark (BENCHMARKS.md).

    Attributes:
        rollout: Steps/s of one worker with the (16, 32, 32)/256 network.
        games: Steps/s of Procgen alone.
    """

    rollout: float = 700.0
    games: float = 25_000.0

    def seconds(self, encoder: Encoder) -> float:
        """Seconds of a step with another network, its pass scaled by FLOPs."""
        network = 1 / self.rollout - 1 / self.games
        return network * encoder.forward_flops / Encoder().forward_flops + 1 / self.games


def pass_seconds(
    encoder: Encoder, gpu: GPU, *, training: bool, half: bool = False, compiled: bool = False
) -> float:
    """Seconds of one row's pass through one encoder on a GPU, in a large batch."""
    peak = gpu.half_flops * gpu.half_efficiency if half else gpu.flops * gpu.efficiency
    size = HALF if half else FLOAT
    total = 0.0
    for operation in encoder.operations():
        if compiled and operation.kind == "elementwise":
            continue  # becomes part of its neighbour, which reads and writes the same numbers
        passes = _traffic(operation, size, training=training)
        times = 1 if not training else 2 if operation.first else 3
        total += max(operation.flops * times / peak, sum(passes) / (gpu.bandwidth * gpu.streaming))
    return total


def _traffic(operation: Operation, size: int, *, training: bool) -> list[int]:
    """Bytes of the forward pass and, when training, of the backward pass."""
    reads, writes = operation.reads * size, operation.writes * size
    index = operation.writes * INDEX if operation.kind == "pool" and training else 0
    forward = reads + writes + index
    if not training or (operation.first and operation.kind == "elementwise"):
        return [forward]
    if operation.kind in ("conv", "dense"):
        # Gradient of the weights reads both sides; that of the input reads one and writes one.
        weights, inputs = reads + writes, 0 if operation.first else reads + writes
        return [forward, weights + inputs]
    if operation.kind == "pool":
        return [forward, reads + writes + index]
    return [forward, reads + 2 * writes]  # gradient in, saved output, gradient out


@dataclass(frozen=True)
class Budget:
    """Seconds of one environment step, by what they go to."""

    rollout: float
    policy: float
    aux: float
    upload: float

    @property
    def steps_per_s(self) -> float:
        """Steps/s, all parts one after the other."""
        return 1 / (self.rollout + self.policy + self.aux + self.upload)


def budget(setting: Setting, gpu: GPU, options: Options = Options(), core: Core = Core()) -> Budget:
    """Return what an environment step costs on a GPU with `options.workers` CPU cores.

    Args:
        setting: Network and passes.
        gpu: The learner's device; the frames stand there.
        options: What is switched on.
        core: Speed of a worker.
    """

    def seconds(training: bool, half: bool) -> float:
        return pass_seconds(
            setting.encoder, gpu, training=training, half=half, compiled=options.compiled
        )

    policy = setting.policy_epochs * setting.encoders * seconds(True, options.half_policy)
    if setting.encoders == 2:
        policy += seconds(False, options.half_policy)  # values, which the workers do not compute
    aux = setting.aux_epochs * setting.encoders * seconds(True, options.half_aux)
    aux += seconds(False, options.half_aux)  # the old policy
    rollout = core.seconds(setting.encoder) / options.workers
    if options.act_on_gpu:
        # The workers' calls wait for each other on the GPU; each takes at least its launches.
        calls = ACTING_CALL * options.workers / setting.num_envs
        rollout = 1 / core.games / options.workers + calls + seconds(False, False)
    if options.overlap:
        # One of n_pi rollouts is collected while the auxiliary phase runs, as far as it lasts.
        hidden = min(rollout / setting.n_pi, aux * setting.aux_share)
        rollout -= hidden
    frame = 64 * 64 * 3
    return Budget(rollout, policy, aux * setting.aux_share, frame / gpu.upload)


EXACT = Options()
HALF_AUX = replace(EXACT, half_aux=True)
COMPILED = replace(HALF_AUX, compiled=True)
LAYERS = ("layer", "forward MFLOP", "training MFLOP", "kB of activations", "parameters")
SPEEDS = (
    "setting",
    "options",
    "rollout µs",
    "policy phase µs",
    "auxiliary phase µs",
    "steps/s",
    "hours for 8 million",
    "within 2 h",
)
VARIANTS = {
    "float32": EXACT,
    "+ half precision in the auxiliary phase": HALF_AUX,
    "+ torch_compile_learner": COMPILED,
    "+ overlap_aux": replace(COMPILED, overlap=True),
    "half precision, workers act on the GPU": replace(HALF_AUX, act_on_gpu=True),
}


def layer_table(encoder: Encoder) -> list[list[str]]:
    """Return FLOPs, parameters and bytes of activations by layer."""
    names = dict.fromkeys(o.name for o in encoder.operations() if o.flops)
    lines = []
    for name in names:
        operations = [o for o in encoder.operations() if o.name == name]
        flops, training = (
            sum(o.flops * (1 if f else 2 if o.first else 3) for o in operations) for f in (1, 0)
        )
        writes = sum(o.writes for o in operations) * FLOAT
        parameters = sum(o.parameters for o in operations)
        numbers = [f"{flops / 1e6:.2f}", f"{training / 1e6:.1f}", f"{writes / 1e3:.0f}"]
        lines.append([name, *numbers, f"{parameters:,}"])
    traffic = sum(sum(_traffic(o, FLOAT, training=True)) for o in encoder.operations())
    numbers = [f"{encoder.forward_flops / 1e6:.1f}", f"{encoder.training_flops / 1e6:.1f}"]
    moved = f"{traffic / 1e3:,.0f} moved in training"
    return [*lines, ["in all", *numbers, moved, f"{encoder.parameters:,}"]]


def speed_table(gpu: GPU, core: Core) -> list[list[str]]:
    """Return the expected steps/s of every setting and variant on a GPU and 8 CPU cores."""
    lines = []
    for setting in SETTINGS:
        for name, options in VARIANTS.items():
            parts = budget(setting, gpu, options, core)
            hours = STEPS / parts.steps_per_s / 3600
            lines.append(
                [setting.name, name]
                + [f"{1e6 * s:.0f}" for s in (parts.rollout, parts.policy, parts.aux)]
                + [f"{parts.steps_per_s:,.0f}", f"{hours:.1f}"]
                + ["yes" if parts.steps_per_s >= STEPS / SECONDS else "no"]
            )
    return lines


def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    return "\n".join(
        "| " + " | ".join(line) + " |" for line in (header, ["---"] * len(header), *lines)
    )


def tables(gpus: Sequence[GPU] = (V100, A100), core: Core = Core()) -> dict[str, str]:
    """Return all tables as Markdown, by the name of their place in docs/performance.md."""
    made = {"layers": table(LAYERS, layer_table(Encoder()))}
    return made | {gpu.name: table(SPEEDS, speed_table(gpu, core)) for gpu in gpus}


def main() -> None:
    """Print all tables, or put them into a Markdown file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.estimate", description=__doc__)
    parser.add_argument("--rollout", type=float, default=Core.rollout, help="steps/s of one worker")
    parser.add_argument("--efficiency", type=float, help="share of the float32 peak")
    parser.add_argument("--half-efficiency", type=float, help="share of the tensor cores' peak")
    parser.add_argument(
        "--markdown", type=Path, help="put the tables into this file's marked places"
    )
    options = parser.parse_args()
    gpus = [
        replace(
            gpu,
            efficiency=options.efficiency or gpu.efficiency,
            half_efficiency=options.half_efficiency or gpu.half_efficiency,
        )
        for gpu in (V100, A100)
    ]
    for name, text in tables(gpus, Core(options.rollout)).items():
        if options.markdown is None:
            print(f"{name}\n\n{text}\n")
        else:
            insert(options.markdown, name, text)


if __name__ == "__main__":
    main()
