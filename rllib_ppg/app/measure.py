"""App: how fast this machine is at the parts of a training, from a few seconds' measurement."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from rllib_ppg.algorithm.config import PPGConfig
from rllib_ppg.algorithm.hardware import LearnerThreads, make_learner, reserved_threads
from rllib_ppg.algorithm.model import is_image
from rllib_ppg.algorithm.named_environments import make_array_env
from rllib_ppg.algorithm.policy import PPGTorchPolicy
from rllib_ppg.algorithm.resources import machine_cpus, machine_gpus
from rllib_ppg.app.run_length import RunLength, rows_of
from rllib_ppg.core.aux_phase import Retarget
from rllib_ppg.core.learner import PhasicLearner, PolicyBatch
from rllib_ppg.core.segments import SegmentStore
from rllib_ppg.core.value_targets import recomputed_targets
from rllib_ppg.envs.arrays import ArrayEnv

SECONDS = 1.0
"""About how long each part is measured, after one turn to warm up."""

SLOW_ROWS = 4
"""Rows of a pass in float16 on a CPU, each of which takes some tenths of a second."""

MOST_ENVS = 512
"""Environments that are made for it at most; more take no less time each."""


@dataclass(frozen=True)
class Speeds:
    """Seconds that one row (a step of one environment) takes in each part.

    Attributes:
        sample: Environment and acting network, on one worker.
        value: Value pass without gradient.
        policy: All epochs of the policy phase.
        record: The pass that records the old policy.
        aux: One epoch of the auxiliary phase.
        parameters: Parameters of the network.
    """

    sample: float
    value: float
    policy: float
    record: float
    aux: float
    parameters: int

    def iteration_s(self, config: PPGConfig) -> tuple[float, float]:
        """Seconds of a policy iteration: sampling, and learning."""
        rows = rows_of(config)
        workers = max(1, min(config.num_env_runners, machine_cpus()))
        return rows * self.sample / workers, rows * (self.value + self.policy)

    def aux_phase_s(self, config: PPGConfig) -> float:
        """Seconds of an auxiliary phase."""
        if not config.has_aux_phases:
            return 0.0
        rows = config.n_pi * rows_of(config)
        return rows * (self.record + config.n_aux_epochs * self.aux)

    def run_s(self, config: PPGConfig, length: RunLength) -> float:
        """Seconds of a whole run."""
        sampling, learning = self.iteration_s(config)
        phases = length.aux_phases * self.aux_phase_s(config)
        return length.sampled * sampling + length.learned * learning + phases

    def pace(self, config: PPGConfig) -> float:
        """Environment steps per second, as long as auxiliary phases follow."""
        period = config.aux_skips + config.n_pi
        seconds = period * sum(self.iteration_s(config)) + self.aux_phase_s(config)
        return period * rows_of(config) / seconds

    def steps_within(self, config: PPGConfig, seconds: float) -> float:
        """Environment steps of the first `seconds` of a run."""
        iteration, period = sum(self.iteration_s(config)), config.aux_skips + config.n_pi
        most = math.inf if config.max_aux_phases is None else config.max_aux_phases
        if not config.has_aux_phases:
            most = 0
        phases = min(seconds // (period * iteration + self.aux_phase_s(config)), most)
        rest = seconds - phases * (period * iteration + self.aux_phase_s(config))
        more = min(rest / iteration, period if phases < most else math.inf)
        return rows_of(config) * (phases * period + more)


def measure(config: PPGConfig) -> Speeds:
    """Measure the parts of a checked configuration on this machine."""
    count = min(config.num_envs_per_env_runner, MOST_ENVS)
    env = make_array_env(config.env, config.env_config, count, seed=0)
    try:
        policy = _policy(config, env)
        threads = 1 if config.num_env_runners else reserved_threads(config)
        with LearnerThreads(threads):
            sample = _sampling(policy, env)
        frames = np.array(env.observe())
    finally:
        env.close()
    with LearnerThreads(reserved_threads(config)):
        return _learning(config, policy, frames, sample)


def seconds_per_row(turn: Callable[[], int]) -> float:
    """Seconds per row of a function that does some rows and says how many."""
    turn()
    begin, rows = time.perf_counter(), 0
    while time.perf_counter() - begin < SECONDS:
        rows += turn()
    return (time.perf_counter() - begin) / rows


def _policy(config: PPGConfig, env: ArrayEnv) -> PPGTorchPolicy:
    plain = config.copy(copy_frozen=False)
    plain.num_gpus = 0
    return PPGTorchPolicy(env.observation_space, env.action_space, plain.to_dict())


def _sampling(policy: PPGTorchPolicy, env: ArrayEnv) -> float:
    obs = env.reset()
    actions = np.stack([env.action_space.sample() for _ in range(len(obs))])

    @torch.inference_mode()
    def turn() -> int:
        nonlocal obs
        rows = torch.from_numpy(np.ascontiguousarray(obs))
        logits, _ = policy.network.policy(rows, _no_actions(policy, len(rows)))
        policy.action_spec.distribution(logits).sample()
        obs = env.step(actions).obs
        return len(obs)

    return seconds_per_row(turn)


def _learning(
    config: PPGConfig, policy: PPGTorchPolicy, frames: np.ndarray, sample: float
) -> Speeds:
    gpu = config.uses_gpu and machine_gpus() > 0
    one = config.copy(copy_frozen=False)  # one minibatch of one segment
    one.nminibatch, one.aux_mbsize, one.minibatch_unit = 1, 1, "segment"
    one.mbsize_rows = one.aux_mbsize_rows = one.aux_minibatch_unit = None
    one.num_accumulates = one.aux_num_accumulates = 1
    space = policy.observation_space
    learner = make_learner(one, policy, space, torch.device("cuda" if gpu else "cpu"))
    micro = config.rows_per_pass(images=is_image(space), gpu=gpu)
    most = (micro or 4096) * (1 if gpu else reserved_threads(config))
    steps = config.rollout_fragment_length
    rows = config.mbsize_rows or config.num_envs * steps // config.nminibatch
    obs = np.resize(frames, (max(1, min(most, rows)), *frames.shape[1:]))
    obs = obs[: _most_rows(config.policy_precision, gpu)]
    batch = _batch(policy, obs)
    dual = policy.network.separate_value_encoder
    before = batch.prev_actions
    flat = None if before is None else np.asarray(before)[0]
    value = seconds_per_row(lambda: len(learner.values(obs, flat))) if dual else 0.0
    phase = seconds_per_row(lambda: len(obs) if learner.policy_phase(batch) else 1)
    record, aux = 0.0, 0.0
    if config.has_aux_phases:
        rows = config.aux_mbsize_rows or config.aux_mbsize * steps
        rows = min(most, rows, _most_rows(config.aux_precision, gpu) or most)
        store = _store(policy, frames, rows, config.recomputes_targets)
        retarget = partial(recomputed_targets, gamma=config.gamma, lambda_=config.lambda_)
        record, aux = _auxiliary(learner, store, retarget if config.recomputes_targets else None)
    count = sum(parameter.numel() for parameter in policy.network.parameters())
    return Speeds(sample, value, phase, record, aux, count)


def _most_rows(precision: str, gpu: bool) -> int | None:
    """Rows of a pass that are measured at most; None for no limit."""
    return SLOW_ROWS if precision == "float16" and not gpu else None


def _batch(policy: PPGTorchPolicy, obs: np.ndarray) -> PolicyBatch:
    """One segment of these observations (rows, ...), with actions of the policy."""
    rows = len(obs)
    with torch.no_grad():
        device = next(policy.network.parameters()).device
        before = _no_actions(policy, 1)
        before = None if before is None else before.to(device)
        logits, _ = policy.network.policy(torch.from_numpy(obs[:1]).to(device), before)
    spec = policy.action_spec
    dist = spec.distribution(logits.float().cpu().repeat(rows, 1))
    actions = dist.sample()
    zeros = np.zeros((1, rows), np.float32)
    before = _no_actions(policy, rows)
    return PolicyBatch(
        obs=obs[None],
        actions=actions.numpy()[None],
        logp=dist.logp(actions).numpy()[None],
        advantages=np.linspace(-1, 1, rows, dtype=np.float32)[None],
        value_targets=zeros,
        vf_preds=zeros,
        prev_actions=None if before is None else before[None],
        # As new in every step: with counts and without them the entropy's weight costs the same.
        num_unique_states=np.arange(2, rows + 2)[None],
        episode_step=np.arange(rows)[None],
        rewards=zeros,
    )


def _no_actions(policy: PPGTorchPolicy, rows: int) -> torch.Tensor | None:
    """Previous actions as in an episode's beginning, where the network takes them."""
    return torch.zeros(rows, dtype=torch.int64) if policy.network.takes_prev_actions else None


def _store(
    policy: PPGTorchPolicy, frames: np.ndarray, rows: int, with_returns: bool
) -> SegmentStore:
    store = SegmentStore(
        1,
        rows,
        frames.shape[1:],
        frames.dtype,
        with_prev_actions=policy.network.takes_prev_actions,
        with_returns=with_returns,
    )
    if store.prev_actions is not None:
        store.prev_actions[:] = 0
    taken = store.append([0])
    store.write(taken, np.resize(frames, (1, rows, *frames.shape[1:])))
    store.value_targets[taken] = 0.0
    if store.returns is not None:
        nothing = np.zeros((1, rows), np.float32)
        store.returns.write(
            taken,
            rewards=nothing,
            dones=nothing.astype(bool),
            bootstrap=np.zeros(1, np.float32),
            begins=np.zeros(1, bool),
        )
    return store


def _auxiliary(
    learner: PhasicLearner, store: SegmentStore, retarget: Retarget | None
) -> tuple[float, float]:
    """Seconds per row of recording the old policy, and of one epoch."""
    rows, spent = store.num_steps, {"record": 0.0, "aux": 0.0}
    done = {"record": 0, "aux": 0}

    def enough() -> bool:
        return done["aux"] > 0 and sum(spent.values()) >= 2 * SECONDS

    while not enough():
        phase = learner.begin_aux_phase(store, retarget=retarget)
        while not (phase.done or enough()):
            part = "record" if phase.epoch == 0 else "aux"
            begin = time.perf_counter()
            phase.run(None)
            spent[part] += time.perf_counter() - begin
            done[part] += rows
    return spent["record"] / done["record"], spent["aux"] / done["aux"]
