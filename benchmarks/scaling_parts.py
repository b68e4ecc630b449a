"""The measured parts of `benchmarks.scaling`: acting, the object store, an iteration's fixed costs.

Each is the fastest of some rounds: what else runs on the machine only adds.
"""

from __future__ import annotations

import numpy as np
import torch

from benchmarks import cycles
from benchmarks.machine import describe
from benchmarks.scaling import ARCHS, PHASES, Measured, Phase, best
from benchmarks.work import private_ray, settle, threads

ROWS, MEGABYTES = 64, 50
SMALL = {
    "num_envs": 8, "rollout_fragment_length": 4, "nminibatch": 1, "n_pi": 1000, "aux_mbsize": 8,
}  # fmt: skip


def measure() -> None:
    """Measure and print, beside what docs/scaling.md counts with."""
    call, row = acting()
    used = Measured()
    found = {
        "call, ms": (1e3 * call, 1e3 * used.call),
        "acting, steps/s and core": (1 / row, used.core.rollout),
        "object store, MB/s": (object_store() / 1e6, used.object_store / 1e6),
        "iteration, ms": (1e3 * iteration(), 1e3 * used.iteration),
    }
    for name, (ours, counted) in found.items():
        print(f"{name:26} {ours:10,.2f}   counted with {counted:,.2f}")
    print(
        ", ".join(f"{name} {value}" for name, value in describe(["scaling", "--measure"]).items())
    )


def measure_phases() -> None:
    """Measure and print whole phases with the cores that this process may use."""
    cores = threads()
    torch.set_num_threads(cores)
    with private_ray():
        settle()
        for phase in PHASES:
            if phase.cores == cores:
                print(f"{phase!s:50} {steps_per_s(phase):8.1f} steps/s on {cores} core(s)")
    facts = describe(["scaling", "--phases"])
    print(", ".join(f"{name} {value}" for name, value in facts.items()))


def steps_per_s(phase: Phase) -> float:
    """Steps/s of the faster of two phases."""
    sizes = phase.setting
    setting = cycles.Setting(
        ARCHS[sizes.encoders],
        sizes.num_envs,
        sizes.fragment,
        n_pi=sizes.n_pi,
        n_aux_epochs=sizes.aux_epochs,
        nminibatch=sizes.nminibatch,
        aux_mbsize=sizes.aux_rows // sizes.fragment,
    )
    algorithm = setting.config().build_algo()
    try:
        return setting.env_steps / best(cycles.our_cycle(algorithm, setting), rounds=2)
    finally:
        algorithm.stop()


def acting() -> tuple[float, float]:
    """Seconds of a pass on one thread besides its rows, and of a row with its game."""
    from rllib_ppg.core.encoders import ImpalaEncoder
    from rllib_ppg.core.networks import PhasicNetwork
    from rllib_ppg.envs.procgen_vector import ProcgenVectorEnv

    torch.set_num_threads(1)
    env = ProcgenVectorEnv({"env_name": "starpilot", "distribution_mode": "easy"}, ROWS)
    network = PhasicNetwork(lambda: ImpalaEncoder((64, 64, 3)), env.action_space.n, arch="detach")
    network = network.to(memory_format=torch.channels_last)
    actions = np.zeros(ROWS, np.int32)

    def step(rows: int) -> None:
        obs = torch.from_numpy(env.observe()[:rows])
        with torch.inference_mode():
            network.policy(obs)

    one, many = best(lambda: step(1)), best(lambda: step(ROWS))
    game = best(lambda: env.step(actions)) / ROWS
    row = (many - one) / (ROWS - 1)
    return one - row, row + game


def object_store() -> float:
    """Bytes/s from an actor's array to another of this process."""
    import ray

    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:

        @ray.remote
        class Worker:
            def __init__(self) -> None:
                self.array = np.ones(MEGABYTES * 10**6, np.uint8)

            def send(self) -> np.ndarray:
                return self.array

        worker, target = Worker.remote(), np.zeros(MEGABYTES * 10**6, np.uint8)
        return MEGABYTES * 1e6 / best(lambda: np.copyto(target, ray.get(worker.send.remote())))
    finally:
        ray.shutdown()


def iteration() -> float:
    """Seconds of a training iteration of next to no work."""
    from rllib_ppg import PPGConfig

    config = PPGConfig().environment("CartPole-v1").update_from_dict(SMALL)
    algorithm = config.build_algo()
    try:
        return best(algorithm.train)
    finally:
        algorithm.stop()
