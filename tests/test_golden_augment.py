"""The augmentations against frames that the challenge winners' own code made, at its draws.

The folder is `tests/golden_winners`, or what the environment variable RLLIB_PPG_GOLDEN_WINNERS
names. Cases, sizes and options are read from the files' keys.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import golden_files
import numpy as np
import pytest
import torch
import winner_replay
from golden_files import Golden, case_id

from rllib_ppg.core.augment import Augmentation, Draws, chunk_members, take
from rllib_ppg.core.augment_setting import make_augmentation

ENV_VAR = "RLLIB_PPG_GOLDEN_WINNERS"
FOLDER = Path(os.environ.get(ENV_VAR) or Path(__file__).parent / "golden_winners")
MANY = 8000


def cases(suffix: str, *others: str) -> list[tuple[Path, str]]:
    """All (file, case) that have `<case>/<suffix>` and the other keys.

    Raises:
        FileNotFoundError: If there is none, so that no test passes by comparing nothing.
    """
    found = []
    for path in sorted(FOLDER.rglob("*.npz")):
        golden = golden_files.load(path)
        for case in golden.prefixes(suffix):
            if all(key in golden.below(case) for key in others):
                found.append((path, case))
    if not found:
        raise FileNotFoundError(
            f"no case with {suffix} in {FOLDER.absolute()}/**/*.npz; set {ENV_VAR} to a "
            "folder that holds some, or leave it unset for tests/golden_winners."
        )
    return found


def assert_applies(
    augmentation: Augmentation, ob: np.ndarray, draws: Draws, expected: np.ndarray
) -> None:
    """Compare exactly, and see that the frames given stay as they are."""
    frames = torch.from_numpy(ob.copy())
    out = augmentation.apply(frames, draws)
    assert out.dtype == torch.uint8
    np.testing.assert_array_equal(out.numpy(), expected)
    np.testing.assert_array_equal(frames.numpy(), ob)


def assert_could_be_ours(
    augmentation: Augmentation, shape: tuple[int, ...], recorded: Draws
) -> None:
    """See that each recorded draw is within what the augmentation draws itself."""
    ours = augmentation.draw((MANY, *shape[1:]), np.random.default_rng(0))
    assert set(recorded) == set(ours)
    for name, values in recorded.items():
        assert ours[name].min() <= values.min(), name
        assert values.max() <= ours[name].max(), name


# Generalisation winner.


def crop_setting(golden: Golden) -> dict:
    options = {name: golden.count(name) for name in ("pad", "size") if name in golden}
    return {"type": "pad_and_crop", **options}


def tied_cutout_setting(golden: Golden) -> dict:
    setting = {"type": "tied_cutout_color"}
    if "min" in golden:
        setting["min_size"] = golden.count("min")
        setting["max_size"] = golden.count("max") - 1  # theirs is one past the largest
    return setting


@pytest.mark.parametrize("path, case", cases("pad", "row", "col", "out"), ids=case_id)
def test_pad_and_crop_at_recorded_offsets(path, case):
    golden = golden_files.load(path).below(case)
    crop = make_augmentation(crop_setting(golden))
    draws = {"row": golden["row"], "col": golden["col"]}
    assert_applies(crop, golden["ob"], draws, golden["out"])
    assert_could_be_ours(crop, golden["ob"].shape, draws)


@pytest.mark.parametrize("path, case", cases("colour", "h", "w", "out"), ids=case_id)
def test_cutout_color_at_recorded_boxes(path, case):
    golden = golden_files.load(path).below(case)
    cutout = make_augmentation(tied_cutout_setting(golden))
    draws = {"height": golden["h"], "width": golden["w"], "fill": golden["colour"]}
    assert_applies(cutout, golden["ob"], draws, golden["out"])
    assert_could_be_ours(cutout, golden["ob"].shape, draws)


def spread(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Put the draws of the chosen samples, in their order, where all samples have one."""
    full = np.zeros((len(chosen), *values.shape[1:]), values.dtype)
    full[chosen] = values
    return full


@pytest.mark.parametrize("path, case", cases("randint_num", "choice", "out"), ids=case_id)
def test_the_mixture_of_crop_cutout_and_clean_frames(path, case):
    golden = golden_files.load(path).below(case)
    mixture = make_augmentation(
        {
            "type": "one_of",
            "members": [crop_setting(golden), tied_cutout_setting(golden)],
            "num_choices": golden.count("randint_num"),
        }
    )
    choice = golden["choice"]
    draws = {
        "choice": choice,
        "0/row": spread(golden["crop_row"], choice == 0),
        "0/col": spread(golden["crop_col"], choice == 0),
        "1/height": spread(golden["cut_h"], choice == 1),
        "1/width": spread(golden["cut_w"], choice == 1),
        "1/fill": spread(golden["cut_colour"], choice == 1),
    }
    assert_applies(mixture, golden["ob"], draws, golden["out"])
    assert choice.max() < golden.count("randint_num")


@pytest.mark.parametrize("path, case", cases("crop", "cut", "colour"), ids=case_id)
def test_thousands_of_draws_reach_exactly_as_far_as_theirs(path, case):
    golden = golden_files.load(path).below(case)
    setting = winner_replay.experiment_options("winner_generalization")["aux_augmentation"]
    mixture = make_augmentation(setting).draw((MANY, 64, 64, 6), np.random.default_rng(0))
    pairs = {"0/row": "crop", "0/col": "crop", "1/height": "cut", "1/width": "cut"}
    for name, theirs in {**pairs, "1/fill": "colour"}.items():
        chosen = mixture[name][mixture["choice"] == int(name[0])]
        assert [chosen.min(), chosen.max()] == golden[theirs].tolist(), name


# Sample-efficiency winner.

BOUNDS = {
    "random_translate": ("min_shift", "max_shift"),
    "random_cutout": ("min_size", "max_size"),
    "random_cutout_color": ("min_size", "max_size"),
}


def setting_of(name: str, golden: Golden) -> dict:
    """Name a transform, with the bounds of a case where it has some."""
    if name not in BOUNDS or "min" not in golden:
        return {"type": name}
    low, high = BOUNDS[name]
    return {"type": name, low: golden.count("min"), high: golden.count("max")}


def recorded_draws(name: str, golden: Golden, count: int) -> Draws:
    """A case's draws for one of its transforms, by our names."""
    if name.startswith("random_flip"):
        # Without a record every frame is flipped, as by default.
        return {"flipped": golden["flipped"] if "flipped" in golden else np.ones(count, bool)}
    if name.startswith("random_cutout") and "cut" in golden:
        names = ("row", "height", "col", "width")
        draws = dict(zip(names, golden["cut"].T, strict=True))
        return draws | ({"fill": golden["fill"]} if name.endswith("color") else {})
    keys = {
        "random_translate": ("shift",),
        "random_cutout": ("row", "height", "col", "width"),
        "random_cutout_color": ("row", "height", "col", "width", "fill"),
        "random_channel_drop": ("channel",),
        "random_rotation": ("quarter_turns",),
    }
    return {key: golden[key] for key in keys[name]}


def members_draws(names: list[str], golden: Golden, count: int) -> Iterator[tuple[str, np.ndarray]]:
    for i, name in enumerate(names):
        for key, values in recorded_draws(name, golden, count).items():
            yield f"{i}/{key}", values


def transform_cases(several: bool) -> list[tuple[Path, str]]:
    return [
        (path, case)
        for path, case in cases("transforms", "source", "out")
        if ("permutation" in golden_files.load(path).below(case)) == several
    ]


@pytest.mark.parametrize("path, case", transform_cases(several=False), ids=case_id)
def test_a_transform_at_recorded_draws(path, case):
    whole = golden_files.load(path)
    golden = whole.below(case)
    ob = whole[str(golden["source"])]
    (name,) = golden["transforms"].tolist()
    transform = make_augmentation(setting_of(name, golden))
    draws = recorded_draws(name, golden, len(ob))
    assert_applies(transform, ob, draws, golden["out"])
    np.testing.assert_array_equal(transform.policy_mask(draws), golden["policy_mask"])
    if "flipped" not in draws:
        assert_could_be_ours(transform, ob.shape, draws)


@pytest.mark.parametrize("path, case", transform_cases(several=True), ids=case_id)
def test_several_transforms_each_on_a_chunk_of_its_own(path, case):
    whole = golden_files.load(path)
    golden = whole.below(case)
    ob = whole[str(golden["source"])]
    names = golden["transforms"].tolist()
    chunks = make_augmentation(
        {"type": "one_per_chunk", "members": [setting_of(name, golden) for name in names]}
    )
    choice = chunk_members(golden["permutation"], len(ob))
    np.testing.assert_array_equal(choice, golden["assigned"])
    draws = {"choice": choice, **dict(members_draws(names, golden, len(ob)))}
    assert_applies(chunks, ob, draws, golden["out"])
    np.testing.assert_array_equal(chunks.policy_mask(draws), golden["policy_mask"])
    for i, name in enumerate(names):
        own = take(recorded_draws(name, golden, len(ob)), choice == i)
        if "flipped" not in own:
            assert_could_be_ours(chunks.members[i], ob.shape, own)
