"""Algorithm: the rollout worker, which steps all its environments as arrays.

RLlib's stock sampler handles each row in Python. Here a step is one network pass and one call of
the environments, and everything is written into arrays that are allocated once.
"""

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import ray
import torch

from rllib_ppg._ray_compat import (
    DEFAULT_POLICY_ID,
    EnvContext,
    RolloutMetrics,
    RolloutWorker,
    SampleBatch,
)
from rllib_ppg.algorithm.actions import to_env_actions
from rllib_ppg.algorithm.checkpoint import random_states, set_random_states
from rllib_ppg.algorithm.episodes import EpisodeTracker
from rllib_ppg.algorithm.model import observation_layout
from rllib_ppg.algorithm.policy import PPGTorchPolicy
from rllib_ppg.algorithm.sample_check import SampleCheck
from rllib_ppg.core.segments import frame_shape
from rllib_ppg.envs.array_wrapper import ArrayWrapper
from rllib_ppg.envs.arrays import (
    ArrayEnv,
    GymnasiumArrayEnv,
    Transition,
    frame_stack_of,
    sample_columns_of,
)
from rllib_ppg.envs.frame_stack import copy_newest_frame, older_frames

EPISODE_STARTS = "episode_starts"


@dataclass
class Rollout:
    """T steps of a worker's N environments.

    Attributes:
        batch: N x T rows, environment-major: `obs` (the newest frame only, where the environment
            stacks k), `actions` (the policy's, not unsquashed), `action_logp`,
            `action_dist_inputs`, `rewards` (raw, with the shaping where there is one),
            `terminateds`, `truncateds`, `episode_starts`, `vf_preds` where the policy network gives
            values for free, `prev_actions` where it takes them, and the environments' own columns.
        num_envs: N.
        history: The k - 1 older frames of the first observation, oldest first (N, k - 1, ...).
        final_obs: Observation after the last step, with all its frames (N, ...).
        final_actions: The policy's actions of the last step (N, ...).
        truncated_rows: Rows whose episode was cut by a time limit (K,).
        truncated_obs: The true last observation of those episodes, with all its frames (K, ...).
        worker_index: RLlib's index of the worker; 0 is the local one.
        seconds: Time spent in `env` and `network` calls, and in `total`.
        episodes: Episodes that ended, where they travel with the rollout.
        shaping: Sum of what the environments added to the rewards; None where they add nothing.
        ended_returns, ended_lengths: Of the episodes that ended, by environment and time (K,).
    """

    batch: SampleBatch
    num_envs: int
    history: np.ndarray
    final_obs: np.ndarray
    final_actions: np.ndarray
    truncated_rows: np.ndarray
    truncated_obs: np.ndarray
    worker_index: int
    seconds: dict[str, float] = field(default_factory=dict)
    episodes: list[RolloutMetrics] = field(default_factory=list)
    shaping: float | None = None
    ended_returns: np.ndarray = field(default_factory=lambda: np.empty(0))
    ended_lengths: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))


class PPGRolloutWorker(RolloutWorker):
    """RLlib's `RolloutWorker` with a vectorised `sample()`.

    The arrays of a returned `Rollout` are used again by the next `sample()`: a remote worker's
    reply is serialised before that, and the learner copies what it keeps.

    Attributes:
        admitted: Whether the learner knows this process; one that Ray started for another that died
            has to be given everything first.
    """

    def __init__(self, *, env_creator: Callable[[EnvContext], Any], config: Any, **kwargs: Any):
        if kwargs.get("worker_index"):
            config = _for_this_process(config)
        super().__init__(env_creator=_with_hints(env_creator, config), config=config, **kwargs)
        self._original_kwargs = {"env_creator": env_creator, "config": config, **kwargs}
        self._array_env: ArrayEnv | None = None
        self._columns: dict[str, np.ndarray] = {}
        self._tracker: EpisodeTracker | None = None
        self._obs: Any = None
        self._firsts: Any = None
        self._last_actions: Any = None
        self._delivered: list[RolloutMetrics] = []
        self.admitted = False
        self._generator = torch.Generator()
        seed = self.seed if self.seed is not None else secrets.randbits(63)
        self._generator.manual_seed(seed)

    @property
    def array_env(self) -> ArrayEnv:
        """The worker's environments as arrays; made on first use."""
        if self._array_env is None:
            self._array_env = as_array_env(self.env, self.async_env)
        return self._array_env

    @property
    def frame_stack(self) -> int:
        """Frames that an observation of the worker's environments stacks, k."""
        return frame_stack_of(self.array_env)

    def sample(self, **kwargs: Any) -> Rollout:
        """Step every environment T times with the current policy."""
        begin = time.perf_counter()
        recorder = _Recorder(self)
        steps = self.config.rollout_fragment_length
        for t in range(steps):
            recorder.step(t)
        rollout = recorder.finish()
        self.callbacks.on_sample_end(worker=self, samples=rollout.batch)
        rollout.seconds["total"] = time.perf_counter() - begin
        return rollout

    def get_metrics(self) -> list[RolloutMetrics]:
        """Raw returns and lengths of the episodes that ended since the last call."""
        delivered, self._delivered = self._delivered, []
        return delivered + (self._tracker.pop_finished() if self._tracker else [])

    def get_sampling_state(self) -> dict[str, Any] | None:
        """Return what the next `sample` depends on beside the weights; None before the first."""
        if self._tracker is None:
            return None
        return {
            "random": random_states(),
            "env": self.array_env.get_state(),
            "obs": np.array(self._obs),
            "firsts": np.array(self._firsts),
            "last_actions": np.array(self._last_actions),
            "episodes": self._tracker.get_state(),
            "generator": self._generator.get_state().numpy(),
        }

    def set_sampling_state(self, state: Mapping[str, Any] | None, steps: int) -> bool:
        """Go on from `get_sampling_state`.

        Environments without a state begin new episodes instead, and not those that the run began
        with.

        Args:
            state: The state, or None where there is none.
            steps: Environment steps that the run has behind it.

        Returns:
            Whether the environments go on where they were.
        """
        self._tracker = None  # so that the next rollout begins with a reset
        if state is None:
            if steps:
                self._begin_anew(steps)
            return not steps
        self._generator.set_state(torch.from_numpy(np.array(state["generator"])))
        if state["env"] is not None:
            self._set_environments(state)
        else:
            fork = torch.Generator()
            fork.set_state(self._generator.get_state())
            self._reseed(fork)
        set_random_states(state["random"])  # the last: a reset and callbacks may draw from them
        return state["env"] is not None

    def _set_environments(self, state: Mapping[str, Any]) -> None:
        tracker = self._reset(self.policy_map[DEFAULT_POLICY_ID])
        self.array_env.set_state(state["env"])
        self._obs, self._firsts = np.array(state["obs"]), np.array(state["firsts"])
        self._last_actions = np.array(state["last_actions"])
        tracker.set_state(state["episodes"])
        self._tracker = tracker

    def _begin_anew(self, steps: int) -> None:
        """Seed actions and environments by where the run stands, so not as at its beginning."""
        seed = secrets.randbits(63) if self.config.seed is None else self.config.seed
        words = np.random.SeedSequence([seed, steps, self.worker_index]).generate_state(2)
        self._generator.manual_seed(int(words[0]))
        self._reseed(torch.Generator().manual_seed(int(words[1])))

    def _reseed(self, generator: torch.Generator) -> None:
        reseed = getattr(self.array_env, "reseed", None)
        if reseed is not None:
            reseed(int(torch.randint(2**62, (), generator=generator)))

    def deliver(self, episodes: list[RolloutMetrics]) -> None:
        """Take episodes of other workers, which the next `get_metrics` reports."""
        self._delivered += episodes

    def _begin(self, policy: PPGTorchPolicy) -> tuple[np.ndarray, np.ndarray]:
        """First observations and their episode-start flags; resets on first use."""
        if self._tracker is None:
            self._tracker = self._reset(policy)
        return self._obs, self._firsts

    def _reset(self, policy: PPGTorchPolicy) -> EpisodeTracker:
        env = self.array_env
        self._allocate(policy)
        self._obs = np.array(env.reset())
        self._firsts = np.ones(env.num_envs, bool)
        self._last_actions = np.zeros_like(self._columns[SampleBatch.ACTIONS][:, 0])
        return EpisodeTracker(self, env.num_envs)

    def _allocate(self, policy: PPGTorchPolicy) -> None:
        env = self.array_env
        shape = (env.num_envs, self.config.rollout_fragment_length)
        spec = policy.action_spec
        action_dtype = np.float32 if spec.kind == "gaussian" else np.int64
        obs_shape, obs_dtype = observation_layout(env.observation_space)
        frame = frame_shape(obs_shape, self.frame_stack)
        self._columns = {
            SampleBatch.OBS: np.empty((*shape, *frame), obs_dtype),
            SampleBatch.ACTIONS: np.empty((*shape, *spec.shape), action_dtype),
            SampleBatch.ACTION_LOGP: np.empty(shape, np.float32),
            SampleBatch.ACTION_DIST_INPUTS: np.empty((*shape, spec.num_inputs), np.float32),
            SampleBatch.REWARDS: np.empty(shape, np.float32),
            SampleBatch.TERMINATEDS: np.empty(shape, bool),
            SampleBatch.TRUNCATEDS: np.empty(shape, bool),
            EPISODE_STARTS: np.empty(shape, bool),
        }
        if not policy.network.separate_value_encoder:
            self._columns[SampleBatch.VF_PREDS] = np.empty(shape, np.float32)
        if policy.network.takes_prev_actions:
            self._columns[SampleBatch.PREV_ACTIONS] = np.empty(shape, np.int64)
        for name, dtype in sample_columns_of(env).items():
            self._columns[name] = np.empty(shape, dtype)


class _Recorder:
    """Records one rollout of a worker into the worker's arrays."""

    def __init__(self, worker: PPGRolloutWorker) -> None:
        self.worker = worker
        self.policy: PPGTorchPolicy = worker.get_policy()
        self.policy.network.eval()
        self.env = worker.array_env
        self.obs, self.firsts = worker._begin(self.policy)
        self.newest: np.ndarray | None = None  # frames, where they stand by themselves
        self.actions = worker._last_actions
        self.columns = worker._columns
        self.frame_stack = worker.frame_stack
        self.history = older_frames(self.obs, self.frame_stack)
        self.seconds = {"env": 0.0, "network": 0.0}
        self.truncated: list[tuple[int, np.ndarray]] = []
        self.shaping: float | None = None
        self.check = SampleCheck(worker.worker_index, self.columns, self.frame_stack)
        self.check.observations(0, self.obs)

    def step(self, t: int) -> None:
        columns = self.columns
        self._keep_frames(columns[SampleBatch.OBS][:, t])
        columns[EPISODE_STARTS][:, t] = self.firsts
        begin = time.perf_counter()
        actions = self._act(t)
        acted = time.perf_counter()
        env_actions = to_env_actions(actions, self.env.action_space, self.worker.config)
        called = time.perf_counter()
        transition = self.env.step(env_actions)
        self.seconds["env"] += time.perf_counter() - called
        self.seconds["network"] += acted - begin
        self._record(t, transition)

    def _keep_frames(self, target: np.ndarray) -> None:
        """Copy the newest frame of every observation into `target` (N, ..., C)."""
        if self.newest is None:
            copy_newest_frame(self.obs, self.frame_stack, target)
        else:
            target[...] = self.newest

    @torch.inference_mode()
    def _act(self, t: int) -> np.ndarray:
        policy, columns = self.policy, self.columns
        obs = torch.from_numpy(np.ascontiguousarray(self.obs)).to(policy.device)
        logits, values = policy.network.policy(obs, self._prev_actions(t))
        logits = logits.float().cpu()
        dist = policy.action_spec.distribution(logits)
        explore = self.worker.config.explore
        actions = dist.sample(self.worker._generator) if explore else dist.mode()
        columns[SampleBatch.ACTIONS][:, t] = actions.numpy()
        columns[SampleBatch.ACTION_LOGP][:, t] = dist.logp(actions).numpy()
        columns[SampleBatch.ACTION_DIST_INPUTS][:, t] = logits.numpy()
        if values is not None:
            columns[SampleBatch.VF_PREDS][:, t] = values.float().cpu().numpy()
        self.actions = actions.numpy()
        return self.actions

    def _prev_actions(self, t: int) -> torch.Tensor | None:
        """The actions before step t (N,), 0 where an episode begins, where the network takes them.

        They are recorded too.
        """
        if SampleBatch.PREV_ACTIONS not in self.columns:
            return None
        before = np.where(self.firsts, 0, self.actions)
        self.columns[SampleBatch.PREV_ACTIONS][:, t] = before
        return torch.from_numpy(before).to(self.policy.device)

    def _record(self, t: int, transition: Transition) -> None:
        columns = self.columns
        columns[SampleBatch.REWARDS][:, t] = transition.rewards
        if transition.shaping is not None:
            columns[SampleBatch.REWARDS][:, t] += transition.shaping
            self.shaping = (self.shaping or 0.0) + float(transition.shaping.sum())
        for name, values in (transition.columns or {}).items():
            columns[name][:, t] = values
        columns[SampleBatch.TERMINATEDS][:, t] = transition.terminateds
        columns[SampleBatch.TRUNCATEDS][:, t] = transition.truncateds
        self.check.rewards(t, transition.rewards)
        self.check.final_observations(t + 1, transition.final_obs)
        self.check.observations(t + 1, transition.obs)
        steps = columns[SampleBatch.REWARDS].shape[1]
        self.truncated += [(n * steps + t, obs) for n, obs in transition.final_obs.items()]
        self.obs = transition.obs
        # A wrapper may have changed the observations, or stack none.
        self.newest = None if isinstance(self.env, ArrayWrapper) else transition.newest_frames
        self.firsts = transition.terminateds | transition.truncateds
        assert self.worker._tracker is not None
        self.worker._tracker.step(transition.rewards, self.firsts, self.env)

    def finish(self) -> Rollout:
        worker = self.worker
        worker._obs, worker._firsts = np.array(self.obs), self.firsts
        worker._last_actions = np.array(self.actions)
        rows = {
            name: column.reshape(-1, *column.shape[2:]) for name, column in self.columns.items()
        }
        obs = worker._obs
        cut = [o for _, o in self.truncated]
        assert worker._tracker is not None
        ended_returns, ended_lengths = worker._tracker.pop_ended()
        return Rollout(
            batch=SampleBatch(rows),
            num_envs=len(obs),
            history=self.history,
            final_obs=obs,
            final_actions=worker._last_actions,
            truncated_rows=np.array([row for row, _ in self.truncated], np.int64),
            truncated_obs=np.stack(cut) if cut else np.empty((0, *obs.shape[1:]), obs.dtype),
            worker_index=worker.worker_index,
            seconds=self.seconds,
            shaping=self.shaping,
            ended_returns=ended_returns,
            ended_lengths=ended_lengths,
        )


def _for_this_process(config: Any) -> Any:
    """The configuration; with a new seed in a process that Ray started for one that died.

    With the old one it would play the levels again that the dead one began with.
    """
    if config.seed is None or not ray.get_runtime_context().was_current_actor_reconstructed:
        return config
    config = config.copy(copy_frozen=False)
    config.seed = secrets.randbits(31)
    return config


def _with_hints(
    env_creator: Callable[[EnvContext], Any], config: Any
) -> Callable[[EnvContext], Any]:
    """Tell the environment creator what RLlib's EnvContext does not: how many games, which seed."""

    def create(context: EnvContext) -> Any:
        context.num_envs = config.num_envs_per_env_runner
        context.seed = config.seed
        return env_creator(context)

    return create


def as_array_env(env: Any, base_env: Any) -> ArrayEnv:
    """The environments of a worker as arrays.

    Args:
        env: What the environment creator returned: an array environment or a Gymnasium one.
        base_env: RLlib's `BaseEnv` around it, which holds all copies of a Gymnasium environment.
    """
    if isinstance(env, ArrayEnv):
        return env
    return GymnasiumArrayEnv(base_env.get_sub_environments())
