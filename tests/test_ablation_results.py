"""The table of an ablation, with numbers that can be checked by hand."""

import json
from pathlib import Path

import pytest
from ablation_files import loaded, on_disk

from rllib_ppg.app.ablation_results import make_results, notes_of, sheet_of, write_results
from rllib_ppg.app.challenge_results import make_results as challenge_results
from rllib_ppg.app.challenge_results import results_path
from rllib_ppg.app.evaluate_result import write

WHOLE = {("maze", 1): 0.4, ("maze", 2): 0.6, ("starpilot", 1): 0.2, ("starpilot", 2): 0.4}
LESS = {key: score - 0.1 for key, score in WHOLE.items()}
CLIP, AUGMENTATION = "whole-without-value_clip_param", "whole-without-aux_augmentation"
BUDGET = {"steps": 768, "seconds": 7200.0, "scale": 1.0}


def scored(folder: Path, scores: dict[str, dict[tuple[str, int], float]]):
    """An ablation on disk whose challenges are scored."""
    ablation = on_disk(folder, scores)
    for variant in ablation.variants:
        challenge = variant.challenge
        if challenge.name in scores:
            content = challenge_results(
                challenge.folder, challenge.name, challenge.protocol, {}, BUDGET
            )
            write(results_path(challenge.folder), content)
    return ablation


def test_scores_and_differences_are_means_over_games_and_seeds(tmp_path: Path):
    uneven = {**WHOLE, ("maze", 1): 0.0}  # 0.4 lower in one run of four
    found = make_results(scored(tmp_path, {"whole": WHOLE, CLIP: LESS, AUGMENTATION: uneven}))
    whole, clip, augmentation = found["tracks"]["generalization"]
    assert whole["score"]["estimate"] == pytest.approx(0.4) and whole["difference"] is None
    assert clip["score"]["estimate"] == pytest.approx(0.3)
    # Every run has lost the same, so the interval of the difference is a point.
    for bound in ("estimate", "low", "high"):
        assert clip["difference"][bound] == pytest.approx(-0.1)
    assert augmentation["difference"]["estimate"] == pytest.approx(-0.1)
    # Of two runs of maze either may be drawn twice: -0.4 or 0, and half of it over both games.
    assert augmentation["difference"]["low"] == pytest.approx(-0.2)
    assert augmentation["difference"]["high"] == pytest.approx(0)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_differences_are_of_runs_that_both_have(tmp_path: Path):
    some = {("maze", 2): 0.5}
    found = make_results(scored(tmp_path, {"whole": WHOLE, CLIP: some}))
    _, clip, augmentation = found["tracks"]["generalization"]
    assert clip["difference"]["estimate"] == pytest.approx(-0.1)
    assert clip["difference"]["low"] is None and clip["num_runs"] == 1
    assert augmentation["score"] is augmentation["difference"] is None
    cells = sheet_of(found, "generalization").rows
    assert cells[0][3] == "(all parts)" and cells[1][3] == "-0.100" and cells[2][2:] == ["-", "-"]


def test_nothing_is_known_before_the_first_result(tmp_path: Path):
    found = make_results(loaded(tmp_path))
    assert found["score_table"] is None
    assert [row["num_runs"] for row in found["tracks"]["generalization"]] == [0, 0, 0]
    assert sheet_of(found, "generalization").rows[0] == ["whole", "0", "-", "(all parts)"]


def test_notes_name_budget_intervals_and_changes(tmp_path: Path):
    text = "\n".join(notes_of(make_results(scored(tmp_path, {"whole": WHOLE}))))
    assert "Budget of a trial: 768 environment steps, 2h00m" in text
    assert "Below 0: the part that this experiment lacks helps; above 0: it is better with" in text
    assert "with few runs it is too narrow" in text and "rehearsal" not in text
    assert f"{CLIP}: value_clip_param: None" in text


def test_the_table_is_written_as_json_and_markdown(tmp_path: Path):
    ablation = scored(tmp_path, {"whole": WHOLE, CLIP: LESS})
    path, report = write_results(ablation, ["ablation", "-f", "a b.yaml"])
    assert json.loads(path.read_text()) == make_results(ablation)
    text = report.read_text()
    assert f"| {CLIP} | 4 | 0.300 [0.200, 0.400] | -0.100 [-0.100, -0.100] |" in text
    assert "rllib ablation -f 'a b.yaml'" in text
