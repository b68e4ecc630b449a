"""`--track`: what is said where a tracker cannot take results, before anything is started."""

import socket
import sys
from pathlib import Path
from types import ModuleType

import pytest
from app_helpers import command

from rllib_ppg.app.track import check_trackers
from rllib_ppg.errors import UserError

CARTPOLE = ("train", "--run", "PPG", "--env", "CartPole-v1")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both packages look installed, and nobody is logged in; no package is used before a run."""
    for name, function in (("wandb", "init"), ("mlflow", "set_tracking_uri")):
        module = ModuleType(name)
        setattr(module, function, None)
        monkeypatch.setitem(sys.modules, name, module)
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def netrc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    path = tmp_path / "netrc"
    monkeypatch.setenv("NETRC", str(path))
    return path


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_missing_package_is_told_with_how_to_install_it(capsys, monkeypatch, tmp_path, name):
    monkeypatch.setitem(sys.modules, name, None)  # what Python takes for not importable
    run = command(capsys, *CARTPOLE, "--track", name, "--storage-path", str(tmp_path))
    assert run.code == 2 and f'pip install "rllib-ppg[{name}]"' in run.err
    assert list(tmp_path.iterdir()) == [] and "Traceback" not in run.err


def test_a_folder_of_that_name_is_no_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", ModuleType("wandb"))
    with pytest.raises(UserError, match="is not there; install it"):
        check_trackers(["wandb"])


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["wandbb"], 'Did you mean "wandb"'),
        (["x"], "Give wandb or mlflow"),
        (["mlflow", "mlflow"], "twice"),
    ],
)
def test_unknown_and_repeated_names_are_refused(installed, names, why):
    with pytest.raises(UserError, match=why):
        check_trackers(names)


def test_wandb_without_a_login_is_refused(installed, netrc):
    netrc.write_text("machine elsewhere.example login user password secret\n")
    with pytest.raises(UserError, match="not logged in") as error:
        check_trackers(["wandb"])
    assert "WANDB_API_KEY" in str(error.value) and "secret" not in str(error.value)


@pytest.mark.parametrize(
    "variables",
    [{"WANDB_API_KEY": "secret"}, {"WANDB_MODE": "offline"}, {"WANDB_MODE": "disabled"}],
)
def test_wandb_takes_a_key_or_no_network(installed, netrc, monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    check_trackers(["wandb"])


@pytest.mark.parametrize(
    ("server", "url"), [("api.wandb.ai", None), ("own.example", "https://own.example:8080")]
)
def test_wandb_takes_the_login_of_its_own_server(installed, netrc, monkeypatch, server, url):
    netrc.write_text(f"machine {server} login user password secret\n")
    if url:
        monkeypatch.setenv("WANDB_BASE_URL", url)
    check_trackers(["wandb"])


def test_mlflow_takes_a_database_or_a_server_that_answers(installed, monkeypatch):
    check_trackers(["mlflow"])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    check_trackers(["mlflow"])
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:secret@{address}")
        check_trackers(["mlflow"])
    with pytest.raises(UserError, match="no server answers at") as error:
        check_trackers(["mlflow"])
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("flag", ["--wandb-key", "--wandb-project", "--wandb-run-name"])
def test_flags_of_old_point_to_the_new_one(capsys, flag):
    run = command(capsys, *CARTPOLE, flag, "x")
    assert run.code == 2 and "--track wandb" in run.err
