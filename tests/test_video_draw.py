"""What stands where in a frame, and that no text is cut or runs into its neighbour."""

import numpy as np
import pytest

from rllib_ppg.app.video_draw import (
    BACKGROUND,
    BAR,
    BAR_CHOSEN,
    DIMMED,
    GAP,
    PROCGEN_ACTIONS,
    TEXT,
    Drawing,
    _font,
    fitted,
    smallest_size,
)
from rllib_ppg.app.video_play import Shot
from rllib_ppg.envs.procgen_library import import_procgen
from rllib_ppg.errors import UserError

ALL = ("name", "return", "value", "actions")
GREY = np.full((64, 64, 3), 100, np.uint8)


def shot(picture: np.ndarray = GREY, **changes) -> Shot:
    probs = np.full(15, 1 / 15, np.float32)
    made = Shot(picture, "coinrun", 1, 2, 3.0, 1.5, probs, (4,), False)
    return made._replace(**changes)


def test_names_of_procgens_actions_are_the_librarys():
    env = import_procgen().ProcgenGym3Env(num=1, env_name="coinrun")
    combos = [" ".join(combo).lower() or "stay" for combo in env.combos]
    env.close()
    letters = {name: f"key {name.upper()}" for name in "dawsqe"}
    assert [letters.get(name, name) for name in combos] == list(PROCGEN_ACTIONS)


def test_cells_stand_row_by_row():
    drawing = Drawing((2, 3), (64, 64), 64, ())
    shots = [shot(np.full((64, 64, 3), 10 * index, np.uint8)) for index in range(6)]
    frame = drawing.frame(shots)
    assert frame.shape == (*drawing.shape, 3) == (2 * 64 + GAP, 3 * 64 + 2 * GAP, 3)
    step = 64 + GAP
    for index in range(6):
        top, left = step * (index // 3), step * (index % 3)
        assert (frame[top : top + 64, left : left + 64] == 10 * index).all()


@pytest.mark.parametrize("size", [128, 131, 257])
@pytest.mark.parametrize("overlays", [(), ("name",), ("return", "value")])
@pytest.mark.parametrize("picture", [(64, 64), (400, 600), (31, 77)])
def test_frames_have_even_sides_as_video_needs(size: int, overlays: tuple, picture: tuple):
    drawing = Drawing((1, 3), picture, size, overlays)
    frame = drawing.frame([shot(np.zeros((*picture, 3), np.uint8))] * 3)
    assert frame.shape == (*drawing.shape, 3)
    assert drawing.shape[0] % 2 == drawing.shape[1] % 2 == 0


def test_a_cell_that_is_over_is_dimmed():
    drawing = Drawing((1, 2), (64, 64), 64, ())
    frame = drawing.frame([shot(), shot(over=True)])
    assert (frame[:, :64] == 100).all() and (frame[:, 64 + GAP :] == int(100 * DIMMED)).all()


def test_bars_are_as_long_as_the_probabilities():
    probs = np.zeros(15, np.float32)
    probs[4], probs[7] = 0.25, 0.75
    drawing = Drawing((1, 1), (512, 512), 512, ("actions",), PROCGEN_ACTIONS)
    frame = drawing.frame([shot(probs=probs)])
    rows = [512 * (2 * index + 1) // 30 for index in range(15)]
    # The middle of a row; names are left of the bars, and only the chosen one is coloured.
    lengths = [int((frame[row, 600:] == BAR).all(-1).sum()) for row in rows]
    chosen = int((frame[rows[4] + 10, 600:] == BAR_CHOSEN).all(-1).sum())
    assert [index for index, length in enumerate(lengths) if length] == [7]
    assert lengths[7] == pytest.approx(3 * chosen, abs=4) and chosen > 20


@pytest.mark.parametrize("size", [210, 256, 512])
def test_text_stays_within_its_cell(size: int):
    name = "AVeryLongEnvironmentNameThatNobodyWouldType-NoFrameskip-v4"
    drawing = Drawing((2, 2), (64, 64), size, ALL, PROCGEN_ACTIONS)
    long = shot(name=name, total=-12345.67, value=-98765.43, episode=10, episodes=10)
    frame = drawing.frame([long] * 4)
    height, width = drawing.shape
    middle = (width - GAP) // 2
    assert (frame[:, middle : middle + GAP] == BACKGROUND).all()
    low = (height - GAP) // 2
    assert (frame[low : low + GAP] == BACKGROUND).all()
    assert (frame[-2:] == BACKGROUND).all() and (frame[:, -GAP:] == BACKGROUND).all()
    assert (frame == TEXT).all(-1).any()


def test_long_names_keep_both_ends():
    font = _font(12)
    short = fitted("Environment-NoFrameskip-v4", font, 100)
    assert short.startswith("Env") and short.endswith("v4") and "…" in short
    assert font.getlength(short) <= 100
    assert fitted("coinrun", font, 100) == "coinrun" and fitted("coinrun", font, 3) == ""


@pytest.mark.parametrize("overlays", [(), ("name",), ("actions",), ALL])
@pytest.mark.parametrize("picture", [(64, 64), (400, 600), (210, 160)])
def test_the_size_that_a_refusal_names_is_enough(overlays: tuple, picture: tuple):
    least = smallest_size(picture, overlays, PROCGEN_ACTIONS)
    Drawing((1, 1), picture, least, overlays, PROCGEN_ACTIONS)
    with pytest.raises(UserError, match=f"at least {least}"):
        Drawing((1, 1), picture, least - 1, overlays, PROCGEN_ACTIONS)
