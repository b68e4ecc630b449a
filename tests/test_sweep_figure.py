"""The figure of a search: where values stand, and that all of it can be read."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from matplotlib.figure import Figure

from rllib_ppg.app import sweep_figure
from rllib_ppg.app.schedulers import FifoKeys
from rllib_ppg.app.searchers import RandomKeys
from rllib_ppg.app.sweep import Sweep
from rllib_ppg.app.sweep_figure import draw

SWEEP = Sweep("env_runners/episode_return_mean", "max", FifoKeys(), RandomKeys(), {}, 4)


def drawn(monkeypatch: pytest.MonkeyPatch, folder: Path, configurations: list[dict]) -> Figure:
    """Return the figure of a search whose objectives are 0, -1, -2 and so on."""
    figures: list[Figure] = []
    monkeypatch.setattr(sweep_figure, "save", lambda figure, path: figures.append(figure))
    ranking: Any = [
        SimpleNamespace(values=values, value=-float(number), members=[])
        for number, values in enumerate(configurations)
    ]
    draw(SWEEP, ranking, folder / "x.png")
    figures[0].savefig(folder / "x.png")  # lays it out
    return figures[0]


def test_what_has_no_number_stands_left_of_the_numbers_which_keep_their_scale(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    values = [1.23456789e-4, None, 9e-4, 3e-4, "-"]
    figure = drawn(monkeypatch, tmp_path, [{"value_lr": value} for value in values])
    axes = figure.axes[1]
    places = [float(x) for x, _ in axes.collections[0].get_offsets()]
    assert [places[n] for n in (0, 2, 3)] == [1.23456789e-4, 9e-4, 3e-4]
    assert places[4] < places[1] < 1.2e-4
    words = [tick.get_text() for tick in axes.get_xticklabels()]
    assert words == ["-", "None", "0.000123", "0.0009"]


def test_numbers_over_factors_of_ten_and_words_stand_on_a_logarithmic_scale(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    figure = drawn(monkeypatch, tmp_path, [{"lr": value} for value in (1e-5, 1e-2, None)])
    places = [float(x) for x, _ in figure.axes[1].collections[0].get_offsets()]
    assert figure.axes[1].get_xscale() == "log" and 0 < places[2] < 1e-5
    assert math.isclose(places[1], 1e-2)


def test_panels_stand_in_rows_and_no_label_is_cut(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    names = ["lr", "value_lr", "aux_augmentation", "arch", "n_pi", "optimizers"]
    long = {"type": "random_translate", "most": 123456789, "of": "something with a long name"}
    configurations = [{name: value for name in names} for value in (long, None, "x")]
    figure = drawn(monkeypatch, tmp_path, configurations)
    assert len(figure.axes) == 7 and figure.get_size_inches()[0] < 12
    assert max(len(t.get_text()) for t in figure.axes[1].get_xticklabels()) <= 22
    for axes in figure.axes:
        box = axes.get_tightbbox()
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1
