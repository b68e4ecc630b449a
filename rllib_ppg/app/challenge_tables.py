"""App: the tables of a challenge, the same on the terminal and in the report."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from rllib_ppg.app.progress import counted

Json = Mapping[str, Any]


class Sheet(NamedTuple):
    """A table.

    Attributes:
        title: What it is of.
        columns: Names of the columns; the first one is text, the others are numbers.
        rows: The rows.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def sheets_of(results: Json, track: str) -> list[Sheet]:
    """Return the tables of a track: its games, and what they come to.

    Args:
        results: The content of results.json.
        track: A track of its summary.
    """
    summary = results["summary"][track]
    title = f"score table {results['score_table']['name']}"
    gap = has_gap(summary)
    columns = ["game", "return", "score [95 %]", *["train return", "gap"] * gap, "area"]
    columns.append(f"steps to {results['threshold']:g}")
    rows = [_game_row(game, found, gap) for game, found in summary["games"].items()]
    return [
        Sheet(f"Track {track}, all levels, {title}", columns, rows),
        Sheet(
            f"Track {track}, over {counted(summary['num_games'], 'game')} x "
            f"{counted(summary['runs_per_game'], 'run')}, {title}",
            ["over all games", "score [95 %]"],
            _overall_rows(summary),
        ),
    ]


def has_gap(summary: Json) -> bool:
    """Whether a track's agents were evaluated on their training's levels too."""
    return any("gap" in game for game in summary["games"].values())


def _game_row(game: str, found: Json, gap: bool) -> list[str]:
    steps = found["steps_to_threshold"]
    reached = f"{steps['reached']} of {found['num_runs']}"
    row = [game, f"{found['return']:.2f}", estimate_text(found["score"])]
    if gap:
        row += [f"{found['train_return']:.2f}", f"{found['gap']:+.2f}"]
    row.append(_number(found["area_under_curve"]))
    row.append("never" if not steps["reached"] else f"{steps['mean']:,.0f} ({reached})")
    return row


def _overall_rows(summary: Json) -> list[list[str]]:
    area, weighted = summary["area_under_curve"], summary["weighted"]
    rows = [["mean", estimate_text(summary["mean"])], ["IQM", estimate_text(summary["iqm"])]]
    if weighted is not None:
        share = f"{weighted['covered_weight']:.0%} of the weights"
        rows.append([f"round 2 weighted ({share})", _number(weighted["score"])])
    rows.append(["area under the learning curve", "-" if area is None else estimate_text(area)])
    return rows


def notes_of(results: Json, track: str) -> list[str]:
    """What has to be said about the numbers of a track."""
    table, summary = results["score_table"], results["summary"][track]
    notes = [
        f"score: normalised return by table {table['name']} ({table['source']}); 0 plays blindly, "
        "1 is the best.",
        "[low, high]: 95 % stratified bootstrap interval over training runs"
        + ("." if summary["runs_per_game"] > 1 else "; a single run of each game has none."),
        "area: mean height of the training's learning curve in scores"
        + _range(summary["area_under_curve"])
        + "; steps to: environment steps until that curve first reaches the score (runs that did).",
    ]
    if has_gap(summary):
        notes.append("gap: return on the training's levels less return on all levels.")
    weighted = summary["weighted"]
    if weighted is not None and weighted["covered_weight"] < 0.999:
        notes.append(
            f"round 2 weighted: over {', '.join(weighted['games'])} only, which make up "
            f"{weighted['covered_weight']:.0%} of the challenge's weights (six public games 1/12 "
            "each, four private ones 1/8 each); divided by that share, so not the challenge's own "
            "score."
        )
    if summary["num_runs"] != summary["num_games"] * summary["runs_per_game"]:
        notes.append(
            f"mean and IQM are over {summary['runs_per_game']} runs of each game, as many as the "
            "game with the fewest has."
        )
    return notes


def _range(area: Json | None) -> str:
    return "" if area is None else f" from {area['start']:,} to {area['end']:,} environment steps"


def estimate_text(found: Json) -> str:
    """An estimate with its interval, where it has one."""
    if found["low"] is None:
        return _number(found["estimate"])
    return f"{found['estimate']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def print_sheet(sheet: Sheet) -> None:
    """Print a table on the terminal."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, name in enumerate(sheet.columns):
        table.add_column(name, justify="right" if number else "left", no_wrap=True)
    for row in sheet.rows:
        table.add_row(*(cell.replace("[", r"\[") for cell in row))
    print(f"\n{sheet.title}\n")
    # As wide as it is: in a pipe a terminal of 80 characters would cut columns.
    Console(width=max(Console().width, 120)).print(table)


def markdown(sheet: Sheet) -> list[str]:
    """The lines of a table in Markdown."""
    rule = ["---", *["---:"] * (len(sheet.columns) - 1)]
    return [_line(row) for row in (sheet.columns, rule, *sheet.rows)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
