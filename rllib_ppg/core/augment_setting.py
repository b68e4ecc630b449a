"""Core: the augmentation that a setting names, with its options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rllib_ppg.core.augment import Augmentation, OneOf, OnePerChunk
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
from rllib_ppg.dotted_names import check_options, find_class, is_dotted
from rllib_ppg.errors import UserError
from rllib_ppg.spelling import did_you_mean

AUGMENTATIONS: dict[str, type[Augmentation]] = {
    "one_of": OneOf,
    "one_per_chunk": OnePerChunk,
    "pad_and_crop": PadAndCrop,
    "random_channel_drop": RandomChannelDrop,
    "random_cutout": RandomCutout,
    "random_cutout_color": RandomCutoutColor,
    "random_flip_left_right": RandomFlipLeftRight,
    "random_flip_up_down": RandomFlipUpDown,
    "random_rotation": RandomRotation,
    "random_translate": RandomTranslate,
    "tied_cutout_color": TiedCutoutColor,
}


def make_augmentation(setting: str | Mapping[str, Any]) -> Augmentation:
    """Make the augmentation that a setting describes.

    Args:
        setting: A name, or a mapping of `type`, which is the name, and options. A name is one of
            `AUGMENTATIONS`, or the dotted path of an `Augmentation` in an installed package. The
            option `members` is a list of settings.

    Raises:
        UserError: If the name or an option is unknown, missing, or has a value that is not allowed.
    """
    options = {"type": setting} if isinstance(setting, str) else setting
    if not isinstance(options, Mapping) or not isinstance(options.get("type"), str):
        raise UserError(
            f"augmentation {setting!r} must be a name, or a mapping with the name as `type` and "
            "its options."
        )
    name = options["type"]
    kind = _find(name)
    given = {key: value for key, value in options.items() if key != "type"}
    check_options(f"augmentation {name}", kind, given)
    if "members" in given:
        given["members"] = _members(name, given["members"])
    try:
        return kind(**given)
    except ValueError as error:
        raise UserError(f"augmentation {name}: {error}") from error


def name_of(augmentation: Augmentation) -> str:
    """Return the name that a setting calls an augmentation by."""
    kind = type(augmentation)
    names = [name for name, known in AUGMENTATIONS.items() if known is kind]
    return names[0] if names else f"{kind.__module__}.{kind.__qualname__}"


def _find(name: str) -> type[Augmentation]:
    if name in AUGMENTATIONS:
        return AUGMENTATIONS[name]
    if not is_dotted(name):
        raise UserError(
            f'unknown augmentation "{name}".{did_you_mean(name, AUGMENTATIONS)} Use '
            f"{', '.join(AUGMENTATIONS)}, or the dotted path of a class of your own."
        )
    return find_class(name, Augmentation, "augmentation")


def _members(name: str, settings: object) -> tuple[Augmentation, ...]:
    if not isinstance(settings, list | tuple):
        raise UserError(f"augmentation {name}: members={settings!r} must be a list.")
    return tuple(make_augmentation(member) for member in settings)
