"""Ray's notes about an experiment are copied whole, and half ones are dropped."""

from types import SimpleNamespace

from rllib_ppg.app.experiment_state import ExperimentState, kept_path, mend_notes

NAME = "experiment_state-2026-01-01_00-00-00.json"


def test_notes_are_copied_when_they_have_changed(tmp_path):
    staging, folder = tmp_path / "staging", tmp_path / "results"
    staging.mkdir(), folder.mkdir()
    storage = SimpleNamespace(
        experiment_driver_staging_path=str(staging), experiment_fs_path=str(folder)
    )
    state = ExperimentState()
    for text in ("[1]", "[1, 2]"):
        (staging / NAME).write_text(text)
        state.keep(storage)
        assert kept_path(folder, NAME).read_text() == text
    kept_path(folder, NAME).write_text("changed by another")
    state.keep(storage)
    assert kept_path(folder, NAME).read_text() == "changed by another", "nothing new to copy"
    assert list(folder.iterdir()) == [kept_path(folder, NAME)]


def test_a_folder_that_cannot_be_written_is_tried_again(tmp_path):
    staging, folder = tmp_path / "staging", tmp_path / "results"
    staging.mkdir()
    (staging / NAME).write_text("[]")
    storage = SimpleNamespace(
        experiment_driver_staging_path=str(staging), experiment_fs_path=str(folder)
    )
    state = ExperimentState()
    state.keep(storage)
    folder.mkdir()
    state.keep(storage)
    assert kept_path(folder, NAME).read_text() == "[]"


def test_half_notes_are_dropped(tmp_path):
    assert not mend_notes(tmp_path)
    (tmp_path / NAME).write_text('{"trial_da')
    assert not mend_notes(tmp_path) and not (tmp_path / NAME).exists()
    (tmp_path / NAME).write_text("{}")
    assert mend_notes(tmp_path) and (tmp_path / NAME).exists()


def test_kept_notes_take_the_place_of_what_tune_left_half_written(tmp_path):
    kept_path(tmp_path, NAME).write_text('{"trial_data": []}')
    (tmp_path / NAME).write_text('{"trial_da')
    assert mend_notes(tmp_path)
    assert (tmp_path / NAME).read_text() == '{"trial_data": []}'
