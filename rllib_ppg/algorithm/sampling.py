"""Algorithm: rollouts from all workers, asked for in one call and collected in another.

Between the two the learner may work: remote workers then sample beside it.
"""

import logging
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError

from rllib_ppg._ray_compat import DEFAULT_POLICY_ID, EnvRunnerGroup
from rllib_ppg.algorithm.lost_workers import LostWorkers, cause_of
from rllib_ppg.algorithm.rollout import PPGRolloutWorker, Rollout
from rllib_ppg.core.numeric_fault import NumericFault
from rllib_ppg.errors import WorkersLost

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fault:
    """What a worker sends instead of a rollout.

    Attributes:
        cause: What was raised, in one line.
        trace: Where.
        numeric: Set where it is a number that is not finite, which another worker would not mend.
    """

    cause: str
    trace: str = ""
    numeric: NumericFault | None = None


class RolloutSampler:
    """Asks every healthy worker for one rollout an iteration.

    A worker has at most one request at a time, so that no environment is sampled twice in an
    iteration. One that died, raised or is too slow is lost: its process is killed if it still runs,
    Ray starts another, and it is admitted again with the weights.

    Args:
        group: RLlib's workers; the local one samples where there is no remote one.
        timeout_s: Seconds that `collect` waits; None waits for ever.
        ignore_errors: Go on without a worker that was lost; else its error is raised.
        tell: Told of each worker that is lost, in a sentence.
        restart: Let Ray start a lost worker again.
        restore_s: Seconds that `back` waits for a lost worker, once.
    """

    def __init__(
        self,
        group: EnvRunnerGroup,
        *,
        timeout_s: float | None,
        ignore_errors: bool,
        tell: Callable[[str], None],
        restart: bool = True,
        restore_s: float = 30.0,
    ) -> None:
        self._group = group
        self._timeout_s = timeout_s
        self._ignore_errors = ignore_errors
        self._requests: dict[ray.ObjectRef, int] = {}
        self._lost = LostWorkers(group, tell, restart=restart, wait_s=restore_s)

    @property
    def pending(self) -> bool:
        """Whether rollouts were asked for and not collected yet."""
        return bool(self._requests)

    @property
    def causes(self) -> dict[int, str]:
        """Why the workers were lost that are not back yet, by their index."""
        return self._lost.causes

    def begin(self) -> None:
        """Ask the remote workers for a rollout, made with the weights that they have now."""
        actors = self._group._worker_manager.actors()
        for worker in self._group.healthy_worker_ids():
            if worker not in self._requests.values():
                self._requests[actors[worker].apply.remote(_sample)] = worker

    def collect(self) -> list[Rollout]:
        """Return the rollouts that were asked for, or that are asked for now.

        Returns:
            One rollout of each worker that delivered, in the order of the workers.

        Raises:
            FloatingPointError: If a worker met a number that is not finite.
            WorkersLost: If a worker was lost and errors are not ignored.
        """
        local = self._group.local_env_runner
        if not self._group.num_remote_workers():
            return [local.sample()]
        self.begin()  # also where the others were asked before: a worker may be back since
        rollouts = self._replies()
        for rollout in rollouts:
            local.deliver(rollout.episodes)
        return sorted(rollouts, key=lambda rollout: rollout.worker_index)

    def admit(self, workers: Sequence[int] | None = None, state: Any = None) -> list[int]:
        """Take workers into service, all healthy ones by default; they may sample from then on.

        Args:
            workers: Their indices.
            state: RLlib's state of a worker, which they are given before.

        Returns:
            Those that answered.
        """
        reference = ray.put(state) if state is not None else None
        back = set(workers or ())  # what was asked of their lost processes is void
        self._requests = {r: worker for r, worker in self._requests.items() if worker not in back}

        def join(worker: PPGRolloutWorker) -> None:
            if reference is not None:
                worker.set_state(ray.get(reference))
            worker.admitted = True

        return sorted(self._ask(join, workers, strangers=True))

    def back(self) -> list[int]:
        """Return the lost workers whose processes are up again; they have to be admitted."""
        return self._lost.back()

    def states(self) -> dict[int, Any]:
        """Return each healthy worker's sampling state, by its index; 0 is the local one."""
        return self._ask(lambda worker: worker.get_sampling_state())

    def set_states(self, states: Mapping[int, Any], steps: int) -> list[int]:
        """Let the workers go on from their states; those without one begin anew.

        Args:
            states: By the workers' indices.
            steps: Environment steps that the run has behind it.

        Returns:
            The workers that answered and whose environments begin new episodes.
        """
        reference = ray.put(dict(states))

        def take(worker: PPGRolloutWorker) -> bool:
            return worker.set_sampling_state(ray.get(reference).get(worker.worker_index), steps)

        return sorted(worker for worker, goes_on in self._ask(take).items() if not goes_on)

    def set_weights(self, weights: Mapping[str, Any]) -> None:
        """Give the remote workers other weights than the learner's."""
        reference = ray.put({DEFAULT_POLICY_ID: dict(weights)})
        self._ask(lambda worker: worker.set_weights(ray.get(reference)))

    def discard(self) -> None:
        """Throw the rollouts away that were asked for, once they are made."""
        self._replies()

    def _ask(
        self,
        question: Callable[[PPGRolloutWorker], Any],
        workers: Sequence[int] | None = None,
        *,
        strangers: bool = False,
    ) -> dict[int, Any]:
        """Return each worker's answer, by its index; workers that give none are lost."""
        if not self._group.num_remote_workers():
            return {0: question(self._group.local_env_runner)}
        actors = self._group._worker_manager.actors()
        asked = self._group.healthy_worker_ids() if workers is None else workers
        requests = {actors[w].apply.remote(_answer, question, strangers): w for w in asked}
        return {worker: answer for worker, (answer,) in self._wait(requests, "answer").items()}

    def _replies(self) -> list[Rollout]:
        requests, self._requests = self._requests, {}
        return list(self._wait(requests, "rollout").values())

    def _wait(self, requests: Mapping[ray.ObjectRef, int], what: str) -> dict[int, Any]:
        """Wait for the requests, and return what came, by worker; those that fail are lost."""
        if not requests:
            return {}
        ready, late = ray.wait(list(requests), num_returns=len(requests), timeout=self._timeout_s)
        for reference in late:
            cause = f"it gave no {what} within {self._timeout_s:g} s (sample_timeout_s)"
            self._lose(requests[reference], Fault(cause), kill=True)
        replies = {requests[reference]: _reply(reference) for reference in ready}
        faults = {w: reply for w, reply in replies.items() if isinstance(reply, Fault)}
        for fault in faults.values():
            if fault.numeric is not None:
                raise fault.numeric
        for worker, fault in faults.items():
            self._lose(worker, fault, kill=bool(fault.trace))
        return {worker: reply for worker, reply in replies.items() if worker not in faults}

    def _lose(self, worker: int, fault: Fault, *, kill: bool) -> None:
        logger.error("Worker %d was lost: %s\n%s", worker, fault.cause, fault.trace)
        self._lost.add(worker, fault.cause, kill=kill)
        if not self._ignore_errors:
            raise WorkersLost(f"Worker {worker} was lost: {fault.cause}")


RESTARTED = Fault("its process died, and Ray has just started it again")


def _answer(
    worker: PPGRolloutWorker, question: Callable[[PPGRolloutWorker], Any], strangers: bool
) -> tuple[Any] | Fault:
    if not worker.admitted and not strangers:
        return RESTARTED
    try:
        return (question(worker),)
    except Exception as error:
        return Fault(_in_one_line(error), traceback.format_exc())


def _in_one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _reply(reference: ray.ObjectRef) -> Any:
    try:
        reply = ray.get(reference)
    except RayError as error:
        return Fault(cause_of(error))
    return reply


def _sample(worker: PPGRolloutWorker) -> Rollout | Fault:
    """Sample, and send the finished episodes along: asking for them would wait for the worker.

    An exception is sent as text: raised, it would end the process, and its cause would be lost.
    """
    if not worker.admitted:
        return RESTARTED
    try:
        rollout = worker.sample()
    except NumericFault as error:
        return Fault(str(error), numeric=error)
    except Exception as error:
        cause = _in_one_line(error)
        numeric = None
        if isinstance(error, FloatingPointError):  # an environment's own
            numeric = NumericFault(f"worker {worker.worker_index}: {error}")
        return Fault(cause, traceback.format_exc(), numeric)
    rollout.episodes = worker.get_metrics()
    return rollout


def sampling_shares(rollouts: list[Rollout]) -> dict[str, float]:
    """Shares of the workers' sampling time spent in environments and in the network."""
    total = sum(rollout.seconds["total"] for rollout in rollouts)
    return {
        f"time/sample_{part}_share": sum(r.seconds[part] for r in rollouts) / total
        for part in ("env", "network")
    }
