"""Where the frame store stands, and what has to stay free beside it."""

from typing import Any

import pytest
import torch

from rllib_ppg import PPGConfig
from rllib_ppg.algorithm.store_place import (
    RESERVE,
    activation_bytes,
    choose_place,
    free_gpu_memory,
    gpu_margin,
)
from rllib_ppg.core.encoders import MLPEncoder
from rllib_ppg.core.networks import PhasicNetwork
from rllib_ppg.errors import UserError

CPU, FIRST, SECOND = torch.device("cpu"), torch.device("cuda:0"), torch.device("cuda:1")
GB = 10**9


def place(store_device: str, needed: int, free: dict[torch.device, int]) -> Any:
    return choose_place(store_device, needed * GB, {k: v * GB for k, v in free.items()}, 3 * GB)


def test_auto_takes_the_gpu_where_store_and_training_fit():
    assert place("auto", 6, {FIRST: 9}) == ((FIRST,), False)
    assert place("auto", 6, {FIRST: 8}) == ((CPU,), True)


def test_on_several_gpus_there_is_a_copy_on_each_if_all_have_room():
    assert place("auto", 6, {FIRST: 16, SECOND: 9}) == ((FIRST, SECOND), False)
    assert place("auto", 6, {FIRST: 16, SECOND: 8}).on_host
    assert place("cuda", 6, {FIRST: 9, SECOND: 9}).devices == (FIRST, SECOND)


def test_host_memory_is_pinned_for_a_gpu_only():
    assert place("cpu", 6, {FIRST: 80}) == ((CPU,), True)
    assert place("cpu", 6, {}) == place("auto", 6, {}) == ((CPU,), False)


def test_a_gpu_that_is_too_small_is_refused_with_the_numbers():
    with pytest.raises(UserError) as error:
        place("cuda", 6, {FIRST: 16, SECOND: 8})
    message = str(error.value)
    assert "needs 6.0 GB and training 3.0 GB" in message and "8.0 GB free" in message
    assert "use auto, or lower num_envs" in message


def test_a_gpu_store_without_a_gpu_is_refused_before_training(ray_local):
    config = PPGConfig().environment("CartPole-v1").training(store_device="cuda")
    with pytest.raises(UserError, match=r"store_device='cuda' needs a learner on a GPU"):
        config.build_algo()


def network(arch: str) -> PhasicNetwork:
    return PhasicNetwork(lambda: MLPEncoder(3, hiddens=(8,)), 5, arch=arch)


@pytest.mark.parametrize(("arch", "encoders"), [("dual", 2), ("shared", 1)])
def test_activations_are_what_the_backward_pass_reads_each_once(arch: str, encoders: int):
    # The observation (3 floats), and each encoder's tanh (8 floats), which its heads read too.
    expected = 4 * (3 + 8 * encoders)
    assert activation_bytes(network(arch), torch.zeros(1, 3)) == expected
    assert gpu_margin(network(arch), torch.zeros(1, 3), 100) == RESERVE + 100 * expected


def test_only_gpus_count():
    assert free_gpu_memory([CPU, CPU]) == {}
