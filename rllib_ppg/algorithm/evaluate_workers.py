"""Algorithm: blocks of an evaluation, played in this process or side by side on Ray workers."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
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
    workers: int,
    on_progress: OnProgress = lambda episodes, env_steps: None,
) -> list[EpisodeStatistics]:
    """Play blocks and return their episodes, in the order of the blocks.

    Args:
        agent: Who plays.
        blocks: What is played.
        workers: Ray workers, of one CPU each; 0 plays in this process.
        on_progress: What it raises ends the evaluation and comes out here.

    Raises:
        UserError: If an environment cannot be made, or workers keep dying.
    """
    reports = [Report()] * len(blocks)
    stream = _on_ray(agent, blocks, workers) if workers else _here(agent, blocks)
    with closing(stream):
        for news in stream:
            if news is not None:
                reports[news[0]] = news[1]
            on_progress(sum(r.episodes for r in reports), sum(r.env_steps for r in reports))
    return [report.result for report in reports if report.result is not None]


class BlockWorker:
    """Plays one block after the other, a slice of time at a time.

    Args:
        agent: Who plays.
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._player: BlockPlayer | None = None

    def play(self, block: Block | None) -> Report:
        """Play for about `SLICE_S` seconds.

        Args:
            block: A block to begin with; None goes on with the one begun.
        """
        if block is not None:
            self.close()
            self._player = BlockPlayer(block, self._agent)
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


Stream = Iterator[tuple[int, Report] | None]
"""A block's index and report; None where there is nothing new after a moment."""


def _here(agent: Agent, blocks: Sequence[Block]) -> Any:
    worker = BlockWorker(agent)
    try:
        for index, block in enumerate(blocks):
            report = worker.play(block)
            yield index, report
            while report.result is None:
                report = worker.play(None)
                yield index, report
    finally:
        worker.close()


def _on_ray(agent: Agent, blocks: Sequence[Block], workers: int) -> Any:
    if any(block.env != "procgen" for block in blocks):
        # One that was registered before Ray was started is not known to workers yet.
        _global_registry.flush_values()
    team = _Team(agent, blocks, workers)
    try:
        while team.running:
            yield from team.reports()
    finally:
        team.close()


class _Team:
    """Ray workers, and which block each of them plays."""

    def __init__(self, agent: Agent, blocks: Sequence[Block], workers: int) -> None:
        self._blocks = blocks
        self._waiting = deque(range(len(blocks)))
        self._agent = ray.put(agent)
        self._worker = ray.remote(num_cpus=1)(BlockWorker)
        self._lost = 0
        self._alive: list[Any] = []
        self.running: dict[Any, tuple[Any, int]] = {}
        for _ in range(workers):
            self._hire()

    def reports(self) -> Stream:
        """Wait for reports, at most a moment."""
        ready, _ = ray.wait(list(self.running), timeout=SLICE_S)
        if not ready:
            yield None
        for ref in ready:
            worker, index = self.running.pop(ref)
            try:
                report = ray.get(ref)
            except ray.exceptions.RayTaskError as error:
                raise error.as_instanceof_cause() from None
            except (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError):
                self._replace(worker, index)
                yield index, Report()
                continue
            yield index, report
            if report.result is None:
                self.running[worker.play.remote(None)] = (worker, index)
            else:
                self._give(worker)

    def close(self) -> None:
        """End all workers."""
        for worker in self._alive:
            ray.kill(worker)

    def _hire(self) -> None:
        worker = self._worker.remote(self._agent)
        self._alive.append(worker)
        self._give(worker)

    def _give(self, worker: Any) -> None:
        if self._waiting:
            index = self._waiting.popleft()
            self.running[worker.play.remote(self._blocks[index])] = (worker, index)

    def _replace(self, worker: Any, index: int) -> None:
        """Let a new worker play a dead one's block from the beginning."""
        self._lost += 1
        if self._lost > MAX_LOST_WORKERS:
            raise UserError(
                f"{self._lost} evaluation workers died, perhaps for want of memory; use a smaller "
                "num_env_runners."
            )
        self._alive.remove(worker)
        self._waiting.appendleft(index)
        self._hire()
