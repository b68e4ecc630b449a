"""App: learning curves as a figure: one panel a game, or one for the mean of normalised returns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rllib_ppg.app.plot_aggregate import Band
from rllib_ppg.app.plot_figure import (
    Look,
    check_count,
    grid,
    legend,
    look,
    new_figure,
    plain_numbers,
    wrapped,
)
from rllib_ppg.app.plot_runs import REFERENCE
from rllib_ppg.app.plot_tables import FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

X_LABELS = {
    "env_steps": "environment steps",
    "hours": "hours of training",
    "iterations": "training iterations",
}
UNITS = ((1e6, "millions"), (1e3, "thousands"))


@dataclass(frozen=True)
class CurvePlot:
    """What a figure of curves says.

    Attributes:
        panels: Groups' bands by the panel's title.
        x: One of `X_LABELS`.
        y_label: What the curves are.
        aggregate: What the lines are, in words.
        interval: What the bands are, in words; empty without any.
        title: Above all; None for none.
        seeds: Whether each run is drawn too.
    """

    panels: Mapping[str, Sequence[Band]]
    x: str
    y_label: str
    aggregate: str
    interval: str
    title: str | None = None
    seeds: bool = False


def x_unit(x: str, bands: Sequence[Band]) -> tuple[float, str]:
    """Return what to divide x by, and the axis' label with its unit."""
    largest = max(float(curve.x[-1]) for band in bands for curve in band.curves)
    if x == "hours":
        return 1.0, X_LABELS[x]
    for size, name in UNITS:
        if largest >= 2 * size:
            return size, f"{X_LABELS[x]} ({name})"
    return 1.0, X_LABELS[x]


def runs_label(name: str, counts: Sequence[int], *, interval: bool, games: int = 1) -> str:
    """Return a group's name with its runs a game, and the games that are taken together."""
    low, high = min(counts), max(counts)
    runs = f"{low} to {high} seeds" if low < high else "1 seed" if high == 1 else f"{high} seeds"
    many = f" × {games} games" if games > 1 else ""
    alone = ": no interval" if interval and high == 1 else ""
    begin = f"{name[:-1]}, " if name.endswith(REFERENCE) else f"{name} ("
    return f"{begin}{runs}{many}{alone})"


def group_labels(panels: Mapping[str, Sequence[Band]], *, interval: bool) -> dict[str, str]:
    """Return each group's label by its name."""
    found: dict[str, list[Band]] = {}
    for bands in panels.values():
        for band in bands:
            found.setdefault(band.name, []).append(band)
    return {
        name: runs_label(
            name, [band.num_runs for band in bands], interval=interval, games=bands[0].num_games
        )
        for name, bands in found.items()
    }


def draw_curves(plot: CurvePlot) -> "Figure":
    """Return the figure.

    Raises:
        UserError: If there are more groups than can be told apart.
    """
    bands = [band for found in plot.panels.values() for band in found]
    labels = group_labels(plot.panels, interval=bool(plot.interval))
    check_count(list(labels))
    shown = [wrapped(label) for label in labels.values()]
    rows, columns = grid(len(plot.panels))
    width, height = (6.4, 4.2) if rows * columns == 1 else (3.1 * columns, max(3.0, 2.5 * rows))
    heading = _legend_title(bands, plot)
    figure = new_figure(width, height, [*heading.split("\n"), *shown], plot.title)
    references = {band.name: band.reference for band in bands}
    looks = {name: look(k, reference=references[name]) for k, name in enumerate(labels)}
    unit, x_label = x_unit(plot.x, bands)
    handles: dict[str, object] = {}
    for number, (game, found) in enumerate(plot.panels.items(), start=1):
        axes = figure.add_subplot(rows, columns, number)
        for band in found:
            handles[band.name] = _draw_band(axes, band, looks[band.name], unit, plot, len(labels))
        axes.margins(x=0.02)
        axes.set_title(wrapped(game) if len(plot.panels) > 1 or not plot.title else "")
        plain_numbers(axes)
        if rows * columns > 1:
            axes.locator_params(axis="x", nbins=5)
    y_label = wrapped(plot.y_label, int((height - 0.9) / 0.09))
    if rows * columns == 1:
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
    else:
        figure.supxlabel(x_label, fontsize=10)
        figure.supylabel(y_label, fontsize=10)
    legend(figure, [handles[name] for name in labels], shown, heading)
    return figure


def _legend_title(bands: Sequence[Band], plot: CurvePlot) -> str:
    """What the marks are, where a line is more than one run."""
    if all(len(band.curves) == 1 for band in bands):
        return ""
    parts = [f"Lines: {plot.aggregate}"]
    if any(np.isfinite(band.low).any() for band in bands):
        parts.append(f"Bands: {plot.interval}")
    return "\n".join(wrapped(part) for part in [*parts, "Thin lines: runs"][: 2 + plot.seeds])


def _draw_band(
    axes: "Axes", band: Band, look: Look, unit: float, plot: CurvePlot, groups: int
) -> object:
    x = band.x / unit
    if plot.seeds and len(band.curves) > 1:
        for curve in band.curves:
            axes.plot(curve.x / unit, curve.y, color=look.color, linewidth=0.7, alpha=0.45)
    axes.fill_between(x, band.low, band.high, color=look.color, alpha=0.18, linewidth=0)
    marked = groups > 1 or len(x) == 1
    (line,) = axes.plot(
        x,
        band.estimate,
        color=look.color,
        linestyle=look.dashes,
        marker=look.marker if marked else "",
        markevery=_marked(x),
    )
    return line


def _marked(x: FloatArray) -> list[int]:
    """Indices of some eight points that lie evenly along the axis."""
    places = np.linspace(x[0], x[-1], 8)
    return sorted({int(np.abs(x - place).argmin()) for place in places})
