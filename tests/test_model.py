import math
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete, Tuple
from ray.rllib.algorithms.ppo import PPOConfig

import rllib_ppg
from rllib_ppg import PPGConfig
from rllib_ppg._ray_compat import ModelCatalog
from rllib_ppg.algorithm.model import (
    MODELS,
    ImpalaModel,
    MLPModel,
    check_observation_space,
    default_model,
    observation_layout,
)
from rllib_ppg.algorithm.model_settings import parse_model_settings
from rllib_ppg.errors import UserError

FRAME = Box(0, 255, (64, 64, 3), np.uint8)
VECTOR = Box(-1, 1, (4,), np.float32)


def make(space: gymnasium.Space, outputs: int = 15, **settings: Any) -> Any:
    model = MODELS[default_model(space)]
    return model(space, Discrete(outputs), outputs, {}, "model", **settings)


def parameters(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


# ---- which network


@pytest.mark.parametrize(
    ("space", "name"),
    [
        (FRAME, "ppg_impala"),
        (Box(0, 255, (84, 84, 4), np.uint8), "ppg_impala"),
        (Box(0, 1, (16, 12, 1), np.float32), "ppg_impala"),
        (VECTOR, "ppg_mlp"),
        (Box(-1, 1, (3, 4), np.float32), "ppg_mlp"),
        (Discrete(5), "ppg_mlp"),
        (Discrete(5, start=3), "ppg_mlp"),
        (Discrete(5, start=-2), "ppg_mlp"),
    ],
)
def test_images_take_the_convolutions_and_all_else_the_perceptron(space, name: str):
    assert default_model(space) == name
    model = make(space, 3)
    obs = torch.as_tensor(np.stack([space.sample() for _ in range(5)]))
    logits, state = model.forward({"obs": obs}, [], None)
    assert logits.shape == (5, 3) and state == [] and model.value_function().shape == (5,)


def test_discrete_observations_are_counted_from_the_first_of_the_space():
    torch.manual_seed(0)
    plain = make(Discrete(5), 3)
    torch.manual_seed(0)
    shifted = make(Discrete(5, start=7), 3)
    logits, _ = plain.forward({"obs": torch.arange(5)}, [], None)
    others, _ = shifted.forward({"obs": torch.arange(7, 12)}, [], None)
    assert torch.equal(logits, others) and len(logits.unique(dim=0)) == 5


def test_parameter_counts_are_the_references():
    assert parameters(make(FRAME)) == 1_248_657
    assert parameters(make(FRAME, arch="dual")) == 1_248_657
    assert parameters(make(FRAME, arch="detach")) == 626_513
    assert parameters(make(FRAME, arch="shared")) == 626_513


def test_both_networks_are_configured_by_custom_model_config():
    # 2 * (4*5+5 + 5*6+6) for two encoders, (3 + 1 + 1) * (6 + 1) for three heads.
    assert parameters(make(VECTOR, 3, hiddens=[5, 6])) == 2 * (25 + 36) + 35
    assert parameters(make(VECTOR, 3, hiddens=[5, 6], arch="shared")) == 25 + 36 + 35
    small = make(FRAME, widths=[4], hidden_size=8, blocks=1, arch="shared")
    convolutions = (3 * 9 * 4 + 4) + 2 * (4 * 9 * 4 + 4)
    assert parameters(small) == convolutions + (32 * 32 * 4 * 8 + 8) + (15 + 1 + 1) * (8 + 1)
    assert isinstance(
        make(VECTOR, activation="relu").network.policy_encoder.activation, torch.nn.ReLU
    )


def test_normed_init_rescales_rows():
    torch.manual_seed(0)
    normed, plain = make(VECTOR), make(VECTOR, normed_init=False)
    norms = normed.network.policy_head.weight.norm(dim=1)
    torch.testing.assert_close(norms, torch.full((15,), 0.1))
    assert plain.network.policy_head.weight.norm(dim=1).std() > 1e-3


def test_an_image_network_refuses_vectors():
    with pytest.raises(UserError, match=r"ppg_impala takes images.*use ppg_mlp"):
        ImpalaModel(VECTOR, Discrete(2), 2, {}, "model")


def test_the_perceptron_takes_an_image_where_asked_to():
    model = MLPModel(FRAME, Discrete(2), 2, {}, "model", hiddens=[4])
    logits, _ = model.forward({"obs": torch.zeros(2, 64, 64, 3, dtype=torch.uint8)}, [], None)
    assert logits.shape == (2, 2)


def test_the_value_function_is_the_true_head_of_the_last_pass():
    model = make(VECTOR)
    with pytest.raises(AssertionError, match="forward"):
        model.value_function()
    obs = torch.randn(6, 4)
    model.forward({"obs": torch.randn(3, 4)}, [], None)
    logits, _ = model.forward({"obs": obs}, [], None)
    assert torch.equal(model.value_function(), model.network.value(obs))
    assert torch.equal(logits, model.network.policy(obs)[0])


def test_the_networks_stand_in_rllibs_catalog_under_their_names():
    rllib_ppg.register()
    for name, space in (("ppg_impala", FRAME), ("ppg_mlp", VECTOR)):
        model = ModelCatalog.get_model_v2(
            obs_space=space,
            action_space=Discrete(3),
            num_outputs=3,
            model_config={"custom_model": name, "custom_model_config": {"arch": "detach"}},
            framework="torch",
        )
        assert isinstance(model, MODELS[name]) and model.network.arch == "detach"


# ---- networks of one's own, and none


class Small(torch.nn.Module):
    """An encoder as a user's package might hold it."""

    def __init__(self, shape: tuple[int, ...], width: int = 4, doubled: bool = False) -> None:
        super().__init__()
        self.shape, self.output_size = shape, width
        self.dense = torch.nn.Linear(math.prod(shape), width)
        self.factor = 2.0 if doubled else 1.0

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        code: torch.Tensor = self.dense(obs.flatten(1).float()).relu() * self.factor
        return code


class Sizeless(torch.nn.Identity):
    """Lacks `output_size`."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()


def own(space: Any = VECTOR, **settings: Any) -> Any:
    settings = {"encoder": f"{__name__}.Small", **settings}
    return MODELS["ppg_encoder"](space, Discrete(3), 3, {}, "model", **settings)


def test_an_encoder_of_ones_own_gets_the_shape_and_its_options():
    model = own(FRAME, encoder_options={"width": 7, "doubled": True}, arch="dual")
    network = model.network
    for encoder in (network.policy_encoder, network.value_encoder):
        assert isinstance(encoder, Small) and encoder.shape == FRAME.shape
        assert encoder.output_size == 7 and encoder.factor == 2.0
    assert network.policy_encoder is not network.value_encoder
    assert network.policy_head.in_features == 7
    obs = torch.randint(0, 256, (5, 64, 64, 3), dtype=torch.uint8)
    logits, _ = model.forward({"obs": obs}, [], None)
    assert torch.equal(logits, network.policy_head(network.policy_encoder(obs)))
    single = own(arch="shared", aux_value_head=False).network
    assert not single.separate_value_encoder and single.aux_value_head is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"encoder": ""}, "encoder '' must be a dotted name"),
        ({"encoder": "no_such_package.Net"}, "no installed package no_such_package"),
        ({"encoder": "math.prod"}, "no subclass of torch"),
        ({"encoder": f"{__name__}.Large"}, "cannot be imported"),
        ({"encoder_options": {"breadth": 3}}, "unexpected keyword argument 'breadth'; its options"),
        ({"encoder": f"{__name__}.Sizeless"}, "has no attribute output_size"),
    ],
)
def test_an_encoder_that_does_not_fit_is_refused_in_a_sentence(settings, words: str):
    with pytest.raises(UserError, match=words) as error:
        own(**settings)
    assert "\n" not in str(error.value)


def test_an_encoder_of_ones_own_is_trained_in_both_phases(ray_local):
    network = {"encoder": f"{__name__}.Small", "encoder_options": {"width": 6}, "arch": "detach"}
    model = {"custom_model": "ppg_encoder", "custom_model_config": network}
    algorithm = short_run("CartPole-v1", model=model, n_pi=1, n_aux_epochs=1)
    encoder = algorithm.get_policy().network.policy_encoder
    assert isinstance(encoder, Small)
    for _ in range(3):  # a policy iteration, the recording, an auxiliary epoch
        before = encoder.dense.weight.detach().clone()
        stats = algorithm.train()["info"]["learner"]["default_policy"]["learner_stats"]
        recording = stats["phase"]["in_aux_phase"] and stats["phase"]["aux_epoch"] == 0
        assert torch.equal(before, encoder.dense.weight) == bool(recording)


def test_the_random_network_stays_random_whatever_is_learned(ray_local):
    algorithm = short_run("CartPole-v1", model={"custom_model": "ppg_random"}, n_aux_epochs=0)
    for _ in range(2):
        algorithm.train()
    model = algorithm.get_policy().model
    logits, _ = model.forward({"obs": torch.randn(5, 4)}, [], None)
    assert not logits.any()
    actions = algorithm.get_policy().compute_actions(np.zeros((400, 4), np.float32))[0]
    assert 120 < int(np.sum(actions)) < 280  # 200 +- 8 standard deviations


def test_the_random_network_takes_any_observations_and_no_continuous_actions():
    model = MODELS["ppg_random"](FRAME, MultiDiscrete([2, 3]), 5, {}, "model")
    obs = torch.zeros(4, 64, 64, 3, dtype=torch.uint8)
    assert model.forward({"obs": obs}, [], None)[0].shape == (4, 5)
    with pytest.raises(UserError, match="Discrete or MultiDiscrete actions, not Box"):
        MODELS["ppg_random"](FRAME, Box(-1, 1, (2,), np.float32), 4, {}, "model")


def short_run(env: str, **changes: Any) -> Any:
    config = PPGConfig().environment(env).update_from_dict(
        {"num_envs": 2, "rollout_fragment_length": 8, "nminibatch": 2, "aux_mbsize": 2, "seed": 1}
    )  # fmt: skip
    return config.update_from_dict(changes).build_algo()


# ---- settings


def test_settings_are_checked_by_name_range_and_type():
    for name, key, value in [
        ("ppg_mlp", "arch", "duel"),
        ("ppg_mlp", "hiddens", []),
        ("ppg_mlp", "hiddens", [0]),
        ("ppg_mlp", "hiddens", 64),
        ("ppg_mlp", "activation", "gelu"),
        ("ppg_mlp", "normed_init", "True,"),
        ("ppg_impala", "hidden_size", 0),
        ("ppg_impala", "hidden_size", True),
        ("ppg_impala", "blocks", 1.5),
        ("ppg_impala", "widths", ["wide"]),
    ]:
        with pytest.raises(UserError) as error:
            parse_model_settings(name, {key: value})
        assert str(error.value).startswith(f"model.custom_model_config.{key}="), error.value


def test_a_key_of_the_other_network_is_refused_with_those_allowed():
    with pytest.raises(UserError, match=r'"model.custom_model_config.widths" of ppg_mlp.*hiddens'):
        parse_model_settings("ppg_mlp", {"widths": [16]})


def test_number_strings_are_taken():
    assert parse_model_settings("ppg_mlp", {"hiddens": ["64", 32.0]}).hiddens == [64, 32]


# ---- observations


@pytest.mark.parametrize(
    "space", [Dict({"a": VECTOR}), Tuple([VECTOR]), MultiDiscrete([2, 3]), gymnasium.spaces.Text(3)]
)
def test_other_observations_are_refused_with_a_way_out(space):
    with pytest.raises(UserError, match=r"Box or Discrete.*FlattenObservation"):
        check_observation_space(space)


def test_observations_are_stored_as_they_are_but_for_doubles():
    assert observation_layout(FRAME) == ((64, 64, 3), np.dtype(np.uint8))
    assert observation_layout(Discrete(3)) == ((), np.dtype(np.int64))
    assert observation_layout(Box(-1, 1, (2,), np.float64)) == ((2,), np.dtype(np.float32))


# ---- RLlib's own algorithms


def stock_ppo(env: str, model: str, **env_config: Any) -> Any:
    config = (
        PPOConfig()
        .api_stack(enable_rl_module_and_learner=False, enable_env_runner_and_connector_v2=False)
        .environment(env, env_config=env_config)
        .env_runners(num_env_runners=0, rollout_fragment_length=20)
        .training(
            train_batch_size=20,
            minibatch_size=10,
            num_epochs=1,
            vf_clip_param=1e9,
            model={"custom_model": model, "custom_model_config": {"arch": "shared"}},
        )
    )
    return config.build_algo()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("env", ["CartPole-v1", "FrozenLake-v1", "Pendulum-v1"])
def test_rllibs_ppo_trains_the_perceptron(ray_local, env: str):
    rllib_ppg.register()
    algorithm = stock_ppo(env, "ppg_mlp")
    before = {k: np.array(v) for k, v in algorithm.get_policy().get_weights().items()}
    algorithm.train()
    after = algorithm.get_policy().get_weights()
    algorithm.stop()
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert any("policy_encoder" in name for name in changed)
    assert any("value_head" in name for name in changed)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_rllibs_ppo_trains_the_convolutions_on_procgen(ray_local):
    rllib_ppg.register()
    algorithm = stock_ppo("procgen", "ppg_impala", env_name="coinrun", rand_seed=1)
    network = algorithm.get_policy().model.network
    seen: list[torch.Tensor] = []
    encoder = network.policy_encoder
    encoder.register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0].detach().clone())
    )
    algorithm.train()
    algorithm.stop()
    # Whatever RLlib makes of the frames, the network divides by 255 once: as bytes, not as floats.
    assert {obs.dtype for obs in seen if obs.float().abs().max() > 0} == {torch.uint8}
