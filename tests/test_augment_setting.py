"""Augmentations by name: what a setting makes, and what is said about a wrong one."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from rllib_ppg.core.augment import Augmentation, Draws, OneOf, OnePerChunk
from rllib_ppg.core.augment_setting import AUGMENTATIONS, make_augmentation
from rllib_ppg.core.image_transforms import PadAndCrop, RandomTranslate, TiedCutoutColor
from rllib_ppg.errors import UserError


class Brighter(Augmentation):
    """An augmentation of a user's own; each frame gets brighter by up to `most`."""

    def __init__(self, most: int) -> None:
        if most < 0:
            raise ValueError("most must not be negative")
        self.most = most

    def draw(self, shape: Sequence[int], generator: np.random.Generator) -> Draws:
        return {"by": generator.integers(0, self.most + 1, shape[0])}

    def apply(self, frames: torch.Tensor, draws: Draws) -> torch.Tensor:
        by = torch.from_numpy(draws["by"])[:, None, None, None]
        return (frames + by).clamp(max=255).to(frames.dtype)


def test_a_name_alone_takes_the_published_options():
    assert make_augmentation("random_translate") == RandomTranslate(0, 5)
    assert make_augmentation({"type": "pad_and_crop"}) == PadAndCrop(10)
    assert make_augmentation("tied_cutout_color") == TiedCutoutColor(10, 29)


def test_options_stand_beside_the_name():
    made = make_augmentation({"type": "random_translate", "min_shift": 1, "max_shift": 3})
    assert made == RandomTranslate(1, 3)


def test_members_are_settings_themselves():
    crop = {"type": "pad_and_crop", "pad": 4}
    inner = {"type": "one_of", "members": [crop, "tied_cutout_color"], "num_choices": 3}
    made = make_augmentation({"type": "one_per_chunk", "members": [inner, "random_translate"]})
    thirds = OneOf((PadAndCrop(4), TiedCutoutColor()), 3)
    assert made == OnePerChunk((thirds, RandomTranslate()))


@pytest.mark.parametrize("name", sorted(set(AUGMENTATIONS) - {"one_of", "one_per_chunk"}))
def test_every_name_makes_one_that_changes_procgen_frames(name):
    frames = torch.randint(1, 256, (20, 64, 64, 6), dtype=torch.uint8)
    changed = make_augmentation(name)(frames, np.random.default_rng(0))
    assert changed.shape == frames.shape
    assert not torch.equal(changed, frames)


def test_an_augmentation_of_ones_own_is_named_by_its_dotted_path():
    mixture = make_augmentation(
        {"type": "one_of", "members": [{"type": f"{__name__}.Brighter", "most": 9}]}
    )
    frames = torch.full((500, 2, 2, 3), 250, dtype=torch.uint8)
    changed = mixture(frames, np.random.default_rng(0))
    assert changed.unique().tolist() == [250, 251, 252, 253, 254, 255]


@pytest.mark.parametrize(
    "setting, message",
    [
        ("random_translat", 'unknown .*"random_translat". Did you mean "random_translate"'),
        ("blur", 'unknown augmentation "blur". Use one_of, .*, or the dotted path of a class'),
        ("no_such_package.Blur", "there is no installed package no_such_package; install it"),
        (f"{__name__}.Blur", "cannot be imported: .* no attribute 'Blur'"),
        ("..package.Blur", 'unknown augmentation "..package.Blur"'),
        ("rllib_ppg.core.augment.Mixture", 'Mixture" lacks choose; define that in the class'),
        ({"type": f"{__name__}.Brighter", "most": -1}, "Brighter: most must not be negative"),
        ("os.system", '"os.system" is no subclass of rllib_ppg.core.augment.Augmentation'),
        ("builtins.dict", '"builtins.dict" is no subclass'),
        (f"{__name__}.Brighter", "missing a required argument: 'most'; its options: most"),
        (3, "augmentation 3 must be a name, or a mapping"),
        ({"max_shift": 3}, "must be a name, or a mapping with the name as `type`"),
        (
            {"type": "random_translate", "max": 3},
            "random_translate: got an unexpected keyword argument 'max'; its options: "
            "min_shift, max_shift",
        ),
        ({"type": "random_channel_drop", "p": 1}, "'p'; its options: none"),
        ({"type": "one_of"}, "missing a required argument: 'members'"),
        ({"type": "one_of", "members": "pad_and_crop"}, "members='pad_and_crop' must be a list"),
        ({"type": "one_of", "members": []}, "one_of: members must be augmentations, at least one"),
        ({"type": "one_of", "members": ["crop"]}, 'unknown augmentation "crop"'),
        ({"type": "pad_and_crop", "pad": 0}, "augmentation pad_and_crop: pad=0 must be"),
    ],
)
def test_a_wrong_setting_is_refused_in_a_sentence(setting, message):
    with pytest.raises(UserError, match=message):
        make_augmentation(setting)
