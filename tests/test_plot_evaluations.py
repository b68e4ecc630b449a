"""Files of evaluations and challenges are read, and only those of the known version."""

import json
from pathlib import Path

import pytest
from plot_files import challenge, challenge_run, evaluation, trial

from rllib_ppg.app.plot_evaluations import (
    find_document,
    read_challenge_curves,
    read_scores,
)
from rllib_ppg.errors import UserError


def test_an_evaluation_is_of_the_agent_that_its_checkpoint_says(tmp_path: Path):
    folder = trial(tmp_path / "exp", [1], seed=4, lr=0.5)
    checkpoint = str(folder / "checkpoint_000001")
    path = evaluation(tmp_path / "e.json", 6.5, checkpoint=checkpoint, levels="test", game="maze")
    (score,) = read_scores(path)
    assert score.returns == {"test": 6.5} and score.origin.agent == checkpoint
    origin = score.origin
    assert (origin.experiment, origin.game, origin.seed) == ("exp", "maze", 4)
    assert origin.config["lr"] == 0.5


def test_an_evaluation_whose_training_folder_is_gone_keeps_the_experiments_name(tmp_path: Path):
    path = evaluation(
        tmp_path / "e.json", 1.0, checkpoint="gone/exp/trial/checkpoint_1", levels="all", game="g"
    )
    (score,) = read_scores(path)
    assert score.origin.experiment == "exp" and score.origin.config is None


def test_levels_chosen_by_number_are_left_out_and_said(tmp_path: Path):
    path = evaluation(tmp_path / "e.json", 1.0, checkpoint="c", levels="all", game="maze")
    content = json.loads(path.read_text())
    game = {name: content.pop(name) for name in ("settings", "summary", "episodes")}
    other = {**game, "settings": {**game["settings"], "game": "heist", "levels": "custom"}}
    notes: list[str] = []
    path.write_text(json.dumps({**content, "games": [game, other]}))
    (score,) = read_scores(path, notes.append)
    assert score.origin.game == "maze" and "left out heist" in notes[0]
    path.write_text(json.dumps({**content, "games": [other]}))
    with pytest.raises(UserError, match="heist was played on levels chosen by number"):
        read_scores(path)


def test_what_was_played_is_known_but_for_game_and_levels(tmp_path: Path):
    options = {"env_name": "maze", "num_levels": 0, "start_level": 0, "use_backgrounds": False}
    settings = {"distribution_mode": "hard", "temperature": 0.5, "transfer": True, "seed": 3}
    path = evaluation(
        tmp_path / "e.json", 1.0, checkpoint="c", levels="all", game="maze", env_config=options,
        **settings,
    )  # fmt: skip
    (score,) = read_scores(path)
    played = {"use_backgrounds": False, "distribution_mode": "hard", "temperature": 0.5}
    assert score.origin.played == played and score.origin.transfer


def test_a_challenge_has_scores_and_curves_of_every_run(tmp_path: Path):
    curve = {"env_steps": [10, 20, 30], "return": [None, 1.0, 2.5]}
    runs = [
        challenge_run("ppg", "maze", 1, 8.0, 6.0, curve=curve),
        challenge_run("x", "g", 2, 1, 2),
    ]
    path = challenge(tmp_path / "c", runs)
    scores = read_scores(path)
    assert [score.returns for score in scores] == [{"train": 8, "test": 6}, {"train": 1, "test": 2}]
    (found,) = read_challenge_curves(path, "env_steps")
    assert (found.x.tolist(), found.y.tolist()) == ([20, 30], [1, 2.5])
    assert (found.origin.label, found.origin.game, found.origin.seed) == ("ppg", "maze", 1)
    with pytest.raises(UserError, match="env_steps only"):
        read_challenge_curves(path, "hours")


def test_a_folder_with_a_challenges_results_counts_and_training_results_do_not(tmp_path: Path):
    path = challenge(tmp_path / "c", [])
    assert find_document(str(tmp_path / "c")) == find_document(str(path)) == path
    training = tmp_path / "result.json"
    for content in ('{"a": 1}\n', '{"a": 1}\n{"a": 2}\n', '{"a": ', "[]", ""):
        training.write_text(content)
        assert find_document(str(training)) is None
    assert find_document(str(tmp_path / "none.json")) is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": 2}, "version 2"),
        ({"version": None}, "version None"),
        ({"summary": {}}, "key 'mean' is missing"),
        ({"summary": {"mean": None}}, "mean return is None"),
        ({"summary": {"mean": float("nan")}}, "mean return is nan"),
        ({"settings": {"levels": "some"}}, "'some' are none of test, all, train"),
        ({"settings": None}, "not as its format says"),
    ],
)
def test_a_file_that_is_not_as_its_format_says_is_refused(
    tmp_path: Path, change: dict, reason: str
):
    path = evaluation(tmp_path / "e.json", 1.0, checkpoint="c", levels="test", game="maze")
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UserError, match=reason):
        read_scores(path)


def test_a_challenge_with_a_run_without_scores_or_game_is_refused(tmp_path: Path):
    for run in ({"seed": 1, "train": {"mean": 1}}, {"game": "maze"}, "no run"):
        path = challenge(tmp_path / "c", [run])
        with pytest.raises(UserError, match=r"results\.json"):
            read_scores(path)


@pytest.mark.parametrize("steps", [[2, 1], [1], ["a", "b"], 1, None])
def test_a_challenge_with_a_bad_curve_is_refused(tmp_path: Path, steps: object):
    curve = {"env_steps": steps, "return": [1, 2]}
    path = challenge(tmp_path / "c", [challenge_run("a", "maze", 1, 1, 1, curve=curve)])
    with pytest.raises(UserError, match="not as its format says"):
        read_challenge_curves(path, "env_steps")
