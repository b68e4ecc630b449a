"""The policy of a checkpoint: read without an environment, described, and acting the same."""

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from ray import cloudpickle

from rllib_ppg import PPGConfig, UserError
from rllib_ppg._ray_compat import ModelCatalog
from rllib_ppg.algorithm.actions import action_spec, to_env_actions
from rllib_ppg.algorithm.checkpoint_files import POLICY_STATE, write_manifest
from rllib_ppg.algorithm.model import MLPModel
from rllib_ppg.algorithm.policy import PPGTorchPolicy
from rllib_ppg.algorithm.policy_export import (
    _env_actions,
    check_exportable,
    describe,
    read_policy,
    weights,
)
from rllib_ppg.core.exported import load_policy, save_policy

VECTORS = Box(-1, 1, (3,), np.float64)
IMAGES = Box(0, 255, (16, 16, 3), np.uint8)
SMALL_IMPALA = {"widths": [4], "hidden_size": 8, "blocks": 1}


def policy_of(
    observations: gym.Space, actions: gym.Space, env: Any = "Some-v1", **settings: Any
) -> PPGTorchPolicy:
    """Return a policy with random weights."""
    network = settings.pop("network", {})
    config = PPGConfig().environment(env, env_config=settings.pop("env_config", {}))
    config = config.training(model={"custom_model_config": network}).env_runners(**settings)
    torch.manual_seed(0)
    return PPGTorchPolicy(observations, actions, config.to_dict())


def checkpoint_of(policy: PPGTorchPolicy, folder: Path) -> Path:
    """Return a checkpoint folder with the policy as RLlib writes it, and our manifest."""
    policy.export_checkpoint(str((folder / POLICY_STATE).parent))
    write_manifest(folder, {})
    return folder


def exported(folder: Path, policy: PPGTorchPolicy) -> Any:
    read, env_steps = read_policy(checkpoint_of(policy, folder / "checkpoint"))
    return load_policy(save_policy(folder / "policy", describe(read, env_steps), weights(read)))


ONE_HEAD = {"arch": "shared", "aux_value_head": False}
SPACES = {
    "images, one value head": (IMAGES, Discrete(5), {"network": {**SMALL_IMPALA, **ONE_HEAD}}),
    "vectors, one value head": (VECTORS, Discrete(2), {"network": ONE_HEAD}),
    "images": (IMAGES, Discrete(5), {"network": SMALL_IMPALA}),
    "vectors of float64": (VECTORS, MultiDiscrete([2, 3]), {"network": {"arch": "shared"}}),
    "scalars": (Box(-1, 1, (), np.float32), Discrete(3, start=-1), {}),
    "categories": (Discrete(4), Box(-2, 3, (2, 2), np.float32), {"network": {"arch": "detach"}}),
    "categories from 5": (Discrete(4, start=5), Box(-2, 3, (2,), np.float64), {}),
    "whole numbers": (Box(0, 9, (3,), np.int32), Discrete(2), {"network": {"hiddens": [4]}}),
}


@pytest.mark.parametrize("kind", SPACES)
def test_an_exported_policy_plays_as_the_rollout_worker_does(tmp_path: Path, kind: str):
    observations, actions, settings = SPACES[kind]
    policy = policy_of(observations, actions, **dict(settings))
    loaded = exported(tmp_path, policy)
    observations.seed(1)
    obs = np.stack([observations.sample() for _ in range(7)])
    with torch.inference_mode():
        logits, _ = policy.network.policy(torch.from_numpy(obs))
    drawn = policy.action_spec.distribution(logits).sample(torch.Generator().manual_seed(2))
    expected = to_env_actions(drawn.numpy(), actions, SimpleNamespace(**policy.config))
    found = loaded.act(obs, generator=torch.Generator().manual_seed(2))
    assert np.array_equal(found, expected) and found.dtype == expected.dtype
    assert all(actions.contains(action) for action in found)


@pytest.mark.parametrize(
    ("settings", "temperature"),
    [({}, 1.0), ({"explore": False}, 0.0), ({"evaluation_temperature": 0.5}, 0.5)],
)
def test_an_exported_policy_has_the_temperature_of_its_evaluations(
    settings: dict[str, Any], temperature: float
):
    keys = {name: value for name, value in settings.items() if name != "evaluation_temperature"}
    policy = policy_of(IMAGES, Discrete(5), network=SMALL_IMPALA, **keys)
    policy.config.update(settings)
    assert describe(policy, 0).temperature == temperature


HALF = Box(np.float32([-1.0, -np.inf]), np.float32([2.0, np.inf]))


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(
    "space",
    [
        Box(-2, 3, (2,), np.float32),
        Box(0.1, 0.7, (2, 2), np.float64),
        Box(-2, 3, (2,), np.float16),
        Box(np.float32([-1.0, 0.3]), np.float32([2.0, 9.1])),
        HALF,
        MultiDiscrete([3, 4], start=[5, -1]),
        MultiDiscrete([3, 4], dtype=np.int32),
        Discrete(3, start=7),
    ],
)
def test_actions_are_mapped_as_in_training_to_the_last_bit(space: Any, normalize: bool, clip: bool):
    config = {"normalize_actions": normalize, "clip_actions": clip}
    spec, random = action_spec(space), np.random.default_rng(0)
    if spec.kind == "gaussian":
        actions = random.normal(scale=2, size=(50, *spec.shape)).astype(np.float32)
    else:
        actions = random.integers(0, 3, (50, *spec.shape))
    expected = to_env_actions(actions, space, SimpleNamespace(**config))
    found = _env_actions(space, config)(actions)
    assert np.array_equal(found, expected) and found.dtype == expected.dtype


def test_a_description_says_what_was_trained_on_what(tmp_path: Path):
    policy = policy_of(
        Box(0, 255, (64, 64, 6), np.uint8),
        Discrete(15),
        env="procgen",
        env_config={"env_name": "starpilot", "frame_stack": 2},
        network={**SMALL_IMPALA, "arch": "detach"},
    )
    policy.on_global_var_update({"timestep": 12_345})
    meta = exported(tmp_path, policy).meta
    assert (meta.env, meta.env_steps, meta.frame_stack) == ("procgen", 12_345, 2)
    assert meta.env_options["env_name"] == "starpilot"
    assert meta.env_options["distribution_mode"] == "hard"  # a default
    assert (meta.network.kind, meta.network.arch) == ("impala", "detach")
    sizes = {"widths": [4], "hidden_size": 8, "blocks": 1}
    assert meta.network.encoder == {**sizes, "dropout": 0.0, "frame_differences": False}


def test_a_network_without_auxiliary_head_is_exported_without_it(tmp_path: Path):
    policy = policy_of(VECTORS, Discrete(2), network=ONE_HEAD)
    loaded = exported(tmp_path, policy)
    assert not loaded.meta.network.aux_value_head and loaded.network.aux_value_head is None
    assert set(loaded.network.state_dict()) == set(policy.network.state_dict())
    assert not any("aux" in name for name in weights(policy))
    obs = torch.randn(3, 3)
    with torch.no_grad():
        assert torch.equal(loaded.network.value(obs), policy.network.value(obs))


@pytest.mark.parametrize("model", ["ppg_random", "ppg_encoder"])
def test_a_network_that_data_does_not_describe_is_not_exported(model: str):
    policy = SimpleNamespace(config={"model": {"custom_model": model}})
    with pytest.raises(UserError, match=f"'{model}'; only ppg_impala and ppg_mlp can be"):
        check_exportable(policy)  # type: ignore[arg-type]


class NoJson:
    def __str__(self) -> str:
        return "a thing"


def test_options_that_are_no_json_become_text(tmp_path: Path):
    options = {"a": (1, np.float32(2)), "b": {"c": float("inf")}, "d": NoJson(), "e": None}
    cloudpickle.register_pickle_by_value(__import__(__name__))
    meta = exported(tmp_path, policy_of(VECTORS, Discrete(2), env_config=options)).meta
    assert meta.env_options == {"a": [1, "2.0"], "b": {"c": "inf"}, "d": "a thing", "e": None}


def change(folder: Path, **keys: Any) -> None:
    """Change a checkpoint's policy state; `config` is changed key by key."""
    path = folder / POLICY_STATE
    state = cloudpickle.loads(path.read_bytes())
    spec = state["policy_spec"]
    spec["config"] = {**spec["config"], **keys.pop("config", {})}
    spec.update(keys)
    replace(folder, cloudpickle.dumps(state))


def replace(folder: Path, content: bytes) -> None:
    """Give a checkpoint another policy state, as if it had been written so."""
    (folder / POLICY_STATE).write_bytes(content)
    write_manifest(folder, {})


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return checkpoint_of(policy_of(VECTORS, Discrete(2)), tmp_path / "checkpoint")


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_policy(folder)
    message = str(caught.value)
    assert str(folder) in message and "\n" not in message
    return message


def test_a_policy_trained_on_gpus_is_read_as_one_network_on_the_cpu(checkpoint: Path):
    change(checkpoint, config={"num_gpus": 2, "_fake_gpus": True})
    policy, _ = read_policy(checkpoint)
    assert policy.device == torch.device("cpu") and len(policy.model_gpu_towers) == 1


def test_another_algorithms_policy_is_refused(checkpoint: Path):
    for kind in ("PPOTorchPolicy", dict):
        change(checkpoint, policy_class=kind)
        assert "not one of PPG" in refusal(checkpoint)


def test_a_model_that_nobody_registered_is_refused(checkpoint: Path):
    model = policy_of(VECTORS, Discrete(2)).config["model"]
    change(checkpoint, config={"model": {**model, "custom_model": "nobodys"}})
    assert "'nobodys', which is not registered" in refusal(checkpoint)


def test_a_model_of_the_users_own_is_read_but_not_described(checkpoint: Path):
    ModelCatalog.register_custom_model("users_own", MLPModel)
    model = policy_of(VECTORS, Discrete(2)).config["model"]
    change(checkpoint, config={"model": {**model, "custom_model": "users_own"}})
    policy, _ = read_policy(checkpoint)
    with pytest.raises(UserError, match="'users_own'; only ppg_impala and ppg_mlp"):
        describe(policy, 0)


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps([1]), pickle.dumps({})])
def test_what_is_no_policy_state_is_refused(checkpoint: Path, content: bytes):
    replace(checkpoint, content)
    assert POLICY_STATE in refusal(checkpoint)


def test_a_truncated_state_is_refused(checkpoint: Path):
    whole = (checkpoint / POLICY_STATE).read_bytes()
    for size in range(0, len(whole), len(whole) // 20):
        replace(checkpoint, whole[:size])
        assert "cannot be read" in refusal(checkpoint)


def test_a_module_that_is_missing_is_named(checkpoint: Path):
    replace(checkpoint, b"cno_such_module\nThing\n.")
    assert "no_such_module" in refusal(checkpoint)
