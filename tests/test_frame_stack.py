import numpy as np
import pytest

from rllib_ppg.envs.frame_stack import FrameStack, StaleFrameStack, copy_newest_frame


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


@pytest.mark.parametrize("kind", [FrameStack, StaleFrameStack])
@pytest.mark.parametrize("k", [2, 3])
def test_a_stack_that_reuses_its_memory_shows_the_same_over_many_steps(kind, k):
    # More steps than the memory has room for, so that the stacks go back to its beginning.
    rng = np.random.default_rng(4)
    fresh, reusing = kind(k), kind(k, reuse=True)
    memory = None
    for t in range(5000):
        frames = rng.integers(0, 256, (3, 2, 2, 3)).astype(np.uint8)
        firsts = rng.random(3) < (0.2 if t else 1.0)
        shown = reusing.push(frames, firsts)
        np.testing.assert_array_equal(shown, fresh.push(frames, firsts))
        memory = shown.base if memory is None else memory
        assert shown.flags.c_contiguous
    assert shown.base is memory


@pytest.mark.parametrize("reuse", [False, True])
def test_a_stale_stack_goes_on_from_a_state_that_was_taken_at_an_episode_s_start(reuse):
    rng = np.random.default_rng(5)
    frames = rng.integers(0, 256, (20, 3, 2, 2, 3)).astype(np.uint8)
    firsts = rng.random((20, 3)) < 0.4
    original = StaleFrameStack(2, reuse=reuse)
    for t in range(20):
        restored = StaleFrameStack(2, reuse=reuse)
        restored.set_state(original.get_state())
        np.testing.assert_array_equal(
            original.push(frames[t], firsts[t]), restored.push(frames[t], firsts[t])
        )


@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_newest_frame_is_copied_into_a_part_of_a_larger_array(k):
    stacked = np.random.default_rng(6).integers(0, 256, (4, 5, 5, 3 * k)).astype(np.uint8)
    rollout = np.zeros((4, 7, 5, 5, 3), np.uint8)
    copy_newest_frame(stacked, k, rollout[:, 2])
    np.testing.assert_array_equal(rollout[:, 2], stacked[..., -3:])
    assert not rollout[:, :2].any() and not rollout[:, 3:].any()
