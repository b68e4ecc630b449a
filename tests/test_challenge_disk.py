"""Trials on disk: which there are, which are over, and their curves."""

import json
import shutil
from pathlib import Path

import pytest
from challenge_files import trained

from rllib_ppg.algorithm.checkpoint_files import write_manifest
from rllib_ppg.app.challenge_disk import find_trained, read_trained
from rllib_ppg.errors import UserError


def test_a_trial_is_read_from_its_files(tmp_path: Path):
    folder = trained(tmp_path, "maze", 3, {100: 1.0, 200: 2.5})
    one = read_trained(folder)
    assert (one.game, one.seed, one.iteration, one.env_steps) == ("maze", 3, 2, 200)
    assert (one.seconds, one.aux_phases, one.done) == (20.0, 2, True)
    assert one.curve() == {"env_steps": [100, 200], "return": [1.0, 2.5]}
    assert one.checkpoint() == folder / "checkpoint_000001" and one.complete()


def test_an_older_or_broken_checkpoint_is_not_the_last_ones(tmp_path: Path):
    folder = trained(tmp_path, "maze", 1, {100: 1.0, 200: 2.0})
    (folder / "checkpoint_000001" / "weights").write_bytes(b"cut")
    with pytest.raises(UserError, match="no whole checkpoint of its last iteration"):
        read_trained(folder).checkpoint()
    assert not read_trained(folder).complete()


def test_of_two_trials_of_one_game_and_seed_the_furthest_counts(tmp_path: Path):
    trained(tmp_path, "maze", 1, {100: 1.0}, done=False)
    (tmp_path / "PPG_procgen_maze_1").rename(tmp_path / "earlier")
    trained(tmp_path, "maze", 1, {100: 1.0, 200: 2.0})
    trained(tmp_path, "ninja", 1, {100: 1.0})
    found = find_trained(tmp_path)
    assert found.keys() == {("maze", 1), ("ninja", 1)} and found["maze", 1].iteration == 2


def test_what_is_no_trial_is_passed_over(tmp_path: Path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "params.json").write_text("{")
    assert find_trained(tmp_path) == {} and find_trained(tmp_path / "none") == {}


def test_a_trial_without_results_or_episodes_has_no_curve(tmp_path: Path):
    folder = trained(tmp_path, "maze", 1, {100: 1.0})
    (folder / "result.json").write_text("")
    assert read_trained(folder).iteration == 0 and not read_trained(folder).done
    assert read_trained(folder).curve() == {"env_steps": [], "return": []}


def test_a_line_cut_off_by_a_kill_does_not_count(tmp_path: Path):
    folder = trained(tmp_path, "maze", 1, {100: 1.0})
    row = json.loads((folder / "result.json").read_text())
    with (folder / "result.json").open("a") as file:
        file.write(json.dumps({**row, "training_iteration": 2})[:-9])
    assert read_trained(folder).iteration == 1


@pytest.mark.parametrize("change", [{"timesteps_total": None}, {"time_total_s": "x"}, {"info": 3}])
def test_results_that_training_does_not_write_are_refused(tmp_path: Path, change: dict):
    folder = trained(tmp_path, "maze", 1, {100: 1.0})
    row = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps({**row, **change}) + "\n")
    with pytest.raises(UserError, match=r"result\.json is not as training writes it"):
        find_trained(tmp_path)


def test_of_a_finished_trial_the_last_checkpoint_stays_without_what_training_needs(tmp_path: Path):
    folder = trained(tmp_path, "maze", 1, {100: 1.0, 200: 2.0})
    last = folder / "checkpoint_000001"
    for name in ("frames", "phase.pkl", "workers.pkl"):
        (last / name).write_bytes(bytes(1000))
    write_manifest(last, {"counters": {"training_iteration": 2}, "checkpoint_store": True})
    shutil.copytree(last, folder / "checkpoint_000000")
    one = read_trained(folder)
    for _ in range(2):  # as a resume does again
        one.tidy()
        assert [path.name for path in folder.glob("checkpoint_*")] == ["checkpoint_000001"]
        assert {path.name for path in last.iterdir()} == {"weights", "rllib_ppg.json"}
        assert one.complete()


def test_nothing_is_removed_where_the_last_checkpoint_is_broken(tmp_path: Path):
    folder = trained(tmp_path, "maze", 1, {100: 1.0, 200: 2.0})
    shutil.copytree(folder / "checkpoint_000001", folder / "checkpoint_000000")
    write_manifest(folder / "checkpoint_000000", {"counters": {"training_iteration": 1}})
    (folder / "checkpoint_000001" / "weights").write_bytes(b"cut")
    read_trained(folder).tidy()
    assert len(list(folder.glob("checkpoint_*"))) == 2
