"""App: Ctrl-C: once ends a run in order, after a checkpoint; twice ends it at once."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

INTERRUPTED, TERMINATED = 130, 143
"""What a shell reports of a process that SIGINT or SIGTERM has ended: 128 and the signal."""


class Interrupt:
    """Context in which Ctrl-C (and SIGTERM) asks for an orderly end instead of raising.

    Args:
        on_request: Called with the signal's name when the first one comes; must be quick.

    Attributes:
        signal: The signal that has asked for an orderly end, or None.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self, on_request: Callable[[str], None] = lambda name: None) -> None:
        self.signal: signal.Signals | None = None
        self._on_request = on_request
        self._before: dict[signal.Signals, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether an orderly end has been asked for."""
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """What a shell reports of a process that the signal ended: 130 or 143."""
        return 128 + self.signal if self.signal is not None else 0

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._handle) for s in self.SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)
        self._on_request("Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name)


def end_tune_loop() -> None:
    """End Tune's loop after its current step; trials stay unfinished and can be resumed.

    Tune listens to SIGUSR1 for that, and saves the experiment's state afterwards.
    """
    signal.raise_signal(signal.SIGUSR1)


class Terminated(KeyboardInterrupt):
    """SIGTERM came where nothing has to be saved."""


def exit_code_of(error: KeyboardInterrupt) -> int:
    """The exit code of a command that Ctrl-C or SIGTERM has ended."""
    return TERMINATED if isinstance(error, Terminated) else INTERRUPTED


@contextmanager
def sigterm_as_exception() -> Iterator[None]:
    """Context in which SIGTERM raises `Terminated`, as Ctrl-C raises `KeyboardInterrupt`."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(number: int, frame: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


_NEEDED = {"raylet", "gcs_server"}
"""Processes of Ray without which nothing goes on; a log monitor, say, is not missed."""


class RayGuard:
    """Ends this process once an end was asked for and the private Ray is gone.

    A signal to the whole process group, as service managers send it, ends Ray's processes at once,
    and whoever waits for them would wait for ever.

    Args:
        interrupt: Whether an end was asked for, and by which signal.
        end: Called before, with what to say: shows it, and leaves the terminal as it was.
    """

    def __init__(self, interrupt: Interrupt, end: Callable[[str], None]) -> None:
        self._interrupt = interrupt
        self._end = end
        self._over = threading.Event()

    def __enter__(self) -> "RayGuard":
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()

    def _watch(self) -> None:
        from ray._private.worker import global_worker

        while not self._over.wait(1.0):
            node = global_worker.node
            dead = {name for name, _ in node.dead_processes()} if node is not None else set()
            if self._interrupt.requested and dead & _NEEDED:
                self._end("Ray's own processes were ended too: no checkpoint could be written now.")
                sys.stdout.flush()
                os._exit(self._interrupt.exit_code)
