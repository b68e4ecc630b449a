"""A training job of SageMaker, but for what takes Ray: `slow/test_sagemaker_jobs.py` has that."""

import json
import sys
from pathlib import Path

import pytest
from app_helpers import command, experiment, resumable
from sagemaker_tree import EXPERIMENT, make_tree

from rllib_ppg.app import sagemaker
from rllib_ppg.app.objective import Objective
from rllib_ppg.app.sagemaker import best_checkpoint, failure_text, save_model, shared_token
from rllib_ppg.app.sagemaker_contract import read_job

RETURN = Objective("env_runners/episode_return_mean")


def refused(capsys: pytest.CaptureFixture[str], root: Path) -> str:
    run = command(capsys, "sagemaker", "--root", str(root))
    assert run.code == 2 and run.out == "" and "Traceback" not in run.err, run
    return run.err


def test_a_wrong_hyperparameter_ends_in_the_failure_file_too(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    root = make_tree(tmp_path, {"experiment": "no.yaml"}, files={"tiny.yaml": EXPERIMENT})
    error = refused(capsys, root)
    assert (root / "output" / "failure").read_text() == error.strip()
    assert "no.yaml" in error


def test_a_broken_experiment_file_is_found_before_anything_is_started(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    root = make_tree(tmp_path, {"experiment": "x.yaml"}, files={"x.yaml": "x: {runn: PPG}"})
    assert "runn" in refused(capsys, root)


def test_outside_of_a_container_the_usual_command_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    assert "rllib train" in refused(capsys, tmp_path)


def test_all_hosts_find_the_same_token_and_other_jobs_another(tmp_path: Path):
    hosts = ["a", "b"]
    one, two = (read_job(make_tree(tmp_path / h, {"seed": "1"}, hosts, h)) for h in hosts)
    other = read_job(make_tree(tmp_path / "c", {"seed": "2"}, hosts, "a"))
    assert shared_token(one) == shared_token(two) != shared_token(other)


def test_the_model_is_the_newest_checkpoint_of_the_best_trial(tmp_path: Path):
    for name, value in (("a", 1.0), ("b", 3.0), ("c", float("nan"))):
        (tmp_path / name).mkdir()
        resumable(tmp_path / name, [1, 2])
        row = {"env_runners": {"episode_return_mean": value}}
        text = json.dumps(row) + "\n" + '{"torn'
        (tmp_path / name / "result.json").write_text(text)
    assert best_checkpoint(tmp_path, RETURN) == tmp_path / "b" / "checkpoint_000001"


def test_of_a_sweep_the_best_is_that_of_its_metric(tmp_path: Path):
    for name, value in (("a", 3.0), ("b", 1.0)):
        (tmp_path / name).mkdir()
        resumable(tmp_path / name, [1])
        (tmp_path / name / "result.json").write_text(json.dumps({"loss": value}) + "\n")
    best = best_checkpoint(tmp_path, Objective("loss", "min"))
    assert best == tmp_path / "b" / "checkpoint_000000"


def test_without_a_checkpoint_there_is_no_model(tmp_path: Path):
    (tmp_path / "trial").mkdir()
    assert best_checkpoint(tmp_path, RETURN) is None


def test_a_job_that_was_stopped_before_training_has_no_model(tmp_path: Path):
    single = experiment(tmp_path, storage_path=str(tmp_path / "results"))
    save_model(single, tmp_path / "model" / "x")
    assert not (tmp_path / "model").exists()


def test_a_policy_that_cannot_be_exported_stays_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys, "executable", "/bin/false")  # a command that fails at once
    single = experiment(tmp_path, storage_path=str(tmp_path / "results"))
    (tmp_path / "results" / "x" / "trial").mkdir(parents=True)
    resumable(tmp_path / "results" / "x" / "trial", [1])
    (tmp_path / "results" / "x" / "best.yaml").write_text("x: 1")
    save_model(single, tmp_path / "model")
    found = {path.name for path in (tmp_path / "model").iterdir()}
    assert found == {"checkpoint", "best.yaml"}


@pytest.mark.parametrize("hosts", [["127.0.0.1"], ["127.0.0.1", "127.0.0.2"]])
def test_cpus_that_are_no_number_are_refused_before_anything_is_started(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, hosts: list[str]
):
    parameters = {"experiment": "x.yaml", "ray_num_cpus": "two"}
    root = make_tree(tmp_path, parameters, hosts, files={"x.yaml": EXPERIMENT})
    assert "hyperparameter ray_num_cpus=two" in refused(capsys, root)


def test_an_error_of_any_kind_ends_in_the_failure_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    root = make_tree(tmp_path, {})

    def broken(root: Path) -> None:
        raise RuntimeError("melted")

    monkeypatch.setattr(sagemaker, "read_job", broken)
    with pytest.raises(RuntimeError):
        sagemaker.run_sagemaker(root, 6379, None)
    assert (root / "output" / "failure").read_text() == "Error: RuntimeError: melted"


@pytest.mark.parametrize(
    ("lines", "first"),
    [
        (["Error: no key\n"], "Error: no key"),
        (
            ["a\n", "  failed      ValueError: melted\n", "Next:\n"],
            "failed      ValueError: melted",
        ),
        ([], "rllib train has failed"),
    ],
)
def test_a_failure_begins_with_its_cause(lines: list[str], first: str):
    assert failure_text(lines).splitlines()[0] == first
