"""How far an evaluation is: lines now and then, one at the end."""

import io

import pytest

from rllib_ppg.app import evaluate_progress
from rllib_ppg.app.evaluate_progress import make_progress


def test_without_a_terminal_the_end_is_a_line_and_little_else():
    out = io.StringIO()
    with make_progress(6, out) as progress:
        for episodes in range(7):
            progress.update(episodes, 100 * episodes)
    (line,) = out.getvalue().splitlines()
    assert "6 of 6 episodes, 600 steps" in line


def test_lines_come_when_it_is_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(evaluate_progress, "LINE_EVERY_S", 0.0)
    out = io.StringIO()
    with make_progress(6, out) as progress:
        progress.update(0, 50)
        progress.update(2, 100)
    assert [line.split("] ")[1].split(",")[0] for line in out.getvalue().splitlines()] == [
        "0 of 6 episodes",
        "2 of 6 episodes",
    ]


def test_a_terminal_shows_a_bar(monkeypatch: pytest.MonkeyPatch):
    out = io.StringIO()
    monkeypatch.setattr(out, "isatty", lambda: True)
    with make_progress(6, out) as progress:
        progress.update(2, 100)
    assert "2/6" in out.getvalue() and "episodes" in out.getvalue()
