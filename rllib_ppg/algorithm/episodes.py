"""Algorithm: returns and lengths of episodes, and RLlib's episode callbacks.

Without episode callbacks everything is an array operation over all environments; with them each
environment gets an RLlib episode object, and the callbacks are called as RLlib's sampler does.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from rllib_ppg._ray_compat import EpisodeV2, RLlibCallback, RolloutMetrics

CALLBACKS = ("on_episode_created", "on_episode_start", "on_episode_step", "on_episode_end")
_AGENT = "agent0"


class EpisodeTracker:
    """Adds up raw rewards and reports finished episodes.

    Args:
        worker: The rollout worker, handed to the callbacks.
        num_envs: N, the worker's environments.
    """

    def __init__(self, worker: Any, num_envs: int) -> None:
        self._worker = worker
        self._returns = np.zeros(num_envs)
        self._lengths = np.zeros(num_envs, np.int64)
        self._finished: list[RolloutMetrics] = []
        self._ended: list[tuple[int, float, int]] = []
        self._active = {name for name in CALLBACKS if self._wants(name)}
        self._episodes: list[Any] = []
        if self._active:
            self._episodes = [self._new_episode(index) for index in range(num_envs)]

    def step(self, rewards: np.ndarray, dones: np.ndarray, env: Any) -> None:
        """Count one step of every environment.

        Args:
            rewards: Raw rewards (N,).
            dones: Whether the episode ended with this step, bool (N,).
            env: The array environment; asked for its infos where a callback is set.
        """
        self._returns += rewards
        self._lengths += 1
        if self._active:
            self._step_callbacks(rewards, env)
        for index in np.flatnonzero(dones):
            self._finish(int(index))

    def pop_finished(self) -> list[RolloutMetrics]:
        """Metrics of the episodes that ended since the last call."""
        finished, self._finished = self._finished, []
        return finished

    def pop_ended(self) -> tuple[np.ndarray, np.ndarray]:
        """Raw returns and lengths of the episodes that ended since the last call.

        In order of the environments, and of time within one: (K,) float64, (K,) int64.
        """
        ended, self._ended = sorted(self._ended, key=lambda episode: episode[0]), []
        returns = np.array([total for _, total, _ in ended], np.float64)
        return returns, np.array([length for _, _, length in ended], np.int64)

    def get_state(self) -> dict[str, Any]:
        """Return the sums of the episodes under way.

        RLlib's episode objects, which callbacks may fill, are not part of it.
        """
        return {"returns": self._returns.copy(), "lengths": self._lengths.copy()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from `get_state`."""
        self._returns[:] = state["returns"]
        self._lengths[:] = state["lengths"]

    def _finish(self, index: int) -> None:
        extra = {}
        if self._active:
            episode = self._episodes[index]
            self._call("on_episode_end", index, episode)
            extra = {
                "custom_metrics": episode.custom_metrics,
                "hist_data": episode.hist_data,
                "media": episode.media,
            }
        length, total = int(self._lengths[index]), float(self._returns[index])
        self._finished.append(RolloutMetrics(length, total, **extra))
        self._ended.append((index, total, length))
        self._returns[index] = 0.0
        self._lengths[index] = 0
        if self._active:
            self._episodes[index] = self._new_episode(index)

    def _step_callbacks(self, rewards: np.ndarray, env: Any) -> None:
        infos = env.infos()
        for index, episode in enumerate(self._episodes):
            episode.step()
            episode.active_agent_steps += 1
            episode.total_agent_steps += 1
            episode.total_reward += float(rewards[index])
            episode.agent_rewards[(_AGENT, "default_policy")] += float(rewards[index])
            episode.set_last_info(_AGENT, infos[index])
            self._call("on_episode_step", index, episode)

    def _new_episode(self, index: int) -> Any:
        worker = self._worker
        episode = EpisodeV2(
            index,
            worker.policy_map,
            worker.policy_mapping_fn,
            worker=worker,
            callbacks=worker.callbacks,
        )
        self._call("on_episode_created", index, episode)
        self._call("on_episode_start", index, episode)
        episode.step()  # RLlib counts from -1, and the reset as a step
        return episode

    def _wants(self, name: str) -> bool:
        callbacks = self._worker.callbacks
        if getattr(callbacks, "IS_CALLBACK_CONTAINER", False):
            return True
        return getattr(type(callbacks), name) is not getattr(RLlibCallback, name)

    def _call(self, name: str, index: int, episode: Any) -> None:
        if name in self._active:
            getattr(self._worker.callbacks, name)(
                worker=self._worker,
                base_env=self._worker.async_env,
                policies=self._worker.policy_map,
                env_index=index,
                episode=episode,
            )
