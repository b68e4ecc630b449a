"""The winners' environment wrappers against the numbers of their own code."""

from types import SimpleNamespace

import golden_files
import numpy as np
import pytest
import winner_models
from golden_files import Golden, case_id

from rllib_ppg._ray_compat import RLlibCallback
from rllib_ppg.algorithm.episodes import EpisodeTracker
from rllib_ppg.envs.frame_stack import FrameStack, StaleFrameStack
from rllib_ppg.envs.procgen_options import parse_options
from rllib_ppg.envs.state_counts import Counts, StateCounts

STACKS = winner_models.files("is_reset", "stacked")
REWARDS = winner_models.cases("frame_after", "occupancy_count")


@pytest.mark.parametrize("path", STACKS, ids=case_id)
def test_a_frame_stack_with_its_fault_and_without(path):
    golden = golden_files.load(path)
    num_frames = golden["stacked"].shape[-1] // golden["frame"].shape[-1]
    stale, sound = StaleFrameStack(num_frames), FrameStack(num_frames)
    firsts, different = golden["is_reset"], []
    for i, (frame, first) in enumerate(zip(golden["frame"], firsts, strict=True)):
        ours = stale.push(frame[None], np.array([first]))
        np.testing.assert_array_equal(ours[0], golden["stacked"][i])
        if not np.array_equal(sound.push(frame[None], np.array([first])), ours):
            different.append(i)
    # The fault shows in every episode's second observation, and nowhere else.
    seconds = np.flatnonzero(firsts[:-1] & ~firsts[1:]) + 1
    assert set(different) <= set(seconds.tolist()) and different


MONITORED = winner_models.files("is_reset", "ep_return")


@pytest.mark.parametrize("path", MONITORED, ids=case_id)
def test_a_returns_and_lengths_of_episodes(path):
    golden = golden_files.load(path)
    tracker = EpisodeTracker(SimpleNamespace(callbacks=RLlibCallback()), 1)
    for i in np.flatnonzero(~golden["is_reset"]):
        done = golden["done"][i : i + 1]
        tracker.step(golden["reward"][i : i + 1], done, None)
        returns, lengths = tracker.pop_ended()
        assert len(returns) == done[0]
        if done[0]:
            np.testing.assert_allclose(returns, golden["ep_return"][i], rtol=1e-9)
            assert lengths == golden["ep_length"][i]


def counted(golden: Golden) -> list[Counts]:
    """Our counts of each step."""
    before, after, dones = golden["frame_before"], golden["frame_after"], golden["done"]
    counts = StateCounts(before[:, 0])
    steps = dones.shape[1]
    made = []
    for t in range(steps):
        # What the environments show next; after the last step nobody looks.
        shown = before[:, t + 1] if t + 1 < steps else after[:, t]
        going = ~dones[:, t]
        if t + 1 < steps:
            np.testing.assert_array_equal(shown[going], after[going, t])
        made.append(counts.step(shown, dones[:, t], after[:, t]))
    return made


@pytest.mark.parametrize("path, case", REWARDS, ids=case_id)
def test_b_counters(path, case):
    golden = golden_files.load(path).below(case)
    made = counted(golden)
    names = {
        "occupancy_count": "occupancy_count",
        "num_unique_states": "num_unique_states",
        "matches_previous_obs": "matches_previous_obs",
        "episode_step": "t",
    }
    for ours, theirs in names.items():
        values = np.stack([getattr(counts, ours) for counts in made], axis=1)
        np.testing.assert_array_equal(values, golden[theirs], err_msg=theirs)


@pytest.mark.parametrize("path, case", REWARDS, ids=case_id)
def test_b_shaped_rewards(path, case):
    golden = golden_files.load(path).below(case)
    options = parse_options(
        {
            "noop_reward": golden.number("noop_reward"),
            "noop_min_timestep": golden.count("noop_min_timestep"),
            "revisit_reward": golden.number("revisit_reward"),
        }
    )
    shaped = golden["reward_raw"].copy()
    for t, counts in enumerate(counted(golden)):
        if options.penalties is not None:
            shaped[:, t] += options.penalties(counts, golden["done"][:, t])
    np.testing.assert_allclose(shaped, golden["reward_shaped"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("path, case", REWARDS, ids=case_id)
def test_b_frame_stack_has_no_fault(path, case):
    golden = golden_files.load(path).below(case)
    before, dones = golden["frame_before"], golden["done"]
    stack = FrameStack(golden["stack_before"].shape[-1] // before.shape[-1])
    firsts = np.ones(len(before), bool)
    for t in range(dones.shape[1]):
        ours = stack.push(before[:, t], firsts)
        np.testing.assert_array_equal(ours, golden["stack_before"][:, t])
        firsts = dones[:, t]
