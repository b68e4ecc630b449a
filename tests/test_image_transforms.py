"""The transforms: which pixels change, where to, and how what is random is distributed."""

import numpy as np
import pytest
import torch

from rllib_ppg.core.augment import Augmentation, Draws
from rllib_ppg.core.image_transforms import (
    PadAndCrop,
    RandomChannelDrop,
    RandomCutout,
    RandomCutoutColor,
    RandomFlipLeftRight,
    RandomFlipUpDown,
    RandomRotation,
    RandomTranslate,
    TiedCutoutColor,
)
from rllib_ppg.errors import UserError

MANY = 60_000
SHAPE = (MANY, 64, 64, 6)

# A GPU where there is one must give what the CPU gives.
DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]

PICTURE = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]


def draw(augmentation: Augmentation, shape: tuple[int, ...] = SHAPE, seed: int = 0) -> Draws:
    return augmentation.draw(shape, np.random.default_rng(seed))


def change(augmentation: Augmentation, picture: list[list[int]], **draws: object) -> list:
    """Change one frame of one channel at given draws."""
    frames = torch.tensor(picture, dtype=torch.uint8)[None, :, :, None]
    arrays = {name: np.array([value]) for name, value in draws.items()}
    return augmentation.apply(frames, arrays)[0, :, :, 0].tolist()


def name_of(transform: Augmentation) -> str:
    return type(transform).__name__


def random_frames(count: int, height: int = 9, width: int = 7, channels: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (count, height, width, channels)
    return torch.randint(1, 256, shape, dtype=torch.uint8, generator=generator)


def assert_frequencies(values: np.ndarray, expected: dict[int, float]) -> None:
    """Compare with 5 standard errors: a wrong rule is out by far more, chance hardly ever."""
    found, counts = np.unique(values, return_counts=True)
    assert found.tolist() == sorted(expected)
    for value, count in zip(found.tolist(), counts, strict=True):
        p = expected[value]
        error = np.sqrt(p * (1 - p) / values.size)
        assert abs(count / values.size - p) < 5 * error + 1e-12, value


def assert_uniform(values: np.ndarray, low: int, high: int) -> None:
    """Compare with a uniform distribution over the whole numbers of low .. high."""
    assert_frequencies(values, {value: 1 / (high - low + 1) for value in range(low, high + 1)})


def assert_independent(a: np.ndarray, b: np.ndarray) -> None:
    assert abs(np.corrcoef(a, b)[0, 1]) < 5 / np.sqrt(len(a))


class TestPadAndCrop:
    def test_offset_zero_shows_the_padding_above_and_to_the_left(self):
        crop = PadAndCrop(pad=1)
        assert change(crop, PICTURE, row=0, col=0) == [[0, 0, 0], [0, 1, 2], [0, 4, 5]]
        assert change(crop, PICTURE, row=1, col=1) == PICTURE
        assert change(crop, PICTURE, row=2, col=0) == [[0, 4, 5], [0, 7, 8], [0, 0, 0]]

    def test_the_last_offset_that_fits_is_never_drawn(self):
        draws = draw(PadAndCrop())
        assert_uniform(draws["row"], 0, 19)
        assert_uniform(draws["col"], 0, 19)
        assert_independent(draws["row"], draws["col"])

    def test_size_cuts_a_square_out_of_the_padded_frame(self):
        crop = PadAndCrop(pad=1, size=2)
        assert change(crop, PICTURE, row=0, col=1) == [[0, 0], [1, 2]]
        assert change(crop, PICTURE, row=2, col=2) == [[5, 6], [8, 9]]
        draws = draw(crop, (MANY, 3, 4, 1))
        assert_uniform(draws["row"], 0, 2)
        assert_uniform(draws["col"], 0, 3)

    def test_a_size_that_leaves_no_choice_is_refused(self):
        with pytest.raises(UserError, match=r"size=5 leaves no choice in frames of 3x4 .* most 4"):
            draw(PadAndCrop(pad=1, size=5), (2, 3, 4, 1))

    @pytest.mark.parametrize("row", [-1, 3])
    def test_offsets_outside_the_padded_frame_are_refused(self, row):
        with pytest.raises(ValueError, match="do not fit 1 frames padded by 1"):
            change(PadAndCrop(pad=1), PICTURE, row=row, col=0)


class TestRandomTranslate:
    def test_positive_shifts_move_down_and_right_and_leave_zeros(self):
        translate = RandomTranslate()
        assert change(translate, PICTURE, shift=(1, 0)) == [[0, 0, 0], [1, 2, 3], [4, 5, 6]]
        assert change(translate, PICTURE, shift=(0, 2)) == [[0, 0, 1], [0, 0, 4], [0, 0, 7]]
        assert change(translate, PICTURE, shift=(-1, -1)) == [[5, 6, 0], [8, 9, 0], [0, 0, 0]]
        assert change(translate, PICTURE, shift=(0, 0)) == PICTURE
        assert change(translate, PICTURE, shift=(4, 0)) == [[0] * 3] * 3

    def test_size_is_uniform_and_the_sign_comes_after_so_zero_is_twice_as_likely(self):
        shift = draw(RandomTranslate())["shift"]
        expected = {0: 1 / 6, **{sign * k: 1 / 12 for k in range(1, 6) for sign in (-1, 1)}}
        assert_frequencies(shift[:, 0], expected)
        assert_frequencies(shift[:, 1], expected)
        assert_independent(shift[:, 0], shift[:, 1])
        assert_independent(abs(shift[:, 0]), abs(shift[:, 1]))

    def test_bounds_are_both_drawn(self):
        shift = draw(RandomTranslate(min_shift=2, max_shift=3))["shift"]
        assert_frequencies(shift, dict.fromkeys((-3, -2, 2, 3), 0.25))


def boxed(frames: torch.Tensor, draws: Draws, fill: np.ndarray) -> np.ndarray:
    """Fill boxes with slices, one frame after the other."""
    expected = frames.numpy().copy()
    for frame, row, col, height, width, colour in zip(
        expected, *(draws[k] for k in ("row", "col", "height", "width")), fill, strict=True
    ):
        frame[row : row + height, col : col + width] = colour
    return expected


class TestRandomCutout:
    def test_the_box_and_nothing_else_becomes_zero(self):
        cutout = RandomCutout(1, 2)
        box = {"row": 1, "col": 0, "height": 2, "width": 1}
        assert change(cutout, PICTURE, **box) == [[1, 2, 3], [0, 5, 6], [0, 8, 9]]

    def test_a_batch_is_filled_as_frame_by_frame(self):
        frames = random_frames(50)
        cutout = RandomCutout(2, 5)
        draws = draw(cutout, frames.shape)
        expected = boxed(frames, draws, np.zeros((50, 6)))
        np.testing.assert_array_equal(cutout.apply(frames, draws), expected)

    @pytest.mark.parametrize("cutout", [RandomCutout(), RandomCutoutColor()])
    def test_sizes_are_4_to_20_and_corners_leave_room_for_the_largest(self, cutout):
        draws = draw(cutout)
        for name in ("height", "width"):
            assert_uniform(draws[name], 4, 20)
        for name in ("row", "col"):
            assert_uniform(draws[name], 0, 44)
        assert_uniform(draws["row"][draws["height"] == 4], 0, 44)
        assert_independent(draws["height"], draws["width"])
        assert_independent(draws["row"], draws["col"])

    def test_corners_follow_height_and_width_of_the_frame(self):
        draws = draw(RandomCutout(2, 5), (MANY, 9, 7, 3))
        assert_uniform(draws["row"], 0, 4)
        assert_uniform(draws["col"], 0, 2)

    def test_boxes_larger_than_the_frame_are_refused(self):
        with pytest.raises(UserError, match=r"max_size=20 does not fit frames of 64x16 .* most 16"):
            draw(RandomCutout(), (1, 64, 16, 3))

    def test_color_fills_each_channel_of_the_stack_with_a_value_of_its_own(self):
        frames = random_frames(50)
        cutout = RandomCutoutColor(2, 5)
        draws = draw(cutout, frames.shape)
        assert draws["fill"].shape == (50, 6)
        expected = boxed(frames, draws, draws["fill"])
        np.testing.assert_array_equal(cutout.apply(frames, draws), expected)

    @pytest.mark.parametrize("cutout", [RandomCutoutColor(), TiedCutoutColor()])
    def test_colours_are_0_to_254_and_independent_in_each_channel(self, cutout):
        fill = draw(cutout)["fill"]
        assert_uniform(fill, 0, 254)
        assert_independent(fill[:, 0], fill[:, 3])


class TestTiedCutoutColor:
    def test_the_box_covers_rows_h_to_2h_and_columns_w_to_2w(self):
        picture = [[1] * 6 for _ in range(5)]
        cutout = TiedCutoutColor(1, 2)
        expected = [[1] * 6, [1] * 6, [1, 7, 1, 1, 1, 1], [1, 7, 1, 1, 1, 1], [1] * 6]
        assert change(cutout, picture, height=2, width=1, fill=[7]) == expected

    def test_the_box_ends_with_the_frame(self):
        cutout = TiedCutoutColor(1, 2)
        expected = [[1, 2, 3], [4, 5, 6], [7, 8, 0]]
        assert change(cutout, PICTURE, height=2, width=2, fill=[0]) == expected

    def test_sizes_are_10_to_29(self):
        draws = draw(TiedCutoutColor())
        assert set(draws) == {"height", "width", "fill"}
        assert_uniform(draws["height"], 10, 29)
        assert_uniform(draws["width"], 10, 29)
        assert_independent(draws["height"], draws["width"])


class TestRandomChannelDrop:
    def test_one_of_the_six_channels_of_a_stack_becomes_zero(self):
        frames = random_frames(30)
        drop = RandomChannelDrop()
        draws = draw(drop, frames.shape)
        expected = frames.numpy().copy()
        for frame, channel in zip(expected, draws["channel"], strict=True):
            frame[:, :, channel] = 0
        np.testing.assert_array_equal(drop.apply(frames, draws), expected)
        assert_uniform(draw(drop)["channel"], 0, 5)


class TestRandomFlip:
    def test_left_right_and_up_down(self):
        assert change(RandomFlipLeftRight(), PICTURE, flipped=True) == [
            [3, 2, 1],
            [6, 5, 4],
            [9, 8, 7],
        ]
        assert change(RandomFlipUpDown(), PICTURE, flipped=True) == PICTURE[::-1]
        assert change(RandomFlipUpDown(), PICTURE, flipped=False) == PICTURE

    def test_every_frame_is_flipped_unless_a_probability_is_given(self):
        assert draw(RandomFlipLeftRight())["flipped"].all()
        assert not draw(RandomFlipLeftRight(probability=0))["flipped"].any()
        assert_frequencies(draw(RandomFlipUpDown(0.3))["flipped"], {0: 0.7, 1: 0.3})

    def test_only_the_frames_drawn_are_flipped(self):
        frames = random_frames(20)
        flip = RandomFlipLeftRight(0.5)
        draws = draw(flip, frames.shape)
        flipped = draws["flipped"]
        assert flipped.any() and not flipped.all()
        expected = np.where(flipped[:, None, None, None], frames.numpy()[:, :, ::-1], frames)
        np.testing.assert_array_equal(flip.apply(frames, draws), expected)


class TestRandomRotation:
    def test_turns_as_numpy_does(self):
        frames = random_frames(20, 7, 7)
        draws = draw(RandomRotation(), frames.shape)
        turns = draws["quarter_turns"].tolist()
        assert set(turns) == {-1, 1, 2}
        expected = [np.rot90(frame, k) for frame, k in zip(frames.numpy(), turns, strict=True)]
        np.testing.assert_array_equal(RandomRotation().apply(frames, draws), expected)

    def test_left_right_and_half_turns_are_as_likely_and_none_is_left_out(self):
        turns = draw(RandomRotation())["quarter_turns"]
        assert_frequencies(turns, dict.fromkeys((-1, 1, 2), 1 / 3))

    def test_frames_that_are_not_square_are_refused(self):
        with pytest.raises(UserError, match="square frames, and these have 9x7 pixels"):
            draw(RandomRotation(), (1, 9, 7, 3))


EVERY = [
    PadAndCrop(2),
    RandomTranslate(),
    RandomCutout(2, 5),
    RandomCutoutColor(2, 5),
    TiedCutoutColor(2, 4),
    RandomChannelDrop(),
    RandomFlipLeftRight(0.5),
    RandomFlipUpDown(0.5),
    RandomRotation(),
]


@pytest.mark.parametrize("transform", EVERY, ids=name_of)
class TestEveryTransform:
    def test_frames_given_stay_and_bytes_stay_bytes(self, transform):
        frames = random_frames(40, 8, 8)
        before = frames.clone()
        changed = transform(frames, np.random.default_rng(0))
        assert torch.equal(frames, before)
        assert changed.data_ptr() != frames.data_ptr()
        assert changed.dtype == torch.uint8 and changed.shape == frames.shape
        assert not torch.equal(changed, frames)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_floats_are_bytes_divided_by_255(self, transform, dtype):
        frames = random_frames(40, 8, 8)
        draws = draw(transform, frames.shape)
        expected = transform.apply(frames, draws).to(dtype) / 255
        changed = transform.apply(frames.to(dtype) / 255, draws)
        assert changed.dtype == dtype
        assert torch.equal(changed, expected)

    def test_the_result_lies_as_the_encoder_wants_it(self, transform):
        assert transform(random_frames(5, 8, 8), np.random.default_rng(0)).is_contiguous()

    def test_a_view_with_gaps_is_changed_like_a_copy(self, transform):
        view = random_frames(6, 8, 8, 12)[..., ::2]
        draws = draw(transform, view.shape)
        assert torch.equal(transform.apply(view, draws), transform.apply(view.clone(), draws))

    @pytest.mark.parametrize("device", DEVICES)
    @pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
    def test_the_same_draws_give_the_same_frames_on_every_device(self, transform, device, dtype):
        frames = random_frames(40, 8, 8).to(dtype)
        draws = draw(transform, frames.shape)
        changed = transform.apply(frames.to(device), draws)
        assert changed.device.type == device
        assert torch.equal(changed.cpu(), transform.apply(frames, draws))

    def test_the_generator_alone_decides(self, transform):
        frames = random_frames(40, 8, 8)
        first, again, other = (transform(frames, np.random.default_rng(s)) for s in (3, 3, 4))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)

    def test_draws_of_another_number_of_frames_are_refused(self, transform):
        draws = draw(transform, (1, 8, 8, 6))
        with pytest.raises(ValueError, match="do not fit 2 frames"):
            transform.apply(random_frames(2, 8, 8), draws)

    def test_observations_that_are_no_images_are_refused(self, transform):
        with pytest.raises(UserError, match=r"images .* shape \(12,\); remove the augmentation"):
            draw(transform, (5, 12))

    def test_the_mask_leaves_out_frames_whose_actions_would_have_to_change(self, transform):
        turned = isinstance(transform, RandomFlipLeftRight | RandomFlipUpDown | RandomRotation)
        mask = transform.policy_mask(draw(transform, (4, 8, 8, 6)))
        assert mask.dtype == np.float32
        assert mask.tolist() == [0.0 if turned else 1.0] * 4


@pytest.mark.parametrize(
    "transform",
    [
        t
        for t in EVERY
        if not isinstance(t, RandomChannelDrop | RandomCutoutColor | TiedCutoutColor)
    ],
    ids=name_of,
)
def test_the_frames_of_a_stack_are_changed_alike(transform):
    stack = random_frames(20, 8, 8)
    draws = draw(transform, stack.shape)
    each = [transform.apply(frame, draws) for frame in stack.split(3, dim=-1)]
    assert torch.equal(transform.apply(stack, draws), torch.cat(each, dim=-1))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: PadAndCrop(0), "pad=0 must be a whole number, at least 1"),
        (lambda: PadAndCrop(size=0), "size=0 must be a whole number, at least 1"),
        (lambda: RandomTranslate(max_shift=2.5), "max_shift=2.5 must be a whole number"),
        (lambda: RandomTranslate(max_shift="5"), "max_shift='5' must be a whole number"),
        (lambda: RandomTranslate(max_shift=True), "max_shift=True must be a whole number"),
        (lambda: RandomTranslate(3, 2), "min_shift=3 must not be larger than max_shift=2"),
        (lambda: RandomTranslate(-1), "min_shift=-1 must be a whole number, at least 0"),
        (lambda: RandomCutout(0), "min_size=0 must be a whole number, at least 1"),
        (lambda: TiedCutoutColor(5, 4), "min_size=5 must not be larger than max_size=4"),
        (lambda: RandomFlipUpDown(1.5), "probability=1.5 must be a number from 0 to 1"),
        (lambda: RandomFlipUpDown("1"), "probability='1' must be a number from 0 to 1"),
    ],
)
def test_options_out_of_range_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()
