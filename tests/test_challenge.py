"""`rllib challenge`: what it refuses, the description of a run, and scoring again."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from app_helpers import Run, command
from challenge_files import PROTOCOL, challenge_file
from test_challenge_results import challenge as four_runs

from rllib_ppg.app.challenge_flags import ChallengeFlags
from rllib_ppg.app.cli import app, typer


def run(capsys: pytest.CaptureFixture[str], folder: Path, *words: str) -> Run:
    return command(capsys, "challenge", "-f", str(folder / "tiny.yaml"), "-o",
                   str(folder / "out"), *words)  # fmt: skip


def refused(capsys: pytest.CaptureFixture[str], folder: Path, *words: str) -> str:
    found = run(capsys, folder, *words)
    assert found.code == 2 and found.out == "", found
    assert found.err.startswith("Error: ") and "Traceback" not in found.err
    return found.err


def on_disk(folder: Path, **protocol: object) -> Path:
    """Write a challenge of which all trials are evaluated, with its description."""
    given = {"track": "generalization", "games": ["maze", "starpilot"], **protocol}
    challenge_file(folder, **given)
    place = four_runs(folder / "out" / "tiny")
    content = yaml.safe_load((folder / "tiny.yaml").read_text())
    content["tiny"]["experiment"]["config"]["env"] = "procgen"
    (place / "challenge.yaml").write_text(yaml.safe_dump(content))
    return place


BAD = {
    "--track foo": "must be",
    "--games maz": 'Did you mean "maze"',
    "--games caterpillar": "private games",
    "--table x": "no score table",
    "--episodes 0": "greater than or equal to 1",
    "--budget-steps 0": "greater than or equal to 1",
    "--budget-steps 100": "less than the 128 environment steps of one iteration",
    "--budget-seconds -1": "greater than 0",
    "--budget-scale 0.0001": "leaves 0 environment steps",
    "--seeds 1,1": "no second run",
    "--set gama=1": 'Did you mean "gamma"',
    "--set seed=1": "set by the protocol",
    "--resume": "no challenge in",
    "--rescore": "no challenge in",
    "--rescore --episodes 3": "--episodes has no effect",
    "--rescore --set lr=1": "--set has no effect",
    "--resume --dry-run": "leave --resume out",
    "--out /proc/x": "cannot be written",
    "--from none.py": "cannot be imported",
}


@pytest.mark.parametrize("words", BAD)
def test_a_mistake_gets_one_message_and_nothing_is_written(capsys, tmp_path: Path, words: str):
    challenge_file(tmp_path)
    assert BAD[words] in refused(capsys, tmp_path, *words.split())
    assert not (tmp_path / "out").exists()


def test_a_challenge_is_not_begun_where_one_lies(capsys, tmp_path: Path):
    place = on_disk(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
    assert "--resume goes on with it" in refused(capsys, tmp_path)
    assert before == {path: path.stat().st_mtime_ns for path in place.rglob("*")}


@pytest.mark.parametrize(
    ("words", "key"),
    [
        ("--set lr=1", "lr"),
        ("--seeds 1", "seeds"),
        ("--budget-steps 900", "budget_steps"),
        ("--track both", "track"),
    ],
)
def test_a_resumed_challenge_keeps_its_protocol(capsys, tmp_path: Path, words: str, key: str):
    on_disk(tmp_path)
    message = refused(capsys, tmp_path, "--resume", *words.split())
    assert f"{key} was " in message and "Give the same" in message


def test_scoring_again_trains_and_plays_nothing(capsys, tmp_path: Path):
    place = on_disk(tmp_path)
    found = run(capsys, tmp_path, "--rescore", "--table", "easy_paper")
    assert found.code == 0, found
    assert "score table easy_paper" in found.out and found.out.count("Wrote") == 2
    results = json.loads((place / "results.json").read_text())
    assert results["budget"]["steps"] == PROTOCOL["budget_steps"]
    assert results["score_table"]["name"] == "easy_paper" and len(results["runs"]) == 4
    assert "easy_paper" in (place / "report.md").read_text()
    # By its own protocol, whatever the file says today.
    challenge_file(tmp_path, games=["maze", "heist", "ninja"], threshold=0.9)
    found = run(capsys, tmp_path, "--rescore")
    results = json.loads((place / "results.json").read_text())
    assert found.code == 0 and len(results["runs"]) == 4 and not results["missing"]
    assert results["threshold"] == PROTOCOL["threshold"]
    # A part of it.
    assert run(capsys, tmp_path, "--rescore", "--games", "maze").code == 0
    assert len(json.loads((place / "results.json").read_text())["runs"]) == 2


def test_nothing_to_score_leaves_earlier_results_alone(capsys, tmp_path: Path):
    place = on_disk(tmp_path)
    (place / "results.json").write_text("earlier")
    message = refused(capsys, tmp_path, "--rescore", "--games", "ninja")
    assert "holds no run that could be scored (not trained)" in message
    assert (place / "results.json").read_text() == "earlier"


def test_a_finished_challenge_is_resumed_without_ray(capsys, tmp_path: Path):
    import ray

    was_up = ray.is_initialized()
    place = on_disk(tmp_path)
    found = run(capsys, tmp_path, "--resume")
    assert found.code == 0 and "Evaluation" not in found.out, found
    assert (place / "results.json").is_file() and ray.is_initialized() == was_up
    # The description is a challenge file that repeats the run.
    again = command(capsys, "challenge", "-f", str(place / "challenge.yaml"), "--rescore", "-o",
                    str(tmp_path / "out"))  # fmt: skip
    assert again.code == 0, again


def test_a_dry_run_writes_nothing(capsys, tmp_path: Path):
    challenge_file(tmp_path)
    found = run(capsys, tmp_path, "--dry-run")
    assert found.code == 0, found
    assert "4 trials, 2 track(s) x 1 game(s) x 2 seed(s)" in found.out
    assert "768 environment steps (6 iterations of 128, 2 auxiliary phases)" in found.out
    assert "disk         about " in found.out and " are free" in found.out
    assert "Nothing was started" in found.out and not (tmp_path / "out").exists()


def test_every_flag_has_a_help_text():
    (found,) = [
        each for name, each in typer.main.get_command(app).commands.items() if name == "challenge"
    ]
    assert [p.name for p in found.params if p.name != "help" and not p.help] == []
    assert {p.name for p in found.params} - {"help"} == set(ChallengeFlags.__dataclass_fields__)


@pytest.mark.parametrize("words", [["challenge", "--help"]])
def test_help_imports_no_ray_and_no_torch(words: list[str]):
    code = (
        "import sys; from rllib_ppg.app.cli import main; main(sys.argv[1:]);"
        "print(sorted({'ray', 'torch', 'pydantic'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.stderr.strip().splitlines()[-1] == "[]" and "--rescore" in done.stdout
