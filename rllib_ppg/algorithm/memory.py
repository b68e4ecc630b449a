"""Algorithm: the memory that a run needs, compared with what is free before it starts."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from rllib_ppg.algorithm import resources
from rllib_ppg.algorithm.config import PPGConfig
from rllib_ppg.core.segments import SegmentStore
from rllib_ppg.envs.procgen_options import parse_options
from rllib_ppg.errors import UserError

LEARNER_BYTES = 1_200_000_000
"""A learner's own memory while it trains the default network on two threads, without frames
(measured 1.1 GB; with the libraries' pages, which processes share, 1.33 GB at its peak)."""

WORKER_BYTES = 800_000_000
"""A rollout worker's own memory without its rollout (measured 0.74 GB)."""


def memory_needs(
    config: PPGConfig,
    obs_shape: tuple[int, ...],
    obs_dtype: Any,
    *,
    frame_stack: int = 1,
    store_on_host: bool = True,
    processes: bool = True,
) -> dict[str, int]:
    """Bytes of host memory that a run needs at its peak, by part.

    Args:
        config: A checked configuration.
        obs_shape: Shape of one observation.
        obs_dtype: Its dtype.
        frame_stack: Frames of one observation, k.
        store_on_host: Whether the frame store stands there.
        processes: Whether the processes are still to be started, here.
    """
    needs = {"frame store": 0}
    if store_on_host:
        needs["frame store"] = config.store_bytes(obs_shape, obs_dtype, frame_stack)
    rollouts = SegmentStore.bytes_needed(
        config.num_envs,
        config.rollout_fragment_length,
        obs_shape,
        np.dtype(obs_dtype),
        frame_stack,
    )
    # A remote worker's arrays, and the copy of them that is on its way.
    needs["rollouts"] = rollouts * (2 if config.num_env_runners and processes else 1)
    if config.env == "procgen" and (processes or not config.num_env_runners):
        needs["counted frames"] = config.num_envs * parse_options(config.env_config).counted_bytes
    if processes:
        needs["learner"] = LEARNER_BYTES
        # Those beyond this machine's CPUs stand on others, or cannot stand at all.
        needs["workers"] = WORKER_BYTES * min(config.num_env_runners, resources.machine_cpus())
    return {part: size for part, size in needs.items() if size}


def check_memory(needs: Mapping[str, int], free: int, what: str) -> None:
    """Refuse a run that does not fit in memory.

    Args:
        needs: Bytes by part.
        free: Bytes that are free.
        what: Where that is, for the message.

    Raises:
        UserError: With all sizes and what to make smaller.
    """
    total = sum(needs.values())
    if total <= free:
        return
    parts = ", ".join(f"{part} {gigabytes(size)}" for part, size in needs.items())
    raise UserError(
        f"Training needs {gigabytes(total)} of memory ({parts}), but {what} has "
        f"{gigabytes(free)} free; lower num_envs, rollout_fragment_length or n_pi, frame_stack, "
        "num_env_runners or micro_batch_size where set, or use a larger machine."
    )


def gigabytes(size: int) -> str:
    """A number of bytes for a person."""
    return f"{size / 1e9:.2f} GB"
