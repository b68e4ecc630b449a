"""Steps/s of a rollout: our worker, RLlib's stock worker and a bare loop, 64 games each."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from benchmarks.bare import BareRollout
from benchmarks.measure import Progress, Row, interleave, speed_row
from benchmarks.work import DEFAULT, ENV_CONFIG, SEED, procgen_arguments, threads
from rllib_ppg._ray_compat import EnvContext, RolloutWorker
from rllib_ppg.algorithm.config import PPGConfig
from rllib_ppg.algorithm.policy import PPGTorchPolicy
from rllib_ppg.core.networks import Arch
from rllib_ppg.envs.procgen import make_procgen

BARE = "bare loop"


def config(arch: Arch, num_envs: int, steps: int, workers: int = 0) -> PPGConfig:
    """Return the configuration whose rollouts are measured."""
    return (
        PPGConfig()
        .environment("procgen", env_config=ENV_CONFIG)
        .env_runners(num_env_runners=workers, num_envs=num_envs, rollout_fragment_length=steps)
        .training(model=DEFAULT.model_config(arch), n_pi=1, nminibatch=1, aux_mbsize=num_envs)
        .debugging(seed=SEED)
    )


def stock_worker(settings: PPGConfig) -> RolloutWorker:
    """Return RLlib's own rollout worker on the same environment and network."""

    def creator(context: EnvContext) -> Any:
        context.num_envs = settings.num_envs
        context.seed = settings.seed
        return make_procgen(context)

    stock = settings.copy(copy_frozen=False)
    stock.enable_connectors = True
    return RolloutWorker(
        env_creator=creator, config=stock, default_policy_class=PPGTorchPolicy, num_workers=0
    )


def run(quick: bool, progress: Progress) -> list[Row]:
    """Measure local sampling on both networks, then one remote worker."""
    num_envs, steps, rounds = (4, 4, 1) if quick else (64, 8, 11)
    table = _local("detach", num_envs, steps, rounds, progress, stock=True)
    table += _local("dual", num_envs, steps, rounds, progress, stock=False)
    return [*table, _remote("detach", num_envs, steps, rounds, progress)]


def _local(
    arch: Arch, num_envs: int, steps: int, rounds: int, progress: Progress, *, stock: bool
) -> list[Row]:
    algorithm = config(arch, num_envs, steps).build_algo()
    bare = BareRollout(DEFAULT.build(arch), num_envs, procgen_arguments(), rand_seed=SEED)
    worker = algorithm.env_runner
    variants = {"ours": worker.sample, BARE: lambda: bare.play(steps)}
    if stock:
        theirs = stock_worker(algorithm.config)
        variants["RLlib's stock worker"] = theirs.sample
    torch.set_num_threads(threads())
    seconds = interleave(variants, rounds, lambda text: progress(f"rollouts, {arch}: {text}"))
    common: dict[str, Any] = {"amount": num_envs * steps, "unit": "steps/s", "against": BARE}
    table = [
        speed_row(
            "rollouts",
            f"rollout of {num_envs} games, {arch}, learner's process",
            seconds,
            ours="ours",
            target=0.90,
            **common,
        )
    ]
    if stock:
        what = f"rollout of {num_envs} games, {arch}: RLlib's stock worker"
        table.append(speed_row("rollouts", what, seconds, ours="RLlib's stock worker", **common))
        theirs.stop()
    bare.close()
    algorithm.stop()
    return table


def _remote(arch: Arch, num_envs: int, steps: int, rounds: int, progress: Progress) -> Row:
    """One remote worker has one core, so the bare loop gets one thread too."""
    algorithm = config(arch, num_envs, steps, workers=1).build_algo()
    bare = BareRollout(DEFAULT.build(arch), num_envs, procgen_arguments(), rand_seed=SEED)
    group = algorithm.env_runner_group

    def sample() -> None:
        group.foreach_env_runner(lambda worker: worker.sample(), local_env_runner=False)

    torch.set_num_threads(1)
    seconds = interleave(
        {"ours": sample, BARE: lambda: bare.play(steps)},
        rounds,
        lambda text: progress(f"rollouts, one remote worker: {text}"),
    )
    torch.set_num_threads(threads())
    bare.close()
    algorithm.stop()
    row = speed_row(
        "rollouts",
        f"rollout of {num_envs} games, {arch}, one remote worker",
        seconds,
        ours="ours",
        against=BARE,
        amount=num_envs * steps,
        unit="steps/s",
        target=0.90,
    )
    return dataclasses.replace(row, note="One core each; includes the transfer of the rollout.")
