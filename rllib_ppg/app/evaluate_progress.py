"""App: how far an evaluation is: a bar on a terminal, elsewhere a line now and then."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_EVERY_S = 10.0


class EvaluationProgress(Protocol):
    """Something that is told how far an evaluation is."""

    def update(self, episodes: int, env_steps: int) -> None:
        """Take in the finished episodes and the environment steps so far."""


@contextmanager
def make_progress(total: int, out: TextIO | None = None) -> Iterator[EvaluationProgress]:
    """Context that shows progress.

    Args:
        total: Episodes to be played.
        out: Where it is shown; standard error unless given.
    """
    out = out or sys.stderr
    if not out.isatty():
        yield PlainLines(total, out)
        return
    columns = (
        TextColumn("Playing"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("episodes, {task.fields[speed]:,.0f} steps/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(file=out), transient=True) as bar:
        yield _Bar(bar, total)


class PlainLines:
    """A line every `LINE_EVERY_S` seconds.

    Args:
        total: Episodes to be played.
        out: Where the lines go.
    """

    def __init__(self, total: int, out: TextIO) -> None:
        self._total, self._out = total, out
        self._speed = _Speed()
        self._begin = self._last = time.monotonic()

    def update(self, episodes: int, env_steps: int) -> None:
        """Print a line if it is time, and at the end."""
        now = time.monotonic()
        speed = self._speed(env_steps)
        if now - self._last < LINE_EVERY_S and episodes < self._total:
            return
        self._last = now
        text = f"[{now - self._begin:5.0f} s] {episodes} of {self._total} episodes"
        print(f"{text}, {env_steps:,} steps, {speed:,.0f} steps/s", file=self._out, flush=True)


class _Bar:
    def __init__(self, bar: Progress, total: int) -> None:
        self._bar, self._speed = bar, _Speed()
        self._task = bar.add_task("", total=total, speed=0.0)

    def update(self, episodes: int, env_steps: int) -> None:
        self._bar.update(self._task, completed=episodes, speed=self._speed(env_steps))


class _Speed:
    """Environment steps a second since the first report; the start of workers does not count."""

    def __init__(self) -> None:
        self._first: tuple[float, int] | None = None

    def __call__(self, env_steps: int) -> float:
        now = time.monotonic()
        if self._first is None and env_steps:
            self._first = now, env_steps
        begin, before = self._first or (now, 0)
        return (env_steps - before) / (now - begin) if now > begin else 0.0
