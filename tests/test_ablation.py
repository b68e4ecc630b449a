"""`rllib ablation`: what it refuses, what it goes on with, and one run in small."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ablation_files import ablation_file, on_disk, words
from app_helpers import Run, command
from test_ablation_results import LESS, WHOLE

from rllib_ppg.app.ablation_file import load_ablation
from rllib_ppg.app.ablation_flags import AblationFlags
from rllib_ppg.app.cli import app, typer

SAMPLES = "ablation-sample-efficiency"
CLIP, AUGMENTATION = "whole-without-value_clip_param", "whole-without-aux_augmentation"


EFFICIENCY = Path(__file__).parents[1] / "experiments" / "ablation_sample_efficiency.yaml"


def described(file: Path = EFFICIENCY, **given: Any) -> list[str]:
    """What is said about an ablation, the sample-efficiency winner's, before it starts."""
    from rllib_ppg.app import cluster
    from rllib_ppg.app.ablation import _lines, _Play, _sized
    from rllib_ppg.app.challenge import train_flags

    flags = AblationFlags(file=str(file), **given)
    ablation = load_ablation(flags)
    settings = cluster.ray_settings(train_flags(flags))
    return _lines(_Play(ablation, _sized(ablation, settings, flags, [])))


def run(capsys: pytest.CaptureFixture[str], folder: Path, *more: str) -> Run:
    return command(capsys, "ablation", *words(folder), *more)


BAD = {
    "--only x": 'name ends with "x"',
    "--games maz": 'Did you mean "maze"',
    "--seeds 1,1": "no second run",
    "--budget-steps 100": "less than the 128 environment steps of one iteration",
    "--budget-scale -1": "--budget-scale",
    "--budget-scale nan": "--budget-scale",
    "--set gama=1": 'Did you mean "gamma"',
    "--set seed=1": "set by the protocol",
    "--resume": "There is no ablation in",
    "--resume --dry-run": "leave --resume out",
    "--out /proc/x": "cannot be written",
    "-f none.yaml": "There is no file none.yaml",
}


@pytest.mark.parametrize("more", BAD)
def test_a_mistake_gets_one_message_and_nothing_is_written(capsys, tmp_path: Path, more: str):
    ablation_file(tmp_path)
    found = run(capsys, tmp_path, *more.split())
    assert found.code == 2 and found.out == "", found
    assert found.err.startswith("Error: ") and BAD[more] in found.err
    assert "budget_seconds" not in found.err, "the file has none"
    assert not (tmp_path / "out").exists()


def test_an_ablation_is_not_begun_where_one_lies(capsys, tmp_path: Path):
    on_disk(tmp_path, {"whole": WHOLE})
    found = run(capsys, tmp_path)
    assert found.code == 2 and "There is an ablation in" in found.err
    assert "--resume goes on with it" in found.err


def test_a_resumed_ablation_keeps_its_protocol(capsys, tmp_path: Path):
    on_disk(tmp_path, {"whole": WHOLE})
    found = run(capsys, tmp_path, "--resume", "--seeds", "1")
    assert found.code == 2 and "seeds was [1, 2] there and is [1] here" in found.err


def test_a_finished_ablation_is_resumed_without_ray_and_shows_its_table(capsys, tmp_path: Path):
    import ray

    was_up = ray.is_initialized()
    ablation = on_disk(tmp_path, {"whole": WHOLE, CLIP: LESS, AUGMENTATION: WHOLE})
    found = run(capsys, tmp_path, "--resume")
    assert found.code == 0 and ray.is_initialized() == was_up, found
    assert found.out.count("Experiment ") == 3
    table = found.out[found.out.rindex("Track generalization, all levels") :]
    assert "-0.100 [-0.100, -0.100]" in table and "+0.000 [+0.000, +0.000]" in table
    rows = json.loads((ablation.folder / "ablation.json").read_text())["tracks"]["generalization"]
    assert [row["num_runs"] for row in rows] == [4, 4, 4]
    assert (ablation.folder / "ablation.md").is_file()
    places = [str(each.challenge.folder) for each in ablation.variants]
    plot = command(capsys, "plot", *places, "--normalize", "easy_challenge")
    assert plot.code == 0 and plot.out.count("whole-without-") == 2 * 3, plot.out


def test_a_dry_run_names_what_differs_and_writes_nothing(capsys, tmp_path: Path):
    ablation_file(tmp_path)
    found = run(capsys, tmp_path, "--dry-run")
    assert found.code == 0, found
    assert "my-parts: 3 experiments, 12 trials" in found.out
    assert f"{CLIP}: value_clip_param: None" in found.out
    assert "768 environment steps (6 iterations of 128, 2 auxiliary phases)" in found.out
    assert "Nothing was started" in found.out and not (tmp_path / "out").exists()


@pytest.mark.parametrize("track", ["generalization", "sample_efficiency"])
def test_the_winners_are_scaled_to_the_same_sizes_without_any_part(track: str):
    from rllib_ppg.app import cluster
    from rllib_ppg.app.ablation import _sized
    from rllib_ppg.app.challenge import train_flags

    file = Path(__file__).parents[1] / "experiments" / f"ablation_{track}.yaml"
    flags = AblationFlags(file=str(file), budget_scale=0.001)
    settings = cluster.ray_settings(train_flags(flags))
    runs = _sized(load_ablation(flags), settings, flags, [])
    assert len({(run.sized.rows, run.sized.steps) for run in runs}) == 1
    phases = {run.challenge.name: run.sized.aux_phases for run in runs}
    without = [name for name in phases if name.endswith("-n_aux_epochs")]
    assert phases.pop(without[0]) == 0
    assert len(set(phases.values())) == 1 and min(phases.values()) >= 2


def test_experiments_of_other_steps_are_refused(capsys, tmp_path: Path):
    path = ablation_file(tmp_path)
    text = path.read_text()
    last = text.rindex("num_envs: 8")
    path.write_text(text[:last] + "num_envs: 16" + text[last + len("num_envs: 8") :])
    found = run(capsys, tmp_path, "--budget-steps", "900")
    assert found.code == 2 and found.err.count("\n") == 1
    assert f"{AUGMENTATION} would train 768 environment steps and whole 896" in found.err


@pytest.mark.parametrize(
    ("only", "steps", "same"),
    [
        ("n_aux_epochs,dropout,widths", "1e5", ["n_aux_epochs", "dropout"]),
        ("n_aux_epochs", "1e5", ["n_aux_epochs"]),
        ("widths", "1e5", []),
        ("n_aux_epochs,dropout", "8e6", []),
    ],
)
def test_what_differs_in_auxiliary_phases_only_is_named_where_there_are_none(
    only: str, steps: str, same: list[str]
):
    lines = described(only=only, budget_steps=steps)
    found = [line for line in lines if "No auxiliary phase runs" in line]
    assert len(found) == bool(same)
    for line in found:
        named = re.findall(r"without-(\w+)", line)
        assert named == same and "within 98,000 environment steps" in line
        assert line.endswith(f" {'are' if len(same) > 1 else 'is'} the same training as {SAMPLES}.")


def test_an_option_of_the_auxiliary_phase_s_augmentation_is_part_of_it(tmp_path: Path):
    file = tmp_path / "ablation.yaml"
    shift = "aux_augmentation: {type: random_translate, max_shift: 3}"
    file.write_text(EFFICIENCY.read_text().replace("aux_augmentation: null", shift))
    lines = described(file, only="aux_augmentation", budget_steps="1e5")
    assert any("max_shift: 3" in line for line in lines)
    assert any(
        line.endswith(f"aux_augmentation is the same training as {SAMPLES}.") for line in lines
    )


def test_dropout_counts_without_auxiliary_phases_where_the_policy_phase_has_it():
    drac = ["drac_weight=0.1", "drac_augmentation=random_translate"]
    assert not any(
        "No auxiliary phase" in line
        for line in described(only="dropout", budget_steps="1e5", settings=drac)
    )


def test_every_flag_has_a_help_text():
    (found,) = [
        each for name, each in typer.main.get_command(app).commands.items() if name == "ablation"
    ]
    assert [p.name for p in found.params if p.name != "help" and not p.help] == []
    fields = set(AblationFlags.__dataclass_fields__) - {"threshold", "rescore"}
    assert {p.name for p in found.params} - {"help"} == fields


def test_help_imports_no_ray_and_no_torch():
    code = (
        "import sys; from rllib_ppg.app.cli import main; main(['ablation', '--help']);"
        "print(sorted({'ray', 'torch', 'pydantic'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip().splitlines()[-1] == "[]" and "--only" in done.stdout


@pytest.mark.slow
def test_an_ablation_trains_evaluates_and_goes_on(capsys, tmp_path: Path):
    ablation_file(tmp_path)
    more = ("--games", "maze", "--seeds", "1", "--only", "value_clip_param", "--no-progress")
    found = run(capsys, tmp_path, *more)
    assert found.code == 0, found
    rows = json.loads((tmp_path / "out/my-parts/ablation.json").read_text())["tracks"]
    assert [row["num_runs"] for row in rows["generalization"]] == [1, 1]
    # What is lost is made again, and nothing else.
    lost = tmp_path / "out" / "my-parts" / CLIP / "evaluations"
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.json")}
    (next(lost.glob("*-all.json"))).unlink()
    again = run(capsys, tmp_path, *more, "--resume")
    assert again.code == 0 and next(lost.glob("*-all.json")).is_file(), again
    assert kept == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.json")}
