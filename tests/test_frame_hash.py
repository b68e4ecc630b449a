"""Hashes of frames: equal for equal ones, different for those that differ in anything."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rllib_ppg.envs.frame_hash import FrameHash

SHAPE = (64, 64, 3)
BYTES = 64 * 64 * 3


def hashes(frames: Any) -> np.ndarray:
    frames = np.asarray(frames)
    return FrameHash(frames[0].nbytes)(frames)


@pytest.mark.parametrize("shape", [(1,), (7,), (2, 3, 3), (16, 9), SHAPE])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_equal_frames_have_equal_hashes_wherever_they_stand(shape: tuple[int, ...], dtype: Any):
    frames = np.random.default_rng(0).integers(0, 256, (5, *shape)).astype(dtype)
    frames[3] = frames[1]
    made = hashes(frames)
    assert made.dtype == np.uint64 and made.shape == (5,)
    assert made[3] == made[1] and len(set(made.tolist())) == 4
    wide = np.concatenate([frames, frames], axis=-1)
    own = FrameHash(frames[0].nbytes)
    np.testing.assert_array_equal(own(wide[..., : shape[-1]]), made)  # not contiguous


@given(st.lists(st.integers(0, 8 * 64 - 1), min_size=1, max_size=6, unique=True))
def test_any_few_bits_change_the_hash_of_a_small_frame(bits: list[int]):
    frames = np.random.default_rng(1).integers(0, 256, (2, 64)).astype(np.uint8)
    frames[1] = frames[0]
    for bit in bits:
        frames[1, bit // 8] ^= 1 << (bit % 8)
    first, second = hashes(frames)
    assert first != second


def test_any_pair_of_highest_bits_changes_the_hash_of_a_small_frame():
    # Words that differ in their highest bits only: the worst case of a sum of products.
    pairs = [(a, b) for a in range(16) for b in range(a)]
    frames = np.zeros((len(pairs) + 1, 8 * 16), np.uint8)
    for row, (a, b) in enumerate(pairs):
        frames[row, [8 * a + 7, 8 * b + 7]] = 128
    assert len(set(hashes(frames).tolist())) == len(frames)


def test_any_one_byte_changes_the_hash_of_a_game_s_frame():
    own = FrameHash(BYTES)
    frames = np.random.default_rng(2).integers(0, 256, (1, BYTES)).astype(np.uint8)
    many = np.repeat(frames, 512, axis=0)
    for first in range(0, BYTES, 512):
        many[np.arange(512), first + np.arange(512)] ^= 128
        assert not (own(many) == own(frames)).any()
        many[:] = frames


def test_every_place_of_two_neighbouring_pixels_has_a_hash_of_its_own():
    found = []
    own = FrameHash(BYTES)
    for colour in (1, 128, 255):  # 128: the highest bit of each byte
        frames = np.zeros((63, *SHAPE), np.uint8)
        for y in range(64):
            frames[:] = 0
            for x in range(63):
                frames[x, y, x : x + 2] = colour
            found += own(frames).tolist()
    assert len(set(found)) == 3 * 64 * 63
