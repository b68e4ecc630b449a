"""Rows/s of one minibatch of both phases: ours, the fastest bare loop, the naive loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.bare import (
    CLIP,
    ENTROPY,
    LEARNING_RATE,
    VALUE,
    FastestLoop,
    Minibatch,
    NaiveLoop,
    aux_phase_loss,
    policy_phase_loss,
    random_minibatch,
)
from benchmarks.measure import Progress, Row, Seconds, interleave, speed_row
from benchmarks.work import ACTIONS, DEFAULT, Network, threads
from rllib_ppg.core.distributions import ActionSpec
from rllib_ppg.core.learner import (
    AuxPhaseSettings,
    PhasicLearner,
    PolicyBatch,
    PolicyPhaseSettings,
)
from rllib_ppg.core.networks import Arch
from rllib_ppg.core.segments import SegmentStore

MICRO_BATCH = 64
FASTEST, NAIVE = "fastest bare loop", "naive loop"
ARCHITECTURES: tuple[Arch, ...] = ("dual", "detach")


def make_learner(arch: Arch, segments: int, network: Network = DEFAULT) -> PhasicLearner:
    """Return our learner, set to make one minibatch of all segments in each phase."""
    return PhasicLearner(
        network.build(arch),
        ActionSpec("categorical", (ACTIONS,)),
        PolicyPhaseSettings(
            n_epoch_pi=1,
            n_epoch_vf=1,
            nminibatch=1,
            clip_param=CLIP,
            kl_penalty=0.0,
            entropy_coeff=ENTROPY,
            vf_loss_coeff=VALUE,
            lr=LEARNING_RATE,
        ),
        AuxPhaseSettings(
            n_aux_epochs=1,
            aux_mbsize=segments,
            beta_clone=1.0,
            vf_true_weight=1.0,
            aux_lr=LEARNING_RATE,
        ),
        micro_batch_size=MICRO_BATCH,
        threads=threads(),
        generator=np.random.default_rng(0),
    )


def policy_batch(rows: Minibatch, segments: int) -> PolicyBatch:
    """Return the same rows as a rollout (N, T)."""

    def column(values: object) -> np.ndarray:
        array = np.asarray(values)
        return array.reshape(segments, -1, *array.shape[1:])

    return PolicyBatch(
        obs=column(rows.obs),
        actions=column(rows.actions),
        logp=column(rows.logp),
        advantages=column(rows.advantages),
        value_targets=column(rows.targets),
        vf_preds=column(rows.targets),
    )


def filled_store(rows: Minibatch, segments: int) -> SegmentStore:
    """Return the same rows as stored segments."""
    steps = len(rows) // segments
    store = SegmentStore(segments, steps, rows.obs.shape[1:], np.uint8)
    taken = store.append(np.arange(segments))
    store.write(taken, rows.obs.numpy().reshape(segments, steps, *rows.obs.shape[1:]))
    store.value_targets[taken] = rows.targets.numpy().reshape(segments, steps)
    return store


def recorded(rows: Minibatch) -> dict[str, Any]:
    """Return the state of an auxiliary phase that has just recorded the old policy."""
    return {"epoch": 1, "minibatch": 0, "old_inputs": rows.old_logits.numpy(), "pieces": []}


def our_steps(arch: Arch, rows: Minibatch, segments: int) -> dict[str, Callable[[], object]]:
    """Return our optimiser step of each phase."""
    learner = make_learner(arch, segments)
    batch, store = policy_batch(rows, segments), filled_store(rows, segments)
    state = recorded(rows)
    return {
        "policy": lambda: learner.policy_phase(batch),
        "aux": lambda: learner.begin_aux_phase(store, state).run(),
        "forward": lambda: learner.values(rows.obs.numpy()),
    }


def run(quick: bool, progress: Progress) -> list[Row]:
    """Measure one optimiser step of each phase on the dual and the detach network."""
    segments, steps, rounds = (2, 32, 1) if quick else (8, 256, 3)
    rows = random_minibatch(segments * steps)
    table = []
    for arch in ARCHITECTURES:
        table += compare(arch, rows, segments, rounds, progress)
    return table


def compare(
    arch: Arch, rows: Minibatch, segments: int, rounds: int, progress: Progress
) -> list[Row]:
    """Measure both phases and the no-gradient pass on one architecture.

    There is no warm-up: a minibatch takes seconds, and a slow first one is not the median. The
    naive loop, which takes the longest, is measured once: where the network is the default.
    """
    ours = our_steps(arch, rows, segments)
    fastest = FastestLoop(DEFAULT.build(arch), threads=threads(), micro_batch=MICRO_BATCH)
    naive = NaiveLoop(DEFAULT.build(arch))
    calls: dict[str, dict[str, Callable[[], object]]] = {
        f"policy phase, {arch}": {
            "ours": ours["policy"],
            FASTEST: lambda: fastest.step(policy_phase_loss, rows),
        },
        f"auxiliary phase, {arch}": {
            "ours": ours["aux"],
            FASTEST: lambda: fastest.step(aux_phase_loss, rows),
        },
        f"pass without gradient, {arch}": {
            "ours": ours["forward"],
            FASTEST: lambda: fastest.forward(fastest.network.value, rows.obs),
        },
    }
    if arch == "dual":
        calls[f"auxiliary phase, {arch}"][NAIVE] = lambda: naive.step(aux_phase_loss, rows)
    table = []
    for what, variants in calls.items():
        seconds = interleave(
            variants,
            rounds,
            lambda text, what=what: progress(f"{what}: {text}"),
            warm_up=False,
        )
        table += _rows(what, seconds, len(rows))
    fastest.close()
    return table


def _rows(what: str, seconds: Seconds, amount: int) -> list[Row]:
    target = None if "without gradient" in what else 0.95
    table = [
        speed_row(
            "phases",
            what,
            seconds,
            ours="ours",
            against=FASTEST,
            amount=amount,
            unit="rows/s",
            target=target,
        )
    ]
    if NAIVE in seconds:
        table.append(
            speed_row(
                "phases",
                f"{what}: {FASTEST}",
                seconds,
                ours=FASTEST,
                against=NAIVE,
                amount=amount,
                unit="rows/s",
                target=1.15,
            )
        )
    return table
