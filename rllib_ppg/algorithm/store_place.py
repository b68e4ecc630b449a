"""Algorithm: where the frame store stands: on the learner's GPUs or in host memory."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rllib_ppg.algorithm import memory, resources
from rllib_ppg.algorithm.actions import start
from rllib_ppg.algorithm.config import PPGConfig
from rllib_ppg.algorithm.hardware import reserved_threads
from rllib_ppg.algorithm.model import is_image, observation_layout
from rllib_ppg.algorithm.policy import PPGTorchPolicy
from rllib_ppg.core.networks import PhasicNetwork
from rllib_ppg.core.segments import SegmentStore
from rllib_ppg.errors import UserError

RESERVE = 2 * 10**9
"""Bytes left free on a GPU beside activations: optimiser states, workspaces, fragments."""


class StorePlace(NamedTuple):
    """Where frames stand.

    Attributes:
        devices: One copy on each.
        pin_memory: Whether host memory is such that a GPU copies from it without waiting.
    """

    devices: tuple[torch.device, ...]
    pin_memory: bool

    @property
    def on_host(self) -> bool:
        """Whether the store takes host memory."""
        return self.devices[0].type == "cpu"


def make_store(
    config: PPGConfig, policy: PPGTorchPolicy, space: Any, frame_stack: int
) -> SegmentStore:
    """Make the learner's frame store.

    Args:
        config: The algorithm's configuration.
        policy: The learner's own policy, which stands on the learner's devices.
        space: Observation space.
        frame_stack: Frames of one observation, k.

    Raises:
        UserError: If the run does not fit in memory, on the host or on a GPU where that is asked.
    """
    shape, dtype = observation_layout(space)
    free = free_gpu_memory(policy.devices)
    margin = _margin(config, policy, space) if free else 0
    needed = config.store_bytes(shape, dtype, frame_stack)
    place = choose_place(config.store_device, needed, free, margin)
    needs = memory.memory_needs(
        config,
        shape,
        dtype,
        frame_stack=frame_stack,
        store_on_host=place.on_host,
        processes=False,
    )
    if policy.device.type == "cpu":
        needs["activations"] = _activations(config, policy, space)
    memory.check_memory(needs, resources.free_memory(), "the learner's machine")
    return SegmentStore(
        config.store_segments(),
        config.rollout_fragment_length,
        shape,
        dtype,
        frame_stack=frame_stack,
        devices=place.devices,
        pin_memory=place.pin_memory,
        with_prev_actions=policy.network.takes_prev_actions,
        with_returns=config.recomputes_targets,
    )


def _activations(config: PPGConfig, policy: PPGTorchPolicy, space: Any) -> int:
    """Bytes that the learner's passes on a CPU keep for their gradients, all threads together."""
    images, largest = is_image(space), config.minibatch_rows()
    threads = reserved_threads(config) if images else 1
    rows = threads * (config.rows_per_pass(images=images, gpu=False) or largest)
    return min(rows, largest) * activation_bytes(policy.network, _observation(space))


def _observation(space: Any) -> Tensor:
    """One observation (1, ...) of the space, a category being its first."""
    shape, dtype = observation_layout(space)
    return torch.from_numpy(np.full((1, *shape), start(space), dtype))


def _margin(config: PPGConfig, policy: PPGTorchPolicy, space: Any) -> int:
    observation = _observation(space).to(policy.device)
    largest = config.minibatch_rows()
    rows = config.rows_per_pass(images=is_image(space), gpu=True) or largest
    return gpu_margin(policy.network, observation, min(rows, largest))


def choose_place(
    store_device: str, needed: int, free: Mapping[torch.device, int], margin: int
) -> StorePlace:
    """Choose where the frame store stands.

    Args:
        store_device: The key `store_device`: auto, cpu or cuda.
        needed: Bytes of the store.
        free: Free bytes of each of the learner's GPUs; empty for a learner on a CPU.
        margin: Bytes that have to stay free there.

    Raises:
        UserError: If `cuda` is asked for and there is no GPU, or one is too small.
    """
    host = torch.device("cpu")
    if not free:
        if store_device == "cuda":
            raise UserError(
                "store_device=cuda, but the learner runs on the CPU; set num_gpus, or leave "
                "store_device at auto."
            )
        return StorePlace((host,), pin_memory=False)
    smallest = min(free.values())
    fits = needed + margin <= smallest
    if store_device == "cpu" or (store_device == "auto" and not fits):
        return StorePlace((host,), pin_memory=True)
    if not fits:
        raise UserError(
            f"store_device=cuda, but the frame store needs {needed / 1e9:.1f} GB and training "
            f"{margin / 1e9:.1f} GB on each GPU, and one has {smallest / 1e9:.1f} GB free; use "
            "auto, or lower num_envs, rollout_fragment_length or n_pi."
        )
    return StorePlace(tuple(free), pin_memory=False)


def gpu_margin(network: PhasicNetwork, observation: Tensor, rows: int) -> int:
    """Bytes that training needs on a GPU beside the store.

    Args:
        network: The network, on any device.
        observation: One observation (1, ...) on the same device.
        rows: Rows of the largest forward and backward pass.
    """
    return RESERVE + rows * activation_bytes(network, observation)


def activation_bytes(network: PhasicNetwork, observation: Tensor) -> int:
    """Bytes that a forward pass keeps for the backward pass, for one row in float32.

    Args:
        network: The network, on any device.
        observation: One observation (1, ...) on the same device.
    """
    parameters = {parameter.data_ptr() for parameter in network.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in parameters:
            kept[tensor.data_ptr()] = tensor.nbytes
            held.append(tensor)  # else its memory, and address, could be used again
        return tensor

    zeros = torch.zeros(len(observation), dtype=torch.int64, device=observation.device)
    held: list[Tensor] = []
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        network(observation, zeros)
    return sum(kept.values())


def free_gpu_memory(devices: list[torch.device]) -> dict[torch.device, int]:
    """Free bytes of each GPU among the learner's devices."""
    return {
        device: torch.cuda.mem_get_info(device)[0] for device in devices if device.type == "cuda"
    }
