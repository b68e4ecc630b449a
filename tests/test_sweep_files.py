"""The experiment files of sweeps: each is valid and is what its name says."""

import re
from pathlib import Path

import pytest

from rllib_ppg.app.checks import check
from rllib_ppg.app.experiment_files import load_experiments
from rllib_ppg.app.flags import TrainFlags
from rllib_ppg.app.sweep import Sweep, read_sweep
from rllib_ppg.app.variants import nodes

FOLDER = Path(__file__).resolve().parents[1] / "experiments"
FILES = sorted(FOLDER.glob("sweep_*.yaml"))
TRIALS = {"sweep_asha": 12, "sweep_pbt": 4, "sweep_optuna": 10, "sweep_games": 48}


def test_the_document_names_them_all():
    text = (FOLDER.parent / "docs" / "sweeps.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `experiments/(\w+)\.yaml` \|", text, re.MULTILINE))
    assert named == {path.stem for path in FILES} == set(TRIALS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_is_valid_and_makes_as_many_trials_as_it_says(path: Path):
    (experiment,) = load_experiments(TrainFlags(files=[str(path)]))
    assert experiment.name == path.stem.replace("_", "-")
    sweep: Sweep = read_sweep(experiment)
    found = check(experiment, sweep)
    assert len(found.configs) > 1 and found.experiment.keys.stop
    assert sweep.trials(experiment.config) == TRIALS[path.stem]
    kinds = {"sweep_asha": "asha", "sweep_pbt": "pbt"}
    assert sweep.scheduler.type == kinds.get(path.stem, "fifo")
    assert sweep.searcher == ("optuna" if path.stem == "sweep_optuna" else "random")
    assert bool(sweep.over) == (path.stem == "sweep_games")
    assert any(True for _ in nodes(sweep.expanded(experiment.config)))
