"""Mixtures of augmentations: who gets which, and draws that can be cut with the minibatch."""

import numpy as np
import pytest
import torch

from rllib_ppg.core.augment import (
    Augmentation,
    Draws,
    Mixture,
    OneOf,
    OnePerChunk,
    chunk_members,
    take,
)
from rllib_ppg.core.image_transforms import (
    PadAndCrop,
    RandomChannelDrop,
    RandomCutout,
    RandomFlipLeftRight,
    RandomRotation,
    RandomTranslate,
    TiedCutoutColor,
)
from rllib_ppg.errors import UserError

# A GPU where there is one must give what the CPU gives.
DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]

CROP, CUTOUT = PadAndCrop(3), TiedCutoutColor(2, 4)
THIRDS = OneOf((CROP, CUTOUT), num_choices=3)
NESTED = OnePerChunk((THIRDS, RandomRotation(), OneOf((RandomTranslate(), RandomCutout(1, 2)))))


def random_frames(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(1, 256, (count, 8, 8, 6), dtype=torch.uint8, generator=generator)


def draw(augmentation: Augmentation, count: int, seed: int = 0) -> Draws:
    return augmentation.draw((count, 8, 8, 6), np.random.default_rng(seed))


def members_draws(draws: Draws, number: int) -> Draws:
    return {k[2:]: v for k, v in draws.items() if k.startswith(f"{number}/")}


def assert_each_by_its_member(mixture: Mixture, frames: torch.Tensor, draws: Draws) -> None:
    """Compare with every member applied to all frames, one picked for each."""
    by_member = [
        member.apply(frames, members_draws(draws, i)) for i, member in enumerate(mixture.members)
    ]
    changed = mixture.apply(frames, draws)
    for i, choice in enumerate(draws["choice"]):
        expected = by_member[choice][i] if choice < len(by_member) else frames[i]
        assert torch.equal(changed[i], expected), i


def test_a_third_is_cropped_a_third_gets_a_box_and_a_third_stays_clean():
    count = 30_000
    choice = draw(THIRDS, count)["choice"]
    assert sorted(set(choice)) == [0, 1, 2]
    five_errors = 5 * np.sqrt(count * 2 / 9)
    assert np.abs(np.bincount(choice) - count / 3).max() < five_errors


def test_choices_beyond_the_members_leave_frames_as_they_are():
    frames = random_frames(60)
    mixture = OneOf((CROP, CUTOUT), num_choices=6)
    draws = draw(mixture, 60)
    assert set(draws["choice"]) == set(range(6))
    clean = draws["choice"] >= 2
    changed = mixture.apply(frames, draws)
    assert torch.equal(changed[clean], frames[clean])
    assert_each_by_its_member(mixture, frames, draws)


def test_without_a_number_of_choices_every_frame_is_changed():
    assert set(draw(OneOf((CROP, CUTOUT)), 200)["choice"]) == {0, 1}


def test_chunks_are_contiguous_and_the_last_takes_the_remainder():
    assert chunk_members(np.array([2, 0, 1]), 8).tolist() == [2, 2, 0, 0, 1, 1, 1, 1]
    assert chunk_members(np.array([1, 0]), 4).tolist() == [1, 1, 0, 0]
    assert chunk_members(np.array([0]), 3).tolist() == [0, 0, 0]


def test_fewer_rows_than_chunks_all_fall_into_the_last_one():
    assert chunk_members(np.array([2, 0, 1]), 2).tolist() == [1, 1]


def test_every_order_of_the_members_comes_up():
    mixture = OnePerChunk((CROP, CUTOUT, RandomTranslate()))
    orders = {tuple(draw(mixture, 6, seed)["choice"][::2]) for seed in range(100)}
    assert len(orders) == 6


@pytest.mark.parametrize("mixture", [THIRDS, NESTED], ids=["thirds", "nested"])
class TestMixtures:
    def test_each_frame_is_changed_by_the_member_chosen_for_it(self, mixture):
        assert_each_by_its_member(mixture, random_frames(40), draw(mixture, 40))

    def test_frames_given_stay_as_they_are(self, mixture):
        frames = random_frames(40)
        before = frames.clone()
        changed = mixture(frames, np.random.default_rng(0))
        assert torch.equal(frames, before)
        assert changed.data_ptr() != frames.data_ptr()
        assert changed.dtype == torch.uint8

    def test_parts_of_a_minibatch_are_changed_as_the_whole(self, mixture):
        frames, draws = random_frames(40), draw(mixture, 40)
        parts = [slice(0, 7), slice(7, 30), slice(30, 40)]
        changed = [mixture.apply(frames[rows], take(draws, rows)) for rows in parts]
        assert torch.equal(torch.cat(changed), mixture.apply(frames, draws))

    @pytest.mark.parametrize("device", DEVICES)
    def test_the_same_draws_give_the_same_frames_on_every_device(self, mixture, device):
        frames, draws = random_frames(40), draw(mixture, 40)
        changed = mixture.apply(frames.to(device), draws)
        assert torch.equal(changed.cpu(), mixture.apply(frames, draws))

    def test_rows_in_another_order_are_changed_the_same(self, mixture):
        frames, draws = random_frames(40), draw(mixture, 40)
        rows = np.random.default_rng(5).permutation(40)
        shuffled = mixture.apply(frames[rows], take(draws, rows))
        assert torch.equal(shuffled, mixture.apply(frames, draws)[rows])

    def test_the_generator_alone_decides(self, mixture):
        frames = random_frames(40)
        first, again, other = (mixture(frames, np.random.default_rng(s)) for s in (3, 3, 4))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)

    def test_draws_of_another_number_of_frames_are_refused(self, mixture):
        with pytest.raises(ValueError, match="40 draws of choice do not fit 3 frames"):
            mixture.apply(random_frames(3), draw(mixture, 40))


def test_a_frame_that_nobody_changes_is_copied_all_the_same():
    frames = random_frames(3)
    mixture = OneOf((CROP,), num_choices=2)
    draws = draw(mixture, 3) | {"choice": np.ones(3, int)}
    changed = mixture.apply(frames, draws)
    assert torch.equal(changed, frames)
    assert changed.data_ptr() != frames.data_ptr()


def test_the_mask_is_that_of_the_member_chosen_and_1_for_clean_frames():
    mixture = OneOf((RandomFlipLeftRight(0.5), RandomChannelDrop()), num_choices=3)
    draws = draw(mixture, 6) | {"choice": np.array([0, 1, 2, 0, 1, 2])}
    draws["0/flipped"] = np.zeros(6, bool)
    assert mixture.policy_mask(draws).tolist() == [0, 1, 1, 0, 1, 1]


def test_the_mask_reaches_through_nested_mixtures():
    inner = OneOf((RandomRotation(), CROP))
    mixture = OnePerChunk((inner, CUTOUT))
    draws = draw(mixture, 4) | {"choice": np.array([0, 0, 1, 1])}
    draws["0/choice"] = np.array([1, 0, 0, 1])
    assert mixture.policy_mask(draws).tolist() == [1, 0, 1, 1]


def test_equal_options_make_equal_augmentations():
    assert OneOf((PadAndCrop(3), CUTOUT), 3) == THIRDS
    assert OneOf((PadAndCrop(4), CUTOUT), 3) != THIRDS


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: OneOf(()), "members must be augmentations, at least one; found none"),
        (lambda: OnePerChunk(("crop",)), "members must be augmentations.*found 'crop'"),
        (lambda: OneOf((CROP, CUTOUT), 1), "num_choices=1 must be a whole number, at least 2"),
    ],
)
def test_wrong_members_and_numbers_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()
