"""What a sweep leaves: the table, an experiment file that trains the best again, and a figure."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from app_helpers import command, experiments, result

from rllib_ppg.app import measure
from rllib_ppg.app.experiment import Experiment
from rllib_ppg.app.progress import Progress
from rllib_ppg.app.report import TrialEnd, closing_lines
from rllib_ppg.app.result_files import ResultFiles
from rllib_ppg.app.sweep import Sweep, read_sweep
from rllib_ppg.app.sweep_end import end_sweep, plain
from rllib_ppg.app.sweep_ranking import rank, table

TEXT = """
x:
  run: PPG
  env: CartPole-v1
  num_samples: 3
  stop: {timesteps_total: 1000}
  search: {type: random, seed: 1}
  scheduler: {type: asha, grace_period: 100}
  max_failures: 2
  config:
    lr: {loguniform: [1e-4, 1e-2]}
    model: {custom_model_config: {arch: {choice: [dual, shared]}}}
    num_envs: 8
"""

GAMES = """
x:
  run: PPG
  env: procgen
  num_samples: 2
  average_over: {env_config.env_name: [coinrun, starpilot], seed: [5]}
  stop: {timesteps_total: 1000}
  config: {lr: {choice: [1e-3, 1e-4]}, env_config: {distribution_mode: easy}}
"""


def made(folder: Path, text: str = TEXT) -> tuple[Experiment, Sweep]:
    (experiment,) = experiments(text, folder)
    experiment.keys.storage_path = str(folder / "results")
    (folder / "results" / "x").mkdir(parents=True, exist_ok=True)
    return experiment, read_sweep(experiment)


def end(
    folder: Path, number: int, config: dict[str, Any], *returns: float, status: str = "TERMINATED"
) -> TrialEnd:
    """A trial with a result of each of these returns."""
    place = folder / "results" / "x" / str(number)
    files = ResultFiles(place, {})
    for iteration, value in enumerate(returns, start=1):
        row = result(iteration, 100 * iteration)
        files.write({**row, "env_runners": {"episode_return_mean": value}})
    name = f"{number:05} lr={config.get('lr')}"
    return TrialEnd(name, status, str(place), f"{place}/checkpoint", "", Progress(), config=config)


def config(lr: float, arch: str = "dual") -> dict[str, Any]:
    model = {"custom_model_config": {"arch": arch}}
    return {"env": "CartPole-v1", "lr": np.float64(lr), "model": model, "num_envs": 8}


def ends(folder: Path) -> list[TrialEnd]:
    return [
        end(folder, 0, config(1e-3), 10, 20),
        end(folder, 1, config(2e-3, "shared"), 10, 50, math.nan),
        end(folder, 2, config(3e-3), 90, status="ERROR"),
    ]


def test_the_best_comes_first_and_failed_trials_last(tmp_path: Path):
    experiment, sweep = made(tmp_path)
    found = rank(sweep, experiment.config, ends(tmp_path))
    assert [ranked.values["arch"] for ranked in found] == ["shared", "dual", "dual"]
    assert [ranked.value for ranked in found[:2]] == [50, 20] and math.isnan(found[2].value)
    lines = table(sweep, found)
    assert lines[0].split() == ["trial", "episode_return_mean", "lr", "arch", "steps"]
    assert lines[1].split() == ["1", "00001", "50", "0.002", "shared", "200"]
    assert "00002 (error)" in lines[3]


def test_the_least_comes_first_where_that_is_wanted(tmp_path: Path):
    experiment, sweep = made(tmp_path, TEXT.replace("num_samples", "mode: min\n  num_samples"))
    found = rank(sweep, experiment.config, ends(tmp_path))
    assert [ranked.value for ranked in found[:2]] == [20, 50]


def test_the_best_is_an_experiment_file_that_can_be_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    experiment, sweep = made(tmp_path)
    complete = {**experiment.config, "gamma": 0.98}
    lines, best = end_sweep(experiment, sweep, experiment.config, complete, ends(tmp_path))
    assert best is not None and best.value == 50
    path = tmp_path / "results" / "x" / "best.yaml"
    assert any(str(path) in line for line in lines)
    (best_keys,) = yaml.safe_load(path.read_text()).values()
    assert best_keys["stop"] == {"timesteps_total": 1000} and best_keys["max_failures"] == 2
    assert not set(best_keys) & {"search", "scheduler", "num_samples"}
    assert best_keys["config"] == {**config(2e-3, "shared"), "lr": 2e-3, "gamma": 0.98}
    assert "# The best of 3 trials" in path.read_text()
    monkeypatch.setattr(measure, "SECONDS", 0.05)
    run = command(capsys, "train", "-f", str(path), "--dry-run")
    assert run.code == 0 and "lr" in run.out, run.err
    assert (tmp_path / "results" / "x" / "search.png").read_bytes()[:4] == b"\x89PNG"


def test_over_games_a_configuration_has_the_mean_of_all_its_trials(tmp_path: Path):
    experiment, sweep = made(tmp_path, GAMES)

    def trial(number: int, lr: float, game: str, *returns: float, **more: Any) -> TrialEnd:
        env = {"distribution_mode": "easy", "env_name": game}
        return end(tmp_path, number, {"lr": lr, "env_config": env, "seed": 5}, *returns, **more)

    found = [
        trial(0, 1e-3, "coinrun", 7.5), trial(1, 1e-3, "starpilot", 64),
        trial(2, 1e-4, "coinrun", 10), trial(3, 1e-4, "starpilot", 64, status="ERROR"),
    ]  # fmt: skip
    ranking = rank(sweep, experiment.config, found)
    assert ranking[0].value == 0.75 and math.isnan(ranking[1].value)
    assert "1 of 2" in table(sweep, ranking)[2]
    whole = {**experiment.config, "env": "procgen"}
    end_sweep(experiment, sweep, experiment.config, whole, found)
    path = tmp_path / "results" / "x" / "best.yaml"
    best = yaml.safe_load(path.read_text())["x-best"]["config"]
    assert best["env_config"]["env_name"] == {"grid_search": ["coinrun", "starpilot"]}
    assert best["seed"] == 5 and best["lr"] == 1e-3
    assert "mean normalised episode_return_mean 0.75" in path.read_text()
    (experiment,) = experiments(path.read_text(), tmp_path)
    assert read_sweep(experiment).trials(experiment.config) == 2


def test_without_any_objective_nothing_is_written(tmp_path: Path):
    experiment, sweep = made(tmp_path)
    lines, best = end_sweep(
        experiment, sweep, experiment.config, experiment.config, [end(tmp_path, 0, config(1e-3))]
    )
    assert best is None and "no configuration has an objective yet" in lines[-1]
    assert not (tmp_path / "results" / "x" / "best.yaml").exists()


def test_the_closing_lines_have_the_table_in_place_of_all_trials(tmp_path: Path):
    experiment, sweep = made(tmp_path)
    found = ends(tmp_path)
    ranking, best = end_sweep(experiment, sweep, experiment.config, experiment.config, found)
    lines = closing_lines(
        experiment, "folder", found, ["train"], ranking=ranking, best=best.members[0].end
    )
    text = "\n".join(lines)
    assert "Best by env_runners/episode_return_mean (max):" in text
    assert f"rllib evaluate {found[1].checkpoint}" in text and "reached" not in text


def test_numbers_of_numpy_are_plain_in_a_file():
    assert yaml.safe_dump(plain({"a": np.float64(0.5), "b": (np.int64(2), None)})) == (
        "a: 0.5\nb:\n- 2\n- null\n"
    )
