"""Runs are found in folders, and steps and returns under whatever name RLlib gave them."""

from pathlib import Path

import pytest
from plot_files import RETURN, STEPS, rows, trial, write_csv

from rllib_ppg.app.plot_runs import Curve, Reading, find_results, read_runs
from rllib_ppg.errors import UserError


def read(path: Path, **options: object) -> list[Curve]:
    notes: list[str] = []
    return read_runs(str(path), Reading(note=notes.append, **options))


def test_trials_experiments_and_folders_of_experiments_are_found(tmp_path: Path):
    first = trial(tmp_path / "results" / "a", [1, 2])
    second = trial(tmp_path / "results" / "b", [3, 4])
    files = [first / "progress.csv", second / "progress.csv"]
    assert find_results(str(tmp_path / "results")) == files
    assert find_results(str(tmp_path / "results" / "a")) == files[:1]
    assert find_results(str(first)) == find_results(str(files[0])) == files[:1]


def test_result_json_is_read_where_there_is_no_csv(tmp_path: Path):
    (tmp_path / "result.json").write_text(
        '{"env_runners": {"episode_return_mean": 5}, "timesteps_total": 64}\n'
    )
    (curve,) = read(tmp_path)
    assert (curve.x.tolist(), curve.y.tolist()) == ([64], [5])


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ("timesteps_total", "episode_reward_mean"),
        ("num_env_steps_sampled", "sampler_results/episode_reward_mean"),
        ("env_runners/num_env_steps_sampled_lifetime", "env_runners/episode_return_mean"),
        ("num_env_steps_sampled_lifetime", "env_runners/episode_reward_mean"),
    ],
)
def test_steps_and_return_are_found_in_files_of_any_release(tmp_path: Path, x: str, y: str):
    path = write_csv(tmp_path / "progress.csv", [[7, 128, 1]], [y, x, "training_iteration"])
    (curve,) = read(path)
    assert (curve.x.tolist(), curve.y.tolist(), curve.metric) == ([128], [7], y)


def test_a_return_column_without_numbers_gives_way_to_one_that_has_some(tmp_path: Path):
    names = ["env_runners/episode_return_mean", "episode_reward_mean", STEPS]
    path = write_csv(tmp_path / "progress.csv", [["", 4, 10], ["nan", 5, 20]], names)
    assert read(path)[0].y.tolist() == [4, 5]


def test_points_before_the_first_episode_and_slices_without_steps_are_left_out(tmp_path: Path):
    values = [["nan", 100, 1, 1], [2, 200, 2, 2], [3, 200, 3, 3], [4, 300, 4, 4]]
    (curve,) = read(write_csv(tmp_path / "progress.csv", values))
    assert (curve.x.tolist(), curve.y.tolist()) == ([200, 300], [3, 4])


def test_every_x_axis_has_its_unit(tmp_path: Path):
    path = write_csv(tmp_path / "progress.csv", rows([1, 2]))
    assert read(path, x="hours")[0].x.tolist() == [0.5, 1.0]
    assert read(path, x="iterations")[0].x.tolist() == [1, 2]


def test_a_metric_is_named_whole_or_by_the_end_of_its_path(tmp_path: Path):
    names = [RETURN, STEPS, "info/policy_phase/loss", "info/aux_phase/loss"]
    path = write_csv(tmp_path / "progress.csv", [[1, 2, 3, 4]], names)
    assert read(path, y="aux_phase/loss")[0].y.tolist() == [4]
    assert read(path, y="info/policy_phase/loss")[0].y.tolist() == [3]
    with pytest.raises(UserError, match="several: info/policy_phase/loss, info/aux_phase/loss"):
        read(path, y="loss")
    with pytest.raises(UserError, match="The nearest: info/policy_phase/loss"):
        read(path, y="los")


def test_a_file_without_return_is_refused_with_the_nearest_columns(tmp_path: Path):
    path = write_csv(tmp_path / "progress.csv", [[1, 2]], ["my/episode_return_avg", STEPS])
    with pytest.raises(UserError, match=r"The nearest: my/episode_return_avg.*--y METRIC"):
        read(path)


def test_a_trial_says_its_game_difficulty_seed_and_experiment(tmp_path: Path):
    origin = read(trial(tmp_path / "exp", [1], seed=3, game="maze", lr=1e-3))[0].origin
    assert (origin.game, origin.difficulty, origin.seed) == ("maze", "easy", 3)
    assert origin.experiment == "exp" and origin.config["lr"] == 1e-3


def test_trials_without_a_point_are_left_out_unless_none_is_left(tmp_path: Path):
    trial(tmp_path / "exp", [1, 2], seed=1)
    empty = trial(tmp_path / "exp", ["nan"], seed=2)
    (trial(tmp_path / "exp", [1], seed=3) / "progress.csv").write_text("")
    assert [curve.origin.seed for curve in read(tmp_path / "exp")] == [1]
    with pytest.raises(UserError, match="no episode has ended"):
        read(empty)


def test_nothing_to_read_is_refused(tmp_path: Path):
    for path, reason in ((tmp_path, "holds no results"), (tmp_path / "x", "There is no run")):
        with pytest.raises(UserError, match=reason):
            read(path)


def test_steps_that_go_back_without_a_resume_are_refused(tmp_path: Path):
    path = write_csv(tmp_path / "progress.csv", [[1, 200, 1, 1], [2, 100, 2, 2]])
    with pytest.raises(UserError, match="goes back"):
        read(path)
