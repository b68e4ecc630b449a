"""App: a trial's results for TensorBoard, under the names of docs/metrics.md.

The files are written here and not by tensorboardX, whose writers lose events on a full disk, or end
there with their thread.
"""

import math
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ray.tune.utils import flatten_dict
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import masked_crc32c

from rllib_ppg.app.result_keys import LEARNER_STATS

STEPS = "num_env_steps_sampled_lifetime"
HIDDEN = ("config/", "evaluation/config/", "sampler_results/", "counters/", "perf/")
"""Groups of Ray's results that repeat others, or are no numbers of the training."""


class TensorBoardLog:
    """The event file of one trial, by environment steps.

    What cannot be written, because the disk is full for instance, is written with the next result.

    Args:
        folder: The trial's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path: Path | None = None
        self._size = 0  # bytes of the file that are whole events
        self._steps = 0
        self._waiting: list[Event] = []

    def write(self, result: Mapping[str, Any]) -> None:
        """Append a result.

        What an earlier part of the run wrote beyond the first result's steps is declared void.

        Raises:
            OSError: If it cannot be written; it is kept.
        """
        steps = int(result.get(STEPS) or result.get("training_iteration", 0))
        if self._path is None or steps < self._steps:
            self._begin(steps)
        self._steps = steps
        values = [Summary.Value(tag=name, simple_value=value) for name, value in scalars(result)]
        self._waiting.append(_event(step=steps, summary=Summary(value=values)))
        self._write_waiting()

    def _begin(self, steps: int) -> None:
        """Let a new file follow."""
        name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{time.time_ns()}"
        self._path, self._size = self._folder / name, 0
        start = SessionLog(status=SessionLog.START)
        self._waiting += [
            _event(file_version="brain.Event:2"),
            _event(step=steps, session_log=start),
        ]

    def _write_waiting(self) -> None:
        """Append in place of what an attempt that failed has left there."""
        assert self._path is not None
        records = b"".join(map(_record, self._waiting))
        if not self._size:
            self._folder.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            file.truncate(self._size)
            file.write(records)
        self._size += len(records)
        self._waiting = []


def _event(**content: Any) -> Event:
    return Event(wall_time=time.time(), **content)


def _record(event: Event) -> bytes:
    """An event as TensorBoard's files hold it: length, checksum, content, checksum."""
    content = event.SerializeToString()
    length = struct.pack("<Q", len(content))
    sums = [struct.pack("<I", masked_crc32c(data)) for data in (length, content)]
    return length + sums[0] + content + sums[1]


def scalars(result: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The numbers of a result, under the names that the documentation gives them."""
    for name, value in flatten_dict(dict(result), "/").items():
        name = name.removeprefix(f"{LEARNER_STATS}/")
        shown = isinstance(value, int | float) and not name.startswith(HIDDEN)
        if shown and not math.isnan(value):
            yield name, float(value)
