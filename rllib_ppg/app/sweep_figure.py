"""App: the figure of a search: every trial's curve, and the objective by each varied value."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rllib_ppg.app.plot_figure import COLORS, new_figure, plain_numbers, save, style, wrapped
from rllib_ppg.app.sweep import Sweep
from rllib_ppg.app.sweep_ranking import Ranked

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_PANELS = 8
"""Varied values that have a panel; more would be too small to read."""

_COLUMNS, _WIDTH, _HEIGHT = 3, 3.6, 3.2
_LABEL_CHARS = 22
"""Of an axis' label and of a value's, before they are broken or cut."""

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
    columns = min(_COLUMNS, 1 + len(names))
    rows = math.ceil((1 + len(names)) / columns)
    with style():
        figure = new_figure(_WIDTH * columns + 0.6, _HEIGHT * rows, [], "best in orange")
        panels = figure.subplots(rows, columns, squeeze=False)
        _curves(panels[0, 0], sweep, ranking)
        for axes, name in zip(panels.flat[1:], names, strict=False):
            _scatter(axes, ranking, name)
        for axes in panels.flat[1 + len(names) :]:
            axes.remove()
        for axes in panels[:, 0]:
            axes.set_ylabel(wrapped(sweep.objective.name, _LABEL_CHARS))
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
    plain_numbers(axes)


def _scatter(axes: "Axes", ranking: Sequence[Ranked], name: str) -> None:
    """One value against the objective; what is no number has a place of its own."""
    known = [ranked for ranked in ranking if not math.isnan(ranked.value)]
    values = [ranked.values[name] for ranked in known]
    axes.set_xlabel(wrapped(name, 2 * _LABEL_CHARS))
    places = _places(axes, values)
    colors = [_BEST if number == 0 else _OTHERS for number in range(len(known))]
    axes.scatter(places, [ranked.value for ranked in known], c=colors, s=22, zorder=3)
    plain_numbers(axes)


def _places(axes: "Axes", values: Sequence[Any]) -> list[float]:
    """Where values stand on the x axis, which gets its scale and ticks for them.

    Words stand left of the numbers, as where a conditional gives some trials none.
    """
    numbers = sorted({float(value) for value in values if _is_number(value)})
    words = sorted({str(value) for value in values if not _is_number(value)})
    log = bool(numbers) and numbers[0] > 0 and numbers[-1] / numbers[0] > 30
    if log:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
    if not words:
        if not log:
            axes.locator_params(axis="x", nbins=4)
        return [float(value) for value in values]
    ends = [*dict.fromkeys((numbers[0], numbers[-1]))] if numbers else []
    left = _left_of(numbers, len(words), log=log)
    texts = [w if len(w) <= _LABEL_CHARS else f"{w[: _LABEL_CHARS - 3]}..." for w in words]
    labels = [*texts, *(f"{number:.3g}" for number in ends)]
    axes.set_xticks([*left, *ends], labels, rotation=30, ha="right")
    axes.minorticks_off()
    return [
        float(value) if _is_number(value) else left[words.index(str(value))] for value in values
    ]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _left_of(numbers: Sequence[float], count: int, *, log: bool) -> list[float]:
    """Places for words, as far from each other as half the numbers' range is wide."""
    if not numbers:
        return [float(place) for place in range(count)]
    low, high = (math.log(n) if log else n for n in (numbers[0], numbers[-1]))
    step = (high - low) / 2 or abs(low) / 2 or 1.0
    places = [low - step * number for number in range(count, 0, -1)]
    return [math.exp(place) if log else place for place in places]
