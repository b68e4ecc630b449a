"""Algorithm: rollout workers that were lost, until they are back.

Ray starts a dead worker's process again; what it cannot see, a worker that hangs or whose
environment is broken, is killed here first.
"""

import logging
import time
from collections.abc import Callable, Sequence

import ray
from ray.exceptions import ActorDiedError, OutOfMemoryError, RayError

from rllib_ppg._ray_compat import EnvRunnerGroup
from rllib_ppg.algorithm.out_of_memory import killed_for_memory
from rllib_ppg.algorithm.rollout import PPGRolloutWorker

logger = logging.getLogger(__name__)

DIED = "its process died: it was killed, crashed, or the machine ran out of memory"

RETRY_S = 0.2
"""Seconds until a worker that did not answer is asked again."""

SILENT = 5
"""How often the waiting time has to pass without a word before a process is taken to hang; one that
starts is as silent, and is not to be killed over and over."""


class LostWorkers:
    """Keeps an eye on the workers that are not healthy.

    Args:
        group: RLlib's workers.
        tell: Told of each worker that is lost, in a sentence.
        restart: Let Ray start them again.
        wait_s: Seconds that `back` waits for each of them, once.

    Attributes:
        causes: Why each of them was lost, by its index.
    """

    def __init__(
        self, group: EnvRunnerGroup, tell: Callable[[str], None], *, restart: bool, wait_s: float
    ) -> None:
        self.causes: dict[int, str] = {}
        self._tell = tell
        self._manager = group._worker_manager
        self._restart = restart
        self._wait_s = wait_s
        self._deadlines: dict[int, float] = {}
        self._killed: set[int] = set()
        self._asked: dict[int, tuple[ray.ObjectRef, float]] = {}
        self._gone: set[int] = set()

    def add(self, worker: int, cause: str, *, kill: bool) -> None:
        """Take a worker out of service.

        Args:
            worker: Its index.
            cause: Why, in one line.
            kill: Its process still runs.
        """
        self._manager.set_actor_state(worker, healthy=False)
        self._note(worker, cause)
        self._deadlines.pop(worker, None)
        self._asked.pop(worker, None)
        if kill:
            self._kill(worker)

    def _kill(self, worker: int) -> None:
        self._killed.add(worker)
        ray.kill(self._manager.actors()[worker], no_restart=not self._restart)

    def back(self) -> list[int]:
        """Return the workers that answer again, and call them healthy.

        Waits for those that were lost since the last call, and for any where there is none left.
        """
        if not self._restart:
            return []
        if not self._manager.num_healthy_actors():
            self._deadlines.clear()  # nothing can be done without them
        found: list[int] = []
        while True:
            down = self._down()
            found += self._answering(down)
            left = [worker for worker in down if worker not in found]
            if not left or time.monotonic() > max(self._deadlines[worker] for worker in left):
                return sorted(found)
            time.sleep(RETRY_S)

    def _down(self) -> list[int]:
        """Workers that may come back, those that RLlib itself took out of service included."""
        manager = self._manager
        down = [w for w in manager.actor_ids() if not manager.is_actor_healthy(w)]
        for worker in down:
            if worker not in self.causes:
                self._note(worker, DIED)
            self._deadlines.setdefault(worker, time.monotonic() + self._wait_s)
        return [worker for worker in down if worker not in self._gone]

    def _note(self, worker: int, cause: str) -> None:
        self.causes[worker] = cause
        self._tell(f"Worker {worker} was lost: {cause}.")

    def _answering(self, workers: Sequence[int]) -> list[int]:
        """Workers of which a new process is up; one that hangs is killed, once."""
        actors, now = self._manager.actors(), time.monotonic()
        for worker in workers:
            if worker not in self._asked:
                self._asked[worker] = (actors[worker].apply.remote(_is_fresh), now)
            elif self._hangs(worker, now):
                self._kill(worker)
        asked = {self._asked[worker][0]: worker for worker in workers}
        if not asked:
            return []
        ready, _ = ray.wait(list(asked), num_returns=len(asked), timeout=RETRY_S)
        return [asked[answer] for answer in ready if self._is_back(asked[answer], answer)]

    def _hangs(self, worker: int, now: float) -> bool:
        silence = now - self._asked[worker][1]
        return worker not in self._killed and silence > SILENT * self._wait_s

    def _is_back(self, worker: int, answer: ray.ObjectRef) -> bool:
        del self._asked[worker]
        try:
            fresh = ray.get(answer)
        except ActorDiedError as error:
            if "creation task" in str(error):  # its constructor raised, and would again
                self._note(worker, cause_of(error))
                self._gone.add(worker)
            return False
        except RayError:
            return False
        if not fresh:  # the lost process: nobody knows what its environments did since
            if worker not in self._killed:
                self._kill(worker)
            return False
        self._killed.discard(worker)
        self._deadlines.pop(worker, None)
        self.causes.pop(worker, None)
        self._manager.set_actor_state(worker, healthy=True)
        return True


def _is_fresh(worker: PPGRolloutWorker) -> bool:
    return not worker.admitted


def cause_of(error: RayError) -> str:
    """Why a worker did not answer, in one line."""
    if isinstance(error, OutOfMemoryError):  # Ray's text ends in how to turn the monitor off
        return killed_for_memory("it")
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if "creation task" in str(error):
        return f"it cannot be started: {lines[-1]}"
    if isinstance(error, ActorDiedError) or "unavailable" in str(error).lower():
        return DIED
    return f"{type(error).__name__}: {lines[-1]}" if lines else type(error).__name__
