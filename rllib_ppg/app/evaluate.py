"""App: play new episodes with a trained agent, or with a random policy on the same levels."""

from collections.abc import Mapping
from typing import Any, Literal

import ray

from rllib_ppg._ray_compat import Algorithm
from rllib_ppg.algorithm.config import PPGConfig
from rllib_ppg.algorithm.evaluate_agents import Agent, RandomAgent, trained_agent
from rllib_ppg.algorithm.evaluate_blocks import make_blocks
from rllib_ppg.algorithm.evaluate_episodes import EpisodeStatistics, join
from rllib_ppg.algorithm.evaluate_levels import make_tasks
from rllib_ppg.algorithm.evaluate_workers import choose_workers, play_blocks
from rllib_ppg.algorithm.policy import PPGTorchPolicy
from rllib_ppg.algorithm.policy_export import read_policy
from rllib_ppg.app.evaluate_flags import POLICIES
from rllib_ppg.errors import UserError


def evaluate(
    source: Any,
    *,
    episodes: int = 200,
    num_envs: int | None = None,
    seed: int = 0,
    levels: Literal["train", "test", "all"] | None = None,
    env_config: Mapping[str, Any] | None = None,
    policy: Literal["agent", "random"] = "agent",
    temperature: float | None = None,
    num_env_runners: int = 0,
) -> EpisodeStatistics:
    """Play new episodes and return their raw returns and lengths.

    Every environment plays a fixed number of episodes, so that short episodes are not favoured.
    The same arguments give the same episodes, whatever the number of workers; they are played on
    CPUs. Nothing of the algorithm is changed: not its environments, its random generators or its
    weights.

    A checkpoint is a pickle, and loading one runs what it holds: load only those you trust. One of
    a run on a GPU loads on any machine.

    Args:
        source: A PPG algorithm, or a checkpoint of one: its folder, or Ray's `Checkpoint`.
        episodes: Episodes in all, shared out over the environments.
        num_envs: Environments; at most 64 unless given. It belongs to the result: other numbers
            play other levels.
        seed: Seed of the levels (or of the environments' first reset) and of the actions, from 0.
            It is not mixed with the training's.
        levels: Procgen's levels: those of the training, unseen ones only, or all that there are
            (the default).
        env_config: Keys to change in the training's `env_config`, such as `{"env_name": "maze"}`.
            Levels given by number here (`num_levels`, `start_level`) take the place of `levels`.
        policy: `agent`, or `random` for uniformly random actions.
        temperature: Actions are drawn from softmax(logits / temperature); 0 takes the most probable
            one. None: the training's `evaluation_temperature`, else 1, or 0 without `explore`.
        num_env_runners: Ray workers, one CPU each; 0 plays in this process, by one thread. Ray must
            have been started for more.

    Raises:
        UserError: If an argument makes no sense, or the checkpoint is broken or not one of PPG.
    """
    if policy not in POLICIES:
        raise UserError(f'policy={policy!r}: give "agent" or "random".')
    trained = policy_of(source)
    task = make_tasks(trained, levels=levels, env_config=env_config)[0]
    blocks = make_blocks(
        task.env, task.env_config, task.name, episodes=episodes, num_envs=num_envs, seed=seed
    )
    workers = choose_workers(num_env_runners, len(blocks), 0)
    if workers and not ray.is_initialized():
        raise UserError(f"num_env_runners={num_env_runners}: start Ray first, with ray.init().")
    return join(play_blocks(make_agent(trained, policy, temperature), blocks, workers))


def make_agent(trained: PPGTorchPolicy, policy: str, temperature: float | None) -> Agent:
    """Return who plays: the trained policy, or a random one, which has no temperature.

    Raises:
        UserError: If the temperature makes no sense.
    """
    if policy == "agent":
        return trained_agent(trained, temperature)
    if temperature is not None:
        raise UserError("temperature: a random policy has none; leave it out.")
    return RandomAgent()


def policy_of(source: Any) -> PPGTorchPolicy:
    """The policy of an algorithm or of a checkpoint.

    Raises:
        UserError: If it is not one of PPG.
    """
    if not isinstance(source, Algorithm):
        return read_policy(source)[0]
    if not isinstance(source.config, PPGConfig):
        kind = type(source.config).__name__.removesuffix("Config")
        raise UserError(f"Only PPG can be evaluated here, not {kind}.")
    own: PPGTorchPolicy = source.get_policy()
    return own
