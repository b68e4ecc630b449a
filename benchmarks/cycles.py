"""Steps/s of whole phases (policy iterations and auxiliary phase), beside the sum of bare parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks import single_file
from benchmarks.bare import (
    BareRollout,
    FastestLoop,
    aux_phase_loss,
    generalized_advantages,
    minibatches,
    policy_phase_loss,
    random_minibatch,
    reward_scale,
)
from benchmarks.measure import Progress, Row, interleave, speed_row
from benchmarks.phases import MICRO_BATCH
from benchmarks.work import (
    DEFAULT,
    ENV_CONFIG,
    SEED,
    Network,
    procgen_arguments,
    threads,
)
from rllib_ppg.algorithm.config import PPGConfig
from rllib_ppg.core.networks import Arch

BARE = "sum of the bare parts"
SINGLE = "single-file PPG"


@dataclass(frozen=True)
class Setting:
    """One measured setting; the names are those of `PPGConfig`."""

    arch: Arch
    num_envs: int
    steps: int
    n_pi: int = 2
    n_aux_epochs: int = 2
    nminibatch: int = 1
    aux_mbsize: int = 32
    workers: int = 0
    network: Network = DEFAULT

    @property
    def env_steps(self) -> int:
        """Environment steps of a phase."""
        return self.num_envs * self.steps * self.n_pi

    def __str__(self) -> str:
        """Describe the setting for the table."""
        where = f"{self.workers} remote" if self.workers else "local"
        return (
            f"{self.arch}, N = {self.num_envs}, T = {self.steps}, n_pi = {self.n_pi}, "
            f"E_aux = {self.n_aux_epochs}, {where}"
        )

    def config(self, **changes: Any) -> PPGConfig:
        """Return our configuration, with the single-file PPG's clipping."""
        return (
            PPGConfig()
            .environment("procgen", env_config=ENV_CONFIG)
            .env_runners(
                num_env_runners=self.workers,
                num_envs=self.num_envs,
                rollout_fragment_length=self.steps,
            )
            .training(
                model=self.network.model_config(self.arch),
                n_pi=self.n_pi,
                n_aux_epochs=self.n_aux_epochs,
                nminibatch=self.nminibatch,
                aux_mbsize=self.aux_mbsize,
                aux_slice_s=1e6,
                grad_clip=single_file.GRAD_CLIP,
                value_clip_param=single_file.VALUE_CLIP,
                vf_loss_coeff=single_file.VALUE / 2,
                learner_threads=threads(),
            )
            .debugging(seed=SEED)
            .update_from_dict(changes)
        )


def our_cycle(algorithm: Any, setting: Setting) -> Callable[[], object]:
    """Return a function that trains one whole phase."""
    iterations = setting.n_pi + 1 + setting.n_aux_epochs  # the old policy's pass is one too

    def cycle() -> None:
        for _ in range(iterations):
            result = algorithm.train()
        stats = result["info"]["learner"]["default_policy"]["learner_stats"]
        assert stats["phase"]["stored_segments"] == 0, "a phase is over"

    return cycle


class BareCycle:
    """The parts of a phase one after the other, on rows that lie there ready.

    Args:
        setting: The sizes.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.network = setting.network.build(setting.arch)
        self.learner = FastestLoop(self.network, threads=threads(), micro_batch=MICRO_BATCH)
        self.rollout = BareRollout(
            self.network, setting.num_envs, procgen_arguments(), rand_seed=SEED
        )
        self.rows = random_minibatch(setting.env_steps)

    def __call__(self) -> None:
        """Run one phase."""
        setting = self.setting
        size = setting.num_envs * setting.steps
        for iteration in minibatches(self.rows, size):
            # Remote workers have one core each.
            torch.set_num_threads(setting.workers or threads())
            rewards = self.rollout.play(setting.steps)
            if setting.arch == "dual":
                self.learner.forward(self.network.value, iteration.obs)
            returns(rewards)
            for rows in minibatches(iteration, size // setting.nminibatch):
                self.learner.step(policy_phase_loss, rows)
        self.learner.forward(lambda obs: self.network.policy(obs)[0], self.rows.obs)
        for _ in range(setting.n_aux_epochs):
            for rows in minibatches(self.rows, setting.aux_mbsize * setting.steps):
                self.learner.step(aux_phase_loss, rows)

    def close(self) -> None:
        """Free games and threads."""
        self.rollout.close()
        self.learner.close()


def returns(rewards: np.ndarray) -> np.ndarray:
    """Reward normalisation and GAE of a rollout (T, N) by the book."""
    nothing = np.zeros_like(rewards)
    scaled = rewards / reward_scale(rewards, nothing, 0.99)
    return generalized_advantages(
        scaled, nothing, nothing[0], nothing, gamma=single_file.GAMMA, lambda_=single_file.LAMBDA
    )


def single_file_sizes(setting: Setting) -> single_file.Sizes:
    """Return the setting as the single-file PPG takes it."""
    return single_file.Sizes(
        setting.num_envs,
        setting.steps,
        setting.n_pi,
        setting.n_aux_epochs,
        setting.nminibatch,
        setting.aux_mbsize,
    )


QUICK = [Setting("detach", 2, 8, n_aux_epochs=1, nminibatch=2, aux_mbsize=2)]
# Minibatches of 512 rows, so that a phase takes seconds.
FULL = [
    Setting("detach", 32, 16),
    Setting("detach", 64, 8, n_pi=1, n_aux_epochs=6, aux_mbsize=64),
    Setting("dual", 32, 16),
    Setting("detach", 32, 16, workers=1),
]


def run(quick: bool, progress: Progress) -> list[Row]:
    """Measure every setting; the single-file PPG too where it has the same network."""
    table = []
    for setting in QUICK if quick else FULL:
        table += compare(setting, 1 if quick else 3, progress)
    return table


def compare(setting: Setting, rounds: int, progress: Progress) -> list[Row]:
    """Measure one setting; there is no warm-up, a phase takes seconds."""
    torch.set_num_threads(threads())
    algorithm = setting.config().build_algo()
    bare = BareCycle(setting)
    variants: dict[str, Callable[[], object]] = {"ours": our_cycle(algorithm, setting), BARE: bare}
    script = None
    if setting.arch == "detach" and not setting.workers:
        script = single_file.SingleFilePPG(single_file_sizes(setting), procgen_arguments())
        variants[SINGLE] = script.cycle
    seconds = interleave(
        variants, rounds, lambda text: progress(f"{setting}: {text}"), warm_up=False
    )
    targets = {BARE: 0.93, SINGLE: 1.05}
    table = [
        speed_row(
            "cycles",
            f"phase, {setting}",
            seconds,
            ours="ours",
            against=other,
            amount=setting.env_steps,
            unit="steps/s",
            target=targets[other],
        )
        for other in variants
        if other != "ours"
    ]
    algorithm.stop()
    bare.close()
    if script is not None:
        script.close()
    return table
