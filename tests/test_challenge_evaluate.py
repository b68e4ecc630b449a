"""Evaluations of a challenge: each in a file, and only what is missing is played."""

import json
from pathlib import Path

import pytest
from challenge_files import evaluated, trained
from evaluation import config_of

from rllib_ppg.app.challenge_disk import Trained, read_trained
from rllib_ppg.app.challenge_evaluate import evaluation_path, missing_jobs, run_jobs
from rllib_ppg.app.challenge_protocol import Protocol
from rllib_ppg.app.cluster import RaySettings

PROTOCOL = Protocol(track="generalization", games=["starpilot"], episodes=4)
TRACK = "generalization"


def wanted(folder: Path, one: Trained, **changes) -> list[str]:
    protocol = PROTOCOL.model_copy(update=changes)
    return [job.levels for job in missing_jobs(folder, TRACK, [one], protocol)]


def test_what_was_played_is_not_played_again(tmp_path: Path):
    trial = trained(tmp_path / TRACK, "starpilot", 1, {100: 1.0})
    one = read_trained(trial)
    assert wanted(tmp_path, one) == ["all", "train"]
    path = evaluation_path(tmp_path, TRACK, "starpilot", 1, "all")
    evaluated(path, trial, 3.0)
    assert wanted(tmp_path, one) == ["train"]
    # Other episodes, another seed, another checkpoint, or half a file.
    assert wanted(tmp_path, one, episodes=8) == ["all", "train"]
    assert wanted(tmp_path, one, evaluation_seed=1) == ["all", "train"]
    evaluated(path, trial, 3.0, env_steps_trained=50)
    assert wanted(tmp_path, one) == ["all", "train"]
    path.write_text(path.read_text()[:40])
    assert wanted(tmp_path, one) == ["all", "train"]


@pytest.mark.parametrize(
    "change",
    [
        {"summary": {}},
        {"summary": {"mean": float("nan"), "stderr": None, "num_episodes": 4, "length_mean": 1.0}},
        {"settings": None},
        {"settings": {"seed": 0, "temperature": 1.0}},
        {"checkpoint": None},
        {"versions": []},
        {"format": "rllib_ppg challenge"},
    ],
)
def test_a_malformed_evaluation_is_played_again(tmp_path: Path, change: dict):
    trial = trained(tmp_path / TRACK, "starpilot", 1, {100: 1.0})
    one = read_trained(trial)
    path = evaluation_path(tmp_path, TRACK, "starpilot", 1, "all")
    evaluated(path, trial, 3.0)
    assert wanted(tmp_path, one) == ["train"]
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert wanted(tmp_path, one) == ["all", "train"]


@pytest.mark.parametrize("change", [{"game": "maze"}, {"levels": "test"}, {"seed": 5}])
def test_an_evaluation_of_something_else_is_played_again(tmp_path: Path, change: dict):
    trial = trained(tmp_path / TRACK, "starpilot", 1, {100: 1.0})
    path = evaluation_path(tmp_path, TRACK, "starpilot", 1, "all")
    settings = {"game": "starpilot", "levels": "all", "seed": 0, "temperature": 1.0}
    evaluated(path, trial, 3.0, settings={**settings, **change})
    assert wanted(tmp_path, read_trained(trial)) == ["all", "train"]


def test_a_moved_folder_keeps_its_evaluations(tmp_path: Path):
    trial = trained(tmp_path / "a" / TRACK, "starpilot", 1, {100: 1.0})
    evaluated(evaluation_path(tmp_path / "a", TRACK, "starpilot", 1, "all"), trial, 3.0)
    (tmp_path / "a").rename(tmp_path / "b")
    one = read_trained(tmp_path / "b" / TRACK / trial.name)
    assert wanted(tmp_path / "b", one) == ["train"]


def test_an_unfinished_trial_is_not_evaluated(tmp_path: Path):
    trial = trained(tmp_path / TRACK, "starpilot", 1, {100: 1.0}, done=False)
    assert wanted(tmp_path, read_trained(trial)) == []
    assert [j.levels for j in missing_jobs(tmp_path, "sample_efficiency", [], PROTOCOL)] == []


@pytest.fixture
def real(ray_local: None, tmp_path: Path) -> Trained:
    """A trial whose last checkpoint is one of PPG."""
    trial = trained(tmp_path / TRACK, "starpilot", 1, {0: 1.0}, checkpoint=False)
    options = {"env_name": "starpilot", "distribution_mode": "easy", "num_levels": 200}
    algorithm = config_of(
        "procgen", options, num_envs=2, rollout_fragment_length=8, nminibatch=1, n_pi=2,
        aux_mbsize=2, model={"custom_model_config": {"widths": [4], "hidden_size": 8}},
    ).build_algo()  # fmt: skip
    algorithm.save(str(trial / "checkpoint_000000"))
    algorithm.stop()
    return read_trained(trial)


def test_missing_evaluations_are_played_on_the_levels_of_the_track(
    real: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Trained, "checkpoint", lambda one: one.folder / "checkpoint_000000")
    jobs = missing_jobs(tmp_path, TRACK, [real], PROTOCOL)
    said: list[str] = []
    assert run_jobs(jobs, PROTOCOL, RaySettings(num_cpus=1), said.append) == 0
    assert said[0] == "Evaluation 1 of 2: generalization, starpilot, seed 1, all levels"
    assert missing_jobs(tmp_path, TRACK, [real], PROTOCOL) == []
    found = {job.levels: json.loads(job.path.read_text()) for job in jobs}
    assert found["train"]["settings"]["levels"] == "train"
    assert found["all"]["settings"]["env_config"]["num_levels"] == 0
    assert found["train"]["settings"]["env_config"]["num_levels"] == 200
    assert all(len(each["episodes"]) == 4 for each in found.values())
    assert found["all"]["summary"]["normalised"]["table"] == "easy_challenge"


def test_one_that_cannot_be_played_does_not_stop_the_others(tmp_path: Path):
    trial = trained(tmp_path / TRACK, "starpilot", 1, {100: 1.0}, checkpoint=False)
    jobs = missing_jobs(tmp_path, TRACK, [read_trained(trial)], PROTOCOL)
    said: list[str] = []
    assert run_jobs(jobs, PROTOCOL, RaySettings(), said.append) == 2
    assert "no whole checkpoint" in said[1] and not jobs[0].path.exists()
