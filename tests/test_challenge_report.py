"""Tables and report of a challenge: what they say, and the figures that they show."""

import json
from pathlib import Path
from typing import Any

import pytest
from test_challenge_results import BUDGET, challenge, protocol

from rllib_ppg.app.challenge_report import FIGURES, write_report
from rllib_ppg.app.challenge_results import make_results
from rllib_ppg.app.challenge_tables import notes_of, print_sheet, sheets_of

TRACKS = ("sample_efficiency", "generalization")


def both(folder: Path, **keys: Any) -> tuple[Path, dict[str, Any]]:
    for track in TRACKS:
        challenge(folder, track)
    made = protocol(track="both", **keys)
    found = make_results(folder, "mine", made, {"rllib_ppg": "1"}, BUDGET)
    path = folder / "results.json"
    path.write_text(json.dumps(found))
    return path, found


def test_every_table_names_the_score_table(tmp_path: Path):
    _, found = both(tmp_path, score_table="easy_paper")
    sheets = [sheet for track in TRACKS for sheet in sheets_of(found, track)]
    assert len(sheets) == 4
    assert all("score table easy_paper" in sheet.title for sheet in sheets)
    assert "arXiv:1912.01588" in notes_of(found, TRACKS[0])[0]


def test_games_have_a_row_each_and_the_gap_only_where_there_is_one(tmp_path: Path):
    _, found = both(tmp_path)
    speed, general = (sheets_of(found, track)[0] for track in TRACKS)
    assert [row[0] for row in speed.rows] == ["maze", "starpilot"]
    assert "gap" in general.columns and "gap" not in speed.columns
    for sheet in (speed, general):
        assert {len(row) for row in sheet.rows} == {len(sheet.columns)}
    assert speed.rows[0][1:3] == ["7.00", "0.400 [0.200, 0.600]"]
    assert general.rows[0][-1] == "200 (2 of 2)"


def test_the_overall_table_has_mean_iqm_and_weighted_score(tmp_path: Path):
    _, found = both(tmp_path)
    rows = dict(sheets_of(found, TRACKS[1])[1].rows)
    assert rows["mean"].startswith("0.450 [") and rows["IQM"].startswith("0.400 [")
    assert rows["round 2 weighted (8% of the weights)"] == "0.500"
    assert any("not the challenge's own score" in note for note in notes_of(found, TRACKS[1]))


def test_a_table_is_printed_whole_however_narrow_the_terminal(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    _, found = both(tmp_path)
    print_sheet(sheets_of(found, "generalization")[0])
    out = capsys.readouterr().out
    assert "…" not in out and "0.500 [0.000, 1.000]" in out and "train return" in out


@pytest.fixture
def report(tmp_path: Path) -> str:
    path, found = both(tmp_path)
    target = write_report(path, found, ["challenge", "-f", "c.yaml"])
    assert target == tmp_path / "report.md"
    return target.read_text()


def test_the_report_has_tables_figures_and_the_command(tmp_path: Path, report: str):
    assert report.startswith("# mine\n") and "rllib challenge -f c.yaml" in report
    for track in TRACKS:
        assert f"## Track {track}, all levels, score table easy_challenge" in report
    assert "score (easy_challenge)" in report and "| generalization | maze | 1 |" in report
    shown = {name for name in ("curves", "games", "scores", "profiles", "gap") if name in report}
    drawn = {path.stem for path in (tmp_path / FIGURES).glob("*.png")}
    assert shown == drawn == {"curves", "games", "scores", "profiles", "gap"}
    assert str(tmp_path) not in report


def test_the_report_says_what_was_done_with_which_versions(tmp_path: Path):
    path, found = both(tmp_path)
    found["versions"]["training"]["generalization"] = [{"rllib_ppg": "1"}, {"rllib_ppg": "0.9"}]
    lines = write_report(path, found, ["challenge"]).read_text().splitlines()
    assert lines[-4:] == [
        "* training (sample_efficiency) with versions that are not known",
        "* training (generalization), scoring with rllib_ppg 1",
        "* training (generalization) with rllib_ppg 0.9",
        "* evaluation with rllib_ppg 0.1",
    ]


def test_a_rehearsal_says_that_it_is_one(tmp_path: Path):
    path, found = both(tmp_path)
    found["budget"] = {**BUDGET, "scale": 0.01}
    assert "compare with nothing" in write_report(path, found, []).read_text()


def test_figures_that_cannot_be_drawn_any_more_are_not_left(tmp_path: Path, report: str):
    path = tmp_path / "results.json"
    found = json.loads(path.read_text())
    for run in found["runs"]:
        run["curve"] = {"env_steps": [], "return": []}
    path.write_text(json.dumps(found))
    text = write_report(path, found, []).read_text()
    assert "curves.png" not in text and not (tmp_path / FIGURES / "curves.png").exists()
    assert "scores.png" in text
