"""App: `rllib plot`: figures from results files, on the terminal or as a picture.

Nothing here imports Ray or torch, and matplotlib only where a picture is written.
"""

import sys
from collections.abc import Sequence
from dataclasses import fields, replace

from rllib_ppg.app import plot_terminal as terminal
from rllib_ppg.app.out_file import check_out
from rllib_ppg.app.plot_aggregate import INTERVALS
from rllib_ppg.app.plot_curves import CurvePlot, draw_curves
from rllib_ppg.app.plot_evaluations import LEVELS, find_document
from rllib_ppg.app.plot_figure import SUFFIXES, save, style
from rllib_ppg.app.plot_flags import KINDS, PlotFlags
from rllib_ppg.app.plot_make_curves import make_curves
from rllib_ppg.app.plot_make_scores import ScorePlot, make_scores
from rllib_ppg.app.plot_runs import X_COLUMNS
from rllib_ppg.core.intervals import AGGREGATES
from rllib_ppg.core.scores import TABLES
from rllib_ppg.errors import UserError
from rllib_ppg.spelling import did_you_mean

_CURVES_ONLY = ("x", "y", "reference", "smooth", "seeds", "partial", "terminal")


def run_plot(flags: PlotFlags) -> int:
    """Plot runs, and print the numbers.

    Args:
        flags: What was given.

    Returns:
        The exit code, 0.

    Raises:
        UserError: If anything that was given is wrong; nothing has been written then.
    """
    flags = _checked(flags)
    path = check_out(flags.out, SUFFIXES) if flags.out is not None else None
    notes: dict[str, None] = {}
    plot: CurvePlot | ScorePlot
    if flags.kind == "curves":
        plot = make_curves(flags, notes.setdefault)
    else:
        plot = make_scores(flags, notes.setdefault)
    if path is not None:
        with style():
            save(draw_curves(plot) if isinstance(plot, CurvePlot) else plot.draw(), path)
    _show(plot, drawn=path is None or flags.terminal)
    for note in notes:
        print(f"Note: {note}", file=sys.stderr)
    if path is not None:
        print(f"Wrote {path}")
    return 0


def _show(plot: CurvePlot | ScorePlot, *, drawn: bool) -> None:
    if isinstance(plot, ScorePlot):
        plot.show()
        return
    if drawn:
        terminal.print_curves(plot)
    terminal.print_summary(plot)


def _checked(flags: PlotFlags) -> PlotFlags:
    """Check what can be checked without reading a file, and choose the kind of plot.

    Raises:
        UserError: If a value or a combination is not allowed.
    """
    if not flags.runs and not flags.reference:
        raise UserError("Nothing to plot: give a RUN, such as the folder of an experiment.")
    for name, value, allowed in (
        ("kind", flags.kind, KINDS),
        ("x", flags.x, X_COLUMNS),
        ("levels", flags.levels, LEVELS),
        ("normalize", flags.normalize, TABLES),
        ("aggregate", flags.aggregate, AGGREGATES),
        ("interval", flags.interval, INTERVALS),
    ):
        _check_choice(name, value, list(allowed))
    if not 0 <= flags.smooth < 1:
        raise UserError(f"--smooth {flags.smooth:g}: give a factor from 0 to below 1, such as 0.9.")
    if flags.interval == "t" and flags.aggregate not in (None, "mean"):
        raise UserError(f"--interval t holds for the mean, not for --aggregate {flags.aggregate}.")
    kind = flags.kind or _kind_of(flags)
    _check_unused(flags, kind)
    if kind != "curves" and flags.interval == "t":
        flags = replace(flags, aggregate="mean")
    return replace(flags, kind=kind)


def _check_choice(name: str, value: str | None, allowed: Sequence[str]) -> None:
    if value is not None and value not in allowed:
        hint = did_you_mean(value, allowed)
        raise UserError(f"--{name} {value}: unknown.{hint} Give one of {', '.join(allowed)}.")


def _kind_of(flags: PlotFlags) -> str:
    """Bars where all that was given are evaluations, else curves."""
    if flags.reference or not all(find_document(given) for given in flags.runs):
        return "curves"
    return "bars"


def _check_unused(flags: PlotFlags, kind: str) -> None:
    """Refuse a flag without an effect on this kind of plot.

    Raises:
        UserError: Naming it.
    """
    unused = ["levels"] if kind == "curves" else list(_CURVES_ONLY)
    if kind == "gap":
        unused = [name for name in unused if name != "partial"] + ["levels", "aggregate"]
    unused += ["aggregate"] if kind in ("profiles", "improvement") else []
    defaults = {entry.name: getattr(PlotFlags(), entry.name) for entry in fields(PlotFlags)}
    for name in unused:
        if getattr(flags, name) != defaults[name]:
            raise UserError(f"--{name} has no effect on --kind {kind}; leave it out.")
    if kind == "bars" and flags.aggregate and not flags.normalize:
        raise UserError("--aggregate over games needs normalised returns; add --normalize TABLE.")
