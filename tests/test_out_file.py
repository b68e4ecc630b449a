"""The file of --out: whole or not at all, and a place that cannot be written is refused before."""

from pathlib import Path

import pytest

from rllib_ppg.app.out_file import check_out, write_out
from rllib_ppg.errors import UserError


def test_checking_changes_nothing_and_writing_replaces_the_whole_file(tmp_path: Path):
    path = tmp_path / "e.json"
    path.write_text("old")
    assert check_out(str(path), [".json"]) == path and path.read_text() == "old"
    write_out(path, b"new")
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["e.json"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("e.txt", r"ends in \.json, \.gz"),
        ("e.jso", 'Did you mean "\\.json"'),
        ("", r"ends in \.json"),
        ("none/e.json", "there is no folder"),
        ("folder.json", "is a folder"),
        ("/proc/e.json", "cannot be written"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path, name: str, why: str):
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(UserError, match=f"--out .*{why}"):
        check_out(str(tmp_path / name), [".json", ".gz"])


def test_a_link_stays_one(tmp_path: Path):
    (tmp_path / "real").mkdir()
    target, link = tmp_path / "real" / "e.json", tmp_path / "e.json"
    link.symlink_to(target)
    write_out(check_out(str(link), [".json"]), b"new")
    assert link.is_symlink() and target.read_bytes() == b"new"


def test_a_folder_that_is_gone_is_one_message_and_leaves_nothing(tmp_path: Path):
    path = check_out(str(tmp_path / "e.json"), [".json"])
    tmp_path.rename(tmp_path.with_name("gone"))
    with pytest.raises(UserError, match=r"e\.json cannot be written \(No such file"):
        write_out(path, b"new")
