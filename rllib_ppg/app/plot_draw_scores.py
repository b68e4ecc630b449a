"""App: figures of scores: bars, performance profiles, probability of improvement, and the gap."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rllib_ppg.app.plot_curves import runs_label
from rllib_ppg.app.plot_figure import (
    Look,
    check_count,
    legend,
    look,
    new_figure,
    plain_numbers,
    wrapped,
)
from rllib_ppg.app.plot_scores import Cell
from rllib_ppg.app.plot_tables import FloatArray
from rllib_ppg.core.intervals import Interval, Profile

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Labels:
    """What a figure of scores says.

    Attributes:
        value: What the numbers are: the label of their axis.
        interval: What the intervals are, in words; empty without any.
        title: Above all; None for none.
    """

    value: str
    interval: str
    title: str | None = None


def _group_labels(cells: Sequence[Cell], labels: Labels) -> dict[str, str]:
    counts: dict[str, list[int]] = {}
    for cell in cells:
        counts.setdefault(cell.group, []).append(cell.num_runs)
    check_count(list(counts))
    return {
        name: wrapped(runs_label(name, found, interval=bool(labels.interval)))
        for name, found in counts.items()
    }


def _heading(labels: Labels) -> str:
    return wrapped(labels.interval) if labels.interval else ""


def _clusters(
    cells: Sequence[Cell], groups: Sequence[str]
) -> tuple[list[str], dict[str, list[float]]]:
    """Return the games, and for each group where its marks stand beside each other."""
    games = list(dict.fromkeys(cell.game for cell in cells))
    width = 0.8 / len(groups)
    places = {
        name: [game + (k - (len(groups) - 1) / 2) * width for game in range(len(games))]
        for k, name in enumerate(groups)
    }
    return games, places


def _are_long(games: Collection[str]) -> bool:
    """Whether the names of games have to be turned to stand beside each other."""
    return sum(map(len, games)) > 60


def _game_axis(axes: "Axes", games: Sequence[str]) -> None:
    long = _are_long(games)
    axes.set_xticks(
        range(len(games)),
        [wrapped(game, 16) for game in games],
        rotation=40 if long else 0,
        ha="right" if long else "center",
        rotation_mode="anchor",
    )
    axes.set_xlim(-0.6, len(games) - 0.4)
    axes.grid(axis="x", visible=False)
    for border in range(1, len(games)):
        axes.axvline(border - 0.5, color="0.88", linewidth=0.8)


def _scores_figure(cells: Sequence[Cell], shown: Sequence[str], labels: Labels) -> "Figure":
    games = {cell.game for cell in cells}
    width = min(16.0, max(4.5, 1.0 + len(games) * (0.35 + 0.14 * len(shown))))
    height = 5.0 if _are_long(games) else 4.2
    return new_figure(width, height, [*_heading(labels).split("\n"), *shown], labels.title)


def draw_bars(cells: Sequence[Cell], labels: Labels) -> "Figure":
    """Return bars by game and group, with intervals where there are any."""
    shown = _group_labels(cells, labels)
    figure = _scores_figure(cells, list(shown.values()), labels)
    axes = figure.add_subplot()
    games, places = _clusters(cells, list(shown))
    handles = []
    for k, name in enumerate(shown):
        own = [cell for cell in cells if cell.group == name]
        x = [places[name][games.index(cell.game)] for cell in own]
        style = look(k)
        bars = axes.bar(
            x,
            [cell.interval.estimate for cell in own],
            0.8 / len(shown) * 0.92,
            color=style.color,
            hatch=style.hatch,
            edgecolor="white",
            linewidth=0.5,
        )
        handles.append(bars)
        for color, width in (("white", 3.0), ("0.25", 1.2)):  # the white one shows it on black
            marks = {"fmt": "none", "ecolor": color, "capsize": 2.5, "capthick": width}
            _error_bars(axes, x, own, elinewidth=width, **marks)
    axes.axhline(0, color="0.3", linewidth=0.8)
    _game_axis(axes, games)
    axes.set_ylabel(wrapped(labels.value, 36))
    plain_numbers(axes)
    legend(figure, handles, list(shown.values()), _heading(labels))
    return figure


def draw_gap(
    train: Sequence[Cell], test: Sequence[Cell], labels: Labels, test_levels: str
) -> "Figure":
    """Return train (hollow) and test (filled) scores by game and group, joined by a line."""
    from matplotlib.lines import Line2D

    shown = _group_labels(train, labels)
    keys = ["train levels", f"{test_levels} levels"]
    figure = _scores_figure(train, [*shown.values(), *keys], labels)
    axes = figure.add_subplot()
    games, places = _clusters(train, list(shown))
    handles: list[object] = []
    for k, name in enumerate(shown):
        style = look(k)
        pairs = [pair for pair in zip(train, test, strict=True) if pair[0].group == name]
        x = [places[name][games.index(seen.game)] for seen, _ in pairs]
        _draw_pairs(axes, np.array(x), pairs, style, 0.1 / len(shown))
        handles.append(Line2D([], [], color=style.color, marker=style.marker, linestyle=""))
    for key, face in zip(keys, ("white", "0.3"), strict=True):
        handles.append(Line2D([], [], color="0.3", marker="o", linestyle="", markerfacecolor=face))
        shown[f"\n{key}"] = key  # no group is called so
    _game_axis(axes, games)
    axes.set_ylabel(wrapped(labels.value, 36))
    plain_numbers(axes)
    legend(figure, handles, list(shown.values()), _heading(labels))
    return figure


def _draw_pairs(
    axes: "Axes", x: FloatArray, pairs: Sequence[tuple[Cell, Cell]], style: Look, shift: float
) -> None:
    """Draw a group's pairs, the first of each hollow and left of x (K,) by `shift`."""
    ends = np.array([[cell.interval.estimate for cell in pair] for pair in pairs])
    places = np.stack([x - shift, x + shift])
    axes.plot(places, ends.T, color=style.color, linewidth=1, alpha=0.5)
    for index, face in enumerate(("white", style.color)):
        marks = {"fmt": style.marker, "color": style.color, "markerfacecolor": face}
        own = [pair[index] for pair in pairs]
        _error_bars(axes, places[index], own, elinewidth=1.0, capsize=2.0, **marks)


def draw_profiles(
    thresholds: FloatArray,
    profiles: Mapping[str, Profile],
    names: Mapping[str, str],
    labels: Labels,
) -> "Figure":
    """Return the share of runs above each score, one curve a group.

    Args:
        thresholds: Scores (K,).
        profiles: Shares and their bounds by group, each (K,).
        names: What the legend calls each group.
        labels: What the figure says.
    """
    check_count(list(profiles))
    shown = [wrapped(names[name]) for name in profiles]
    figure = new_figure(6.0, 4.2, [*_heading(labels).split("\n"), *shown], labels.title)
    axes = figure.add_subplot()
    handles = []
    for k, profile in enumerate(profiles.values()):
        style = look(k)
        axes.fill_between(
            thresholds,
            profile.low,
            profile.high,
            step="post",
            color=style.color,
            alpha=0.18,
            linewidth=0,
        )
        handles += axes.step(
            thresholds, profile.estimate, where="post", color=style.color, linestyle=style.dashes
        )
    axes.set_xlabel(wrapped(labels.value, 70))
    axes.set_ylabel("share of runs above that score")
    axes.set_ylim(-0.02, 1.02)
    axes.margins(x=0.01)
    legend(figure, handles, shown, _heading(labels))
    return figure


def draw_improvement(pairs: Mapping[tuple[str, str], Interval], labels: Labels) -> "Figure":
    """Return how likely a run of one group beats one of another, a row a pair."""
    rows = [f"{wrapped(x)}\nover {wrapped(y, 25)}" for x, y in pairs]
    lines = sum(row.count("\n") + 1 for row in rows)
    figure = new_figure(6.4, 1.3 + 0.24 * lines, [], labels.title)
    axes = figure.add_subplot()
    for k, interval in enumerate(pairs.values()):
        axes.errorbar(
            [interval.estimate],
            [k],
            xerr=_errors([interval]),
            fmt="o",
            color=look(0).color,
            capsize=3,
            elinewidth=1.6,
        )
    axes.axvline(0.5, color="0.3", linewidth=1, linestyle="--")
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel(
        "\n".join(wrapped(text, 60) for text in (labels.value, labels.interval) if text)
    )
    return figure


def _error_bars(
    axes: "Axes", x: Sequence[float] | FloatArray, cells: Sequence[Cell], **marks: Any
) -> None:
    estimates = [cell.interval.estimate for cell in cells]
    axes.errorbar(x, estimates, _errors([cell.interval for cell in cells]), **marks)


def _errors(intervals: Sequence[Interval]) -> FloatArray:
    """Lengths below and above the estimates, (2, K); NaN, which draws nothing, without any."""
    lengths = [(one.estimate - one.low, one.high - one.estimate) for one in intervals]
    # A percentile interval need not hold the estimate.
    return np.maximum(np.array(lengths).T, 0.0)
