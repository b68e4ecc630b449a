"""The results of a challenge: numbers that can be checked by hand, and a file that plots read."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from challenge_files import evaluated, trained

from rllib_ppg.app.challenge_evaluate import evaluation_path
from rllib_ppg.app.challenge_protocol import Protocol
from rllib_ppg.app.challenge_results import collect, make_results
from rllib_ppg.app.plot_evaluations import read_challenge_curves, read_scores
from rllib_ppg.core.scores import weighted_score

BUDGET = {"steps": 200, "seconds": 10.0, "scale": 1.0}

# Easy ranges: maze 5 to 10, starpilot 2.5 to 64.
MEANS = {("maze", 1): 6.0, ("maze", 2): 8.0, ("starpilot", 1): 2.5, ("starpilot", 2): 64.0}
SCORES = {("maze", 1): 0.2, ("maze", 2): 0.6, ("starpilot", 1): 0.0, ("starpilot", 2): 1.0}


def protocol(**keys: Any) -> Protocol:
    given = {
        "track": "generalization", "games": ["maze", "starpilot"], "seeds": [1, 2], "episodes": 4
    }  # fmt: skip
    return Protocol(**{**given, **keys})


def challenge(folder: Path, track: str = "generalization") -> Path:
    """Write the four runs of a track."""
    for (game, seed), mean in MEANS.items():
        # A training curve from R_min to the middle of the range.
        low, high = {"maze": (5.0, 10.0), "starpilot": (2.5, 64.0)}[game]
        trial = trained(folder / track, game, seed, {100: low, 200: (low + high) / 2})
        evaluated(evaluation_path(folder, track, game, seed, "all"), trial, mean)
        if track == "generalization":
            evaluated(evaluation_path(folder, track, game, seed, "train"), trial, mean + 1)
    return folder


def results(folder: Path, **keys: Any) -> dict[str, Any]:
    return make_results(folder, "c", protocol(**keys), {"rllib_ppg": "1"}, BUDGET)


def test_every_run_has_its_scores_its_curve_and_its_speed(tmp_path: Path):
    found = results(challenge(tmp_path))
    assert found["missing"] == [] and len(found["runs"]) == 4
    for run in found["runs"]:
        key = run["game"], run["seed"]
        assert run["all"]["mean"] == MEANS[key] and run["train"]["mean"] == MEANS[key] + 1
        assert run["score"] == pytest.approx(SCORES[key])
        assert run["curve"]["env_steps"] == [100, 200]
        # The curve goes straight from score 0 to 0.5.
        assert run["area_under_curve"]["score"] == pytest.approx(0.25)
        assert run["steps_to_threshold"] == pytest.approx(200)
        assert not Path(run["trial"]).is_absolute()
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_aggregates_are_those_of_the_scores(tmp_path: Path):
    summary = results(challenge(tmp_path))["summary"]["generalization"]
    assert summary["mean"]["estimate"] == pytest.approx(0.45)
    # A quarter of the four scores is left out at each end.
    assert summary["iqm"]["estimate"] == pytest.approx(np.mean([0.2, 0.6]))
    # Resampled runs of each game: the extremes are both games' worst and both games' best.
    assert summary["mean"]["low"] == pytest.approx(0.1)
    assert summary["mean"]["high"] == pytest.approx(0.8)
    assert summary["mean"]["confidence"] == 0.95
    assert summary["area_under_curve"]["estimate"] == pytest.approx(0.25)
    maze = summary["games"]["maze"]
    assert (maze["return"], maze["train_return"], maze["gap"]) == (7.0, 8.0, 1.0)
    assert maze["score"]["estimate"] == pytest.approx(0.4)
    assert maze["steps_to_threshold"] == {"reached": 2, "mean": pytest.approx(200)}


def test_the_weighted_score_is_over_the_games_that_were_played(tmp_path: Path):
    weighted = results(challenge(tmp_path))["summary"]["generalization"]["weighted"]
    assert weighted["games"] == ["starpilot"] and weighted["covered_weight"] == pytest.approx(
        1 / 12
    )
    assert weighted["score"] == pytest.approx(
        weighted_score({"starpilot": 0.5}, allow_missing=True)
    )
    only = results(challenge(tmp_path / "m"), games=["maze"])["summary"]["generalization"]
    assert only["weighted"] is None


def test_another_table_and_threshold_give_other_numbers_from_the_same_files(tmp_path: Path):
    challenge(tmp_path)
    found = results(tmp_path, score_table="easy_paper", threshold=0.25)
    assert found["score_table"]["name"] == "easy_paper" and "1912.01588" in str(
        found["score_table"]
    )
    assert [run["steps_to_threshold"] for run in found["runs"]] == pytest.approx([150] * 4)
    never = results(tmp_path, threshold=0.75)["summary"]["generalization"]["games"]["maze"]
    assert never["steps_to_threshold"] == {"reached": 0, "mean": None}


def test_a_single_run_has_no_interval(tmp_path: Path):
    summary = results(challenge(tmp_path), seeds=[1])["summary"]["generalization"]
    assert summary["iqm"]["low"] is None and summary["runs_per_game"] == 1


def test_what_is_missing_is_said_and_left_out(tmp_path: Path):
    challenge(tmp_path)
    evaluation_path(tmp_path, "generalization", "maze", 1, "train").unlink()
    evaluation_path(tmp_path, "generalization", "maze", 2, "all").write_text("{")
    rows = tmp_path / "generalization" / "PPG_procgen_starpilot_1" / "result.json"
    rows.write_text(rows.read_text().splitlines(keepends=True)[0])
    found = results(tmp_path, seeds=[1, 2, 3])
    reasons = {(each["game"], each["seed"]): each["reason"] for each in found["missing"]}
    assert reasons == {
        ("maze", 1): "not evaluated on train levels",
        ("maze", 2): "generalization-maze-seed2-all.json is broken",
        ("maze", 3): "not trained",
        ("starpilot", 1): "training ended after 100 steps, before its budget",
        ("starpilot", 3): "not trained",
    }
    assert [(run["game"], run["seed"]) for run in found["runs"]] == [("starpilot", 2)]


def test_an_evaluation_of_an_earlier_checkpoint_does_not_count(tmp_path: Path):
    challenge(tmp_path)
    path = evaluation_path(tmp_path, "generalization", "maze", 1, "all")
    path.write_text(
        path.read_text().replace('"env_steps_trained": 200', '"env_steps_trained": 100')
    )
    missing = collect(tmp_path, "c", protocol()).missing
    assert [(each["game"], each["seed"]) for each in missing] == [("maze", 1)]


def test_evaluations_of_another_protocol_are_not_mixed_with_its_own(tmp_path: Path):
    # As a resume with other episodes leaves them that was interrupted.
    challenge(tmp_path)
    path = evaluation_path(tmp_path, "generalization", "maze", 2, "train")
    path.write_text(path.read_text().replace('"num_episodes": 4', '"num_episodes": 8'))
    for episodes, keys in ((4, {("maze", 2)}), (8, set(MEANS))):
        runs, missing, _ = collect(tmp_path, "c", protocol(episodes=episodes))
        assert {(each["game"], each["seed"]) for each in missing} == keys
        assert len(runs) == 4 - len(keys)
    reasons = {(each["game"], each["seed"]): each["reason"] for each in missing}
    assert reasons["maze", 2] == (
        "generalization-maze-seed2-all.json was played with other settings (episodes 4, not 8)"
    )
    assert collect(tmp_path, "c", protocol(evaluation_seed=1)).runs == []


def test_versions_are_those_of_the_processes_that_trained_evaluated_and_scored(tmp_path: Path):
    challenge(tmp_path)
    found = results(tmp_path)["versions"]
    assert found["training"] == {"generalization": []}  # its file is gone
    launches = [{"time": str(k), "rllib_ppg": v} for k, v in enumerate(("0.2", "0.2", "0.3"))]
    (tmp_path / "generalization" / "versions.json").write_text(json.dumps(launches))
    path = evaluation_path(tmp_path, "generalization", "maze", 2, "all")
    path.write_text(path.read_text().replace('"rllib_ppg": "0.1"', '"rllib_ppg": "0.4"'))
    found = results(tmp_path)["versions"]
    assert found["training"] == {"generalization": [{"rllib_ppg": "0.2"}, {"rllib_ppg": "0.3"}]}
    assert found["evaluation"] == [{"rllib_ppg": "0.1"}, {"rllib_ppg": "0.4"}]
    assert found["scoring"] == {"rllib_ppg": "1"}
    (tmp_path / "generalization" / "versions.json").write_text("{")
    assert results(tmp_path)["versions"]["training"] == {"generalization": []}


def test_runs_of_both_tracks_are_told_apart_by_their_label(tmp_path: Path):
    challenge(tmp_path)
    challenge(tmp_path, "sample_efficiency")
    found = results(tmp_path, track="both")
    assert {run["label"] for run in found["runs"]} == {"c, sample efficiency", "c, generalization"}
    assert found["track"] == "both" and len(found["summary"]) == 2
    assert not any("train" in r for r in found["runs"] if r["track"] == "sample_efficiency")
    assert "gap" not in found["summary"]["sample_efficiency"]["games"]["maze"]


def test_curves_that_share_no_steps_have_no_area(tmp_path: Path):
    challenge(tmp_path)
    rows = tmp_path / "generalization" / "PPG_procgen_maze_1" / "result.json"
    rows.write_text(rows.read_text().splitlines(keepends=True)[1])
    found = results(tmp_path)
    assert {run["area_under_curve"]["score"] for run in found["runs"]} == {None}
    assert found["summary"]["generalization"]["area_under_curve"] is None


def test_plots_read_the_file(tmp_path: Path):
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results(challenge(tmp_path))))
    assert [score.returns["all"] for score in read_scores(path)] == list(MEANS.values())
    curves = read_challenge_curves(path, "env_steps")
    assert [curve.origin.seed for curve in curves] == [1, 2, 1, 2]
