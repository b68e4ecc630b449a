"""App: how fast this machine is at the parts of a training, from a few seconds' measurement."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from rllib_ppg.algorithm.config import PPGConfig
from rllib_ppg.algorithm.model import is_image, observation_layout
from rllib_ppg.algorithm.policy import PPGTorchPolicy
from rllib_ppg.algorithm.ppg import LearnerThreads
from rllib_ppg.algorithm.resources import machine_cpus
from rllib_ppg.app.environments import make_array_env
from rllib_ppg.core.learner import PhasicLearner, PolicyBatch
from rllib_ppg.core.segments import SegmentStore

SECONDS = 1.5
"""How long each part is measured, at most about."""

MAX_ROWS = 2048
"""Rows of the learner's measurement: more would only take longer."""


@dataclass(frozen=True)
class Speeds:
    """Seconds that one row takes in each part; a row is one step of one environment.

    Attributes:
        sample: Environment and acting network, on one worker.
        value: Value pass without gradient.
        policy: Forward and backward pass of the policy phase.
        record: The pass that records the old policy.
        aux: Forward and backward pass of the auxiliary phase.
        parameters: Of the network.
    """

    sample: float
    value: float
    policy: float
    record: float
    aux: float
    parameters: int


def measure(config: PPGConfig) -> Speeds:
    """Measure the parts of a checked configuration on this machine."""
    envs = config.num_envs_per_env_runner
    env = make_array_env(config.env, config.env_config, envs, seed=0)
    try:
        policy = _policy(config, env)
        sample = _sampling(config, policy, env)
        obs = np.array(env.observe())
    finally:
        env.close()
    threads = learner_threads(config)
    with LearnerThreads(threads):
        return _learning(config, policy, obs, sample)


def learner_threads(config: PPGConfig) -> int:
    """CPU threads that the learner will use."""
    if config.learner_threads != "auto":
        return int(config.learner_threads)
    return min(config.reserved_cpus(), machine_cpus())


def _policy(config: PPGConfig, env: object) -> PPGTorchPolicy:
    plain = config.copy(copy_frozen=False)
    plain.num_gpus = 0
    spaces = env.observation_space, env.action_space  # type: ignore[attr-defined]
    policy = PPGTorchPolicy(*spaces, plain.to_dict())
    return policy


def _sampling(config: PPGConfig, policy: PPGTorchPolicy, env: object) -> float:
    """Seconds per row of one worker, which has as many threads as CPUs."""
    obs = env.reset()  # type: ignore[attr-defined]
    space = env.action_space  # type: ignore[attr-defined]
    actions = np.stack([space.sample() for _ in range(len(obs))])

    @torch.inference_mode()
    def step() -> int:
        nonlocal obs
        logits, _ = policy.network.policy(torch.from_numpy(np.ascontiguousarray(obs)))
        policy.action_spec.distribution(logits).sample()
        obs = env.step(actions).obs  # type: ignore[attr-defined]
        return len(obs)

    with LearnerThreads(max(1, int(config.num_cpus_per_env_runner))):
        return seconds_per_row(step)


def _learning(
    config: PPGConfig, policy: PPGTorchPolicy, frames: np.ndarray, sample: float
) -> Speeds:
    gpu = bool(config.num_gpus) and torch.cuda.is_available()
    learner = PhasicLearner(
        policy.network,
        policy.action_spec,
        config.policy_phase_settings(),
        config.aux_phase_settings(),
        device="cuda" if gpu else "cpu",
        micro_batch_size=config.rows_per_pass(images=is_image(policy.observation_space), gpu=gpu),
        generator=np.random.default_rng(0),
    )
    rows = min(MAX_ROWS, config.num_envs * config.rollout_fragment_length // config.nminibatch)
    batch = _batch(policy, frames, max(1, rows))
    obs = batch.obs.reshape(-1, *batch.obs.shape[2:])
    value = seconds_per_row(lambda: len(learner.values(obs)))
    steps = learner.policy_steps(batch)
    policy_phase = seconds_per_row(lambda: _next(steps, learner, batch))
    record, aux = _auxiliary(learner, config, batch)
    count = sum(parameter.numel() for parameter in policy.network.parameters())
    return Speeds(sample, value, policy_phase, record, aux, count)
