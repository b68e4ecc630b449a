"""A trial of PBT goes on from exactly the other's checkpoint, with its new values everywhere."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray.tune.schedulers.pbt import _explore

from rllib_ppg import PPGConfig
from rllib_ppg.app.tune_schedulers import WithinSpaces, _mutations

SPACES = {
    "lr": {"loguniform": [1e-4, 1e-2]},
    "aux_lr": {"loguniform": [1e-4, 1e-2]},
    "entropy_coeff": {"choice": [0.0, 0.01]},
    "clip_param": {"uniform": [0.1, 0.4]},
}

CONFIG: dict[str, Any] = {
    "num_envs": 4, "rollout_fragment_length": 16, "n_pi": 2, "n_aux_epochs": 1, "aux_mbsize": 4,
    "nminibatch": 2, "n_epoch_pi": 2, "n_epoch_vf": 1, "num_env_runners": 0, "seed": 3,
    "lr": 1e-3, "aux_lr": 2e-3, "entropy_coeff": 0.01, "clip_param": 0.2, "aux_slice_s": 1e-4,
    "model": {"custom_model_config": {"hiddens": [8]}},
}  # fmt: skip


def rates(algorithm: Any) -> dict[str, float]:
    """The learning rate of every optimiser that there is."""
    optimizers = algorithm._learner._optimizers()
    return {name: each.param_groups[0]["lr"] for name, each in optimizers.items()}


def moments(algorithm: Any) -> list[np.ndarray]:
    state = algorithm._learner.get_state()["optimizers"]
    return [entry["exp_avg"] for kind in sorted(state) for entry in state[kind].values()]


@pytest.fixture
def source(ray_local: None, tmp_path: Path) -> Any:
    algorithm = PPGConfig().environment("CartPole-v1").update_from_dict(CONFIG).build_algo()
    for _ in range(4):  # two policy iterations, and into the auxiliary phase
        algorithm.train()
    algorithm.save(str(tmp_path / "checkpoint"))
    yield algorithm
    algorithm.stop()


def test_changed_learning_rates_reach_all_three_optimisers(source: Any, tmp_path: Path):
    perturbed, _ = _explore(CONFIG, _mutations(SPACES), 0.0, (1.2, 0.8), WithinSpaces(SPACES))
    assert perturbed["lr"] != CONFIG["lr"] and perturbed["aux_lr"] != CONFIG["aux_lr"]
    copy = PPGConfig().environment("CartPole-v1").update_from_dict(perturbed).build_algo()
    try:
        copy.restore(str(tmp_path / "checkpoint"))
        for a, b in zip(moments(copy), moments(source), strict=True):
            assert np.array_equal(a, b)
        own, others = copy.get_policy().get_weights(), source.get_policy().get_weights()
        assert all(np.array_equal(own[name], others[name]) for name in others)
        assert copy.training_iteration == source.training_iteration
        copy.train()
        assert rates(copy) == {
            "value": perturbed["lr"], "policy": perturbed["lr"], "aux": perturbed["aux_lr"],
        }  # fmt: skip
        assert copy._learner.entropy_coeff == perturbed["entropy_coeff"]
        assert copy._learner.policy_settings.clip_param == perturbed["clip_param"]
    finally:
        copy.stop()
