"""What the sections share: sizes, networks, the environment's options, a private Ray."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import torch

from rllib_ppg.algorithm.resources import machine_cpus
from rllib_ppg.app.cluster import RaySettings, session
from rllib_ppg.core.encoders import ImpalaEncoder
from rllib_ppg.core.networks import Arch, PhasicNetwork
from rllib_ppg.envs.procgen_options import parse_options

ACTIONS = 15
ENV_CONFIG = {"env_name": "starpilot", "distribution_mode": "easy"}
SEED = 1


@dataclass(frozen=True)
class Network:
    """Sizes of an IMPALA network for frames (64, 64, 3)."""

    widths: tuple[int, ...] = (16, 32, 32)
    hidden_size: int = 256
    blocks: int = 2

    def build(self, arch: Arch) -> PhasicNetwork:
        """Return a network, the same in every call."""
        torch.manual_seed(SEED)
        return PhasicNetwork(
            lambda: ImpalaEncoder(
                (64, 64, 3),
                widths=self.widths,
                hidden_size=self.hidden_size,
                blocks=self.blocks,
            ),
            ACTIONS,
            arch=arch,
        )

    def model_config(self, arch: Arch) -> dict[str, object]:
        """Return the same network as RLlib's `model`."""
        settings = {
            "arch": arch,
            "widths": list(self.widths),
            "hidden_size": self.hidden_size,
            "blocks": self.blocks,
        }
        return {"custom_model": "ppg_impala", "custom_model_config": settings}


DEFAULT = Network()
SMALL = Network((4, 8, 8), 32, 1)


def threads() -> int:
    """Cores that every variant gets."""
    return machine_cpus()


def procgen_arguments() -> dict[str, object]:
    """Arguments of `ProcgenGym3Env` for the games that all sections play."""
    return parse_options(ENV_CONFIG).gym3_arguments()


@contextmanager
def private_ray(num_cpus: int | None = None) -> Iterator[None]:
    """Context with a quiet Ray of its own; nothing of it is left afterwards."""
    # One CPU more than there are for the learner: a worker works while the learner waits.
    settings = RaySettings(
        num_cpus=num_cpus or threads() + 1, num_gpus=0, object_store_memory=1024**3
    )
    with session(settings):
        yield


def settle(limit: int = 20, busy: float = 10.0) -> None:
    """Wait until the machine's cores idle: Ray starts processes ahead of time, for seconds.

    Args:
        limit: Most seconds to wait.
        busy: Percent of use that counts as idle.
    """
    for _ in range(limit):
        if psutil.cpu_percent(interval=1.0) < busy:
            return
