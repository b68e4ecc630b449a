"""What might make the convolutions themselves faster, each tried beside the fastest bare loop.

Not part of the usual run: `python -m benchmarks --only kernels`.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.bare import FastestLoop, Minibatch, aux_phase_loss, random_minibatch
from benchmarks.measure import Progress, Row, interleave, speed_row
from benchmarks.phases import MICRO_BATCH
from benchmarks.work import DEFAULT, threads
from rllib_ppg.core.networks import PhasicNetwork

TRAIN, ACT = f"threads, micro-batch {MICRO_BATCH}", "eager, channels last"
ARCH = "detach"


def run(quick: bool, progress: Progress) -> list[Row]:
    """Measure variants of training, then of the forward pass of a rollout."""
    rows, rounds = (random_minibatch(64), 1) if quick else (random_minibatch(512), 5)
    with Processes(1 if quick else threads()) as processes:
        table = _section(
            "training",
            training_variants(rows, processes, quick),
            TRAIN,
            len(rows),
            rounds,
            progress,
        )
    obs = random_minibatch(8 if quick else 64).obs
    table += _section(
        "acting", acting_variants(obs, quick), ACT, 4 * len(obs), rounds * 5, progress
    )
    return table


def _section(
    what: str,
    variants: dict[str, Callable[[], object]],
    base: str,
    amount: int,
    rounds: int,
    progress: Progress,
) -> list[Row]:
    seconds = interleave(variants, rounds, lambda text: progress(f"kernels, {what}: {text}"))
    return [
        speed_row(
            "kernels",
            f"{what}, {ARCH}: {name}",
            seconds,
            ours=name,
            against=base,
            amount=amount,
            unit="rows/s",
        )
        for name in variants
        if name != base
    ]


# ---- training


def training_variants(
    rows: Minibatch, processes: Processes, quick: bool
) -> dict[str, Callable[[], object]]:
    """Return gradients of the auxiliary loss over the same rows, computed in different ways."""

    def loop(size: int = MICRO_BATCH, network: PhasicNetwork | None = None) -> FastestLoop:
        return FastestLoop(network or DEFAULT.build(ARCH), threads=threads(), micro_batch=size)

    base, pooled = loop(), loop(network=separable_pooling(DEFAULT.build(ARCH)))
    variants: dict[str, Callable[[], object]] = {
        TRAIN: lambda: base.gradient(aux_phase_loss, rows),
        "processes in place of threads": lambda: processes.gradient(len(rows)),
        "bfloat16 autocast": lambda: base.gradient(bfloat16_loss, rows),
        "separable max-pooling": lambda: pooled.gradient(aux_phase_loss, rows),
    }
    for size in () if quick else (16, 32, 128, 256):
        other = loop(size)
        variants[f"threads, micro-batch {size}"] = lambda other=other: other.gradient(
            aux_phase_loss, rows
        )
    for size in () if quick else (128, 256):
        variants[f"one thread of {threads()} intra-op threads, micro-batch {size}"] = intra_op(
            size, rows
        )
    if not quick:
        compiled = loop()
        compiled.network.forward = torch.compile(compiled.network.forward)
        variants["torch.compile"] = lambda: compiled.gradient(aux_phase_loss, rows)
    return variants


def bfloat16_loss(network: PhasicNetwork, obs: Tensor, rows: Minibatch) -> Tensor:
    """The auxiliary loss with the network's passes in bfloat16."""
    with torch.autocast("cpu", torch.bfloat16):
        return aux_phase_loss(network, obs, rows)


def intra_op(size: int, rows: Minibatch) -> Callable[[], object]:
    """Micro-batches one after the other, every operation shared by all threads."""
    network = DEFAULT.build(ARCH)
    parameters = list(network.parameters())

    def call() -> None:
        torch.set_num_threads(threads())
        for at in range(0, len(rows), size):
            micro = rows.rows(slice(at, at + size))
            torch.autograd.grad(
                aux_phase_loss(network, micro.obs, micro), parameters, allow_unused=True
            )

    return call


class _SeparablePool(nn.Module):
    """A stage whose 3 x 3 pooling is done along one axis, then along the other."""

    def __init__(self, stage: nn.Module) -> None:
        super().__init__()
        self.conv, self.blocks = stage.conv, stage.blocks

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.conv(x), (1, 3), (1, 2), (0, 1))
        x = F.max_pool2d(x, (3, 1), (2, 1), (1, 0))
        for block in self.blocks:
            x = block(x)
        return x


def separable_pooling(network: PhasicNetwork) -> PhasicNetwork:
    """Replace the pooling of every stage by two poolings of one axis each; the same numbers."""
    encoder = network.policy_encoder
    encoder.stages = nn.ModuleList(_SeparablePool(stage) for stage in encoder.stages)
    return network


class Processes:
    """Processes of one thread each that compute gradients of shares of a minibatch.

    What they send back is only that they are done: a real learner would pay for the gradients too.

    Args:
        number: How many.
    """

    def __init__(self, number: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes = []
        for _ in range(number):
            here, there = context.Pipe()
            process = context.Process(target=_compute, args=(there,), daemon=True)
            process.start()
            there.close()
            self._pipes.append(here)
            self._processes.append(process)

    def gradient(self, rows: int) -> None:
        """Have each compute its share."""
        for pipe in self._pipes:
            pipe.send(rows // len(self._pipes))
        for pipe in self._pipes:
            pipe.recv()

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join()


def _compute(pipe: Connection) -> None:
    torch.set_num_threads(1)
    loop = FastestLoop(DEFAULT.build(ARCH), threads=1, micro_batch=MICRO_BATCH)
    rows = random_minibatch(1024)
    while True:
        try:
            count = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        loop.gradient(aux_phase_loss, rows.rows(slice(0, count)))
        pipe.send(None)


# ---- acting


def acting_variants(obs: Tensor, quick: bool) -> dict[str, Callable[[], object]]:
    """Return the policy's forward pass over the frames of 64 games, made in different ways."""
    network = DEFAULT.build(ARCH).eval()
    plain = DEFAULT.build(ARCH).eval().to(memory_format=torch.contiguous_format)
    floats = (obs.float() / 255).permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    pool = FastestLoop(network, threads=threads(), micro_batch=64)

    def logits(frames: Tensor) -> Tensor:
        return network.policy(frames)[0]

    def half() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return logits(obs)

    calls: dict[str, Callable[[], object]] = {
        ACT: lambda: logits(obs),
        "contiguous (R, C, H, W)": lambda: plain.policy(floats),
        "rows shared by threads": lambda: pool.forward(logits, obs),
        "bfloat16 autocast": half,
    }
    if not quick:
        with torch.no_grad():
            traced = torch.jit.optimize_for_inference(torch.jit.trace(_Logits(network).eval(), obs))
        compiled = torch.compile(logits)
        calls["torch.jit, optimised for inference"] = lambda: traced(obs)
        calls["torch.compile"] = lambda: compiled(obs)
    return {name: _without_gradient(call) for name, call in calls.items()}


class _Logits(nn.Module):
    """The logits alone, as something that can be traced."""

    def __init__(self, network: PhasicNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, obs: Tensor) -> Tensor:
        return self.network.policy(obs)[0]


def _without_gradient(call: Callable[[], object]) -> Callable[[], object]:
    def run() -> None:
        torch.set_num_threads(threads())
        with torch.inference_mode():
            for _ in range(4):
                call()

    return run
