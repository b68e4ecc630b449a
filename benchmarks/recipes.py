"""What the challenge winners' parts cost: wrapped environments, augmented auxiliary phases."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.bare import random_minibatch
from benchmarks.measure import Progress, Row, Seconds, interleave, speed_row
from benchmarks.phases import MICRO_BATCH, filled_store, recorded
from benchmarks.work import ACTIONS, DEFAULT, ENV_CONFIG, SEED, threads
from rllib_ppg.core.distributions import ActionSpec
from rllib_ppg.core.learner import AuxPhaseSettings, PhasicLearner, PolicyPhaseSettings
from rllib_ppg.envs.procgen import make_procgen_array
from rllib_ppg.envs.procgen_library import game_names, import_procgen
from rllib_ppg.envs.procgen_options import parse_options

BARE, CLEAN = "bare stepping", "without augmentation"
SHOWN = ("bigfish", "starpilot", "maze", "coinrun", "jumper")  # from the cheapest to dear ones
PREVIOUS_ACTION, READ = "previous action", "frame_stack 2, every stack read"
WRAPPERS: dict[str, dict[str, Any]] = {
    "no option": {},
    "frame_stack 2": {"frame_stack": 2},
    READ: {"frame_stack": 2},
    PREVIOUS_ACTION: {},
    "no-op penalty": {"noop_reward": -0.1},
    "revisitation penalty": {"revisit_reward": -0.01},
    "counted frames": {"count_states": True},
    "all of them": {
        "frame_stack": 2, "noop_reward": -0.1, "revisit_reward": -0.01, "count_states": True,
    },
}  # fmt: skip
WITHOUT_TARGET = ("no option", "all of them")
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
    games, num_envs, steps, rounds = (SHOWN[:1], 4, 4, 1) if quick else (game_names(), 64, 16, 31)
    table = stepping(games, num_envs, steps, rounds, progress)
    segments, length, rounds = (2, 32, 1) if quick else (8, 256, 7)
    return [*table, *augmenting(segments, length, rounds, progress)]


def stepping(
    games: Sequence[str], num_envs: int, steps: int, rounds: int, progress: Progress
) -> list[Row]:
    """Compare games behind each wrapper, as a worker steps them, with the bare library.

    The target is that of the games together: a step of the dearest takes ten times as long as one
    of the cheapest.
    """
    single = {game: timed(game, num_envs, steps, rounds, progress) for game in games}
    together = {
        name: [sum(seconds) for seconds in zip(*(s[name] for s in single.values()), strict=True)]
        for name in (BARE, *WRAPPERS)
    }
    amount = steps * num_envs
    what = f"{num_envs} of each of {len(games)} games"
    rows = compared(what, together, amount * len(games), target=1 / 1.1)
    for game in SHOWN:
        if game in single:
            rows += compared(f"{num_envs} games of {game}", single[game], amount)
    return rows


def timed(
    game: str, num_envs: int, steps: int, rounds: int, progress: Progress
) -> dict[str, list[float]]:
    """Time the steps of a game, bare and behind each wrapper."""
    actions = np.random.default_rng(SEED).integers(0, ACTIONS, (steps, num_envs))
    options = {**ENV_CONFIG, "env_name": game}
    variants: dict[str, Callable[[], object]] = {BARE: bare(options, actions)}
    for name, added in WRAPPERS.items():
        before, read = name in (PREVIOUS_ACTION, "all of them"), name == READ
        variants[name] = wrapped(
            {**options, **added}, actions, previous_actions=before, read_stacks=read
        )
    return interleave(variants, rounds, lambda what: progress(f"{game}: {what}"))


def compared(
    what: str, seconds: Seconds, amount: float, *, target: float | None = None
) -> list[Row]:
    """Return a row for each wrapper."""
    return [
        speed_row(
            "recipes",
            f"{what}, {name}",
            seconds,
            ours=name,
            against=BARE,
            amount=amount,
            unit="steps/s",
            target=None if name in WITHOUT_TARGET else target,
        )
        for name in WRAPPERS
    ]


def bare(options: Mapping[str, Any], actions: np.ndarray) -> Callable[[], object]:
    """Return the plainest loop of the library: act, observe."""
    arguments = parse_options(options).gym3_arguments()
    games = import_procgen().ProcgenGym3Env(num=actions.shape[1], rand_seed=SEED, **arguments)

    def call() -> None:
        for row in actions:
            games.act(row)
            games.observe()

    return call


def wrapped(
    options: Mapping[str, Any],
    actions: np.ndarray,
    *,
    previous_actions: bool,
    read_stacks: bool = False,
) -> Callable[[], object]:
    """Return the same with our environments.

    Args:
        options: Their options.
        actions: (T, N).
        previous_actions: Whether what the network gets as previous actions is made, as a worker
            does, which has them anyway; nothing in the environments does it.
        read_stacks: Whether stacks are put together, as for a network.
    """
    env = make_procgen_array(options, actions.shape[1], rand_seed=SEED)

    def call() -> None:
        begun = np.ones(actions.shape[1], bool)
        before = np.zeros_like(actions)
        last = actions[0]
        for t, row in enumerate(actions):
            if previous_actions:
                before[t] = np.where(begun, 0, last)
                last = row
            transition = env.step(row)
            begun = transition.terminateds
            if read_stacks:
                _ = transition.obs

    return call


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
