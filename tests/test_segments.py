"""The store and the cutting of minibatches."""

import numpy as np
import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rllib_ppg.core.frames import Rows
from rllib_ppg.core.segments import SegmentStore, aux_pieces, policy_chunks, segment_rows

CPU = torch.device("cpu")


@given(st.integers(1, 40), st.integers(1, 50))
def test_policy_chunks_equal_torch_chunk(size, nminibatch):
    permutation = np.random.default_rng(0).permutation(size)
    expected = torch.chunk(torch.from_numpy(permutation), nminibatch)
    found = policy_chunks(permutation, nminibatch)
    assert [piece.tolist() for piece in found] == [piece.tolist() for piece in expected]


@given(st.integers(1, 40), st.integers(1, 50))
def test_aux_pieces_keep_a_short_last_piece(count, size):
    permutation = np.random.default_rng(0).permutation(count)
    pieces = aux_pieces(permutation, size)
    assert np.concatenate(pieces).tolist() == permutation.tolist()
    assert all(len(piece) == size for piece in pieces[:-1])
    assert 1 <= len(pieces[-1]) <= size


@pytest.mark.parametrize("cut", [policy_chunks, aux_pieces])
def test_cutting_into_nothing_is_refused(cut):
    with pytest.raises(ValueError, match="at least 1"):
        cut(np.arange(3), 0)


def test_segment_rows_keep_steps_in_order():
    assert segment_rows(np.array([2, 0]), 3).tolist() == [6, 7, 8, 0, 1, 2]


def test_append_reserves_rows_in_order_and_marks_iterations():
    store = SegmentStore(5, 4, (2,), np.float32)
    assert store.append([0, 1, 2]) == slice(0, 3)
    assert store.append([2, 0]) == slice(3, 5)
    assert store.count == 5
    assert store.env.tolist() == [0, 1, 2, 2, 0]
    assert store.iteration.tolist() == [0, 0, 0, 1, 1]


def test_pairs_run_by_environment_then_by_iteration():
    store = SegmentStore(6, 1, (), np.uint8)
    store.append([2, 0, 1])
    store.append([0, 1, 2])
    pairs = store.pairs()
    assert store.env[pairs].tolist() == [0, 0, 1, 1, 2, 2]
    assert store.iteration[pairs].tolist() == [0, 1, 0, 1, 0, 1]


def test_pairs_leave_missing_segments_out():
    store = SegmentStore(6, 1, (), np.uint8)
    store.append([0, 1, 2])
    store.append([2])
    assert store.pairs().tolist() == [0, 1, 2, 3]
    assert store.env[store.pairs()].tolist() == [0, 1, 2, 2]


def test_too_many_segments_are_refused_and_nothing_is_taken():
    store = SegmentStore(3, 1, (), np.uint8)
    store.append([0, 1])
    with pytest.raises(ValueError, match="2 segments do not fit: 2 of 3"):
        store.append([0, 1])
    assert store.count == 2


def test_an_environment_stands_once_in_an_iteration():
    with pytest.raises(ValueError, match="twice"):
        SegmentStore(3, 1, (), np.uint8).append([1, 1])


def test_clear_starts_the_next_phase():
    store = SegmentStore(2, 1, (), np.uint8)
    store.append([0, 1])
    store.clear()
    assert store.count == 0
    assert store.append([1, 0]) == slice(0, 2)
    assert store.iteration.tolist() == [0, 0]


def test_bytes_are_counted_without_making_the_store():
    store = SegmentStore(6, 5, (8, 8, 3), np.uint8)
    arrays = (store.obs, store.value_targets, store.env, store.iteration)
    assert store.nbytes == sum(array.nbytes for array in arrays)
    assert store.nbytes == SegmentStore.bytes_needed(6, 5, (8, 8, 3), np.uint8)
    # The published setting: 256 environments, 32 iterations, 256 steps of 64 x 64 x 3 bytes.
    assert SegmentStore.bytes_needed(256 * 32, 256, (64, 64, 3)) == pytest.approx(25.8e9, rel=0.01)


def test_an_empty_store_takes_no_memory_yet():
    before = psutil.Process().memory_info().rss
    store = SegmentStore(64, 256, (64, 64, 3))
    assert store.nbytes > 200e6
    assert psutil.Process().memory_info().rss - before < 50e6


@pytest.mark.parametrize("capacity, num_steps", [(0, 4), (4, 0), (-1, 4)])
def test_impossible_sizes_are_refused(capacity, num_steps):
    with pytest.raises(ValueError, match="at least 1"):
        SegmentStore(capacity, num_steps, (2,))


def filled_store(frame_stack: int = 2, **options) -> SegmentStore:
    rng = np.random.default_rng(0)
    store = SegmentStore(6, 5, (2, 2, 3 * frame_stack), frame_stack=frame_stack, **options)
    for envs in ([0, 1, 2], [2, 0]):
        rows, n = store.append(envs), len(envs)
        frames = rng.integers(0, 256, (n, 5, 2, 2, 3), np.uint8)
        history = rng.integers(0, 256, (n, frame_stack - 1, 2, 2, 3), np.uint8)
        store.write(rows, frames, history=history, firsts=rng.random((n, 5)) < 0.3)
        store.value_targets[rows] = rng.random((n, 5))
    return store


def test_a_store_goes_on_from_its_state_and_frames():
    store, other = filled_store(), SegmentStore(6, 5, (2, 2, 6), frame_stack=2)
    other.set_state(store.get_state())
    for start in range(0, store.count, 2):
        rows = slice(start, min(start + 2, store.count))
        other.write_frames(rows, store.read_frames(rows))
    assert np.array_equal(other.pairs(), store.pairs())
    assert np.array_equal(other.value_targets[:5], store.value_targets[:5])
    rows = torch.arange(25)
    for each in (store, other):
        each.append([0])
    read = [each.frames(slice(0, 5)).read(Rows(rows, rows), CPU) for each in (store, other)]
    assert torch.equal(*read)
    assert np.array_equal(other.iteration[:6], store.iteration[:6])


def test_a_state_of_another_shape_is_refused():
    state = filled_store().get_state()
    with pytest.raises(ValueError, match=r"\(5, 5\) do not fit a store of 4 segments of 5 steps"):
        SegmentStore(4, 5, (2, 2, 6), frame_stack=2).set_state(state)
    with pytest.raises(ValueError, match="do not fit"):
        SegmentStore(6, 4, (2, 2, 6), frame_stack=2).set_state(state)
    with pytest.raises(ValueError, match="another frame_stack"):
        SegmentStore(6, 5, (2, 2, 6)).set_state(state)
