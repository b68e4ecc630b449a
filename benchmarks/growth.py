"""What a step costs when the number of games, steps, iterations or workers is doubled."""

from __future__ import annotations

from dataclasses import replace

import torch

from benchmarks.cycles import Setting, our_cycle
from benchmarks.measure import Progress, Row, interleave, speed_row
from benchmarks.work import SMALL, threads

BASE = Setting("detach", 16, 16, aux_mbsize=16, network=SMALL)
QUICK = Setting("detach", 2, 8, n_pi=1, n_aux_epochs=1, aux_mbsize=2, network=SMALL)
DOUBLED = {"N": "num_envs", "T": "steps", "n_pi": "n_pi"}


def run(quick: bool, progress: Progress) -> list[Row]:
    """Compare phases of doubled sizes with the base setting, then two workers with one."""
    base, rounds = (QUICK, 1) if quick else (BASE, 3)
    variants = {
        f"{name} doubled": replace(base, **{field: 2 * getattr(base, field)})
        for name, field in DOUBLED.items()
    }
    table = _compare(base, variants, rounds, progress)
    if not quick:
        one = replace(base, workers=1)
        table += _compare(one, {"workers doubled": replace(one, workers=2)}, rounds, progress)
    return table


def _compare(
    base: Setting, variants: dict[str, Setting], rounds: int, progress: Progress
) -> list[Row]:
    torch.set_num_threads(threads())
    settings = {"base": base, **variants}
    algorithms = {name: setting.config().build_algo() for name, setting in settings.items()}
    seconds = interleave(
        {name: our_cycle(algorithms[name], setting) for name, setting in settings.items()},
        rounds,
        lambda text: progress(f"growth: {text}"),
    )
    for algorithm in algorithms.values():
        algorithm.stop()
    per_step = {
        name: [s / setting.env_steps for s in seconds[name]] for name, setting in settings.items()
    }
    return [
        speed_row(
            "growth",
            f"{name}: speed beside {base}",
            per_step,
            ours=name,
            against="base",
            amount=1,
            unit="steps/s",
            note="A small network (widths 4, 8, 8), so that what is not convolution weighs more.",
        )
        for name in variants
    ]
