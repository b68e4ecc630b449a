"""App: play new episodes with a trained agent, or with a random policy on the same levels."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import torch

from rllib_ppg._ray_compat import Algorithm
from rllib_ppg.algorithm.config import PPGConfig
from rllib_ppg.algorithm.policy import PPGTorchPolicy
from rllib_ppg.algorithm.policy_export import read_policy
from rllib_ppg.algorithm.rollout import to_env_actions
from rllib_ppg.app.environments import make_array_env
from rllib_ppg.core.distributions import ActionSpec
from rllib_ppg.core.networks import PhasicNetwork
from rllib_ppg.envs.arrays import ArrayEnv
from rllib_ppg.errors import UserError

MAX_DEFAULT_ENVS = 64

Act = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class EpisodeStatistics:
    """Finished episodes: those of the first environment in order, then the second's, and so on.

    With the same seed and number of environments, the k-th entries of two policies are episodes
    that began on the same level.

    Attributes:
        returns: Sum of the raw rewards of each episode, float64 (E,).
        lengths: Steps of each episode, int64 (E,).
    """

    returns: np.ndarray
    lengths: np.ndarray

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(self.returns.mean())

    @property
    def stderr(self) -> float:
        """Standard error of the mean return; NaN for a single episode."""
        count = len(self.returns)
        return float(self.returns.std(ddof=1) / np.sqrt(count)) if count > 1 else float("nan")

    def __str__(self) -> str:
        """Mean return, its standard error, and what it is made of."""
        return (
            f"return {self.mean:.4g} +- {self.stderr:.2g} over {len(self.returns)} episodes, "
            f"mean length {self.lengths.mean():.4g}"
        )


def evaluate(
    source: Any,
    *,
    episodes: int = 200,
    num_envs: int | None = None,
    seed: int = 0,
    env_config: Mapping[str, Any] | None = None,
    policy: Literal["agent", "random"] = "agent",
    explore: bool = True,
) -> EpisodeStatistics:
    """Play new episodes and return their raw returns and lengths.

    Every environment plays a fixed number of episodes, so that short episodes are not favoured.
    Nothing of the algorithm is changed: not its environments, its random generators or its weights.

    A checkpoint is a pickle, and loading one runs what it holds: load only those you trust. One of
    a run on a GPU loads on any machine.

    Args:
        source: A PPG algorithm, or a checkpoint of one: its folder, or Ray's `Checkpoint`.
        episodes: Episodes in all, shared out over the environments.
        num_envs: Environments; at most 64 unless given. It belongs to the result: other numbers
            play other levels.
        seed: Seed of the levels (or of the environments' first reset) and of the actions. It is not
            mixed with the training's.
        env_config: Keys to change in the training's `env_config`, such as `{"num_levels": 0}`.
        policy: `agent`, or `random` for uniformly random actions.
        explore: Sample actions, as in training; False takes the most likely one.

    Raises:
        UserError: If an argument makes no sense, or the checkpoint is broken or not one of PPG.
    """
    if policy not in ("agent", "random"):
        raise UserError(f'policy={policy!r}: give "agent" or "random".')
    count = _env_count(episodes, num_envs)
    agent = _load(source)
    options = {**agent.config["env_config"], **(env_config or {})}
    env = make_array_env(agent.config["env"], options, count, seed)
    try:
        act = _random(env, seed) if policy == "random" else _actor(agent, env, seed, explore)
        return play(env, act, shares(episodes, env.num_envs))
    finally:
        env.close()


def _env_count(episodes: int, num_envs: int | None) -> int:
    if episodes < 1:
        raise UserError(f"episodes={episodes}: must be at least 1.")
    count = num_envs if num_envs is not None else min(episodes, MAX_DEFAULT_ENVS)
    if not 1 <= count <= episodes:
        raise UserError(f"num_envs={num_envs}: must be 1 to {episodes}, the number of episodes.")
    return count


def shares(episodes: int, num_envs: int) -> np.ndarray:
    """Episodes of each environment, int64 (N,): as equal as can be, the first ones one more."""
    quotas = np.full(num_envs, episodes // num_envs, np.int64)
    quotas[: episodes % num_envs] += 1
    return quotas


def play(env: ArrayEnv, act: Act, quotas: np.ndarray) -> EpisodeStatistics:
    """Play until every environment has finished its episodes; what it plays beyond is left out.

    Args:
        env: N environments.
        act: Gives the environments' actions (N, ...) for observations (N, ...).
        quotas: Episodes of each environment (N,).
    """
    returns: list[list[float]] = [[] for _ in quotas]
    lengths: list[list[int]] = [[] for _ in quotas]
    total, steps = np.zeros(len(quotas)), np.zeros(len(quotas), np.int64)
    left = quotas.copy()
    obs = env.reset()
    while left.any():
        transition = env.step(act(obs))
        obs = transition.obs
        total += transition.rewards
        steps += 1
        done = transition.terminateds | transition.truncateds
        for index in np.flatnonzero(done & (left > 0)):
            returns[index].append(float(total[index]))
            lengths[index].append(int(steps[index]))
            left[index] -= 1
        total[done], steps[done] = 0.0, 0
    return EpisodeStatistics(
        np.array([*itertools.chain.from_iterable(returns)]),
        np.array([*itertools.chain.from_iterable(lengths)], np.int64),
    )


def _load(source: Any) -> PPGTorchPolicy:
    """The policy of an algorithm, or of a checkpoint, on this machine's GPU if it has one."""
    if not isinstance(source, Algorithm):
        policy, _ = read_policy(source)
        policy.network.to("cuda" if torch.cuda.is_available() else "cpu")
        return policy
    if not isinstance(source.config, PPGConfig):
        kind = type(source.config).__name__.removesuffix("Config")
        raise UserError(f"Only PPG can be evaluated here, not {kind}.")
    own: PPGTorchPolicy = source.get_policy()
    return own


def _actor(agent: PPGTorchPolicy, env: ArrayEnv, seed: int, explore: bool) -> Act:
    network, spec = agent.network, agent.action_spec
    device = next(network.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    mapping = SimpleNamespace(**agent.config)

    # The rollout worker's own mapping, so that both play alike.
    def act(obs: np.ndarray) -> np.ndarray:
        frames = torch.from_numpy(np.ascontiguousarray(obs)).to(device)
        actions = _choose(network, spec, frames, explore, generator)
        return to_env_actions(actions, env.action_space, mapping)

    return act


@torch.inference_mode()
def _choose(
    network: PhasicNetwork,
    spec: ActionSpec,
    obs: torch.Tensor,
    explore: bool,
    generator: torch.Generator,
) -> np.ndarray:
    logits, _ = network.policy(obs)
    dist = spec.distribution(logits.float().cpu())
    actions = dist.sample(generator) if explore else dist.mode()
    return np.asarray(actions)


def _random(env: ArrayEnv, seed: int) -> Act:
    space = env.action_space
    space.seed(seed)
    return lambda obs: np.stack([space.sample() for _ in range(len(obs))])
