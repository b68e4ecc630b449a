"""The frames of a phase in a file."""

from pathlib import Path

import numpy as np
import psutil
import pytest

from rllib_ppg.algorithm.store_files import load_frames, save_frames
from rllib_ppg.core.segments import SegmentStore
from rllib_ppg.errors import UserError


def make_store(segments: int = 5, dtype=np.uint8, frame_stack: int = 1) -> SegmentStore:
    rng = np.random.default_rng(0)
    store = SegmentStore(8, 4, (3, 3, 2 * frame_stack), dtype, frame_stack=frame_stack)
    rows = store.append(np.arange(segments))
    frames = rng.integers(0, 256, (segments, 4, 3, 3, 2)).astype(dtype)
    history = rng.integers(0, 256, (segments, frame_stack - 1, 3, 3, 2)).astype(dtype)
    firsts = np.zeros((segments, 4), bool)
    store.write(rows, frames, history=history, firsts=firsts)
    store.value_targets[rows] = 0.0
    return store


def empty_like(store: SegmentStore) -> SegmentStore:
    shape = (3, 3, 2 * store.frame_stack)
    dtype = store.obs.dtype
    other = SegmentStore(8, 4, shape, dtype, frame_stack=store.frame_stack)
    other.set_state(store.get_state())
    return other


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("segments", [1, 5, 8])
@pytest.mark.parametrize("dtype, frame_stack", [(np.uint8, 1), (np.float32, 1), (np.uint8, 3)])
def test_what_was_saved_is_loaded(tmp_path, segments, dtype, frame_stack, threads):
    store = make_store(segments, dtype, frame_stack)
    path = tmp_path / "frames"
    assert save_frames(store, path, threads) == path.stat().st_size
    other = empty_like(store)
    load_frames(other, path)
    assert np.array_equal(other.obs[:segments], store.obs[:segments])


def test_an_empty_store_makes_a_file_too(tmp_path):
    store = SegmentStore(8, 4, (3, 3, 2))
    save_frames(store, tmp_path / "frames")
    load_frames(store, tmp_path / "frames")
    assert store.count == 0


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


@pytest.mark.parametrize("size", [-1, -9, 0.5, 70])
def test_a_truncated_file_is_named(tmp_path, size):
    store, path = make_store(), tmp_path / "frames"
    whole = save_frames(store, path)
    cut(path, int(size * whole) if isinstance(size, float) else size)
    with pytest.raises(UserError, match=f"{path} is (truncated|not a file)"):
        load_frames(empty_like(store), path)


def test_damage_is_named(tmp_path):
    store, path = make_store(), tmp_path / "frames"
    save_frames(store, path)
    data = bytearray(path.read_bytes())
    start = data.index(b"\n") + 1 + 8
    data[start : start + 4] = b"\0\0\0\0"
    path.write_bytes(data)
    with pytest.raises(UserError, match="damaged at segment 0"):
        load_frames(empty_like(store), path)


def test_frames_of_other_segments_are_refused(tmp_path):
    path = tmp_path / "frames"
    save_frames(make_store(4), path)
    with pytest.raises(UserError, match=r"'segments': 4.*, not of .*'segments': 5"):
        load_frames(empty_like(make_store(5)), path)


def test_a_newer_format_is_refused(tmp_path):
    store, path = make_store(), tmp_path / "frames"
    save_frames(store, path)
    path.write_bytes(path.read_bytes().replace(b'"format": 1', b'"format": 9', 1))
    with pytest.raises(UserError, match="has format 9"):
        load_frames(empty_like(store), path)


def test_neither_way_holds_the_whole_store_a_second_time(tmp_path):
    store = SegmentStore(100, 256, (64, 64, 3))
    rows = store.append(np.arange(100))
    store.write(rows, np.random.default_rng(0).integers(0, 4, (100, 256, 64, 64, 3), np.uint8))
    store.value_targets[rows] = 0.0
    process = psutil.Process()
    before = process.memory_info().rss
    save_frames(store, tmp_path / "frames", threads=2)
    load_frames(store, tmp_path / "frames")
    assert process.memory_info().rss - before < 0.5 * store.nbytes
