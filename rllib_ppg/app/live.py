"""App: the live view of a running experiment on a terminal."""

import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rllib_ppg.app.progress import Progress, show, show_count, show_time
from rllib_ppg.app.view import (
    AUX_LOSSES,
    LENGTH,
    POLICY_LOSSES,
    RETURN,
    clock,
    eta_of,
    evaluation_of,
    label_of,
    phase_of,
)

TIMES = {
    "sample": "sampling",
    "policy_phase": "policy",
    "aux_phase": "auxiliary",
    "weight_sync": "sync",
    "evaluation": "evaluation",
    "other": "other",
}


class LiveView:
    """A view on the terminal that is drawn anew four times a second.

    Args:
        title: What is trained.
        out: The terminal.
    """

    def __init__(self, title: str, out: TextIO) -> None:
        self._title = title
        self._note = ""
        self._waiting_for = "starting workers and learner ..."
        self._begin = time.monotonic()
        self._trials: dict[str, Progress] = {}
        self._labels: dict[str, str] = {}
        self._folder = ""
        self._expected = 1
        self._console = console = Console(file=out)
        self._stack = ExitStack()
        self._live = Live(
            get_renderable=self._render, console=console, refresh_per_second=4, transient=False
        )

    def __enter__(self) -> "LiveView":
        self._stack.enter_context(silent_keys())
        self._stack.enter_context(self._live)
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def started(self) -> None:
        """Say so until the first result."""
        self._waiting_for = "the first iteration is under way ..."

    def result(self, trial: Any, progress: Progress, trials: int) -> None:
        """Take in a new result; the next drawing shows it."""
        # Its label changes where PBT changes its values. Those with the newest results stand last.
        self._trials.pop(self._labels.get(trial.trial_id, ""), None)
        self._labels[trial.trial_id] = label_of(trial)
        self._trials[label_of(trial)] = progress
        self._folder = str(trial.path)
        self._expected = trials

    def event(self, text: str) -> None:
        """Print a line above the view."""
        self._console.print(Text(f"{clock()} {text}"), soft_wrap=True)

    def note(self, text: str) -> None:
        """Show a line below the view from the next drawing on."""
        self._note = text

    def _render(self) -> RenderableType:
        parts: list[RenderableType] = [self._header()]
        if not self._trials:
            parts.append(Text(f"  {self._waiting_for}", style="dim"))
        elif len(self._trials) == 1 and self._expected == 1:
            (progress,) = self._trials.values()
            parts.append(single(progress, self._folder))
        else:
            parts.append(several(self._trials, self._expected))
        if self._note:
            parts.append(Text(self._note, style="bold yellow"))
        return Group(*parts)

    def _header(self) -> RenderableType:
        table = Table.grid(expand=True)
        table.add_column(no_wrap=True, overflow="ellipsis")
        table.add_column(justify="right", no_wrap=True)
        elapsed = show_time(time.monotonic() - self._begin)
        table.add_row(Text(self._title, style="bold"), Text(elapsed, style="dim"))
        return table


@contextmanager
def silent_keys() -> Iterator[None]:
    """Context in which the terminal does not write keys, such as ^C, into what is drawn."""
    try:
        import termios

        before = termios.tcgetattr(sys.stdin.fileno())
        # A job in the background would be stopped if it touched the terminal.
        in_front = os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except Exception:  # no terminal there, or a system without termios: nothing to silence
        in_front = False
    if not in_front:
        yield
        return
    quiet = [*before]
    quiet[3] &= ~termios.ECHO
    termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, before)


def single(progress: Progress, folder: str) -> RenderableType:
    """One trial in full."""
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(style="cyan", no_wrap=True, min_width=9)
    table.add_column(ratio=1, overflow="fold")
    name, now, end = progress.budget()
    table.add_row("steps", f"{show_count(progress.steps)}, {show_count(progress.speed)} steps/s")
    if name:
        table.add_row("budget", _bar(now, end))
        limit = f"{show_count(now)} of {show_count(end)} {name}, {progress.share_done:.1%}"
        table.add_row("", f"{limit}, ETA {eta_of(progress)}")
    if progress.is_ppg:
        table.add_row("phase", phase_of(progress))
        if progress.in_aux_phase:
            table.add_row("", _bar(progress.stat("phase/aux_progress"), 1.0))
        elif progress.stat("phase/aux_epochs"):
            done, whole = progress.stat("phase/policy_iterations"), progress.stat("phase/n_pi")
            table.add_row("", _bar(done, whole))
    length = show(progress.number(LENGTH), ".4g")
    table.add_row("return", f"{show(progress.number(RETURN), '.4g')}, length {length}")
    if progress.evaluation:
        at = f", at {show_count(progress.evaluated_at)} steps"
        table.add_row("evaluation", evaluation_of(progress) + at)
    if progress.is_ppg:
        table.add_row("policy", _numbers(progress, POLICY_LOSSES))
        if progress.stat("phase/aux_epochs"):
            table.add_row("auxiliary", _numbers(progress, AUX_LOSSES))
        table.add_row("time", _time_split(progress))
    table.add_row("results", Text(folder, overflow="fold"))
    return table


def _bar(now: float, end: float) -> RenderableType:
    completed = 0.0 if math.isnan(now) else now
    return ProgressBar(total=end, completed=min(completed, end), width=40)


def _numbers(progress: Progress, keys: dict[str, str]) -> Text:
    text = Text()
    for name, key in keys.items():
        text.append(f"{name} ", style="dim").append(f"{show(progress.stat(key))}  ")
    return text


def _time_split(progress: Progress) -> Text:
    total = sum(progress.times.values())
    text = Text()
    for name, word in TIMES.items():
        if name == "evaluation" and name not in progress.times:
            continue
        share = progress.times.get(name, 0.0) / total if total else math.nan
        text.append(f"{word} ", style="dim").append(f"{show(share, '.0%')}  ")
    return text


MAX_TRIALS = 15
"""Trials that have a line: those with the newest results."""


def several(trials: dict[str, Progress], expected: int) -> RenderableType:
    """A line for each trial, of many for those that run."""
    table = Table(box=None, pad_edge=False, header_style="cyan")
    table.add_column("trial", no_wrap=True)
    for name in ("steps", "done", "ETA", "steps/s", "return", "length", "phase"):
        table.add_column(name, justify="left" if name == "phase" else "right", no_wrap=True)
    for trial, progress in sorted(list(trials.items())[-MAX_TRIALS:], key=lambda item: item[0]):
        table.add_row(
            trial,
            show_count(progress.steps),
            show(progress.share_done, ".0%"),
            eta_of(progress),
            show_count(progress.speed),
            show(progress.number(RETURN), ".4g"),
            show(progress.number(LENGTH), ".4g"),
            progress.phase,
        )
    if len(trials) > MAX_TRIALS:
        table.add_row(Text(f"{len(trials) - MAX_TRIALS} others", style="dim"))
    waiting = expected - len(trials)
    if waiting > 0:
        table.add_row(Text(f"{waiting} not started yet", style="dim"))
    return table
