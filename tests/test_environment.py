from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary
from toy_envs import CodedEnv, EchoEnv

from rllib_ppg import PPGConfig
from rllib_ppg._ray_compat import EnvContext, MultiAgentEnv, VectorEnv
from rllib_ppg.algorithm.environment import check_environment, try_environment
from rllib_ppg.envs.procgen import make_procgen
from rllib_ppg.errors import UserError


def echo(**options: Any) -> EchoEnv:
    return EchoEnv(EnvContext(options, worker_index=0))


def test_ordinary_environments_pass():
    check_environment(gymnasium.make("CartPole-v1"))
    check_environment(gymnasium.make("Pendulum-v1"))
    check_environment(gymnasium.make("FrozenLake-v1"))
    check_environment(echo())


def test_procgen_passes_alone_and_as_many():
    for count in (None, 2):
        context = EnvContext({"env_name": "coinrun"}, worker_index=0)
        if count:
            context.num_envs = count
        env = make_procgen(context)
        check_environment(env)
        env.close()


class Agents(MultiAgentEnv):
    observation_space = Box(-1, 1, (2,))
    action_space = Discrete(2)


class Vector(VectorEnv):
    def __init__(self) -> None:
        super().__init__(Box(-1, 1, (2,)), Discrete(2), 3)


@pytest.mark.parametrize(
    ("env", "says"),
    [
        (lambda: Agents(), "Agents has several agents"),
        (lambda: Vector(), "Vector is RLlib's own kind"),
        (lambda: echo(observation_space=Dict({"a": Box(-1, 1, (2,))})), "FlattenObservation"),
        (lambda: echo(observation_space=MultiBinary(3)), "Box or Discrete observations"),
        (lambda: echo(action_space=MultiBinary(3)), "float Box actions"),
    ],
)
def test_environments_that_ppg_cannot_learn_in_are_refused(env, says: str):
    with pytest.raises(UserError, match=says):
        check_environment(env())


@pytest.mark.parametrize("workers", [0, 1])
def test_building_refuses_them_before_a_worker_starts(ray_local, workers: int):
    config = PPGConfig().environment(EchoEnv, env_config={"action_space": MultiBinary(3)})
    config.env_runners(num_envs=8, num_env_runners=workers)
    with pytest.raises(UserError, match="float Box actions"):
        config.build_algo()


def test_an_error_in_the_environments_constructor_reaches_the_user(ray_local):
    class Broken(gymnasium.Env):
        def __init__(self, context: Any) -> None:
            raise RuntimeError("no such level file")

    config = PPGConfig().environment(Broken).env_runners(num_envs=8, num_env_runners=1)
    with pytest.raises(RuntimeError, match="no such level file"):
        config.build_algo()


def test_the_environment_that_was_tried_is_closed():
    closed = []

    class Closing(CodedEnv):
        def close(self) -> None:
            closed.append(self.number)

    config = PPGConfig().environment(Closing, env_config={"length": 5})
    try_environment(Closing, config)
    assert closed == [10]


def test_a_refused_environment_is_closed_too():
    closed = []

    class Closing(EchoEnv):
        action_space = MultiBinary(2)

        def __init__(self, context: Any) -> None:
            self.observation_space = Box(-1, 1, (2,), np.float32)

        def close(self) -> None:
            closed.append(True)

    with pytest.raises(UserError):
        try_environment(Closing, PPGConfig().environment(Closing))
    assert closed == [True]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    "keys",
    [
        {"aux_augmentation": "random_translate"},
        {"drac_augmentation": {"type": "pad_and_crop", "size": 32}, "drac_weight": 0.1},
    ],
)
def test_building_refuses_augmentations_that_cannot_change_its_observations(
    ray_local, workers: int, keys: dict[str, Any]
):
    config = PPGConfig().environment(CodedEnv).training(**keys)
    config.env_runners(num_envs=8, num_env_runners=workers)
    with pytest.raises(UserError, match=f"^{next(iter(keys))}: .*have the shape"):
        config.build_algo()
