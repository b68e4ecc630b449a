"""Core: the wall clock of a run over all its processes, and what it needs before it can end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

SAFETY = 1.1
"""What comes next may take this many times the longest of its kind so far."""

Part = Literal["iteration", "evaluation"]


class RunClock:
    """Counts the seconds of a run, whatever they are spent on, and looks ahead.

    A run can only end between two training iterations, each of which is an iteration, perhaps an
    evaluation, and then what lies between: a checkpoint mostly. The time between two processes of a
    run does not count.

    Args:
        now: Seconds that never go back.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._earlier = 0.0
        self._began = now()
        self._ended: float | None = None
        self._longest: dict[str, float] = {"iteration": 0.0, "evaluation": 0.0, "between": 0.0}

    @property
    def elapsed_s(self) -> float:
        """Seconds of the run so far."""
        return self._earlier + self._now() - self._began

    def ahead_s(self, slice_s: float = 0.0) -> float:
        """Seconds until the run could end in order if another training iteration is begun.

        They hold a checkpoint that may be due, the iteration, the last checkpoint, and evaluations
        after both iterations, each as long as the longest so far.

        Args:
            slice_s: The iteration may take this long though none has yet.
        """
        longest = self._longest
        around = 2 * (longest["between"] + longest["evaluation"])
        return SAFETY * (max(longest["iteration"], slice_s) + around)

    @contextmanager
    def measured(self, part: Part) -> Iterator[None]:
        """Context in which a part of a training iteration runs."""
        begin = self._now()
        yield
        self._note(part, self._now() - begin)

    def begin(self) -> None:
        """Begin a training iteration."""
        if self._ended is not None:
            self._note("between", self._now() - self._ended)

    def end(self) -> None:
        """End a training iteration."""
        self._ended = self._now()

    def _note(self, part: str, seconds: float) -> None:
        self._longest[part] = max(self._longest[part], seconds)

    def go_on(self, elapsed_s: float) -> None:
        """Go on from another process of the run.

        Args:
            elapsed_s: Seconds of the run up to now.
        """
        self._earlier, self._began, self._ended = elapsed_s, self._now(), None
