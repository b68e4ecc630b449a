"""Results folders on a cluster: one that is not the same everywhere is found before training.

`faults/test_node_kills.py` tries it with nodes that see different files.
"""

from pathlib import Path

import pytest
from app_helpers import experiment

from rllib_ppg.app import shared_storage
from rllib_ppg.app.shared_storage import check_shared, mark_of, refusal, try_mark, write_mark


def test_a_mark_that_is_there_and_a_folder_that_takes_another_is_well(tmp_path: Path):
    mark = mark_of(str(tmp_path), "a")
    write_mark(mark)
    before = sorted(tmp_path.iterdir())
    assert try_mark(mark, mark_of(str(tmp_path), "b")) == ""
    assert sorted(tmp_path.iterdir()) == before == [Path(mark)]


def test_a_folder_of_the_same_name_on_another_node_is_found(tmp_path: Path):
    assert "not there" in try_mark(mark_of(str(tmp_path), "a"), mark_of(str(tmp_path), "b"))


def test_a_folder_that_can_only_be_read_is_found(tmp_path: Path):
    mark = mark_of(str(tmp_path), "a")
    write_mark(mark)
    assert "cannot be written" in try_mark(mark, "/proc/rllib_ppg_check")


@pytest.mark.parametrize("place", ["s3://bucket/x?region=eu", "nonsense://x"])
def test_an_address_keeps_its_settings_and_a_wrong_one_is_found(place: str):
    mark = mark_of(place, "a")
    assert mark.startswith(place.partition("?")[0])
    assert mark.endswith("a" + "".join(place.partition("?")[1:]))
    if place.startswith("nonsense"):
        assert "cannot be read" in try_mark(mark, mark)


def test_the_message_says_what_to_use_instead():
    assert "NFS" in refusal("/r", {"node a": "x"}) and "node a: x" in refusal("/r", {"node a": "x"})
    assert "credentials" in refusal("s3://b/r", {"node a": "x"})


def test_one_node_is_not_asked_and_nothing_is_written(ray_local: None, tmp_path: Path):
    one = experiment(tmp_path, storage_path=str(tmp_path / "results"))
    assert check_shared(one, {"CPU": 1.0}) == []
    assert not (tmp_path / "results").exists()


def test_nodes_that_no_trial_can_be_put_on_are_not_asked():
    node = {"Resources": {"CPU": 4.0}}
    assert shared_storage._can_hold(node, {"CPU": 1.0, "GPU": 0.0})
    assert not shared_storage._can_hold(node, {"CPU": 1.0, "GPU": 1.0})
