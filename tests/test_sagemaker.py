"""A training job of SageMaker, but for what takes Ray: `slow/test_sagemaker_jobs.py` has that."""

import json
from pathlib import Path

import pytest
from app_helpers import command, resumable
from sagemaker_tree import EXPERIMENT, make_tree

from rllib_ppg.app.sagemaker import best_checkpoint, failure_text, shared_token
from rllib_ppg.app.sagemaker_contract import read_job


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
        (tmp_path / name / "result.json").write_text(json.dumps(row) + "\n")
    assert best_checkpoint(tmp_path) == tmp_path / "b" / "checkpoint_000001"


def test_without_a_checkpoint_there_is_no_model(tmp_path: Path):
    (tmp_path / "trial").mkdir()
    assert best_checkpoint(tmp_path) is None


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
