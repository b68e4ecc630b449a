"""Memory that runs out while a run trains is told with the part and what to lower."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from app_helpers import SET_SMALL, command, trial
from ray import cloudpickle
from ray.exceptions import OutOfMemoryError

from rllib_ppg.algorithm.out_of_memory import AUXILIARY, POLICY, SAMPLING, memory_of
from rllib_ppg.app.report import cause_of
from rllib_ppg.errors import OutOfMemory

pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")

TOO_MUCH = 2**50  # bytes; a petabyte
ASKS = {
    "torch": (lambda: torch.empty(TOO_MUCH, dtype=torch.uint8), f"{TOO_MUCH} bytes"),
    "numpy": (lambda: np.ones(TOO_MUCH, np.uint8), "1.00 PiB"),
    "Python": (lambda: bytearray(TOO_MUCH), None),
}


@pytest.mark.parametrize("ask", ASKS)
@pytest.mark.parametrize("part", [SAMPLING, POLICY, AUXILIARY])
def test_whoever_allocates_the_part_and_the_size_are_named(part, ask: str):
    allocate, size = ASKS[ask]
    with pytest.raises(OutOfMemory) as error, memory_of(part):
        allocate()
    message = str(error.value)
    assert message.startswith(f"Memory ran out {part.name}") and f"Lower {part.lower}" in message
    assert (f"({size} more were asked for)" in message) == (size is not None)


def test_other_errors_and_those_told_already_pass():
    with pytest.raises(RuntimeError, match=r"^mat1 and mat2") as error, memory_of(POLICY):
        torch.ones(2, 3) @ torch.ones(2, 3)
    assert not isinstance(error.value, OutOfMemory)
    with pytest.raises(OutOfMemory, match="while sampling"), memory_of(POLICY), memory_of(SAMPLING):
        bytearray(TOO_MUCH)


LIMITED = """
import resource, sys
import numpy as np, torch
from rllib_ppg.algorithm.out_of_memory import AUXILIARY, POLICY, memory_of
from rllib_ppg.core.distributions import ActionSpec
from rllib_ppg.core.encoders import ImpalaEncoder
from rllib_ppg.core.learner import *
from rllib_ppg.core.networks import PhasicNetwork
from rllib_ppg.core.segments import SegmentStore

network = PhasicNetwork(lambda: ImpalaEncoder((64, 64, 3)), 15)
policy = PolicyPhaseSettings(1, 1, 1, 0.2, 0.0, 0.01, 0.5, 1e-3)
aux = AuxPhaseSettings(1, 64, 1.0, 1.0, 1e-3)
learner = PhasicLearner(
    network, ActionSpec("categorical", (15,)), policy, aux, generator=np.random.default_rng(0)
)
shape = (16, 128)
zeros = np.zeros(shape, np.float32)
obs = np.zeros((*shape, 64, 64, 3), np.uint8)
store = SegmentStore(16, 128, (64, 64, 3))
store.write(store.append(np.arange(16)), obs)
store.value_targets[:] = 0
# All rows in one pass keep several gigabytes for the gradient.
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 10**9, used + 10**9))
try:
    if sys.argv[1] == "policy":
        with memory_of(POLICY):
            learner.policy_phase(PolicyBatch(obs, zeros.astype(np.int64), *[zeros] * 4))
    else:
        with memory_of(AUXILIARY):
            phase = learner.begin_aux_phase(store)
            phase.epoch = 1
            phase.run()
except MemoryError as error:
    print(f"{type(error).__name__}: {error}")
"""


@pytest.mark.parametrize(
    ("phase", "name"),
    [pytest.param("policy", "policy", marks=pytest.mark.slow), ("aux", "auxiliary")],
)
def test_a_phase_that_reaches_the_processs_limit_says_what_to_lower(phase: str, name: str):
    run = subprocess.run(
        [sys.executable, "-c", LIMITED, phase], capture_output=True, text=True, timeout=120
    )
    assert run.stdout.startswith(f"OutOfMemory: Memory ran out in the {name} phase ("), run
    assert "bytes more were asked for). Lower micro_batch_size" in run.stdout


HUNGRY = """
import gymnasium as gym, numpy as np
from ray.tune.registry import register_env

class Hungry(gym.Env):
    observation_space = gym.spaces.Box(-1, 1, (4,), np.float32)
    action_space = gym.spaces.Discrete(2)
    steps = 0

    def __init__(self, config):
        pass

    def reset(self, *, seed=None, options=None):
        return np.zeros(4, np.float32), {}

    def step(self, action):
        Hungry.steps += 1
        if Hungry.steps > 200:
            np.ones(2**50, np.uint8)
        return np.zeros(4, np.float32), 1.0, False, False, {}

register_env("hungry", Hungry)
"""


def test_a_trial_without_memory_ends_once_and_for_good(capsys, ray_local, tmp_path: Path):
    module = tmp_path / "hungry_module.py"
    module.write_text(HUNGRY)
    run = command(
        capsys, "train", "--from", str(module), "--run", "PPG", "--env", "hungry",
        "--storage-path", str(tmp_path), "-n", "run", "--max-failures", "2",
        "--stop", "{training_iteration: 9}", "--checkpoint-freq", "1", *SET_SMALL,
    )  # fmt: skip
    assert run.code == 1 and "Traceback" not in run.out + run.err
    told = (
        "failed: OutOfMemory: Memory ran out while sampling (1.00 PiB more were asked for). Lower"
    )
    assert run.out.count(told) == 1, run.out


def test_rays_own_memory_monitor_is_told_in_the_same_words(tmp_path: Path):
    path = tmp_path / "error.pkl"
    path.write_bytes(cloudpickle.dumps(OutOfMemoryError("Task was killed due to the node ...")))
    cause = cause_of(trial(pickled_error_file=str(path)))
    assert cause.startswith("OutOfMemory: Ray's memory monitor stopped the trial")
    assert "Lower num_envs" in cause
