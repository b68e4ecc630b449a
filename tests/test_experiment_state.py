"""Ray's notes about an experiment are copied whole, and half ones are replaced or dropped."""

import json
import os
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rllib_ppg.app.experiment_state import (
    KEPT,
    SETTINGS,
    ExperimentState,
    kept_notes,
    mend_notes,
    noted_trials,
)

NAME = "experiment_state-2026-01-01_00-00-00.json"
SEARCHER = "basic-variant-state-2026-01-01_00-00-00.json"
NAMES = (NAME, SEARCHER, SETTINGS)


def content(name: str, value: Any) -> bytes:
    """Notes as Ray writes them: its searchers' are pickles, whatever their name."""
    return json.dumps([value]).encode() if name == NAME else pickle.dumps({"value": value})


@pytest.fixture
def storage(tmp_path: Path) -> SimpleNamespace:
    made = SimpleNamespace(
        experiment_driver_staging_path=str(tmp_path / "staging"),
        experiment_fs_path=str(tmp_path / "results"),
    )
    (tmp_path / "staging").mkdir()
    return made


def test_notes_are_copied_when_they_have_changed(tmp_path, storage):
    staging, folder = tmp_path / "staging", tmp_path / "results"
    folder.mkdir()
    (folder / SETTINGS).write_bytes(content(SETTINGS, 1))
    (staging / "versions.json").write_text("[]")
    state = ExperimentState()
    for number, value in enumerate((1, 2)):
        for name in (NAME, SEARCHER):
            (staging / name).write_bytes(content(name, value))
            os.utime(staging / name, ns=(number, number))
        state.keep(storage)
        kept = kept_notes(folder)
        assert {name: kept[name].data for name in (NAME, SEARCHER)} == {
            name: content(name, value) for name in (NAME, SEARCHER)
        }
    assert set(kept) == set(NAMES)
    (folder / KEPT).write_text("changed by another")
    state.keep(storage)
    assert (folder / KEPT).read_text() == "changed by another", "nothing new to copy"
    assert {path.name for path in folder.iterdir()} == {SETTINGS, KEPT}


def test_a_folder_that_cannot_be_written_is_tried_again(tmp_path, storage):
    (tmp_path / "staging" / NAME).write_text("[]")
    state = ExperimentState()
    state.keep(storage)
    (tmp_path / "results").mkdir()
    state.keep(storage)
    assert kept_notes(tmp_path / "results")[NAME].data == b"[]"


def test_half_notes_are_dropped(tmp_path):
    assert not mend_notes(tmp_path)
    (tmp_path / SETTINGS).write_bytes(content(SETTINGS, 1))
    (tmp_path / NAME).write_text('{"trial_da')
    assert not mend_notes(tmp_path) and not (tmp_path / NAME).exists()
    (tmp_path / NAME).write_text("{}")
    assert mend_notes(tmp_path) and (tmp_path / NAME).exists()


def write(path: Path, data: bytes, time: int) -> None:
    path.write_bytes(data)
    os.utime(path, ns=(time, time))


def keep(folder: Path, word: str, time: int) -> None:
    """Leave a copy of all notes as `ExperimentState` makes it."""
    staging = folder / f"staging-{word}"
    staging.mkdir()
    for name in NAMES:
        write(staging / name, content(name, word), time)
    storage = SimpleNamespace(
        experiment_driver_staging_path=str(staging), experiment_fs_path=str(folder)
    )
    ExperimentState().keep(storage)


@pytest.mark.parametrize("broken", NAMES)
@pytest.mark.parametrize("left", [0, 1, -1])
def test_kept_notes_take_the_place_of_all_where_one_is_half_written(tmp_path, broken, left):
    keep(tmp_path, "kept", 1)
    for name in NAMES:
        write(tmp_path / name, content(name, "whole"), 2)
    write(tmp_path / broken, content(broken, "whole")[:left], 2)
    assert mend_notes(tmp_path)
    for name in NAMES:
        assert (tmp_path / name).read_bytes() == content(name, "kept")


def test_notes_of_different_moments_are_replaced_together(tmp_path):
    keep(tmp_path, "kept", 2)
    for name in NAMES:  # Tune was copying when it was killed
        write(tmp_path / name, content(name, "own"), 1 if name == SEARCHER else 3)
    assert mend_notes(tmp_path)
    for name in NAMES:
        assert (tmp_path / name).read_bytes() == content(name, "kept")


def test_of_whole_notes_the_newer_ones_count(tmp_path):
    keep(tmp_path, "kept", 2)
    for name in NAMES:
        write(tmp_path / name, content(name, "the last ones of a run that ended"), 2)
    assert mend_notes(tmp_path)
    last = content(NAME, "the last ones of a run that ended")
    assert (tmp_path / NAME).read_bytes() == last
    keep(tmp_path, "newer", 3)
    assert mend_notes(tmp_path)
    assert (tmp_path / NAME).read_bytes() == content(NAME, "newer")
    assert (tmp_path / NAME).stat().st_mtime_ns == 3


@pytest.mark.parametrize("left", [0, 10, -5])
def test_a_kept_copy_that_is_broken_replaces_nothing(tmp_path, left):
    keep(tmp_path, "kept", 2)
    for name in NAMES:
        write(tmp_path / name, content(name, "own"), 1)
    (tmp_path / KEPT).write_bytes((tmp_path / KEPT).read_bytes()[:left])
    assert mend_notes(tmp_path)
    assert (tmp_path / NAME).read_bytes() == content(NAME, "own")


def test_the_newest_notes_name_their_trials(tmp_path):
    for name, trial in ((NAME, "new"), (NAME.replace("2026", "2025"), "old")):
        data = {"trial_data": [[json.dumps({"trial_id": trial}), "{}"]]}
        (tmp_path / name).write_text(json.dumps(data))
    assert noted_trials(tmp_path) == {"new"}
