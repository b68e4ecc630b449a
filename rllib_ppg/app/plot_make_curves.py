"""App: from the flags of `rllib plot` to a plot of learning curves."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rllib_ppg.app.plot_aggregate import (
    AGGREGATE_NAMES,
    FEW_RUNS,
    Band,
    band,
    interval_text,
    smooth,
)
from rllib_ppg.app.plot_curves import CurvePlot
from rllib_ppg.app.plot_evaluations import find_document, read_challenge_curves
from rllib_ppg.app.plot_flags import PlotFlags
from rllib_ppg.app.plot_groups import make_groups, parse_labels
from rllib_ppg.app.plot_reference import read_reference
from rllib_ppg.app.plot_runs import RETURN_COLUMNS, Curve, Note, Origin, Reading, read_runs
from rllib_ppg.app.result_keys import LEARNER_STATS
from rllib_ppg.core.scores import get_table, normalized_return, table_names
from rllib_ppg.errors import UserError

RETURNS = (*RETURN_COLUMNS, "return")
MAX_PANELS = 20


def make_curves(flags: PlotFlags, note: Note) -> CurvePlot:
    """Read runs and references and put them together.

    Raises:
        UserError: If anything that was given is wrong.
    """
    curves = [_prepared(curve, flags) for curve in of_games(read_curves(flags, note), flags.games)]
    groups = make_groups(curves, flags.group, parse_labels(flags.label))
    aggregate = flags.aggregate or "mean"
    panels: dict[str, list[Band]] = {}
    for name, members in groups.items():
        for game, found in _by_panel(members, flags.normalize).items():
            label = name if len(found) == len(members) else f"{name}, {game}"
            _check_difficulty(label, found)
            made = band(label, found, aggregate=aggregate, interval=flags.interval, note=note)
            panels.setdefault(game, []).append(replace(made, name=name))
    _check_panels(panels)
    _say_few(panels, flags, note)
    _say_repeated(panels, note)
    many = any(found.num_games > 1 for bands in panels.values() for found in bands)
    return CurvePlot(
        panels,
        flags.x,
        _y_label(curves, flags),
        f"{AGGREGATE_NAMES[aggregate]} over runs{' and games' if many else ''}",
        interval_text(flags.interval),
        flags.title,
        flags.seeds,
    )


def read_curves(flags: PlotFlags, note: Note) -> list[Curve]:
    """Read the curves of all runs, each file once, then those of references.

    References of other games than the runs' are left out.

    Raises:
        UserError: If anything that was given is wrong.
    """
    reading = Reading(flags.x, flags.y, flags.partial, note)
    curves: dict[Path, list[Curve]] = {}
    for given in flags.runs:
        document = find_document(given)
        if document:
            curves[document.resolve()] = read_challenge_curves(document, flags.x)
            continue
        for curve in read_runs(given, reading):
            curves[curve.origin.path.resolve()] = [curve]
    runs = [curve for found in curves.values() for curve in found]
    published = [curve for path in flags.reference for curve in read_reference(path, flags.x)]
    games = {run.origin.game for run in runs} - {None}
    if games:
        fitting = [c for c in published if c.origin.game is None or c.origin.game in games]
        if published and not fitting:
            names = ", ".join(sorted(map(str, games)))
            raise UserError(f"--reference {flags.reference[0]} has no curve of {names}.")
        published = fitting
        if len(games) == 1:  # a curve without game belongs to the only one
            game = next(iter(games))
            published = [replace(c, origin=replace(c.origin, game=game)) for c in published]
    if published and any(run.metric not in RETURNS for run in runs):
        raise UserError(f"--reference holds returns, which do not compare with --y {flags.y}.")
    return [*runs, *published]


def of_games(curves: Sequence[Curve], games: str | None) -> list[Curve]:
    """Return the curves of the games of --games.

    Raises:
        UserError: If a game has none.
    """
    if games is None:
        return list(curves)
    names = [name.strip() for name in games.split(",")]
    check_games(names, [curve.origin for curve in curves])
    return [curve for curve in curves if curve.origin.game in names]


def check_games(names: Sequence[str], origins: Sequence[Origin]) -> None:
    """Refuse a game that no run has.

    Raises:
        UserError: Saying which games there are.
    """
    there = sorted({origin.game for origin in origins if origin.game})
    for name in names:
        if name not in there:
            raise UserError(
                f"--games {name}: no run has it; there are {', '.join(there) or 'none'}."
            )


def check_table(origin: Origin, table: str) -> str:
    """Return a run's game once it is clear that a score table holds for it.

    Raises:
        UserError: If the game is not known, or the table is for another difficulty.
    """
    if origin.game is None:
        raise UserError(
            f"--normalize {table}: which game {origin.path} is of is not known; give the trial's "
            "folder, with its params.json."
        )
    difficulty = get_table(table).difficulty
    if origin.difficulty not in (None, difficulty):
        fitting = ", ".join(table_names(origin.difficulty)) or "none"
        raise UserError(
            f"--normalize {table} is for {difficulty} levels, but {origin.path} is of "
            f"{origin.difficulty} ones; tables for those: {fitting}."
        )
    return origin.game


def _prepared(curve: Curve, flags: PlotFlags) -> Curve:
    """Normalise and smooth a curve."""
    if flags.normalize:
        if curve.metric not in RETURNS:
            raise UserError(f"--normalize is for returns, not for --y {flags.y}.")
        game = check_table(curve.origin, flags.normalize)
        curve = replace(curve, y=normalized_return(curve.y, game, flags.normalize))
    return smooth(curve, flags.smooth)


def _by_panel(curves: Sequence[Curve], normalize: str | None) -> dict[str, list[Curve]]:
    """Sort a group's curves by panel: returns of different games have no mean unless normalised."""
    if normalize:
        return {"": list(curves)}
    panels: dict[str, list[Curve]] = {}
    for curve in curves:
        panels.setdefault(curve.origin.game or "", []).append(curve)
    return panels


def _check_difficulty(name: str, curves: Sequence[Curve]) -> None:
    """Refuse a mean over runs of one game on different difficulties."""
    known = [curve.origin for curve in curves if curve.origin.difficulty is not None]
    first: dict[str | None, Origin] = {}
    for origin in known:
        other = first.setdefault(origin.game, origin)
        if origin.difficulty != other.difficulty:
            raise UserError(
                f"{name}: {other.path} is of {other.difficulty} levels and {origin.path} of "
                f"{origin.difficulty} ones, which have no mean; --group auto keeps them apart."
            )


def _check_panels(panels: dict[str, list[Band]]) -> None:
    if len(panels) > MAX_PANELS:
        raise UserError(
            f"{len(panels)} games do not fit one figure (at most {MAX_PANELS}); choose some with "
            "--games, or take their mean with --normalize."
        )


def _say_few(panels: dict[str, list[Band]], flags: PlotFlags, note: Note) -> None:
    """Say where a bootstrap interval is too narrow."""
    counts = [
        found.num_runs for bands in panels.values() for found in bands if found.num_games == 1
    ]
    few = [count for count in counts if 1 < count < FEW_RUNS]
    if flags.interval == "bootstrap" and few:
        note(
            f"a bootstrap over {min(few)} runs gives intervals that hold less often than 95 %; "
            "--interval t assumes a normal distribution and is wider."
        )


def _say_repeated(panels: dict[str, list[Band]], note: Note) -> None:
    """Say where runs that count as seeds have the same one."""
    for found in (found for bands in panels.values() for found in bands):
        keys = [(c.origin.game, c.origin.seed) for c in found.curves if c.origin.seed is not None]
        if len(set(keys)) < len(keys):
            note(f"{found.name}: some of its runs have the same seed.")


def _y_label(curves: Sequence[Curve], flags: PlotFlags) -> str:
    metric = curves[0].metric
    if metric not in RETURNS:
        label = metric.removeprefix(f"{LEARNER_STATS}/")
    elif flags.normalize:
        label = f"normalised return (table {flags.normalize})"
    else:
        label = "mean return of an episode"
    return f"{label}, smoothed {flags.smooth:g}" if flags.smooth else label
