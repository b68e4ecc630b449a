"""App: how figures look and how they are written.

Figures are made without pyplot, so that no display is needed and the user's own settings of
matplotlib do not count.
"""

import io
import logging
import math
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from rllib_ppg.app.out_file import write_out
from rllib_ppg.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg", ".pdf")

# Source: Okabe and Ito 2008, "Color Universal Design"; the yellow is darkened, as it is faint on
# white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#B8A800")
DASHES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
HATCHES = ("", "///", "...", "\\\\\\", "xxx", "ooo", "---", "+++")
MAX_GROUPS = 24
"""More lines than this cannot be told apart."""

LEGEND_CHARS = 30
INCHES_PER_CHAR = 0.075
INCHES_PER_TITLE_CHAR = 0.11

_STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.size": 10.0,
    "axes.titlesize": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.88",
    "legend.frameon": False,
    "lines.linewidth": 1.7,
    "lines.markersize": 5.0,
    "hatch.linewidth": 0.6,
    "text.parse_math": False,  # names of runs may hold a dollar sign
    "svg.hashsalt": "rllib_ppg",  # the same figure gives the same file
    "pdf.fonttype": 42,
    "figure.dpi": 100.0,
    "savefig.dpi": 160.0,
}


@dataclass(frozen=True)
class Look:
    """How one group is drawn; each of these alone tells it from its neighbours."""

    color: str
    dashes: str
    marker: str
    hatch: str


def look(index: int, *, reference: bool = False) -> Look:
    """Return the look of the group of a number, from 0."""
    turn = index // len(COLORS)
    return Look(
        COLORS[index % len(COLORS)],
        ":" if reference else DASHES[(index + turn) % 3],
        MARKERS[(index + turn) % len(MARKERS)],
        HATCHES[(index + turn) % len(HATCHES)],
    )


def check_count(names: Sequence[str]) -> None:
    """Refuse more groups than can be told apart.

    Raises:
        UserError: Saying how to choose.
    """
    if len(names) > MAX_GROUPS:
        raise UserError(
            f"{len(names)} groups do not fit one figure (at most {MAX_GROUPS}): give fewer runs, "
            "or put them together with --group or --label."
        )


@contextmanager
def style() -> Iterator[None]:
    """Draw with our style, whatever the user's settings of matplotlib are."""
    # Without a folder for its cache matplotlib makes a temporary one, and warns.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(cast(Any, _STYLE))
        yield


def new_figure(width: float, height: float, labels: Sequence[str], title: str | None) -> "Figure":
    """Return an empty figure, with room for a legend on its right side.

    Args:
        width: Of what is drawn, in inches.
        height: In inches, at least; a long legend takes more.
        labels: Of the legend, wrapped.
        title: Above all; None for none.
    """
    from matplotlib.figure import Figure

    lines = [line for label in labels for line in label.split("\n")]
    room = 0.7 + INCHES_PER_CHAR * max(map(len, lines), default=0) if lines else 0.0
    figure = Figure(
        figsize=(width + room, max(height, 0.6 + 0.22 * len(lines))), layout="constrained"
    )
    if title:  # at the left, for the legend begins at the same height
        text = textwrap.fill(title, int(width / INCHES_PER_TITLE_CHAR))
        figure.suptitle(text, x=0.01, ha="left", fontsize=12)
    return figure


def legend(figure: "Figure", handles: Sequence[Any], labels: Sequence[str], title: str) -> None:
    """Put a legend beside what is drawn."""
    figure.legend(
        handles,
        # matplotlib leaves out labels that begin with an underscore.
        [f" {label}" if label.startswith("_") else label for label in labels],
        title=title,
        loc="outside right upper",
        alignment="left",
        handlelength=2.8,
    )


def wrapped(text: str, width: int = LEGEND_CHARS) -> str:
    """Break a text into lines, also within long words."""
    return textwrap.fill(text, width)


def grid(panels: int) -> tuple[int, int]:
    """Return rows and columns for a number of panels."""
    columns = panels if panels <= 3 else min(4, math.ceil(math.sqrt(panels)))
    return math.ceil(panels / columns), columns


def plain_numbers(axes: "Axes") -> None:
    """Write large numbers as 20,000 and not as 2 with a factor beside the axis."""
    from matplotlib.ticker import FuncFormatter

    low, high = axes.get_ylim()
    if max(abs(low), abs(high)) >= 10_000:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def save(figure: "Figure", path: Path) -> None:
    """Write a figure so that the file is there whole or not at all.

    Raises:
        UserError: If it cannot be written.
    """
    kind = path.suffix.lower().removeprefix(".")
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, metadata=undated)
    write_out(path, buffer.getvalue())
