"""Observations and rewards that are not finite are found where an environment gives them."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray import cloudpickle
from toy_envs import CodedEnv, StackedEnv

from rllib_ppg import PPG, PPGConfig
from rllib_ppg._ray_compat import SampleBatch
from rllib_ppg.algorithm.sample_check import SampleCheck
from rllib_ppg.core.fault_files import read_dump
from rllib_ppg.core.numeric_fault import NumericFault
from rllib_ppg.envs.arrays import Transition

# Rollout workers do not find the folder of the tests, so these classes travel whole.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

ENVS, STEPS = 4, 6


class BrokenEnv(CodedEnv):
    """A `CodedEnv` whose environment `number` gives something broken at `count` of an episode."""

    def __init__(self, context: Mapping[str, Any]) -> None:
        super().__init__(context)
        self.broken = context["broken"] if self.number == context.get("number", 1) else None
        self.at = context.get("at", 2)
        self.value = context.get("value", np.nan)

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        obs, reward, terminated, truncated, info = super().step(action)
        if self.broken == "reward" and self.count == self.at:
            reward = self.value
        return obs, reward, terminated, truncated, info

    def _obs(self) -> np.ndarray:
        obs = super()._obs()
        if self.broken == "obs" and self.count == self.at:
            obs[1] = self.value
        return obs


class BrokenStacks(StackedEnv):
    """A `StackedEnv` whose second environment's newest frame is broken after two steps."""

    def step(self, actions: np.ndarray) -> Transition:
        transition = super().step(actions)
        if len(self.shown) == 3:
            transition.obs[1, -2] = np.inf
        return transition


def build(env: Any = BrokenEnv, workers: int = 0, **env_config: Any) -> PPG:
    sizes = {"num_envs": ENVS, "rollout_fragment_length": STEPS, "nminibatch": 1, "aux_mbsize": 1}
    config = PPGConfig().environment(env, env_config=env_config)
    return config.update_from_dict({**sizes, "num_env_runners": workers, "seed": 5}).build_algo()


def fault_of(algorithm: PPG) -> NumericFault:
    with pytest.raises(NumericFault) as error:
        algorithm.env_runner.sample()
    return error.value


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_observation_is_named_with_worker_environment_step_and_entries(ray_local, value):
    fault = fault_of(build(broken="obs", at=3, value=value))
    assert str(fault) == (
        "worker 0: environment 1 gave an observation that is not finite after step 2 of the "
        f"rollout: 1 of 3 entries, [1] (the first is {value}); observations must be finite."
    )


def test_the_rows_before_it_are_kept(ray_local):
    evidence = fault_of(build(broken="obs", at=3)).evidence
    rows = {name: tensor.numpy() for name, tensor in evidence.tensors.items()}
    expected = [[1, 0, 0], [1, 0, 1], [1, 0, 2], [1, np.nan, 3]]
    assert np.array_equal(rows["obs"], np.array(expected, np.float32), equal_nan=True)
    assert rows["actions"].shape == (3,) and rows["rewards"].shape == (3,)
    assert evidence.facts["what"] == "observation" and evidence.facts["environment"] == 1


def test_a_reward_is_named_and_its_rows_are_kept(ray_local):
    fault = fault_of(build(broken="reward", at=3, value=np.inf))
    assert str(fault) == (
        "worker 0: environment 1 gave the reward inf at step 2 of the rollout; rewards must be "
        "finite."
    )
    rows = fault.evidence.tensors
    assert rows["obs"].shape == (3, 3) and rows["actions"].shape == (3,)
    assert np.isfinite(rows["rewards"].numpy()).tolist() == [True, True, False]


def test_the_first_observation_is_looked_at(ray_local):
    assert "before the rollout's first step" in str(fault_of(build(broken="obs", at=0)))


def test_the_last_observation_of_a_cut_episode_is_looked_at(ray_local):
    # Environment 1 cuts its episodes after 5 steps; the observation there is no row of the batch.
    fault = fault_of(build(broken="obs", at=5, truncate=True))
    assert "environment 1 gave an observation" in str(fault) and "after step 4" in str(fault)


def test_a_stack_keeps_its_newest_frame(ray_local):
    fault = fault_of(build(BrokenStacks, frame_stack=2))
    assert "after step 1 of the rollout: 1 of 6 entries, [4]" in str(fault)
    assert fault.evidence.tensors["obs"].shape == (3, 3)


def test_a_sound_environment_passes(ray_local):
    rollout = build(broken=None).env_runner.sample()
    assert len(rollout.batch) == ENVS * STEPS


def test_bytes_are_not_looked_at():
    columns = {SampleBatch.REWARDS: np.zeros((2, 3)), SampleBatch.OBS: np.zeros((2, 3), np.uint8)}
    # None would fail in any look at it.
    SampleCheck(0, columns, 1).observations(0, None)


def test_a_workers_fault_stops_the_trial_and_leaves_its_rows(ray_local):
    # Environment 11 of `CodedEnv` is the second one of worker 1, 21 that of worker 2.
    algorithm = build(workers=2, broken="obs", number=21)
    with pytest.raises(FloatingPointError) as error:
        algorithm.train()
    message = str(error.value)
    assert message.startswith("After 0 environment steps: worker 2: environment 3 gave an obs")
    folder = Path(algorithm.logdir) / "numeric_fault_0"
    assert message.endswith(f"rllib replay {folder}")
    dump = read_dump(folder)
    assert dump.kind == "sample" and dump.group("sample")["obs"].shape == (3, 3)
    assert not dump.group("network")
