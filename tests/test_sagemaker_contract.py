"""SageMaker's files: what is read from them, and what a wrong one gets."""

import json
from pathlib import Path

import pytest
from sagemaker_tree import EXPERIMENT, make_tree

from rllib_ppg.app.sagemaker_contract import (
    FAILURE_CHARACTERS,
    read_job,
    train_words,
    write_failure,
)
from rllib_ppg.errors import UserError

FILES = {"tiny.yaml": EXPERIMENT, "own.py": ""}


def words(root: Path, **parameters: object) -> list[str]:
    return train_words(read_job(make_tree(root, parameters, files=FILES)))


def test_hosts_have_one_order_whatever_each_is_told(tmp_path: Path):
    hosts = ["algo-2", "algo-1", "algo-3"]
    jobs = [read_job(make_tree(tmp_path / here, {}, hosts, here)) for here in hosts]
    assert {tuple(job.hosts) for job in jobs} == {("algo-1", "algo-2", "algo-3")}
    assert [job.here for job in jobs if job.is_head] == ["algo-1"]


def test_hyperparameters_are_the_files_the_storage_and_keys_of_the_experiment(tmp_path: Path):
    data = tmp_path / "input" / "data" / "experiment"
    assert words(
        tmp_path,
        **{
            "experiment": "tiny.yaml", "from": "own.py, somewhere.envs", "seed": "3",
            "env_config.env_name": '"starpilot"', "stop.timesteps_total": "1e5", "lr": 0.1,
            "sagemaker_region": "x", "_tuning_objective_metric": "y", "ray_num_cpus": "2",
        },
    ) == [
        "-f", str(data / "tiny.yaml"), "--from", str(data / "own.py"), "--from", "somewhere.envs",
        "--storage-path", str(tmp_path / "checkpoints"), "--set", "seed=3", "--set",
        "env_config.env_name=starpilot", "--set", "stop.timesteps_total=1e5", "--set", "lr=0.1",
    ]  # fmt: skip


def test_results_can_go_to_an_object_store(tmp_path: Path):
    given = words(tmp_path, experiment="tiny.yaml", storage_path="s3://bucket/x")
    assert given[given.index("--storage-path") + 1] == "s3://bucket/x"


def test_an_experiment_of_the_image_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "in_image.yaml").write_text("")
    given = words(tmp_path / "ml", experiment="in_image.yaml")
    assert given[1] == "experiments/in_image.yaml"


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        ({}, '"experiment"'),
        ({"experiment": "tinny.yaml"}, "There are: own.py, tiny.yaml"),
        ({"experiment": "/no/such.yaml"}, "no file /no/such.yaml"),
        ({"experiment": "tiny.yaml", "from": "other.py"}, "hyperparameter from"),
    ],
)
def test_a_wrong_hyperparameter_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parameters: dict, why: str
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=why):
        words(tmp_path / "ml", **parameters)


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("hyperparameters.json", None, "rllib train"),
        ("hyperparameters.json", "{", "not JSON"),
        ("hyperparameters.json", "[]", "mapping"),
        ("resourceconfig.json", "{}", "needs hosts"),
        ("resourceconfig.json", json.dumps({"hosts": ["a"], "current_host": "b"}), "among them"),
    ],
)
def test_a_tree_that_is_none_is_refused(tmp_path: Path, name: str, text: str | None, why: str):
    root = make_tree(tmp_path, {})
    path = root / "input" / "config" / name
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(UserError, match=why):
        read_job(root)


def test_a_job_without_channels_has_none(tmp_path: Path):
    root = make_tree(tmp_path, {})
    (root / "input" / "config" / "inputdataconfig.json").unlink()
    assert read_job(root).channels == {}


def test_a_failure_file_that_cannot_be_written_hides_no_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "output").write_text("no folder")
    write_failure(tmp_path, "melted")
    assert "failure file cannot be written" in capsys.readouterr().err


def test_the_reason_of_a_failure_is_as_long_as_it_is_shown(tmp_path: Path):
    write_failure(tmp_path / "new", "x" * 5000)
    assert len((tmp_path / "new" / "output" / "failure").read_text()) == FAILURE_CHARACTERS
