"""The results folder: whether it can be written, and what describes the run in it."""

import json
from pathlib import Path

import pytest
from app_helpers import experiment

from rllib_ppg._version import __version__
from rllib_ppg.app.checks import check
from rllib_ppg.app.experiment_files import read_file
from rllib_ppg.app.resolve import complete, param_space
from rllib_ppg.app.run_folder import (
    check_writable,
    experiment_folder,
    storage_path,
    write_description,
    write_text,
)
from rllib_ppg.errors import UserError


def test_results_go_to_rays_folder_unless_said_otherwise(tmp_path: Path):
    assert storage_path(experiment(tmp_path)) == str(Path.home() / "ray_results")
    assert storage_path(experiment(tmp_path, storage_path="s3://b/c")) == "s3://b/c"
    assert storage_path(experiment(tmp_path, storage_path="file:///a/b")) == "/a/b"
    given = experiment(tmp_path, storage_path=str(tmp_path / "r"))
    assert experiment_folder(given) == f"{tmp_path}/r/x"
    given = experiment(tmp_path, storage_path="s3://b/c/?region=x")
    assert experiment_folder(given) == "s3://b/c/x?region=x"


def test_a_relative_folder_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert storage_path(experiment(tmp_path, storage_path="r")) == str(tmp_path / "r")


def test_checking_a_writable_folder_leaves_nothing_behind(tmp_path: Path):
    check_writable(experiment(tmp_path, storage_path=str(tmp_path / "a" / "b")))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e.yaml"]


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path):
    for place in (tmp_path / "e.yaml" / "results", Path("/proc/results")):
        with pytest.raises(UserError, match="--storage-path"):
            check_writable(experiment(tmp_path, storage_path=str(place)))


def test_an_address_that_cannot_be_reached_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    address = "s3://bucket/x?endpoint_override=127.0.0.1:9&scheme=http&region=none"
    for place in (address, "nosuch://bucket/x"):
        with pytest.raises(UserError, match="--storage-path"):
            check_writable(experiment(tmp_path, storage_path=place))


def written(folder: Path, *, resumed: bool = False) -> Path:
    given = experiment(folder, "{lr: 1e-3, num_env_runners: auto}", storage_path=str(folder / "r"))
    checked = check(given)
    config = complete(checked, param_space(checked))
    write_description(given, config, ["train", "-f", "a b.yaml"], resumed=resumed)
    return folder / "r" / "x"


def test_a_run_is_described_by_three_files(tmp_path: Path):
    place = written(tmp_path)
    assert sorted(path.name for path in place.iterdir()) == [
        "command.txt",
        "config.yaml",
        "versions.json",
    ]
    assert place.joinpath("command.txt").read_text().endswith("rllib train -f 'a b.yaml'\n")
    (launch,) = json.loads(place.joinpath("versions.json").read_text())
    assert launch["rllib_ppg"] == __version__ and {"ray", "torch", "numpy", "python"} <= set(launch)


def test_the_written_configuration_is_an_experiment_file(tmp_path: Path):
    (raw,) = read_file(str(written(tmp_path) / "config.yaml"))
    assert raw.name == "x" and raw.data["config"]["lr"] == 1e-3
    assert isinstance(raw.data["config"]["num_env_runners"], int)
    assert raw.data["config"]["gamma"] == 0.999


def test_a_resumed_run_keeps_its_configuration_and_adds_its_command(tmp_path: Path):
    place = written(tmp_path)
    place.joinpath("config.yaml").write_text("the first one")
    written(tmp_path, resumed=True)
    assert place.joinpath("config.yaml").read_text() == "the first one"
    assert len(place.joinpath("command.txt").read_text().splitlines()) == 2
    assert len(json.loads(place.joinpath("versions.json").read_text())) == 2


def test_another_run_in_the_same_folder_sets_the_first_description_aside(tmp_path: Path):
    place = written(tmp_path)
    place.joinpath("config.yaml").write_text("the first one")
    written(tmp_path)
    assert place.joinpath("config.1.yaml").read_text() == "the first one"
    assert (
        place.joinpath("command.1.txt").exists()
        and "x:" in place.joinpath("config.yaml").read_text()
    )


def test_a_file_is_replaced_whole(tmp_path: Path):
    path = tmp_path / "f.txt"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "half \ud800 way")
    assert path.read_text() == "old"
    write_text(path, "new")
    assert path.read_text() == "new"
