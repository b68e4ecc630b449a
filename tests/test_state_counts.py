"""Counts of frames and the penalties on them, against a plain count and by hand."""

import tracemalloc

import numpy as np
import pytest

from rllib_ppg.envs import state_counts
from rllib_ppg.envs.state_counts import FRAME_BYTES, Counts, Penalties, StateCounts


def frames_of(numbers: list[int], shape: tuple[int, ...] = (2, 3, 3)) -> np.ndarray:
    """A frame for each number, equal where the numbers are."""
    frames = np.zeros((len(numbers), *shape), np.uint8)
    frames.reshape(len(numbers), -1)[:, -1] = numbers
    return frames


class PlainCounts:
    """The same for one environment, with a dictionary."""

    def __init__(self, first: bytes) -> None:
        self.begin(first)

    def begin(self, first: bytes) -> None:
        self.visits, self.previous, self.t = {first: 1}, first, 0

    def step(self, now: bytes, done: bool) -> tuple[int, int, bool, int]:
        after = self.previous if done else now
        self.visits[after] = self.visits.get(after, 0) + 1
        row = (self.visits[after], len(self.visits), after == self.previous, self.t)
        self.previous, self.t = after, self.t + 1
        if done:
            self.begin(now)
        return row


@pytest.mark.parametrize("shape", [(8, 8, 3), (2, 3, 3), (1, 1, 1), (5,)])
def test_counts_equal_a_plain_count_over_many_episodes(shape):
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, 6, (60, 5))
    dones = rng.random((60, 5)) < 0.1
    frames = [frames_of(row.tolist(), shape) for row in numbers]
    counts = StateCounts(frames[0])
    plain = [PlainCounts(frame.tobytes()) for frame in frames[0]]
    for t in range(1, 60):
        made = counts.step(frames[t], dones[t])
        for n, own in enumerate(plain):
            expected = own.step(frames[t][n].tobytes(), bool(dones[t, n]))
            assert tuple(values[n] for values in made) == expected


def test_long_episodes_are_counted_to_their_end_and_forgotten_afterwards():
    counts = StateCounts(frames_of([0], (64,)))
    for i in range(1, 3000):
        frame = np.frombuffer(np.int64(i).tobytes() * 8, np.uint8)[None]
        made = counts.step(frame, np.array([False]))
        assert made.num_unique_states[0] == i + 1 and made.occupancy_count[0] == 1
    assert len(counts.get_state()["keys"]) == 3000
    counts.step(frames_of([0], (64,)), np.array([True]))
    assert len(counts.get_state()["keys"]) == 1


def numbered(i: int, envs: int) -> np.ndarray:
    """Frames of 8 bytes, different for each number and environment."""
    return (np.arange(envs, dtype=np.int64) * 1_000_000 + i)[:, None].view(np.uint8)


@pytest.mark.parametrize("steps", [600, 690, 1370])  # a table grows at 683 and at 1366 frames
def test_a_frame_takes_no_more_memory_than_is_said_and_an_ended_episode_none(steps: int):
    counts, going = StateCounts(numbered(0, 2)), np.zeros(2, bool)
    counts.step(numbered(0, 2), going)
    tracemalloc.start()
    for i in range(1, steps):
        counts.step(numbered(i, 2), going)
    held, _ = tracemalloc.get_traced_memory()
    counts.step(numbered(0, 2), ~going)
    left, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    most = 2 * steps * FRAME_BYTES
    assert most / 3 < held <= most
    assert left < most / 50


def test_an_endless_episode_fills_a_table_and_no_more(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(state_counts, "MOST_FRAMES", 5)
    going = np.array([False])
    counts = StateCounts(numbered(0, 1))
    made = [counts.step(numbered(i, 1), going) for i in (1, 2, 3, 4, 5, 4, 5, 0)]
    # Frames 0 to 4 are remembered, frame 5 is new each time.
    assert [int(m.occupancy_count[0]) for m in made] == [1, 1, 1, 1, 1, 2, 1, 2]
    assert [int(m.num_unique_states[0]) for m in made] == [2, 3, 4, 5, 6, 6, 7, 7]
    state = counts.get_state()
    assert len(state["keys"]) == 5
    restored = StateCounts(numbered(9, 1))
    restored.set_state(state)
    for i in (4, 5, 6):
        pair = (counts.step(numbered(i, 1), going), restored.step(numbered(i, 1), going))
        assert all(np.array_equal(a, b) for a, b in zip(*pair, strict=True))


def test_without_visits_the_rest_is_counted_the_same_and_nothing_is_remembered():
    rng = np.random.default_rng(3)
    frames = [frames_of(rng.integers(0, 2, 3).tolist()) for _ in range(40)]
    dones = rng.random((40, 3)) < 0.1
    whole, short = StateCounts(frames[0]), StateCounts(frames[0], count_visits=False)
    for t in range(1, 40):
        counts, fewer = whole.step(frames[t], dones[t]), short.step(frames[t], dones[t])
        np.testing.assert_array_equal(counts.matches_previous_obs, fewer.matches_previous_obs)
        np.testing.assert_array_equal(counts.episode_step, fewer.episode_step)
        assert not fewer.occupancy_count.any() and (fewer.num_unique_states == 1).all()
        if t == 20:
            state, short = short.get_state(), StateCounts(frames[0], count_visits=False)
            short.set_state(state)
            assert not len(state["keys"])


def test_a_restored_count_goes_on_as_the_original():
    rng = np.random.default_rng(2)
    frames = [frames_of(rng.integers(0, 4, 3).tolist()) for _ in range(40)]
    dones = rng.random((40, 3)) < 0.1
    original = StateCounts(frames[0])
    for t in range(1, 20):
        original.step(frames[t], dones[t])
    restored = StateCounts(frames[0])
    restored.set_state(original.get_state())
    for t in range(20, 40):
        pair = zip(original.step(frames[t], dones[t]), restored.step(frames[t], dones[t]),
                   strict=True)  # fmt: skip
        assert all(np.array_equal(a, b) for a, b in pair)


def test_counts_that_were_handed_out_stay_as_they_are():
    counts = StateCounts(frames_of([0, 0]))
    first = counts.step(frames_of([1, 0]), np.array([False, False]))
    copies = [values.copy() for values in first]
    counts.step(frames_of([1, 3]), np.array([True, False]))
    assert all(np.array_equal(a, b) for a, b in zip(first, copies, strict=True))


def counts_of(rows: list[tuple[int, bool, int]]) -> Counts:
    occupancy, matches, step = (np.array(column) for column in zip(*rows, strict=True))
    return Counts(occupancy, np.ones_like(occupancy), matches, step)


def test_the_noop_penalty_waits_for_its_step_and_spares_the_last():
    #             visits, same frame, t
    counts = counts_of([(2, True, 10), (2, True, 11), (1, False, 11), (2, True, 50)])
    dones = np.array([False, False, False, True])
    shaping = Penalties(noop_reward=-0.1, noop_min_timestep=10)(counts, dones)
    assert shaping.dtype == np.float32
    np.testing.assert_allclose(shaping, [0, -0.1, 0, 0], rtol=1e-7)


def test_the_revisit_penalty_counts_earlier_visits_from_the_first_step_on():
    counts = counts_of([(1, False, 0), (2, False, 0), (5, True, 3), (5, False, 9)])
    dones = np.array([False, False, False, True])
    shaping = Penalties(revisit_reward=-0.01)(counts, dones)
    np.testing.assert_allclose(shaping, [0, -0.01, -0.04, 0], atol=1e-9)


def test_both_penalties_on_a_scripted_episode():
    # Frames of one episode: 0 (reset), 0, 0, 1, 0, then the end; the next one begins with 7.
    shown, dones = [0, 0, 1, 0, 7, 7], [False, False, False, False, True, False]
    penalties = Penalties(noop_reward=-1.0, noop_min_timestep=0, revisit_reward=-0.1)
    counts, made = StateCounts(frames_of([0])), []
    for number, done in zip(shown, dones, strict=True):
        flags = np.array([done])
        made.append(float(penalties(counts.step(frames_of([number]), flags), flags)[0]))
    # t = 0: second visit, too early for the other; t = 1: third visit and no change; t = 2: new;
    # t = 3: fourth visit; t = 4: the end costs nothing; then t = 0 again: second visit of 7.
    np.testing.assert_allclose(made, [-0.1, -1.2, 0, -0.3, 0, -0.1], atol=1e-6)
