"""The memory that a run needs, by part, before it starts."""

from typing import Any

import numpy as np
import pytest

from rllib_ppg import PPGConfig
from rllib_ppg.algorithm import resources
from rllib_ppg.algorithm.memory import (
    LEARNER_BYTES,
    WORKER_BYTES,
    check_memory,
    memory_needs,
)
from rllib_ppg.envs.state_counts import FRAME_BYTES, MOST_FRAMES
from rllib_ppg.errors import UserError

FRAME = 64 * 64 * 3
LAYOUT = ((64, 64, 3), np.uint8)
N, T, N_PI = 16, 32, 4


def config(**changes: Any) -> PPGConfig:
    sizes = {"num_envs": N, "rollout_fragment_length": T, "n_pi": N_PI}
    made = PPGConfig().environment("procgen").update_from_dict({**sizes, **changes})
    made.validate()
    return made


def test_the_parts_are_those_of_the_arrays_and_processes():
    needs = memory_needs(config(), *LAYOUT)
    assert needs["frame store"] == pytest.approx(N_PI * N * T * FRAME, rel=1e-3)
    assert needs["rollouts"] == pytest.approx(N * T * FRAME, rel=1e-3)
    assert needs["learner"] == LEARNER_BYTES and "workers" not in needs


def test_remote_workers_add_themselves_and_rollouts_on_their_way():
    local, remote = (
        memory_needs(config(), *LAYOUT),
        memory_needs(config(num_env_runners=2), *LAYOUT),
    )
    assert remote["rollouts"] == 2 * local["rollouts"]
    assert remote["workers"] == min(2, resources.machine_cpus()) * WORKER_BYTES
    started = memory_needs(config(num_env_runners=2), *LAYOUT, processes=False)
    assert set(started) == {"frame store", "rollouts"}


def test_a_store_on_a_gpu_takes_no_host_memory():
    assert "frame store" not in memory_needs(config(), *LAYOUT, store_on_host=False)


def test_stacked_frames_count_once():
    single = memory_needs(config(), *LAYOUT)
    stacked = memory_needs(config(), (64, 64, 12), np.uint8, frame_stack=4)
    assert stacked["frame store"] < 1.12 * single["frame store"]  # three more in each 32 steps


GAMES = [
    ({"env_name": "coinrun"}, 1001),
    ({"env_name": "maze"}, 501),
    ({"env_name": "bigfish"}, 6001),
    ({"env_name": "jumper", "distribution_mode": "memory"}, 2001),
    ({"env_name": "coinrun", "use_sequential_levels": True}, MOST_FRAMES),
]


@pytest.mark.parametrize(("options", "frames"), GAMES)
@pytest.mark.parametrize("counting", [{"count_states": True}, {"revisit_reward": -0.01}])
def test_counted_frames_of_the_longest_episodes_are_part_of_it(options, frames: int, counting):
    needs = memory_needs(config(env_config={**options, **counting}), *LAYOUT)
    assert needs["counted frames"] == N * frames * FRAME_BYTES
    for remembering_none in ({}, {"noop_reward": -0.1}):
        plain = config(env_config={**options, **remembering_none})
        assert "counted frames" not in memory_needs(plain, *LAYOUT)


def test_counted_frames_stand_where_the_workers_do():
    counting = {"env_config": {"count_states": True}}
    local, remote = config(**counting), config(num_env_runners=2, **counting)
    assert "counted frames" in memory_needs(local, *LAYOUT, processes=False)
    assert "counted frames" in memory_needs(remote, *LAYOUT)
    assert "counted frames" not in memory_needs(remote, *LAYOUT, processes=False)


def test_what_does_not_fit_is_refused_with_every_part_and_what_to_lower():
    needs = {"frame store": 25_770_000_000, "learner": 700_000_000}
    check_memory(needs, 26_470_000_000, "this machine")
    with pytest.raises(UserError) as error:
        check_memory(needs, 16_000_000_000, "this machine")
    assert str(error.value) == (
        "Training needs 26.47 GB of memory (frame store 25.77 GB, learner 0.70 GB), but this "
        "machine has 16.00 GB free; lower num_envs, rollout_fragment_length or n_pi, frame_stack, "
        "num_env_runners or micro_batch_size where set, or use a larger machine."
    )
