"""Figures: nothing is clipped, groups are told apart without colours, files are whole."""

import functools
import itertools
import textwrap
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from rllib_ppg.app.plot_aggregate import band
from rllib_ppg.app.plot_curves import CurvePlot, draw_curves, x_unit
from rllib_ppg.app.plot_draw_scores import (
    Labels,
    draw_bars,
    draw_gap,
    draw_improvement,
    draw_profiles,
)
from rllib_ppg.app.plot_figure import COLORS, MAX_GROUPS, grid, look, save, style
from rllib_ppg.app.plot_runs import Curve, Origin
from rllib_ppg.app.plot_scores import Cell
from rllib_ppg.core.intervals import Interval, Profile
from rllib_ppg.errors import UserError

LONG = "a-name-without-any-blank-that-is-much-longer-than-the-legend-is-wide"
TITLE = "A title that is so long that it has to go on in a second line, at least for narrow figures"


def group_names(count: int) -> list[str]:
    return [f"{k} {LONG if k % 2 else 'short'}" for k in range(count)]


def curves(groups: int, panels: int, seeds: int = 2) -> Figure:
    rng = np.random.default_rng(0)
    x = np.linspace(1e5, 25e6, 30)
    origin = Origin(Path("p"), "e")
    made = {
        f"game {panel}": [
            band(
                name,
                [Curve(origin, x, 1e5 * rng.random(30).cumsum(), "return") for _ in range(seeds)],
                interval="t",
            )
            for name in group_names(groups)
        ]
        for panel in range(panels)
    }
    return draw_curves(
        CurvePlot(
            made, "env_steps", "normalised return (table x), smoothed 0.9", "mean", "95 %", TITLE
        )
    )


def made_cells(groups: int, games: int) -> list[Cell]:
    return [
        Cell(name, f"game {game}", Interval(0.4, 0.3, 0.55), 3)
        for name in group_names(groups)
        for game in range(games)
    ]


LABELS = Labels(
    "normalised return (table easy_challenge), test levels", "95 % interval over runs", TITLE
)


def profiles(groups: int) -> Figure:
    taus = np.linspace(0, 1, 5)
    found = {name: Profile(1 - taus, 0.9 - taus, 1.1 - taus) for name in group_names(groups)}
    return draw_profiles(taus, found, {name: name for name in found}, LABELS)


def improvement(groups: int) -> Figure:
    first, *others = group_names(groups + 1)
    return draw_improvement({(first, other): Interval(0.6, 0.4, 0.9) for other in others}, LABELS)


FIGURES = {
    "one run": lambda: curves(1, 1, seeds=1),
    "eight groups": lambda: curves(8, 1),
    "all groups": lambda: curves(MAX_GROUPS, 1),
    "two panels": lambda: curves(2, 2),
    "nine panels": lambda: curves(2, 9),
    "one bar": lambda: draw_bars(made_cells(1, 1), LABELS),
    "many bars": lambda: draw_bars(made_cells(8, 17), LABELS),
    "one gap": lambda: draw_gap(made_cells(1, 1), made_cells(1, 1), LABELS, "test"),
    "many gaps": lambda: draw_gap(made_cells(8, 17), made_cells(8, 17), LABELS, "test"),
    "one profile": lambda: profiles(1),
    "many profiles": lambda: profiles(8),
    "one pair": lambda: improvement(1),
    "many pairs": lambda: improvement(8),
}


@functools.cache
def drawn(name: str) -> Figure:
    with style():
        figure = FIGURES[name]()
        FigureCanvasAgg(figure).draw()
    return figure


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_is_clipped_and_the_legend_covers_nothing(name: str):
    figure = drawn(name)
    width, height = figure.get_size_inches()
    box = figure.get_tightbbox()
    assert min(box.x0, box.y0) >= 0 and box.x1 <= width and box.y1 <= height
    title = figure._suptitle.get_window_extent()
    sides = [figure._supylabel, *(axes.yaxis.label for axes in figure.axes)]
    for side in sides:
        assert side is None or not side.get_text() or not title.overlaps(side.get_window_extent())
    for legend in figure.legends:
        box = legend.get_window_extent()
        assert not any(box.overlaps(axes.get_window_extent()) for axes in figure.axes)
        assert not box.overlaps(title)


def ticks(axes: Axes) -> list[Text]:
    low, high = axes.get_xlim()
    return [label for tick, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
            if low <= tick <= high]  # fmt: skip


@pytest.mark.parametrize("name", ["one run", "nine panels", "many bars", "many pairs"])
def test_numbers_below_an_axis_do_not_overlap(name: str):
    for axes in drawn(name).axes:
        if any(label.get_rotation() for label in ticks(axes)):
            continue  # boxes of turned texts overlap though the texts do not
        boxes = [label.get_window_extent() for label in ticks(axes)]
        assert not any(a.overlaps(b) for a, b in itertools.pairwise(boxes))


def test_groups_are_told_apart_without_colours():
    marks = [(look(k).dashes, look(k).marker) for k in range(len(COLORS))]
    assert len(set(marks)) == len(marks)
    looks = [look(k) for k in range(MAX_GROUPS)]
    assert len(set(looks)) == len(looks)
    assert all(a.hatch != b.hatch and a.color != b.color for a, b in itertools.pairwise(looks))


def test_a_figure_takes_no_more_groups_than_can_be_told_apart():
    with style(), pytest.raises(UserError, match="--group or --label"):
        curves(MAX_GROUPS + 1, 1)


def test_the_axis_names_its_unit():
    def unit(last: float, x: str = "env_steps") -> tuple[float, str]:
        curve = Curve(Origin(Path("p"), "e"), np.array([last]), np.array([0.0]), "return")
        return x_unit(x, [band("g", [curve])])

    assert unit(25e6) == (1e6, "environment steps (millions)")
    assert unit(8e3) == (1e3, "environment steps (thousands)")
    assert unit(640) == (1, "environment steps")
    assert unit(5000, "hours") == (1, "hours of training")


def test_the_legend_says_how_many_seeds_and_what_the_band_is():
    with style():
        one, many = curves(1, 1, seeds=1), curves(1, 1, seeds=3)
    texts = [[text.get_text() for text in figure.legends[0].get_texts()] for figure in (one, many)]
    assert texts == [["0 short (1 seed: no interval)"], ["0 short (3 seeds)"]]
    assert many.legends[0].get_title().get_text() == "Lines: mean\nBands: 95 %"


@pytest.mark.parametrize("panels", range(1, 21))
def test_every_panel_has_a_place(panels: int):
    rows, columns = grid(panels)
    assert (rows - 1) * columns < panels <= rows * columns and columns <= 4


@pytest.mark.parametrize(
    ("suffix", "begin"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")]
)
def test_the_same_figure_gives_the_same_file_and_nothing_else(
    tmp_path: Path, suffix: str, begin: bytes
):
    contents = []
    for name in ("a", "b"):
        path = tmp_path / f"{name}.{suffix}"
        with style():
            save(curves(2, 1), path)
        contents.append(path.read_bytes())
    assert contents[0].startswith(begin) and contents[0] == contents[1]
    assert sorted(file.name for file in tmp_path.iterdir()) == [f"a.{suffix}", f"b.{suffix}"]


def test_a_long_title_is_broken_into_lines():
    with style():
        title = curves(1, 1)._suptitle
    assert "\n" in title.get_text() and textwrap.fill(title.get_text(), 999) == TITLE
