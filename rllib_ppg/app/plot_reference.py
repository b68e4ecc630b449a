"""App: published learning curves, from a CSV file that a user supplies."""

import csv
import gzip
import math
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from rllib_ppg.app.plot_runs import REFERENCE, Curve, Origin
from rllib_ppg.app.plot_tables import nearest_columns
from rllib_ppg.errors import UserError

X_NAMES: Mapping[str, Sequence[str]] = {
    "env_steps": ("env_steps", "steps", "timesteps", "frames", "step"),
    "hours": ("hours",),
    "iterations": ("iterations", "iteration"),
}
Y_NAMES = ("return", "ep_return", "episode_return_mean", "ep_rew_mean", "return_mean", "score")
LABEL_NAMES = ("label", "method", "algorithm", "experiment")
GAME_NAMES = ("game", "env", "env_name")
SEED_NAMES = ("seed", "run")


def read_reference(path: str, x: str) -> list[Curve]:
    """Read published curves: one row a point; docs/plots.md lists the names of columns.

    Args:
        path: A CSV file with a header, which may be compressed with gzip.
        x: One of `X_NAMES`.

    Returns:
        One curve a label, game and seed. A curve without label is named by the file.

    Raises:
        UserError: If the file cannot be read, lacks a column, or a point is no number.
    """
    rows = _rows(path)
    names = list(rows[0][1])
    x_name = _need(path, names, X_NAMES[x], f"--x {x}")
    y_name = _need(path, names, Y_NAMES, "the return")
    keys = [_find(names, choice) for choice in (LABEL_NAMES, GAME_NAMES, SEED_NAMES)]
    points: dict[tuple[str, ...], list[tuple[float, float]]] = {}
    for number, row in rows:
        key = tuple(row[name] if name else "" for name in keys)
        point = _number(path, number, row[x_name]), _number(path, number, row[y_name])
        if not math.isnan(point[1]):
            points.setdefault(key, []).append(point)
    if not points:
        raise UserError(f"--reference {path} holds no point.")
    return [_curve(path, key, found) for key, found in points.items()]


def _rows(path: str) -> list[tuple[int, dict[str, str]]]:
    """Return the rows with the numbers of their lines."""
    file = Path(path).expanduser()
    try:
        data = file.read_bytes()
        text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--reference {path} cannot be read ({reason}).") from None
    reader = csv.reader(text.splitlines())
    lines = [(reader.line_num, line) for line in reader if line]
    if len(lines) < 2:
        raise UserError(f"--reference {path} holds no rows below its header.")
    header = [name.strip() for name in lines[0][1]]
    for number, line in lines:
        if len(line) != len(header):
            raise UserError(
                f"--reference {path}, line {number} has {len(line)} fields where the header has "
                f"{len(header)}."
            )
    return [(number, dict(zip(header, line, strict=True))) for number, line in lines[1:]]


def _find(names: Sequence[str], choice: Sequence[str]) -> str | None:
    return next((name for name in choice if name in names), None)


def _need(path: str, names: Sequence[str], choice: Sequence[str], what: str) -> str:
    found = _find(names, choice)
    if found is None:
        near = nearest_columns(choice[0], names)
        say = f" The nearest: {', '.join(near)}." if near else f" It has {', '.join(names)}."
        raise UserError(
            f"--reference {path} has no column for {what}; name it {' or '.join(choice)}.{say}"
        )
    return found


def _number(path: str, line: int, text: str) -> float:
    try:
        value = float(text or "nan")
    except ValueError:
        value = math.inf
    if math.isinf(value):
        raise UserError(f"--reference {path}, line {line}: {text!r} is no finite number.")
    return value


def _curve(path: str, key: tuple[str, ...], points: list[tuple[float, float]]) -> Curve:
    label, game, seed = key
    x, y = np.array(points).T
    if not np.isfinite(x).all() or (np.diff(x) <= 0).any():
        raise UserError(
            f"--reference {path}: the curve {' '.join(filter(None, key))} has steps that do not "
            "increase; give each run a seed of its own."
        )
    name = label or Path(path).name.split(".")[0]
    number = int(seed) if seed.isdigit() else None
    origin = Origin(
        Path(path),
        name,
        game=game or None,
        label=f"{name}{REFERENCE}",
        seed=number,
        reference=True,
    )
    return Curve(origin, x, y, "return")
