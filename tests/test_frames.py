"""Observations by row, and stacks of frames that are made again when they are read."""

import numpy as np
import pytest
import torch

from rllib_ppg.core.frames import Frames, Rows, as_tensor, oldest_frames
from rllib_ppg.core.segments import SegmentStore
from rllib_ppg.envs.frame_stack import FrameStack

CPU = torch.device("cpu")
ENVS, STEPS, SHAPE = 3, 5, (2, 2, 3)


def read_all(frames: Frames) -> np.ndarray:
    rows = torch.arange(len(frames))
    return frames.read(Rows(rows, rows), CPU).numpy()


class Player:
    """Random frames of some games, stacked as the environments do it."""

    def __init__(self, num_frames: int, ends: float, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.num_frames = num_frames
        self.stack = FrameStack(num_frames)
        self.ends = ends
        self.obs = self.observe(np.ones(ENVS, bool))
        self.firsts = np.ones(ENVS, bool)

    def observe(self, firsts: np.ndarray) -> np.ndarray:
        return self.stack.push(self.rng.integers(0, 256, (ENVS, *SHAPE), np.uint8), firsts)

    def rollout(self) -> tuple[np.ndarray, np.ndarray]:
        """Observations (N, T, H, W, k * C) and episode starts (N, T) of the next steps."""
        obs, firsts = [], []
        for _ in range(STEPS):
            obs.append(self.obs)
            firsts.append(self.firsts)
            self.firsts = self.rng.random(ENVS) < self.ends
            self.obs = self.observe(self.firsts)
        return np.stack(obs, 1), np.stack(firsts, 1)


def older(obs: np.ndarray, num_frames: int) -> np.ndarray:
    """The k - 1 older frames of the first observation, oldest first."""
    frames = np.split(obs[:, 0], num_frames, axis=-1)[:-1]
    return np.stack(frames, 1)


@pytest.mark.parametrize("ends", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("num_frames", [1, 2, 4, 7])
def test_stacks_are_read_as_the_environments_made_them(num_frames, ends):
    player = Player(num_frames, ends)
    stacked = (*SHAPE[:-1], num_frames * SHAPE[-1])
    store = SegmentStore(3 * ENVS, STEPS, stacked, frame_stack=num_frames)
    expected = []
    for _ in range(3):
        obs, firsts = player.rollout()
        rows = store.append(np.arange(ENVS))
        newest = obs[..., -SHAPE[-1] :]
        history = older(obs, num_frames) if num_frames > 1 else None
        store.write(rows, newest, history=history, firsts=firsts)
        assert np.array_equal(read_all(store.frames(rows)), obs.reshape(-1, *stacked))
        expected.append(obs)
    everything = np.concatenate(expected).reshape(-1, *stacked)
    assert np.array_equal(read_all(store.frames()), everything)
    shuffled = torch.from_numpy(np.random.default_rng(1).permutation(len(everything)))
    found = store.frames().read(Rows(shuffled, shuffled), CPU)
    assert np.array_equal(found.numpy(), everything[shuffled])


def test_a_frame_is_kept_once():
    one = SegmentStore.bytes_needed(8, 256, (64, 64, 3))
    two = SegmentStore.bytes_needed(8, 256, (64, 64, 6), frame_stack=2)
    assert one < two < 1.01 * one
    assert SegmentStore(8, 256, (64, 64, 6), frame_stack=2).nbytes == two


def test_a_stack_reaches_back_to_its_episodes_start():
    firsts = np.array([[False, False, True, False, True, False]])
    # Position of step t's own frame is t + 2; the first steps may look at the older frames.
    assert oldest_frames(firsts, 3).tolist() == [[0, 0, 4, 4, 6, 6]]


def test_observations_that_do_not_stack_are_refused():
    with pytest.raises(ValueError, match="do not stack 2 frames"):
        SegmentStore(1, 1, (4, 4, 3), frame_stack=2)


def test_rows_keep_their_dtype_and_order():
    frames = Frames.of(np.arange(6, dtype=np.uint8).reshape(3, 2))
    rows = torch.tensor([2, 0])
    found = frames.read(Rows(rows, rows), CPU)
    assert found.dtype == torch.uint8
    assert found.tolist() == [[4, 5], [0, 1]]


def test_a_copy_stands_on_every_device_and_is_read_there():
    meta = torch.device("meta")
    store = SegmentStore(2, 3, (4,), np.float32, devices=[CPU, meta])
    store.write(store.append([0, 1]), np.ones((2, 3, 4), np.float32))
    rows = torch.tensor([1, 4])
    assert store.frames().read(Rows(rows, rows.to(meta)), meta).shape == (2, 4)
    assert store.frames().read(Rows(rows, rows.to(meta)), CPU).tolist() == [[1.0] * 4] * 2


def test_frames_elsewhere_are_no_array():
    store = SegmentStore(2, 3, (4,), devices=[torch.device("meta")])
    with pytest.raises(ValueError, match="do not stand in host memory"):
        _ = store.obs


def test_read_only_arrays_can_be_stored():
    frames = np.full((2, 3, 4), 7, np.uint8)
    frames.flags.writeable = False
    store = SegmentStore(2, 3, (4,))
    store.write(store.append([1, 0]), frames)
    assert (store.obs == 7).all()


def test_arrays_are_shared_unless_they_are_read_only():
    array = np.zeros((2, 3), np.uint8)
    assert as_tensor(array).data_ptr() == array.ctypes.data
    array.flags.writeable = False
    assert as_tensor(array).data_ptr() != array.ctypes.data
    tensor = torch.zeros(2)
    assert as_tensor(tensor) is tensor
