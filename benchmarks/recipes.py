"""What the challenge winners' parts cost: counted frames, and augmented auxiliary phases."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.bare import random_minibatch
from benchmarks.measure import Progress, Row, interleave, speed_row
from benchmarks.phases import MICRO_BATCH, filled_store, recorded
from benchmarks.work import ACTIONS, DEFAULT, ENV_CONFIG, SEED, threads
from rllib_ppg.core.distributions import ActionSpec
from rllib_ppg.core.learner import AuxPhaseSettings, PhasicLearner, PolicyPhaseSettings
from rllib_ppg.envs.procgen_vector import ProcgenVectorEnv

PLAIN, CLEAN = "plain stepping", "without augmentation"
COUNTED = {
    "counted frames": {"count_states": True},
    "no-op penalty, counted frames": {"count_states": True, "noop_reward": -0.1},
}
AUGMENTED: dict[str, Any] = {
    "random_translate": {"type": "random_translate", "max_shift": 5},
    "a third cropped, a third cut out": {
        "type": "one_of",
        "num_choices": 3,
        "members": ["pad_and_crop", "tied_cutout_color"],
    },
}


def run(quick: bool, progress: Progress) -> list[Row]:
    """Measure both."""
    num_envs, steps, rounds = (4, 4, 1) if quick else (64, 100, 9)
    table = stepping(num_envs, steps, rounds, progress)
    segments, length, rounds = (2, 32, 1) if quick else (8, 256, 3)
    return [*table, *augmenting(segments, length, rounds, progress)]


def stepping(num_envs: int, steps: int, rounds: int, progress: Progress) -> list[Row]:
    """Compare environments that count their frames with those that do not."""
    actions = np.random.default_rng(SEED).integers(0, ACTIONS, (steps, num_envs))

    def play(options: Mapping[str, Any]) -> Callable[[], object]:
        env = ProcgenVectorEnv({**ENV_CONFIG, **options}, num_envs, rand_seed=SEED)

        def call() -> None:
            for row in actions:
                env.step(row)

        return call

    variants = {PLAIN: play({}), **{name: play(options) for name, options in COUNTED.items()}}
    seconds = interleave(variants, rounds, progress)
    return [
        speed_row(
            "recipes",
            f"{num_envs} games, {name}",
            seconds,
            ours=name,
            against=PLAIN,
            amount=steps * num_envs,
            unit="steps/s",
            target=1 / 1.1,
        )
        for name in COUNTED
    ]


def make_learner(segments: int, augmentation: Any) -> PhasicLearner:
    """Return a learner that makes one minibatch of all segments."""
    return PhasicLearner(
        DEFAULT.build("detach"),
        ActionSpec("categorical", (ACTIONS,)),
        PolicyPhaseSettings(
            n_epoch_pi=1,
            n_epoch_vf=1,
            nminibatch=1,
            clip_param=0.2,
            kl_penalty=0.0,
            entropy_coeff=0.01,
            vf_loss_coeff=0.5,
            lr=5e-4,
        ),
        AuxPhaseSettings(
            n_aux_epochs=1,
            aux_mbsize=segments,
            beta_clone=1.0,
            vf_true_weight=1.0,
            aux_lr=5e-4,
            augmentation=augmentation,
        ),
        micro_batch_size=MICRO_BATCH,
        threads=threads(),
        generator=np.random.default_rng(0),
    )


def augmenting(segments: int, steps: int, rounds: int, progress: Progress) -> list[Row]:
    """Compare an auxiliary epoch of the default network with and without augmentation."""
    rows = random_minibatch(segments * steps)
    store, state = filled_store(rows, segments), recorded(rows)

    def epoch(augmentation: Any) -> Callable[[], object]:
        learner = make_learner(segments, augmentation)
        return lambda: learner.begin_aux_phase(store, state).run()

    variants = {CLEAN: epoch(None), **{name: epoch(how) for name, how in AUGMENTED.items()}}
    seconds = interleave(variants, rounds, progress)
    return [
        speed_row(
            "recipes",
            f"auxiliary epoch, detach, {name}",
            seconds,
            ours=name,
            against=CLEAN,
            amount=len(rows),
            unit="rows/s",
            target=1 / 1.05,
        )
        for name in AUGMENTED
    ]
