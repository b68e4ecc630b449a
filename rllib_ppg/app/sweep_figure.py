"""App: the figure of a search: every trial's curve, and the objective by each varied value."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rllib_ppg.app.plot_figure import COLORS, new_figure, plain_numbers, save, style
from rllib_ppg.app.sweep import Sweep
from rllib_ppg.app.sweep_ranking import Ranked

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_PANELS = 5
"""Varied values that have a panel; more would be too small to read."""

_BEST, _OTHERS = COLORS[1], COLORS[0]


def draw(sweep: Sweep, ranking: Sequence[Ranked], path: Path) -> None:
    """Draw a search.

    Args:
        sweep: How configurations are compared.
        ranking: The configurations, the best first.
        path: The file to write.

    Raises:
        UserError: If it cannot be written.
    """
    names = [name for name in ranking[0].values if len(_values(ranking, name)) > 1][:MAX_PANELS]
    with style():
        figure = new_figure(4.2 + 2.6 * len(names), 3.6, [], "best in orange")
        widths = [4.2, *(2.6 for _ in names)]
        panels = figure.subplots(1, len(widths), squeeze=False, width_ratios=widths)[0]
        _curves(panels[0], sweep, ranking)
        for axes, name in zip(panels[1:], names, strict=True):
            _scatter(axes, ranking, name)
        save(figure, path)


def _values(ranking: Sequence[Ranked], name: str) -> set[str]:
    return {repr(ranked.values[name]) for ranked in ranking}


def _curves(axes: "Axes", sweep: Sweep, ranking: Sequence[Ranked]) -> None:
    """All trials, the worst first, so that the best lies on top."""
    for number, ranked in reversed(list(enumerate(ranking))):
        for member in ranked.members:
            if member.curve:
                x, y = zip(*member.curve, strict=True)
                best = number == 0
                axes.plot(
                    x, y, color=_BEST if best else _OTHERS, alpha=1.0 if best else 0.35,
                    linewidth=2.0 if best else 1.0, marker="." if len(x) == 1 else "",
                )  # fmt: skip
    axes.set_xlabel("environment steps")
    axes.set_ylabel(sweep.objective.name)
    plain_numbers(axes)


def _scatter(axes: "Axes", ranking: Sequence[Ranked], name: str) -> None:
    """One value against the objective; what is no number has a place of its own."""
    known = [ranked for ranked in ranking if not math.isnan(ranked.value)]
    values = [ranked.values[name] for ranked in known]
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    axes.set_xlabel(name)
    if len(numbers) == len(values):
        places: list[Any] = values
        if min(numbers, default=0) > 0 and max(numbers) / min(numbers) > 30:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter("")
        else:
            axes.locator_params(axis="x", nbins=4)
    else:
        words = sorted({str(value) for value in values})
        places = [words.index(str(value)) for value in values]
        axes.set_xticks(range(len(words)), words, rotation=30, ha="right")
    colors = [_BEST if number == 0 else _OTHERS for number in range(len(known))]
    axes.scatter(places, [ranked.value for ranked in known], c=colors, s=22, zorder=3)
    plain_numbers(axes)
