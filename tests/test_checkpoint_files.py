"""The manifest of a checkpoint: a whole folder passes, and every way to be broken is named."""

import json
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rllib_ppg.algorithm.checkpoint_files import (
    BLOCK_BYTES,
    FORMAT_VERSION,
    MANIFEST,
    _crc32_of,
    check_checkpoint,
    checkpoint_folders,
    leave_out,
    newest_whole,
    remove_manifest,
    write_manifest,
)
from rllib_ppg.errors import UserError

SUMMARY = {"env": "procgen", "network": {"arch": "dual", "widths": [16, 32]}, "env_steps": 128}
STATE, POLICY = "algorithm_state.pkl", "policies/default_policy/policy_state.pkl"


def written(folder: Path, summary: dict | None = None) -> Path:
    """Return a checkpoint folder with two files of ours and a note of Tune's."""
    (folder / POLICY).parent.mkdir(parents=True)
    (folder / STATE).write_bytes(b"state" * 1000)
    (folder / POLICY).write_bytes(b"p" * (2 * BLOCK_BYTES + 3))
    (folder / ".tune_metadata").write_bytes(b"note")
    write_manifest(folder, SUMMARY if summary is None else summary)
    return folder


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return written(tmp_path / "checkpoint_000003")


def refusal(folder: Path) -> str:
    """Return why a checkpoint is refused: one sentence that begins with or names its folder."""
    with pytest.raises(UserError) as caught:
        check_checkpoint(folder)
    message = str(caught.value)
    assert str(folder) in message and message.endswith(".") and "\n" not in message
    return message


def test_a_whole_checkpoint_gives_its_summary(checkpoint: Path):
    assert check_checkpoint(checkpoint) == SUMMARY
    assert check_checkpoint(str(checkpoint)) == SUMMARY


def test_the_manifest_names_every_file_and_what_wrote_it(checkpoint: Path):
    content = json.loads((checkpoint / MANIFEST).read_text())
    assert set(content["files"]) == {STATE, POLICY}
    assert content["files"][STATE]["size"] == 5000
    assert content["algorithm"] == "PPG" and content["format_version"] == FORMAT_VERSION
    assert [path.name for path in checkpoint.iterdir() if MANIFEST in path.name] == [MANIFEST]


def test_a_copy_of_a_whole_checkpoint_is_whole(checkpoint: Path, tmp_path: Path):
    checkpoint.rename(tmp_path / "elsewhere")
    assert check_checkpoint(tmp_path / "elsewhere") == SUMMARY


def test_what_others_add_or_change_later_is_no_damage(checkpoint: Path):
    (checkpoint / ".tune_metadata").write_bytes(b"another note")
    (checkpoint / "more.txt").write_text("more")
    assert check_checkpoint(checkpoint) == SUMMARY


def test_files_that_are_left_out_are_gone_and_the_rest_is_whole(checkpoint: Path):
    leave_out(checkpoint, [STATE, "none"], env_steps=5)
    assert check_checkpoint(checkpoint) == {**SUMMARY, "env_steps": 5}
    assert not (checkpoint / STATE).exists() and (checkpoint / POLICY).exists()
    before = (checkpoint / MANIFEST).stat().st_mtime_ns
    leave_out(checkpoint, [STATE], env_steps=6)
    assert (checkpoint / MANIFEST).stat().st_mtime_ns == before


def test_a_process_that_dies_while_it_leaves_files_out_leaves_a_whole_checkpoint(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
):
    def die(path: Path, missing_ok: bool = False) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "unlink", die)
        leave_out(checkpoint, [STATE])
    assert (checkpoint / STATE).exists() and check_checkpoint(checkpoint) == SUMMARY
    leave_out(checkpoint, [STATE])  # what was begun is ended
    assert not (checkpoint / STATE).exists() and check_checkpoint(checkpoint) == SUMMARY


def test_a_broken_checkpoint_stays_as_it_is(checkpoint: Path):
    (checkpoint / MANIFEST).write_text("{")
    with pytest.raises(UserError, match="is damaged"):
        leave_out(checkpoint, [STATE])
    assert (checkpoint / STATE).exists()


def test_no_such_folder(tmp_path: Path):
    assert "There is no checkpoint folder" in refusal(tmp_path / "no")


def test_a_file_is_no_folder(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    assert "There is no checkpoint folder" in refusal(tmp_path / "file")


def test_a_folder_of_something_else(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("x")
    assert "none of a checkpoint's files" in refusal(tmp_path)


@pytest.mark.parametrize("left", [STATE, POLICY])
def test_without_manifest_it_was_cut_short(checkpoint: Path, left: str):
    remove_manifest(checkpoint)
    for name in {STATE, POLICY} - {left}:
        (checkpoint / name).unlink()
    assert "cut short while being written" in refusal(checkpoint)


def test_without_manifest_ours_is_told_from_another_algorithms(tmp_path: Path):
    from ray.rllib.algorithms.ppo import PPO

    from rllib_ppg import PPG

    for value, expected in [
        (PPO, "checkpoint of PPO, not of PPG"),
        ("DQN", "checkpoint of DQN, not of PPG"),
        (PPG, "cut short"),
        ("PPG", "cut short"),
    ]:
        state = {"algorithm_class": value, "config": {"lr": 1}}
        (tmp_path / STATE).write_bytes(pickle.dumps(state))
        assert expected in refusal(tmp_path)


def test_another_algorithm_in_the_manifest(checkpoint: Path):
    change(checkpoint, algorithm="PPO")
    assert "checkpoint of PPO, not of PPG" in refusal(checkpoint)


def change(checkpoint: Path, **keys: object) -> None:
    """Change keys of a checkpoint's manifest, as if it had been written so."""
    path = checkpoint / MANIFEST
    content = {**json.loads(path.read_text()), **keys}
    path.write_text(json.dumps({**content, "crc32": _crc32_of(content)}))


def test_a_newer_format_says_who_wrote_it_and_to_upgrade(checkpoint: Path):
    change(checkpoint, format_version=FORMAT_VERSION + 1, rllib_ppg="7.8.9", files="changed")
    message = refusal(checkpoint)
    assert "rllib_ppg 7.8.9" in message and "upgrade" in message


def test_anothers_json_of_the_same_name(checkpoint: Path):
    change(checkpoint, format="something else")
    assert "no checkpoint of PPG" in refusal(checkpoint)


@pytest.mark.parametrize(
    "keys",
    [
        {"format_version": "one"},
        {"files": ["x"]},
        {"files": {"x": {"size": 1}}},
        {"files": {"x": 1}},
        {"summary": 5},
    ],
)
def test_a_manifest_with_other_content_is_damaged(checkpoint: Path, keys: dict):
    change(checkpoint, **keys)
    assert f"{MANIFEST} is damaged" in refusal(checkpoint)


@pytest.mark.parametrize("name", [STATE, POLICY])
def test_a_missing_file_is_named(checkpoint: Path, name: str):
    (checkpoint / name).unlink()
    assert f"{name} is missing" in refusal(checkpoint)


def test_a_missing_folder_in_it_is_named_by_its_file(checkpoint: Path):
    (checkpoint / POLICY).unlink()
    (checkpoint / POLICY).parent.rmdir()
    (checkpoint / POLICY).parent.write_text("a file in place of the folder")
    assert f"{POLICY} is missing" in refusal(checkpoint)


@pytest.mark.parametrize(("size", "word"), [(0, "truncated"), (4999, "truncated"), (5001, "long")])
def test_a_file_of_another_size_is_named_with_both_sizes(checkpoint: Path, size: int, word: str):
    os.truncate(checkpoint / STATE, size)
    message = refusal(checkpoint)
    assert STATE in message and word in message
    assert f"{size} bytes instead of 5000" in message


def test_sizes_are_looked_at_before_contents(checkpoint: Path):
    (checkpoint / STATE).write_bytes(b"STATE" * 1000)
    os.truncate(checkpoint / POLICY, 7)
    assert "truncated" in refusal(checkpoint)


@given(st.data())
def test_one_changed_byte_anywhere_is_found(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
):
    folder = written(tmp_path_factory.mktemp("checkpoint") / "c")
    path = folder / data.draw(st.sampled_from([STATE, POLICY]))
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    assert f"{path.relative_to(folder).as_posix()} is damaged" in refusal(folder)


def test_every_cut_of_the_manifest_is_found(checkpoint: Path):
    whole = (checkpoint / MANIFEST).read_bytes()
    for size in range(len(whole) - 1):  # without the last line's end it is whole
        (checkpoint / MANIFEST).write_bytes(whole[:size])
        assert "damaged" in refusal(checkpoint)


def test_a_file_that_cannot_be_read_is_named(checkpoint: Path):
    (checkpoint / STATE).unlink()
    (checkpoint / STATE).symlink_to(checkpoint / STATE)  # a loop, which root cannot read either
    assert f"{STATE} cannot be read" in refusal(checkpoint)


def test_a_summary_that_is_no_json_leaves_no_manifest(checkpoint: Path):
    for value, error in [(object(), TypeError), (float("nan"), ValueError)]:
        with pytest.raises(error):
            write_manifest(checkpoint, {"value": value})
        assert "cut short" in refusal(checkpoint)


FAILS_TO_WRITE = """
import resource, signal, sys
from rllib_ppg.algorithm.checkpoint_files import write_manifest
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50, 50))
write_manifest(sys.argv[1], {})
"""


def test_a_manifest_that_cannot_be_written_whole_is_not_there(checkpoint: Path):
    # The limit of a file's size stands for a full disk: the write fails half-way.
    run = subprocess.run(
        [sys.executable, "-c", FAILS_TO_WRITE, str(checkpoint)], capture_output=True, text=True
    )
    assert run.returncode == 1 and "File too large" in run.stderr
    assert [path.name for path in checkpoint.iterdir() if MANIFEST in path.name] == []
    assert "cut short" in refusal(checkpoint)


DIES = """
import os, signal, sys
from pathlib import Path
from rllib_ppg.algorithm import checkpoint_files
Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
checkpoint_files.write_manifest(sys.argv[1], {})
"""


def test_a_process_that_dies_before_the_rename_leaves_no_manifest(checkpoint: Path):
    run = subprocess.run([sys.executable, "-c", DIES, str(checkpoint)])
    assert run.returncode == -signal.SIGKILL
    assert "cut short" in refusal(checkpoint)
    # What it left behind is no part of the next one.
    write_manifest(checkpoint, SUMMARY)
    assert set(json.loads((checkpoint / MANIFEST).read_text())["files"]) == {STATE, POLICY}


def test_the_newest_whole_one_is_found_and_broken_ones_are_named(tmp_path: Path):
    for number in (2, 9, 10, 11):
        written(tmp_path / f"checkpoint_{number:06d}", {"number": number})
    (tmp_path / "checkpoint_000012").mkdir()
    (tmp_path / "checkpoint_tmp").mkdir()
    (tmp_path / "checkpoint_000099").write_text("a file")
    (tmp_path / "checkpoint_000011" / POLICY).unlink()
    remove_manifest(tmp_path / "checkpoint_000010")
    found = newest_whole(tmp_path)
    assert found.path == tmp_path / "checkpoint_000009" and found.summary == {"number": 9}
    assert [path.name for path, _ in found.passed_over] == [
        "checkpoint_000012",
        "checkpoint_000011",
        "checkpoint_000010",
    ]
    reasons = [reason for _, reason in found.passed_over]
    for reason, word in zip(reasons, ("none of a", "is missing", "cut short"), strict=True):
        assert word in reason


def test_numbers_are_compared_and_not_names(tmp_path: Path):
    for name in ("checkpoint_999999", "checkpoint_1000000", "checkpoint_000003"):
        written(tmp_path / name)
    assert [int(path.name.split("_")[1]) for path in checkpoint_folders(tmp_path)] == [
        1_000_000,
        999_999,
        3,
    ]


def test_no_whole_checkpoint_is_no_path(tmp_path: Path):
    assert newest_whole(tmp_path) == (None, [], {})
    assert newest_whole(tmp_path / "no") == (None, [], {})
    (tmp_path / "checkpoint_000000").mkdir()
    found = newest_whole(tmp_path)
    assert found.path is None and len(found.passed_over) == 1
