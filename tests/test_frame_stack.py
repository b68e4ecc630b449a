import numpy as np
import pytest

from rllib_ppg.envs.frame_stack import FrameStack


def plain_stack(history, firsts, k):
    """The last k frames of one game by definition: walk back, stop at the episode's start."""
    frames, at = [], len(history) - 1
    for _ in range(k):
        frames.insert(0, history[at])
        if not firsts[at]:
            at -= 1
    return np.concatenate(frames, axis=-1)


@pytest.mark.parametrize(("k", "channels"), [(1, 3), (2, 3), (3, 1), (4, 3)])
def test_stack_equals_its_definition_over_random_episode_starts(k, channels):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (12, 5, 4, 3, channels)).astype(np.uint8)  # (T, N, H, W, C)
    firsts = rng.random((12, 5)) < 0.3
    firsts[0] = True
    stack = FrameStack(k)
    for t in range(12):
        stacked = stack.push(frames[t], firsts[t])
        assert stacked.dtype == np.uint8
        for n in range(5):
            expected = plain_stack(frames[: t + 1, n], firsts[: t + 1, n], k)
            np.testing.assert_array_equal(stacked[n], expected)


def test_an_array_already_returned_never_changes():
    rng = np.random.default_rng(1)
    frames = rng.integers(0, 256, (3, 2, 4, 4, 3)).astype(np.uint8)
    stack = FrameStack(2)
    stack.push(frames[0], np.array([True, True]))
    second = stack.push(frames[1], np.array([False, False]))
    kept = second.copy()
    stack.push(frames[2], np.array([True, False]))
    np.testing.assert_array_equal(second, kept)


def test_restored_stack_continues_as_the_original():
    rng = np.random.default_rng(2)
    frames = rng.integers(0, 256, (6, 2, 4, 4, 3)).astype(np.uint8)
    never = np.array([False, False])
    original, restored = FrameStack(3), FrameStack(3)
    for t in range(3):
        original.push(frames[t], ~never if t == 0 else never)
    restored.set_state(original.get_state())
    for t in range(3, 6):
        np.testing.assert_array_equal(
            original.push(frames[t], never), restored.push(frames[t], never)
        )


def test_state_does_not_follow_later_frames():
    stack = FrameStack(2)
    stack.push(np.zeros((1, 2, 2, 3), np.uint8), np.array([True]))
    state = stack.get_state()
    stack.push(np.full((1, 2, 2, 3), 9, np.uint8), np.array([False]))
    assert not state.any()
