"""An augmentation is tried before a run begins: what it may not do is said at once."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from rllib_ppg.core.augment import Augmentation, Draws
from rllib_ppg.core.augment_setting import AUGMENTATIONS, make_augmentation
from rllib_ppg.core.augment_trial import try_augmentation
from rllib_ppg.errors import UserError

SHAPE = (64, 64, 6)


class Own(Augmentation):
    """Does something wrong, as `wrong` says."""

    def __init__(self, wrong: str) -> None:
        self.wrong = wrong

    def draw(self, shape: Sequence[int], generator: np.random.Generator) -> Draws:
        if self.wrong == "draws nothing":
            return {}
        count = 3 if self.wrong == "draws too few" else shape[0]
        return {"by": generator.integers(0, 9, count)}

    def apply(self, frames: torch.Tensor, draws: Draws) -> torch.Tensor:
        if self.wrong == "raises":
            raise IndexError("no such\nchannel")
        if self.wrong == "in place":
            return frames.fill_(1)
        if self.wrong == "returns an array":
            return frames.numpy()
        return frames.float() if self.wrong == "returns floats" else frames.clone()


@pytest.mark.parametrize("name", sorted(set(AUGMENTATIONS) - {"one_of", "one_per_chunk"}))
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_ours_pass_on_images(name: str, dtype: type):
    try_augmentation(make_augmentation(name), SHAPE, dtype)


@pytest.mark.parametrize(
    ("setting", "shape", "words"),
    [
        ({"type": "random_cutout", "max_size": 99}, SHAPE, "max_size=99 does not fit frames"),
        ({"type": "pad_and_crop", "size": 32}, SHAPE, "pad_and_crop makes (32, 32, 6) of uint8"),
        ("random_translate", (4,), "change images (height, width, channels)"),
        ("random_rotation", (64, 32, 3), "turns square frames"),
    ],
)
@pytest.mark.parametrize("member", [False, True])
def test_what_does_not_fit_the_observations_is_said(setting, shape, words: str, member: bool):
    if member:  # of so many that a small minibatch may choose each for no frame
        setting = {"type": "one_of", "members": [setting], "num_choices": 1000}
    with pytest.raises(UserError) as error:
        try_augmentation(make_augmentation(setting), shape, np.uint8)
    assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("draws nothing", "draw returns no array, and so no number of observations; where nothing"),
        ("draws too few", "by has not one entry for each observation"),
        ("raises", "fails on observations (64, 64, 6) of uint8: IndexError: no such channel"),
        ("in place", "apply must change a copy"),
        ("returns an array", "gives a ndarray; apply must return a tensor"),
        ("returns floats", "makes (64, 64, 6) of float32 from observations (64, 64, 6) of uint8"),
    ],
)
def test_a_mistake_in_ones_own_class_is_said(wrong: str, words: str):
    with pytest.raises(UserError) as error:
        try_augmentation(Own(wrong), SHAPE, np.uint8)
    assert words in str(error.value) and str(error.value).startswith(f"{__name__}.Own")


def test_a_sound_one_of_ones_own_passes():
    try_augmentation(Own("nothing"), (3,), np.float32)
