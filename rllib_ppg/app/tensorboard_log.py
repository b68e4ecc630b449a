"""App: a trial's results for TensorBoard, under the names of docs/metrics.md.

The events are written at once and in this thread: a writer's thread that meets a full disk would
end, and the run would wait for it.
"""

import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ray.tune.utils import flatten_dict
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

from rllib_ppg.app.result_keys import LEARNER_STATS

STEPS = "num_env_steps_sampled_lifetime"
HIDDEN = ("config/", "evaluation/config/", "sampler_results/", "counters/", "perf/")
"""Groups of Ray's results that repeat others, or are no numbers of the training."""


class TensorBoardLog:
    """The event file of one trial, by environment steps.

    Args:
        folder: The trial's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: EventsWriter | None = None
        self._steps = -1

    def write(self, result: Mapping[str, Any]) -> None:
        """Append a result.

        What an earlier part of the run wrote beyond the first result's steps is declared void.

        Raises:
            OSError: If it cannot be written.
        """
        steps = int(result.get(STEPS) or result.get("training_iteration", 0))
        if self._writer is None or steps < self._steps:
            self._begin(steps)
        assert self._writer is not None
        values = [Summary.Value(tag=name, simple_value=value) for name, value in scalars(result)]
        self._write(Event(step=steps, summary=Summary(value=values)))
        self._steps = steps

    def _begin(self, steps: int) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._writer = EventsWriter(str(self._folder / "events"), f".{time.time_ns()}")
        self._write(Event(step=steps, session_log=SessionLog(status=SessionLog.START)))

    def _write(self, event: Event) -> None:
        assert self._writer is not None
        event.wall_time = time.time()
        try:
            self._writer.write_event(event)
            self._writer.flush()
        except OSError:
            self._writer = None  # half an event would make the rest unreadable
            raise

    def close(self) -> None:
        """End the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def scalars(result: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The numbers of a result, under the names that the documentation gives them."""
    for name, value in flatten_dict(dict(result), "/").items():
        name = name.removeprefix(f"{LEARNER_STATS}/")
        shown = isinstance(value, int | float) and not name.startswith(HIDDEN)
        if shown and not math.isnan(value):
            yield name, float(value)
