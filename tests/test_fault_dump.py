"""A trial that a number stops leaves a dump in its results, which shows the fault again."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from pyarrow.fs import LocalFileSystem, SubTreeFileSystem
from ray import cloudpickle
from toy_envs import EchoEnv

from rllib_ppg import PPG, PPGConfig
from rllib_ppg.algorithm import fault_dump
from rllib_ppg.core.fault_files import read_dump
from rllib_ppg.core.fault_replay import Diagnosis, diagnose

cloudpickle.register_pickle_by_value(sys.modules[__name__])

SIZES = {
    "num_envs": 4, "rollout_fragment_length": 8, "n_pi": 1, "nminibatch": 2, "aux_mbsize": 2,
    "n_aux_epochs": 1, "seed": 3, "model": {"custom_model_config": {"hiddens": [8]}},
    "num_env_runners": 0,
}  # fmt: skip
# Finite rewards whose squared value error is not.
HUGE = {"env_config": {"rewards": [1e30] * 16}, "normalize_rewards": False}


class CountedFromThree(EchoEnv):
    """Observations are categories from 3 on."""

    def _obs(self) -> Any:
        return np.int64(3 + self.count % 2)


def build(env: Any = EchoEnv, **changes: Any) -> PPG:
    return PPGConfig().environment(env).update_from_dict({**SIZES, **HUGE, **changes}).build_algo()


def message_of(algorithm: PPG) -> str:
    with pytest.raises(FloatingPointError) as error:
        for _ in range(4):
            algorithm.train()
    return str(error.value)


def replayed(algorithm: PPG, steps: int = 0) -> Diagnosis:
    folder = Path(algorithm.logdir) / f"numeric_fault_{steps}"
    return diagnose(read_dump(folder), folder)


def test_a_policy_phases_fault_leaves_a_dump_that_repeats_it(ray_local):
    algorithm = build()
    message = message_of(algorithm)
    assert "loss_vf became inf" in message
    assert message.endswith(f"rllib replay {algorithm.logdir}/numeric_fault_0")
    found = replayed(algorithm)
    assert found.repeats and found.losses["loss_vf"] == np.inf
    assert any("normalize_rewards" in line for line in found.advice)
    dump = read_dump(Path(algorithm.logdir) / "numeric_fault_0")
    assert dump.facts["settings"]["nminibatch"] == 2 and dump.facts["lr"] == 5e-4
    assert dump.versions.keys() == {"rllib_ppg", "python", "torch", "numpy"}


def test_an_auxiliary_phases_fault_leaves_one_too(ray_local):
    algorithm = build(normalize_rewards=True)
    algorithm.train()
    targets = algorithm._store.value_targets
    targets[: algorithm._store.count] = 1e30
    algorithm._aux_phase = algorithm._learner.begin_aux_phase(algorithm._store)
    message = message_of(algorithm)
    assert "vf_aux became inf" in message and "auxiliary-phase minibatch 1 of 2" in message
    found = replayed(algorithm, 32)
    assert found.repeats and found.losses["vf_aux"] == np.inf
    dump = read_dump(Path(algorithm.logdir) / "numeric_fault_32")
    counts = {k: v for k, v in dump.group("optimizer").items() if k.endswith("/step")}
    # 2 minibatches in one joint epoch were made before, none of the auxiliary phase.
    assert {float(v) for k, v in counts.items() if k.startswith("joint/")} == {2.0}
    assert {float(v) for k, v in counts.items() if k.startswith("aux/")} == {0.0}


def test_a_fault_of_a_pass_with_dropout_comes_again_with_what_was_left_out(ray_local):
    network = {
        "arch": "shared", "aux_value_head": False, "widths": [2], "hidden_size": 8, "blocks": 1,
        "previous_action": True, "dropout": 0.5,
    }  # fmt: skip
    frames = {"observation_space": Box(0, 255, (8, 8, 3), np.uint8)}
    algorithm = build(
        env_config=frames, optimizers="one", model={"custom_model_config": network},
        aux_augmentation="random_translate",
    )  # fmt: skip
    algorithm.train()
    algorithm._store.value_targets[: algorithm._store.count] = 1e30
    algorithm._aux_phase = algorithm._learner.begin_aux_phase(algorithm._store)
    assert "vf_true became inf" in message_of(algorithm)
    folder = Path(algorithm.logdir) / "numeric_fault_32"
    kept = read_dump(folder).group("minibatch/kept")
    assert kept.keys() == {"stage0", "dense"} and not all(mask.all() for mask in kept.values())
    found = replayed(algorithm, 32)
    assert found.repeats and found.losses["vf_true"] == np.inf
    # The old policy was recorded with the same weights, and without dropout.
    assert found.losses["pol_distance"] > 1e-6


def test_categories_that_do_not_start_at_zero_are_replayed_as_they_were(ray_local):
    space = {"observation_space": Discrete(2, start=3), **HUGE["env_config"]}
    algorithm = build(CountedFromThree, env_config=space)
    message_of(algorithm)
    found = replayed(algorithm)
    assert found.repeats and np.isfinite(found.losses["entropy"])
    observations = next(entry for entry in found.inputs if entry.name == "obs")
    assert (observations.least, observations.greatest) == (3.0, 4.0)


def test_a_dump_that_cannot_be_written_hides_no_error(ray_local):
    algorithm = build()
    algorithm._logdir = "/dev/null/trial"
    message = message_of(algorithm)
    assert "loss_vf became inf" in message
    assert "No dump of it could be written" in message and "Not a directory" in message


def test_storage_elsewhere_gets_a_copy(ray_local, tmp_path: Path):
    algorithm = build()
    (tmp_path / "bucket").mkdir()
    algorithm._storage = SimpleNamespace(
        trial_fs_path="run/trial",
        storage_filesystem=SubTreeFileSystem(str(tmp_path / "bucket"), LocalFileSystem()),
    )
    message = message_of(algorithm)
    algorithm._storage = None
    assert "a copy is in the storage, run/trial/numeric_fault_0" in message
    folder = tmp_path / "bucket" / "run" / "trial" / "numeric_fault_0"
    assert read_dump(folder).message == read_dump(f"{algorithm.logdir}/{folder.name}").message


def test_an_error_without_evidence_is_told_as_it_is(ray_local):
    algorithm = build()
    error = fault_dump.final_error(
        FloatingPointError("from elsewhere"),
        algorithm.get_policy(),
        algorithm._learner,
        env_steps=5,
        logdir="/dev/null",
        storage=None,
    )
    assert str(error) == "After 5 environment steps: from elsewhere"
