"""Algorithm: blocks of an evaluation, played in this process or side by side on Ray workers."""

import math
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from typing import Any, NamedTuple

import ray
from ray.tune.registry import _global_registry

from rllib_ppg.algorithm.evaluate_agents import Agent
from rllib_ppg.algorithm.evaluate_blocks import Block, BlockPlayer
from rllib_ppg.algorithm.evaluate_episodes import EpisodeStatistics
from rllib_ppg.errors import UserError

SLICE_S = 0.5
"""Seconds that a worker plays between two reports."""

MAX_LOST_WORKERS = 3


class Report(NamedTuple):
    """How far a block is.

    Attributes:
        episodes: Finished episodes.
        env_steps: Environment steps.
        result: The episodes, once all are finished.
    """

    episodes: int = 0
    env_steps: int = 0
    result: EpisodeStatistics | None = None


OnProgress = Callable[[int, int], None]
"""Told the finished episodes and environment steps of all blocks, about twice a second."""


def choose_workers(wanted: int | None, num_blocks: int, cpus: float) -> int:
    """How many workers play; 0 means this process.

    Args:
        wanted: The user's number; None for as many as there are CPUs.
        num_blocks: Blocks to be played; more workers would have nothing to do.
        cpus: CPUs that there are.

    Raises:
        UserError: If the number is negative.
    """
    if wanted is not None and wanted < 0:
        raise UserError(f"num_env_runners={wanted}: must be 0 (this process) or more, or auto.")
    if wanted is not None:
        return min(wanted, num_blocks)
    fitting = min(int(cpus), num_blocks)
    return fitting if fitting > 1 else 0


def play_blocks(
    agent: Agent,
    blocks: Sequence[Block],
    workers: "int | Team",
    on_progress: OnProgress = lambda episodes, env_steps: None,
) -> list[EpisodeStatistics]:
    """Play blocks and return their episodes, in the order of the blocks.

    Args:
        agent: Who plays.
        blocks: What is played.
        workers: Ray workers: a team, or the size of one that plays these blocks alone; 0 plays in
            this process.
        on_progress: What it raises ends the evaluation and comes out here.

    Raises:
        UserError: If an environment cannot be made, or workers keep dying.
    """
    reports = [Report()] * len(blocks)
    with ExitStack() as stack:
        if isinstance(workers, Team):
            stream = workers.play(agent, blocks)
        elif workers:
            team = stack.enter_context(closing(Team(workers)))
            stream = team.play(agent, blocks)
        else:
            stream = _here(agent, blocks)
        stack.enter_context(closing(stream))
        for news in stream:
            if news is not None:
                reports[news[0]] = news[1]
            on_progress(sum(r.episodes for r in reports), sum(r.env_steps for r in reports))
    return [report.result for report in reports if report.result is not None]


class BlockWorker:
    """Plays one block after the other, a slice of time at a time."""

    def __init__(self) -> None:
        self._player: BlockPlayer | None = None

    def begin(self, block: Block, agent: Agent) -> Report:
        """Begin a block, in place of one that was not ended, and play it for a slice."""
        self.close()
        self._player = BlockPlayer(block, agent)
        return self.go_on()

    def go_on(self) -> Report:
        """Play the block begun for about `SLICE_S` seconds."""
        player = self._player
        assert player is not None, "a block is begun first"
        player.play(SLICE_S)
        if not player.done:
            return Report(player.num_finished, player.env_steps)
        self.close()
        return Report(player.num_finished, player.env_steps, player.episodes())

    def close(self) -> None:
        """Close the environments of the block under way."""
        if self._player is not None:
            self._player.close()
        self._player = None


Stream = Generator[tuple[int, Report] | None, None, None]
"""A block's index and report; None where there is nothing new after a moment."""


def _here(agent: Agent, blocks: Sequence[Block]) -> Stream:
    worker = BlockWorker()
    try:
        for index, block in enumerate(blocks):
            report = worker.begin(block, agent)
            yield index, report
            while report.result is None:
                report = worker.go_on()
                yield index, report
    finally:
        worker.close()


class Turn(NamedTuple):
    """A worker's turn at a block.

    Attributes:
        worker: Its handle.
        block: The block's index.
        deadline: When the worker counts as hanging, by `time.monotonic`.
    """

    worker: Any
    block: int
    deadline: float


class Team:
    """Ray workers that play blocks, kept from one evaluation to the next.

    A worker that dies or hangs is replaced, and its block is played anew, with the same episodes;
    after `MAX_LOST_WORKERS` of them in one evaluation those that are left do the rest.

    Args:
        size: Workers, started when there is something to play.
        num_cpus: CPUs that each of them takes.
        silent_s: Seconds without a report after which a worker counts as hanging; they report about
            twice a second, but have to be started first. None: they have all the time they want.
        tell: Told of each worker that was lost, in a sentence.
    """

    def __init__(
        self,
        size: int,
        *,
        num_cpus: float = 1,
        silent_s: float | None = None,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._size = size
        self._silent_s = math.inf if silent_s is None else silent_s
        self._tell = tell
        # A restart would come back without its block, so Ray does none.
        self._worker = ray.remote(num_cpus=num_cpus, max_restarts=0)(BlockWorker)
        self._idle: list[Any] = []
        self._turns: dict[Any, Turn] = {}

    def play(self, agent: Agent, blocks: Sequence[Block]) -> Stream:
        """Play blocks; close the generator to end before all are played.

        Raises:
            UserError: If an environment cannot be made, or no worker is left.
        """
        if any(block.env != "procgen" for block in blocks):
            # One that was registered before Ray was started is not known to workers yet.
            _global_registry.flush_values()
        waiting = deque(range(len(blocks)))
        player = ray.put(agent)
        lost = 0
        try:
            while waiting or self._turns:
                while waiting and self._may_begin(lost, len(blocks)):
                    index = waiting.popleft()
                    worker = self._idle.pop() if self._idle else self._worker.remote()
                    self._take_turn(worker, index, worker.begin.remote(blocks[index], player))
                if not self._turns:
                    raise UserError(_ALL_LOST)
                for index, report in self._wait():
                    if report is None:
                        lost += 1
                        waiting.appendleft(index)
                    yield index, report or Report()
                yield None
        finally:
            self._stop_turns()

    def close(self) -> None:
        """End all workers."""
        self._stop_turns()
        for worker in self._idle:
            ray.kill(worker)
        self._idle = []

    def _may_begin(self, lost: int, num_blocks: int) -> bool:
        working = len(self._turns)
        fit = min(self._size, num_blocks)
        # The dead are replaced up to a limit.
        return bool(self._idle) or working < (fit if lost <= MAX_LOST_WORKERS else fit - lost)

    def _take_turn(self, worker: Any, index: int, answer: Any) -> None:
        self._turns[answer] = Turn(worker, index, time.monotonic() + self._silent_s)

    def _wait(self) -> Iterator[tuple[int, Report | None]]:
        """Wait a moment; gives the reports, None for a worker that was lost."""
        ready, others = ray.wait(list(self._turns), num_returns=1, timeout=SLICE_S)
        for answer in ready:
            turn = self._turns.pop(answer)
            try:
                report: Report = ray.get(answer)
            except ray.exceptions.RayTaskError as error:
                self._idle.append(turn.worker)
                raise error.cause from None
            except ray.exceptions.RayError as error:
                self._lose(turn, _cause_of(error))
                yield turn.block, None
                continue
            if report.result is None:
                self._take_turn(turn.worker, turn.block, turn.worker.go_on.remote())
            else:
                self._idle.append(turn.worker)
            yield turn.block, report
        for answer in others:
            turn = self._turns[answer]
            if time.monotonic() > turn.deadline:
                del self._turns[answer]
                self._lose(turn, f"it said nothing for {self._silent_s:g} s")
                yield turn.block, None

    def _lose(self, turn: Turn, cause: str) -> None:
        ray.kill(turn.worker)
        self._tell(f"An evaluation worker was lost: {cause}. Its episodes are played anew.")

    def _stop_turns(self) -> None:
        """End workers in the middle of a block, which nobody wants any more."""
        for turn in self._turns.values():
            ray.kill(turn.worker)
        self._turns = {}


_ALL_LOST = (
    "No evaluation worker is left: all workers died, perhaps for want of memory, or got no CPU; "
    "use fewer of them."
)


def _cause_of(error: ray.exceptions.RayError) -> str:
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return "the machine ran out of memory"
    return "its process died"
