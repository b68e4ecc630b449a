"""App: learning curves and tables of scores as plain text, as wide as the terminal.

Only ASCII: it also goes to files, and to terminals without Unicode.
"""

import math
import shutil
import sys
from collections.abc import Mapping, Sequence

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rllib_ppg.app.plot_aggregate import Band
from rllib_ppg.app.plot_curves import CurvePlot, runs_label, x_unit
from rllib_ppg.app.plot_scores import Cell
from rllib_ppg.app.plot_tables import FloatArray
from rllib_ppg.core.intervals import Interval
from rllib_ppg.core.learning_curves import area_under_curve

MARKS = "*o+x#@%&"
COLORS = ("blue", "red", "green", "magenta", "yellow", "cyan", "white", "bright_black")
HEIGHT = 14
NAME_WIDTH = 11
"""Names do not break below it; the longest game's has as many characters."""

ZERO = 1e-12
"""What is nearer to 0 than this is what rounding has left of it."""

MIN_WIDTH, MAX_WIDTH = 40, 120
WIDEST = 1000
"""Wider than any table."""


def terminal_width() -> int:
    """Return the columns to fill: the terminal's, within limits; 80 where there is none."""
    return min(MAX_WIDTH, max(MIN_WIDTH, shutil.get_terminal_size((80, 24)).columns))


def console() -> Console:
    """Return a console on the standard output that never breaks what is drawn."""
    return Console(width=terminal_width(), highlight=False, file=sys.stdout)


def print_curves(plot: CurvePlot) -> None:
    """Draw the curves of each panel, with a legend of marks."""
    out = console()
    bands = [band for found in plot.panels.values() for band in found]
    names = list(dict.fromkeys(band.name for band in bands))
    unit, x_label = x_unit(plot.x, bands)
    if plot.title:
        out.print(Text(plot.title, style="bold"))
    for game, found in plot.panels.items():
        out.print(Text(f"{plot.y_label}, {game}" if game else plot.y_label))
        for line in _chart(found, names, unit, out.width):
            out.print(line, no_wrap=True, overflow="crop", crop=True)
        out.print(Text(x_label.rjust(out.width)))
        for band in found:
            k = names.index(band.name)
            mark = Text(f"  {MARKS[k % len(MARKS)]} ", style=COLORS[k % len(COLORS)])
            label = runs_label(band.name, [band.num_runs], interval=False, games=band.num_games)
            out.print(mark + Text(label.replace("×", "x"), style="default"))
        out.print()


def _chart(bands: Sequence[Band], names: Sequence[str], unit: float, width: int) -> list[Text]:
    low, high = _range(bands)
    ticks = {0: high, HEIGHT // 2: (low + high) / 2, HEIGHT - 1: low}
    texts = {row: f"{value:.4g}" for row, value in ticks.items()}
    margin = max(map(len, texts.values()))
    columns = width - margin - 3
    begin = min(float(band.x[0]) for band in bands)
    end = max(float(band.x[-1]) for band in bands)
    grid: list[list[int | None]] = [[None] * columns for _ in range(HEIGHT)]
    for band in bands:
        for column, row in _cells(band, (begin, end), (low, high), columns):
            grid[row][column] = names.index(band.name)
    lines = [
        Text(f"{texts.get(row, ''):>{margin}} |") + _marks(cells) for row, cells in enumerate(grid)
    ]
    first, last = f"{begin / unit:.4g}", f"{end / unit:.4g}"
    axis = Text(" " * margin + " +" + "-" * columns)
    return [*lines, axis, Text(f"{' ' * margin}  {first}{last:>{max(0, columns - len(first))}}")]


def _range(bands: Sequence[Band]) -> tuple[float, float]:
    low = min(float(band.estimate.min()) for band in bands)
    high = max(float(band.estimate.max()) for band in bands)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _cells(
    band: Band, x_range: tuple[float, float], y_range: tuple[float, float], columns: int
) -> list[tuple[int, int]]:
    """Column and row of each mark of a curve, one in every column that it covers."""
    (begin, end), (low, high) = x_range, y_range
    width = (end - begin) or 1.0
    first = round((band.x[0] - begin) / width * (columns - 1))
    last = round((band.x[-1] - begin) / width * (columns - 1))
    places = np.arange(first, last + 1)
    heights = np.interp(begin + places / (columns - 1) * width, band.x, band.estimate)
    rows = np.rint((high - heights) / (high - low) * (HEIGHT - 1)).astype(int)
    return list(zip(places.tolist(), rows.tolist(), strict=True))


def _marks(cells: Sequence[int | None]) -> Text:
    line = Text()
    for k in cells:
        if k is None:
            line.append(" ")
        else:
            line.append(MARKS[k % len(MARKS)], style=COLORS[k % len(COLORS)])
    return line


def print_summary(plot: CurvePlot) -> None:
    """Print each curve's last value with its interval, and its mean height.

    The mean height is the area under the curve over the range that all curves of a panel cover.
    """
    panelled = len(plot.panels) > 1
    table = _table(["game", "group"] if panelled else ["group"], "runs", plot.x, "last", "height")
    without = False
    for game, bands in plot.panels.items():
        begin, end = max(band.x[0] for band in bands), min(band.x[-1] for band in bands)
        for band in bands:
            height = math.nan
            if begin < end:
                height = area_under_curve(band.x, band.estimate, start=begin, end=end)
            last = Interval(band.estimate[-1], band.low[-1], band.high[-1])
            without = without or math.isnan(last.low)
            table.add_row(
                *[Text(text) for text in ([game] if panelled else []) + [band.name]],
                _runs(band),
                f"{band.x[-1]:,.{2 if plot.x == 'hours' else 0}f}",
                interval_text(last),
                _number(height),
            )
    _print_table(table)
    what = "last: the last value; height: mean height over the range that all curves cover"
    _print_caption(f"{what}. ", plot.interval, without=without)


def _runs(band: Band) -> str:
    games = f" x {band.num_games} games" if band.num_games > 1 else ""
    return f"{band.num_runs}{games}"


def print_cells(
    cells: Sequence[Cell], others: Mapping[str, Sequence[Cell]], what: str, interval: str
) -> None:
    """Print numbers, the first with their intervals.

    Args:
        cells: One a row: group, game, number of runs and number.
        others: Further numbers by the column's name, in the same order.
        what: What the first numbers are.
        interval: What the intervals are, in words; empty without any.
    """
    table = _table(["group", "game"], "runs", *others, "gap" if others else "mean")
    for k, cell in enumerate(cells):
        numbers = [_number(column[k].interval.estimate) for column in others.values()]
        last = interval_text(cell.interval)
        table.add_row(Text(cell.group), Text(cell.game), str(cell.num_runs), *numbers, last)
    _print_table(table)
    _print_caption(f"{what}. ", interval, without=any(cell.num_runs == 1 for cell in cells))


def print_pairs(pairs: Mapping[tuple[str, str], Interval], caption: str) -> None:
    """Print the probability of improvement of each pair."""
    table = _table(["X", "Y"], "P(X > Y)")
    for (x, y), interval in pairs.items():
        table.add_row(Text(x), Text(y), interval_text(interval))
    _print_table(table)
    without = any(math.isnan(interval.low) for interval in pairs.values())
    _print_caption("A tie counts half. ", caption, without=without)


def print_profiles(
    thresholds: FloatArray, shares: Mapping[str, FloatArray], names: Mapping[str, str]
) -> None:
    """Print the share of runs above some five scores."""
    chosen = np.linspace(0, len(thresholds) - 1, 5).round().astype(int)
    table = _table(["group"], *(f"> {thresholds[k]:.3g}" for k in chosen))
    for group, values in shares.items():
        table.add_row(Text(names[group]), *(f"{values[k]:.2f}" for k in chosen))
    _print_table(table)


def interval_text(interval: Interval) -> str:
    """Return `0.52 [0.41, 0.63]`, without the brackets where there is no interval."""
    if math.isnan(interval.low):
        return _number(interval.estimate)
    return f"{_number(interval.estimate)} \\[{_number(interval.low)}, {_number(interval.high)}]"


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{0.0 if abs(value) < ZERO else value:.3g}"


def _print_table(table: Table) -> None:
    """Print a table whole: a terminal that is too narrow for its numbers breaks its lines."""
    wide = Console(width=WIDEST)
    for column in table.columns:
        if column.no_wrap:
            texts = (column.header, *column.cells)
            column.min_width = max(wide.measure(text).maximum for text in texts)
    width = max(terminal_width(), wide.measure(table).minimum)
    Console(width=width, highlight=False, file=sys.stdout).print(table)


def _table(names: Sequence[str], *numbers: str) -> Table:
    """A table whose names break where it is narrow, never its numbers."""
    table = Table()
    for name in names:
        table.add_column(name, overflow="fold", min_width=NAME_WIDTH)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _print_caption(begin: str, interval: str, *, without: bool) -> None:
    text = f"in brackets: {interval}" if interval else ""
    alone = "; a single run has none" if interval and without else ""
    console().print(
        Text(f"{begin}{text[:1].upper()}{text[1:]}{alone}{'.' if text else ''}".strip())
    )
