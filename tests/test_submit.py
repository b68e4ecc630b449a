"""`rllib submit`: what is refused before anything is sent, and what its words become."""

import subprocess
import sys
from pathlib import Path

import pytest
from app_helpers import command

from rllib_ppg.app import submit
from rllib_ppg.app.submit_flags import SubmitFlags

FILE = "x: {run: PPG, env: CartPole-v1, stop: {training_iteration: 1}}"
NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", NOBODY)  # nothing listens there
    path = tmp_path / "x.yaml"
    path.write_text(FILE)
    return str(path)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "Nothing to train"),
        (["-f", "no.yaml"], "There is no file no.yaml"),
        (["-f", "FILE", "--sed", "1"], "--seed"),
        (["-f", "FILE", "--seed", "x"], "--seed"),
        (["-f", "FILE", "--set", "confg=1", "--ray-num-cpus", "2"], "--ray-num-cpus"),
        (["-f", "FILE", "--ray-address", "auto"], "--ray-address"),
        (["-f", "FILE", "--scheduler-config", "{"], "--scheduler-config"),
        (["file", "FILE"], "with -f"),
        (["-f", "FILE", "--address", "head:8265"], "http address"),
        (["-f", "FILE", "--package", "new"], "--package new"),
        (["-f", "FILE", "--status", "job"], "--status and -f"),
        (["--follow", "job", "--stop", "job"], "--follow and --stop"),
        (["--follow", "job", "--seed", "1"], "--follow and --seed"),
        (["-f", "FILE"], f"No Ray job server answers at {NOBODY}"),
        (["--status", "job"], f"No Ray job server answers at {NOBODY}"),
        (["--stop", "job"], f"No Ray job server answers at {NOBODY}"),
        (["--follow", "job"], f"No Ray job server answers at {NOBODY}"),
    ],
)
def test_a_mistake_is_one_message(
    capsys: pytest.CaptureFixture[str], file: str, words: list[str], why: str
):
    run = command(capsys, "submit", *(file if word == "FILE" else word for word in words))
    assert run.code == 2 and run.out == "", run
    assert run.err.startswith("Error: ") and why in run.err and "Traceback" not in run.err


def test_the_other_options_are_those_of_train(file: str, monkeypatch: pytest.MonkeyPatch):
    seen: list[SubmitFlags] = []
    monkeypatch.setattr(submit, "run_submit", lambda flags, train: seen.append(flags) or 0)
    from rllib_ppg.app.cli import main

    rest = ["--set", "lr=1e-3", "-n", "name", "--resume", "--stop", "{training_iteration: 1}"]
    words = ["submit", "-f", file, *rest, "--no-wait"]
    assert main(words) == 0
    assert sorted(seen[0].train) == sorted(rest) and seen[0].stop is None
    assert seen[0].files == [file] and seen[0].no_wait and seen[0].command == words
    assert main(["submit", "--stop", "job"]) == 0
    assert seen[1].stop == "job" and seen[1].train == []


def test_a_missing_client_is_said_with_what_to_install(
    capsys: pytest.CaptureFixture[str], file: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    run = command(capsys, "submit", "-f", file)
    assert run.code == 2 and "rllib-ppg[cluster]" in run.err


def test_job_ids_differ_and_suit_an_address():
    first, second = submit.job_id(["a b/ü"]), submit.job_id(["a b/ü"])
    assert first != second and first.startswith("a-b-") and first.isascii()
    assert submit.job_id(["ü"]).startswith("experiment-")


def test_no_ray_is_imported_for_help():
    code = (
        "import sys; from rllib_ppg.app.cli import main; main(['submit', '--help']);"
        "print(sorted({'ray', 'torch', 'aiohttp', 'yaml'} & set(sys.modules)), file=sys.stderr)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stderr.strip() == "[]" and "--no-wait" in run.stdout
