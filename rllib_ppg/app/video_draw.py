"""App: cells side by side in one frame, with names, returns, values and action probabilities.

Colours are of Okabe and Ito's palette, which colour-blind people can tell apart.
"""

import math
from collections.abc import Collection, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rllib_ppg.app.video_play import Shot
from rllib_ppg.errors import UserError

BACKGROUND, TEXT = (24, 24, 28), (235, 235, 235)
BAR, BAR_CHOSEN, BAR_GROUND = (86, 180, 233), (230, 159, 0), (58, 58, 66)
GAP = 4
"""Pixels between cells, and around text."""

DIMMED = 0.4
"""Brightness of a cell that is over."""

SMALLEST_FONT, LARGEST_FONT = 11, 20
MIN_SIZE, MIN_SIZE_WITH_TEXT = 32, 128

# Procgen's actions in their order (procgen/env.py, get_combos); what the keys do depends on the
# game.
PROCGEN_ACTIONS = (
    "left down", "left", "left up", "down", "stay", "up", "right down", "right", "right up",
    "key D", "key A", "key W", "key S", "key Q", "key E",
)  # fmt: skip


class Drawing:
    """Draws frames of R x C cells.

    A cell is the picture, with the actions' bars to its right and up to two lines of text below.

    Args:
        grid: R and C.
        picture: Height and width of an environment's picture.
        size: Width in pixels at which it is shown.
        overlays: Of "name", "return", "value" and "actions".
        action_names: Names of the bars, for "actions".

    Attributes:
        shape: Height and width of a frame, both even, as video formats need it.

    Raises:
        UserError: The cells are too small for what is to be written.
    """

    def __init__(
        self,
        grid: tuple[int, int],
        picture: tuple[int, int],
        size: int,
        overlays: Collection[str],
        action_names: Sequence[str] = (),
    ) -> None:
        self._rows, self._columns = grid
        self._overlays = set(overlays)
        self._names = action_names if "actions" in self._overlays else ()
        self._width, self._height = size, max(1, round(size * picture[0] / picture[1]))
        smallest = smallest_size(picture, self._overlays, self._names)
        if size < smallest:
            raise UserError(
                f"--size {size} is too small for what is to be shown; give at least {smallest}."
            )
        self._font = _font(size // 26)
        self._line = _line_height(self._font) + GAP
        first, second = "name" in self._overlays, bool({"return", "value"} & self._overlays)
        self._text_height = self._line * (first + second)
        self._bar_font = _font(min(self._font_size, self._row_height - 3))
        labels = [self._bar_font.getlength(name) for name in self._names]
        self._label_width = int(max(labels, default=0)) + 2 * GAP
        self._panel = self._label_width + max(48, size // 5) + GAP if self._names else 0
        height = self._rows * (self._cell_height + GAP) - GAP
        width = self._columns * (self._cell_width + GAP) - GAP
        self.shape = (height + height % 2, width + width % 2)

    @property
    def _font_size(self) -> int:
        return int(self._font.size)

    @property
    def _row_height(self) -> int:
        return self._height // len(self._names) if self._names else LARGEST_FONT + 3

    @property
    def _cell_height(self) -> int:
        return self._height + self._text_height

    @property
    def _cell_width(self) -> int:
        return self._width + self._panel

    def frame(self, shots: Sequence[Shot]) -> np.ndarray:
        """Draw what the cells show, row by row.

        Args:
            shots: R x C of them.

        Returns:
            The frame, uint8 (H, W, 3).
        """
        image = Image.new("RGB", (self.shape[1], self.shape[0]), BACKGROUND)
        draw = ImageDraw.Draw(image)
        for index, shot in enumerate(shots):
            row, column = divmod(index, self._columns)
            left = column * (self._cell_width + GAP)
            top = row * (self._cell_height + GAP)
            image.paste(self._picture(shot), (left, top))
            if shot.probs is not None and self._names:
                self._draw_bars(draw, shot, left + self._width, top)
            self._draw_text(draw, shot, left, top + self._height)
        return np.asarray(image)

    def _picture(self, shot: Shot) -> Image.Image:
        picture = Image.fromarray(shot.picture)
        shown = (self._width, self._height)
        if picture.size != shown:
            # Averages where it gets smaller; hard edges stay where it gets larger.
            smaller = shown[0] < picture.size[0]
            how = Image.Resampling.BOX if smaller else Image.Resampling.NEAREST
            picture = picture.resize(shown, how)
        return picture.point(lambda byte: int(byte * DIMMED)) if shot.over else picture

    def _draw_text(self, draw: ImageDraw.ImageDraw, shot: Shot, left: int, top: int) -> None:
        if "name" in self._overlays:
            count = f"episode {shot.episode}/{shot.episodes}" if shot.episodes > 1 else ""
            self._draw_line(draw, shot.name, "over" if shot.over else count, left, top)
            top += self._line
        total = f"return {_number(shot.total)}" if "return" in self._overlays else ""
        value = ""
        if "value" in self._overlays and shot.value is not None:
            value = f"value {shot.value:.2f}"
        if total or value:
            self._draw_line(draw, total, value, left, top)

    def _draw_line(
        self, draw: ImageDraw.ImageDraw, at_left: str, at_right: str, left: int, top: int
    ) -> None:
        """Write at both ends of a line; the left text is cut with an ellipsis where it must."""
        width = self._cell_width - 2 * GAP
        taken = self._font.getlength(at_right) + 3 * GAP if at_right else 0
        text = fitted(at_left, self._font, width - taken)
        y = top + GAP // 2
        draw.text((left + GAP, y), text, TEXT, self._font)
        if at_right:
            x = left + GAP + width - self._font.getlength(at_right)
            draw.text((x, y), at_right, TEXT, self._font)

    def _draw_bars(self, draw: ImageDraw.ImageDraw, shot: Shot, left: int, top: int) -> None:
        assert shot.probs is not None
        start, width = left + self._label_width, self._panel - self._label_width - GAP
        for index, (name, prob) in enumerate(zip(self._names, shot.probs, strict=True)):
            upper = top + self._height * index // len(self._names)
            lower = top + self._height * (index + 1) // len(self._names)
            middle = (upper + lower) / 2
            chosen = index in shot.chosen
            colour = BAR_CHOSEN if chosen else BAR
            draw.text(
                (start - GAP, middle), name, colour if chosen else TEXT, self._bar_font, anchor="rm"
            )
            # Both ends of a rectangle are drawn.
            draw.rectangle((start, upper + 2, start + width - 1, lower - 2), BAR_GROUND)
            length = round(float(prob) * width)
            if length:
                draw.rectangle((start, upper + 2, start + length - 1, lower - 2), colour)


def smallest_size(
    picture: tuple[int, int], overlays: Collection[str], action_names: Sequence[str] = ()
) -> int:
    """The smallest `size` that a `Drawing` of these arguments takes."""
    smallest = MIN_SIZE_WITH_TEXT if overlays else MIN_SIZE
    if "actions" not in overlays:
        return smallest
    needed = len(action_names) * (SMALLEST_FONT + 3)
    return max(smallest, math.ceil(needed * picture[1] / picture[0]))


def fitted(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """A text cut in its middle, if it must be, so that it is at most `width` pixels long."""
    if font.getlength(text) <= width:
        return text
    for kept in range(len(text) - 1, 0, -1):
        head, tail = text[: -(-kept // 2)], text[len(text) - kept // 2 :]
        if font.getlength(f"{head}…{tail}") <= width:
            return f"{head}…{tail}"
    return ""


def _number(total: float) -> str:
    return f"{total:.0f}" if total == round(total) else f"{total:.2f}"


def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(min(max(size, SMALLEST_FONT), LARGEST_FONT))
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise UserError(
            "The installed Pillow has no FreeType and cannot write text of a size; its wheels "
            "have it: pip install --force-reinstall --only-binary pillow pillow."
        )
    return font


def _line_height(font: ImageFont.FreeTypeFont) -> int:
    ascent, descent = font.getmetrics()
    return ascent + descent
