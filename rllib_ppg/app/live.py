"""App: how a running experiment is shown: a live view on a terminal, plain lines without one."""

import math
import sys
import time
from typing import Any, Protocol, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rllib_ppg.app.progress import Progress, show, show_count, show_time

RETURN = "env_runners/episode_return_mean"
LENGTH = "env_runners/episode_len_mean"

POLICY_LOSSES = {
    "loss": "policy_phase/loss_pi",
    "value": "policy_phase/loss_vf",
    "kl": "policy_phase/approx_kl",
    "clip": "policy_phase/clip_fraction",
    "entropy": "policy_phase/entropy",
    "expl.var": "policy_phase/explained_variance",
    "grad": "policy_phase/grad_norm",
}
AUX_LOSSES = {
    "loss": "aux_phase/loss_total",
    "kl": "aux_phase/pol_distance",
    "aux value": "aux_phase/vf_aux",
    "value": "aux_phase/vf_true",
    "grad": "aux_phase/grad_norm",
}
TIMES = {
    "sample": "sampling",
    "policy_phase": "policy",
    "aux_phase": "auxiliary",
    "weight_sync": "sync",
    "other": "other",
}


class View(Protocol):
    """What shows a running experiment."""

    def __enter__(self) -> "View":
        """Begin to show it."""

    def __exit__(self, *error: object) -> None:
        """End."""

    def result(self, trial: Any, progress: Progress, trials: int) -> None:
        """A trial has a new result; there are `trials` in all."""

    def event(self, text: str) -> None:
        """Something happened that is worth a line of its own."""

    def note(self, text: str) -> None:
        """Say something lasting, from a signal handler: only take it in here."""


def make_view(title: str, *, live: bool, out: TextIO | None = None) -> View:
    """The live view where it is wanted and the output is a terminal, else plain lines.

    Args:
        title: What is trained.
        live: Whether a live view is wanted.
        out: Where to write; the standard output unless given.
    """
    out = out or sys.stdout
    if live and out.isatty():
        return LiveView(title, Console(file=out))
    return PlainView(title, out)


def phase_of(progress: Progress) -> str:
    """Where in its phases a PPG trial stands, in words."""
    epochs, share = progress.stat("phase/aux_epochs"), progress.stat("phase/aux_progress")
    if progress.in_aux_phase:
        epoch = f"epoch {progress.aux_epoch} of {epochs:.0f}"
        what = epoch if progress.aux_epoch else "recording the old policy"
        return f"auxiliary phase: {what}, {show(share, '.0%')} of the phase"
    if not epochs:
        return f"policy iteration {show_count(progress.stat('phase/policy_iterations_total'))}"
    done, whole = progress.stat("phase/policy_iterations"), progress.stat("phase/n_pi")
    return f"policy iteration {show(done, '.0f')} of {show(whole, '.0f')}, then auxiliary phase"


def eta_of(progress: Progress) -> str:
    """Time to go; `>` where no auxiliary phase has been seen yet, which will take time too."""
    unseen = (
        progress.is_ppg
        and progress.stat("phase/aux_epochs") > 0
        and progress.stat("phase/aux_phases") == 0
    )
    text = show_time(progress.eta_s)
    return f">{text}" if unseen and text != "-" else text


class PlainView:
    """One line a training iteration, without control codes.

    Args:
        title: What is trained.
        out: Where to write.
    """

    def __init__(self, title: str, out: TextIO) -> None:
        self._title = title
        self._out = out

    def __enter__(self) -> "PlainView":
        self._print(f"{self._title}: starting")
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def result(self, trial: Any, progress: Progress, trials: int) -> None:
        """Print a line."""
        name = f"{trial} " if trials > 1 else ""
        self._print(f"{clock()} {name}{plain_line(progress)}")

    def event(self, text: str) -> None:
        """Print a line."""
        self._print(f"{clock()} {text}")

    def note(self, text: str) -> None:
        """Print a line."""
        self._print(f"{clock()} {text}")

    def _print(self, text: str) -> None:
        self._out.write(f"{text}\n")
        self._out.flush()


def clock() -> str:
    """The time of day."""
    return time.strftime("%H:%M:%S")


def plain_line(progress: Progress) -> str:
    """A result on one line."""
    parts = [f"iteration {progress.iteration}", f"steps {steps_of(progress)}"]
    parts += [f"eta {eta_of(progress)}", f"{show_count(progress.speed)} steps/s"]
    if progress.is_ppg:
        parts.append(progress.phase)
    parts.append(f"return {show(progress.number(RETURN), '.4g')}")
    parts.append(f"length {show(progress.number(LENGTH), '.4g')}")
    losses = AUX_LOSSES if progress.in_aux_phase else POLICY_LOSSES
    if progress.is_ppg:
        parts += [f"{name} {show(progress.stat(key))}" for name, key in losses.items()]
    return "  ".join(parts)


def steps_of(progress: Progress) -> str:
    """Environment steps so far, and the share of the budget."""
    share = progress.share_done
    return show_count(progress.steps) + ("" if math.isnan(share) else f" ({share:.1%})")


class LiveView:
    """A view on the terminal that is drawn anew four times a second.

    Args:
        title: What is trained.
        console: The terminal.
    """

    def __init__(self, title: str, console: Console) -> None:
        self._title = title
        self._note = ""
        self._begin = time.monotonic()
        self._trials: dict[str, Progress] = {}
        self._folders: dict[str, str] = {}
        self._expected = 1
        self._console = console
        self._live = Live(
            get_renderable=self._render, console=console, refresh_per_second=4, transient=False
        )

    def __enter__(self) -> "LiveView":
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def result(self, trial: Any, progress: Progress, trials: int) -> None:
        """Take in a new result; the next drawing shows it."""
        self._trials[str(trial)] = progress
        self._folders[str(trial)] = str(getattr(trial, "path", "") or "")
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
            parts.append(Text("  starting Ray's workers and the first iteration ...", style="dim"))
        elif len(self._trials) == 1 and self._expected == 1:
            (progress,) = self._trials.values()
            parts.append(single(progress, next(iter(self._folders.values()))))
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
        share = progress.times.get(name, 0.0) / total if total else math.nan
        text.append(f"{word} ", style="dim").append(f"{show(share, '.0%')}  ")
    return text


def several(trials: dict[str, Progress], expected: int) -> RenderableType:
    """A line for each trial."""
    table = Table(box=None, pad_edge=False, header_style="cyan")
    table.add_column("trial", no_wrap=True)
    for name in ("steps", "done", "ETA", "steps/s", "return", "length", "phase"):
        table.add_column(name, justify="left" if name == "phase" else "right", no_wrap=True)
    for trial, progress in trials.items():
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
    waiting = expected - len(trials)
    if waiting > 0:
        table.add_row(Text(f"{waiting} not started yet", style="dim"))
    return table
