"""How variants are timed against each other, and what a measured row is."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Progress = Callable[[str], None]
Seconds = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Row:
    """One line of the table: something of ours beside a yardstick.

    Attributes:
        section: The part of the benchmark it belongs to.
        what: What was measured.
        unit: Unit of `ours` and `yardstick`.
        ours: Median of our numbers.
        against: What the yardstick is.
        yardstick: Median of its numbers.
        ratio: How good ours is: median of the rounds' ratios. For speeds above 1 is faster; for
            bytes and for cost per sample it is simply ours over the yardstick's.
        low: Smallest ratio of a round.
        high: Largest ratio of a round.
        rounds: How often each was measured.
        target: What the ratio should reach; None where nothing was promised.
        limit: Whether the target is a least or a most.
        note: What the reader has to know.
    """

    section: str
    what: str
    unit: str
    ours: float
    against: str
    yardstick: float
    ratio: float
    low: float
    high: float
    rounds: int
    target: float | None = None
    limit: Literal["at least", "at most"] = "at least"
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        if self.target is None:
            return None
        return self.ratio >= self.target if self.limit == "at least" else self.ratio <= self.target


def interleave(
    variants: Mapping[str, Callable[[], object]],
    rounds: int,
    progress: Progress,
    *,
    warm_up: bool = True,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Time variants in turns, A B C A B C ..., so that a machine's moods meet all of them.

    Args:
        variants: What to call, by name.
        rounds: How often each is timed.
        progress: Told what was measured.
        warm_up: Call each once before, untimed.
        clock: Gives seconds.

    Returns:
        The seconds of each variant, one entry a round.
    """
    if warm_up:
        for name, call in variants.items():
            progress(f"warming up: {name}")
            call()
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(1, rounds + 1):
        for name, call in variants.items():
            begin = clock()
            call()
            seconds[name].append(clock() - begin)
            progress(f"round {number} of {rounds}: {name} {seconds[name][-1]:.3g} s")
    return seconds


def speed_row(
    section: str,
    what: str,
    seconds: Seconds,
    *,
    ours: str,
    against: str,
    amount: float,
    unit: str,
    target: float | None = None,
    note: str = "",
) -> Row:
    """Compare two timed variants that did the same amount of work.

    The ratio is taken within each round, where both met the same conditions, and then the median.

    Args:
        section: Section of the row.
        what: What was measured.
        seconds: From `interleave`.
        ours: Name of our variant.
        against: Name of the yardstick.
        amount: Work of one call, in what `unit` counts per second.
        unit: Such as "steps/s".
        target: Least ratio promised.
        note: For the reader.
    """
    ratios = [b / a for a, b in zip(seconds[ours], seconds[against], strict=True)]
    return Row(
        section,
        what,
        unit,
        ours=amount / statistics.median(seconds[ours]),
        against=against,
        yardstick=amount / statistics.median(seconds[against]),
        ratio=statistics.median(ratios),
        low=min(ratios),
        high=max(ratios),
        rounds=len(ratios),
        target=target,
        note=note,
    )


def size_row(
    section: str,
    what: str,
    ours: float,
    against: str,
    yardstick: float,
    *,
    target: float | None = None,
    note: str = "",
) -> Row:
    """Compare bytes, shown in MB: the ratio should be small."""
    ratio = ours / yardstick
    return Row(
        section,
        what,
        "MB",
        ours=ours / 1e6,
        against=against,
        yardstick=yardstick / 1e6,
        ratio=ratio,
        low=ratio,
        high=ratio,
        rounds=1,
        target=target,
        limit="at most",
        note=note,
    )


def peak_memory() -> int:
    """Most bytes of memory that this process ever held at once, shared pages included (Linux)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no line VmHWM; peak memory needs Linux.")


def reset_peak_memory() -> int:
    """Let `peak_memory` begin anew; returns the bytes of memory held now (Linux)."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return peak_memory()
