"""Algorithm: rollouts from all workers, asked for in one call and collected in another.

Between the two the learner may work: remote workers then sample beside it.
"""

import logging
import time
from collections.abc import Mapping
from typing import Any

import ray
from ray.exceptions import RayError

from rllib_ppg._ray_compat import EnvRunnerGroup
from rllib_ppg.algorithm.rollout import PPGRolloutWorker, Rollout

logger = logging.getLogger(__name__)


class RolloutSampler:
    """Asks every healthy worker for one rollout an iteration.

    A worker has at most one request at a time. The reply of a worker that is too slow is thrown
    away when it comes, and the worker is left out until then, so that no environment is sampled
    twice in an iteration.

    Args:
        group: RLlib's workers; the local one samples where there is no remote one.
        timeout_s: Seconds that `collect` waits; None waits for ever.
        ignore_errors: Go on without a worker that failed; else its error is raised.
    """

    def __init__(
        self, group: EnvRunnerGroup, *, timeout_s: float | None, ignore_errors: bool
    ) -> None:
        self._group = group
        self._timeout_s = timeout_s
        self._ignore_errors = ignore_errors
        self._requests: dict[ray.ObjectRef, int] = {}
        self._late: dict[ray.ObjectRef, int] = {}

    @property
    def pending(self) -> bool:
        """Whether rollouts were asked for and not collected yet."""
        return bool(self._requests)

    def begin(self) -> None:
        """Ask the remote workers for a rollout, made with the weights that they have now."""
        self._forget_late()
        busy = {*self._requests.values(), *self._late.values()}
        actors = self._group._worker_manager.actors()
        for worker in self._group.healthy_worker_ids():
            if worker not in busy:
                self._requests[actors[worker].apply.remote(_sample)] = worker

    def collect(self) -> list[Rollout]:
        """Return the rollouts that were asked for, or that are asked for now.

        Returns:
            One rollout of each worker that delivered, in the order of the workers.

        Raises:
            RayError: If a worker failed and errors are not ignored.
        """
        local = self._group.local_env_runner
        if not self._group.num_remote_workers():
            return [local.sample()]
        if not self.pending:
            self.begin()
        rollouts = [rollout for rollout in map(self._result, self._wait()) if rollout]
        for rollout in rollouts:
            local.deliver(rollout.episodes)
        return sorted(rollouts, key=lambda rollout: rollout.worker_index)

    def states(self) -> dict[int, Any]:
        """Return each healthy worker's sampling state, by its index; 0 is the local one."""
        local = not self._group.num_remote_workers()
        states = self._group.foreach_env_runner(
            lambda worker: (worker.worker_index, worker.get_sampling_state()),
            local_env_runner=local,
        )
        return dict(states)

    def set_states(self, states: Mapping[int, Any]) -> bool:
        """Let the workers go on from their states; those without one begin anew.

        Returns:
            Whether all environments go on where they were.
        """
        local = not self._group.num_remote_workers()
        reference = ray.put(dict(states))
        resumed = self._group.foreach_env_runner(
            lambda worker: worker.set_sampling_state(ray.get(reference).get(worker.worker_index)),
            local_env_runner=local,
        )
        return all(resumed)

    def discard(self) -> None:
        """Throw the rollouts away that were asked for, once they are made."""
        for reply in self._wait():
            self._result(reply)

    def _wait(self) -> list[tuple[ray.ObjectRef, int]]:
        """Wait for the requests, and return those that are answered."""
        requests, self._requests = self._requests, {}
        if not requests:
            return []
        begin = time.monotonic()
        ready, late = ray.wait(list(requests), num_returns=len(requests), timeout=self._timeout_s)
        self._late |= {reference: requests[reference] for reference in late}
        if late:
            logger.warning(
                "No rollout from worker(s) %s within %.0f s (sample_timeout_s).",
                sorted(requests[reference] for reference in late),
                time.monotonic() - begin,
            )
        return [(reference, requests[reference]) for reference in ready]

    def _result(self, reply: tuple[ray.ObjectRef, int]) -> Rollout | None:
        """Return a worker's rollout, or None where it failed.

        RLlib brings a worker that is called unhealthy back, and gives it the weights.
        """
        reference, worker = reply
        manager = self._group._worker_manager
        try:
            rollout: Rollout | None = ray.get(reference)
        except RayError as error:
            manager.set_actor_state(worker, healthy=False)
            if not self._ignore_errors:
                raise
            logger.error("Worker %d gave no rollout: %s", worker, error)
            return None
        if rollout is None:
            manager.set_actor_state(worker, healthy=False)
        return rollout

    def _forget_late(self) -> None:
        if self._late:
            ready, _ = ray.wait(list(self._late), num_returns=len(self._late), timeout=0)
            for reference in ready:
                del self._late[reference]


def _sample(worker: PPGRolloutWorker) -> Rollout | None:
    """Sample, and send the finished episodes along: asking for them would wait for the worker.

    A worker that Ray has just restarted, unseen by RLlib, must not act with weights of its own.
    """
    if not worker.has_weights:
        return None
    rollout = worker.sample()
    rollout.episodes = worker.get_metrics()
    return rollout
