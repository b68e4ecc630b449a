from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from toy_envs import EchoEnv

from rllib_ppg import PPGConfig
from rllib_ppg._ray_compat import ModelCatalog, TorchModelV2
from rllib_ppg.algorithm.model import MLPModel
from rllib_ppg.errors import UserError


def build(action_space: Any = None, **changes: Any) -> Any:
    env_config = {} if action_space is None else {"action_space": action_space}
    config = PPGConfig().environment(EchoEnv, env_config=env_config)
    small = {"num_envs": 2, "rollout_fragment_length": 4, "nminibatch": 1, "aux_mbsize": 1}
    return config.update_from_dict({**small, "seed": 1, **changes}).build_algo()


def test_the_policys_network_is_the_one_that_learns(ray_local):
    algorithm = build()
    policy = algorithm.get_policy()
    assert policy.network is policy.model.network
    assert {id(p) for p in policy.network.parameters()} == {
        id(p) for p in policy.model.parameters()
    }
    before = [parameter.detach().clone() for parameter in policy.network.parameters()]
    algorithm.train()
    after = list(policy.network.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_the_model_is_configured_by_name(ray_local):
    custom = {"custom_model": "ppg_mlp", "custom_model_config": {"arch": "shared", "hiddens": [7]}}
    network = build(model=custom).get_policy().network
    assert network.arch == "shared" and network.policy_head.in_features == 7


def test_a_subclass_of_ours_may_take_its_place(ray_local):
    class Wide(MLPModel):
        def encoder_maker(self, space: Any, settings: Any) -> Any:
            return super().encoder_maker(space, settings.model_copy(update={"hiddens": [99]}))

    ModelCatalog.register_custom_model("wide", Wide)
    algorithm = build(model={"custom_model": "wide"})
    assert algorithm.get_policy().network.policy_head.in_features == 99
    algorithm.train()


def test_another_model_is_refused_by_name(ray_local):
    class Stranger(TorchModelV2, torch.nn.Module):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            TorchModelV2.__init__(self, *args, **kwargs)
            torch.nn.Module.__init__(self)

    ModelCatalog.register_custom_model("stranger", Stranger)
    with pytest.raises(UserError, match="'stranger' is not a PPG model; use ppg_impala"):
        build(model={"custom_model": "stranger"})


def test_a_policys_state_holds_no_optimiser(ray_local):
    algorithm = build()
    algorithm.train()
    policy = algorithm.get_policy()
    weights = sum(parameter.numel() * 4 for parameter in policy.network.parameters())
    arrays = [np.asarray(v) for v in policy.get_state()["weights"].values()]
    assert sum(array.nbytes for array in arrays) == weights
    assert not policy.get_state().get("_optimizer_variables")


def test_weights_go_from_policy_to_policy(ray_local):
    one, other = build(seed=1).get_policy(), build(seed=2).get_policy()
    obs = torch.ones(3, 3)
    assert not torch.equal(one.network.value(obs), other.network.value(obs))
    other.set_weights(one.get_weights())
    assert torch.equal(one.network.value(obs), other.network.value(obs))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "space",
    [Discrete(3), Discrete(3, start=4), MultiDiscrete([2, 3]), Box(-2, 5, (2,), np.float32)],
    ids=str,
)
def test_single_actions_lie_in_the_space(ray_local, space):
    policy = build(space).get_policy()
    obs = np.zeros(3, np.float32)
    actions = [policy.compute_single_action(obs, explore=True)[0] for _ in range(30)]
    assert len(np.unique(np.array(actions), axis=0)) > 1
    greedy = {
        np.array(policy.compute_single_action(obs, explore=False)[0]).tobytes() for _ in range(5)
    }
    assert len(greedy) == 1
    if not isinstance(space, Box):
        assert all(space.contains(np.array(a, space.dtype)) for a in actions)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_algorithms_single_action_is_in_the_environments_units(ray_local):
    space = Box(2, 5, (2,), np.float32)
    algorithm = build(space)
    actions = [algorithm.compute_single_action(np.zeros(3, np.float32)) for _ in range(20)]
    assert all(space.contains(np.asarray(action, np.float32)) for action in actions)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_computed_log_probabilities_and_values_are_the_networks(ray_local):
    policy = build().get_policy()
    obs = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    actions, _, extra = policy.compute_actions(obs)
    logits, _ = policy.network.policy(torch.from_numpy(obs))
    dist = policy.action_spec.distribution(logits)
    expected = dist.logp(torch.as_tensor(actions)).detach().numpy()
    np.testing.assert_allclose(extra["action_logp"], expected, rtol=1e-5)
    np.testing.assert_allclose(extra["action_dist_inputs"], logits.detach().numpy(), rtol=1e-5)
