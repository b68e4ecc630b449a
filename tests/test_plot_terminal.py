"""Curves on the terminal: plain text that fits and shows where the curve is."""

from pathlib import Path

import numpy as np
import pytest

from rllib_ppg.app.plot_aggregate import band
from rllib_ppg.app.plot_curves import CurvePlot
from rllib_ppg.app.plot_runs import Curve, Origin
from rllib_ppg.app.plot_scores import Cell
from rllib_ppg.app.plot_terminal import (
    HEIGHT,
    MARKS,
    interval_text,
    print_cells,
    print_curves,
    print_summary,
)
from rllib_ppg.core.intervals import Interval


def plot(*ys: list[float], name: str = "group") -> CurvePlot:
    origin = Origin(Path("p"), "e")
    made = [
        band(f"{name} {k}", [Curve(origin, np.arange(len(y)) * 1e6, np.array(y), "return")])
        for k, y in enumerate(ys)
    ]
    return CurvePlot({"maze": made}, "env_steps", "mean return", "mean", "95 %", "A title")


def drawn(capsys: pytest.CaptureFixture[str], shown: CurvePlot) -> list[str]:
    print_curves(shown)
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("columns", ["40", "80", "100"])
def test_a_curve_fills_the_width_in_plain_text(capsys, monkeypatch, columns: str):
    monkeypatch.setenv("COLUMNS", columns)
    lines = drawn(capsys, plot([0.0, 1.0, 4.0]))
    assert max(map(len, lines)) == int(columns)
    assert all(line.isascii() and "\x1b" not in line for line in lines)
    assert lines[:2] == ["A title", "mean return, maze"]


def test_a_rising_line_goes_from_the_lower_left_to_the_upper_right(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = drawn(capsys, plot([0.0, 10.0]))
    rows = [line.split("|", 1)[1] for line in lines if "|" in line]
    places = [[column for column, mark in enumerate(row) if mark == MARKS[0]] for row in rows]
    assert len(rows) == HEIGHT and rows[0].endswith(MARKS[0])
    assert places[-1][0] == 0
    below = zip(places[1:], places[:-1], strict=True)
    assert all(max(lower) < min(upper) for lower, upper in below)
    assert lines[2].startswith("10 |") and any(line.startswith(" 0 |") for line in lines)


def test_every_group_has_a_mark_of_its_own_in_the_legend(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = drawn(capsys, plot(*([float(k), float(k)] for k in range(8))))
    for k, mark in enumerate(MARKS):
        assert f"  {mark} group {k} (1 seed)" in lines
        assert any("|" in line and mark in line for line in lines)


def test_constant_curves_and_single_points_are_drawn(capsys):
    for ys in ([3.0, 3.0], [3.0]):
        assert any("|" in line and MARKS[0] in line for line in drawn(capsys, plot(ys)))


def test_names_with_brackets_are_no_markup(capsys):
    print_summary(plot([1.0, 2.0], name="[red]x[/red]"))
    assert "[red]x[/red]" in capsys.readouterr().out


def test_the_summary_has_the_last_value_and_the_mean_height(capsys):
    print_summary(plot([0.0, 2.0], [4.0, 4.0, 4.0]))
    out = capsys.readouterr().out
    cells = [
        [cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if "│" in line
    ]
    assert cells == [
        ["group 0", "1", "1,000,000", "2", "1"],
        ["group 1", "1", "2,000,000", "4", "4"],
    ]


def test_a_table_of_long_numbers_is_whole_however_narrow_the_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    interval = Interval(-0.0123, -0.00203, 0.00203)
    cell = Cell("a-group", "starpilot", interval, 2)
    print_cells([cell], {"train": [cell], "test": [cell]}, "gap", "95 %")
    out = capsys.readouterr().out
    assert "-0.0123 [-0.00203, 0.00203] │" in out and "starpilot" in out


def test_what_rounding_leaves_of_0_is_0():
    assert interval_text(Interval(4e-19, -0.5, 1e-17)) == "0 \\[-0.5, 0]"


def test_an_interval_is_written_in_brackets():
    assert interval_text(Interval(1.0, 0.5, 2.0)) == "1 \\[0.5, 2]"
    assert interval_text(Interval(1.0, np.nan, np.nan)) == "1"
