"""App: the table of an ablation, from the results of its challenges.

Shape key: R runs (seeds), M games.
"""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rllib_ppg.app.ablation_file import Ablation, Variant
from rllib_ppg.app.challenge_results import interval, results_path, score_matrix
from rllib_ppg.app.challenge_tables import Sheet, estimate_text, markdown, print_sheet
from rllib_ppg.app.evaluate_result import write
from rllib_ppg.app.plot_evaluations import VERSION
from rllib_ppg.app.progress import show_time
from rllib_ppg.app.run_folder import write_text
from rllib_ppg.core.intervals import mean

Json = dict[str, Any]

RESULTS, REPORT = "ablation.json", "ablation.md"
FORMAT = "rllib_ppg ablation"


def make_results(ablation: Ablation) -> Json:
    """Return the content of ablation.json, from what its challenges have scored so far."""
    found = {each.challenge.name: _read(each) for each in ablation.variants}
    scored = [content for content in found.values() if content is not None]
    tracks = ablation.variants[0].challenge.protocol.tracks
    return {
        "format": FORMAT,
        "version": VERSION,
        "name": ablation.name,
        "score_table": scored[0]["score_table"]["name"] if scored else None,
        "budget": scored[0]["budget"] if scored else None,
        "versions": [content["versions"] for content in scored],
        "tracks": {track: _rows(ablation, found, track) for track in tracks},
    }


def _read(variant: Variant) -> Json | None:
    path = results_path(variant.challenge.folder)
    if not path.is_file():
        return None
    content: Json = json.loads(path.read_text(encoding="utf-8"))
    return content


def _rows(ablation: Ablation, found: Mapping[str, Json | None], track: str) -> list[Json]:
    scores = {name: _scores(content, track) for name, content in found.items()}
    reference = scores[ablation.variants[0].challenge.name]
    rows = []
    for variant in ablation.variants:
        own = scores[variant.challenge.name]
        row: Json = {
            "name": variant.challenge.name,
            "changes": list(variant.changes),
            "num_runs": len(own),
            "score": _interval(own),
            "difference": None,
        }
        if variant.changes:
            both = {key: own[key] - reference[key] for key in own if key in reference}
            row["difference"] = _interval(both)
        rows.append(row)
    return rows


def _scores(content: Json | None, track: str) -> dict[tuple[str, int], float]:
    """Scores of a track by game and seed."""
    runs = content["runs"] if content is not None else []
    return {(run["game"], run["seed"]): run["score"] for run in runs if run["track"] == track}


def _interval(scores: Mapping[tuple[str, int], float]) -> Json | None:
    """Mean over games and seeds with its interval; None without any run."""
    if not scores:
        return None
    games: dict[str, list[float]] = {}
    for (game, _), score in scores.items():
        games.setdefault(game, []).append(score)
    return interval(score_matrix(list(games.values())), mean)


def write_results(ablation: Ablation, command: Sequence[str]) -> tuple[Path, Path]:
    """Write the table as JSON and as Markdown into the ablation's folder; returns both paths."""
    results = make_results(ablation)
    path, report = _paths(ablation)
    write(path, results)
    write_text(report, "\n".join(_report(results, command)) + "\n")
    return path, report


def _paths(ablation: Ablation) -> tuple[Path, Path]:
    return ablation.folder / RESULTS, ablation.folder / REPORT


def print_table(ablation: Ablation) -> None:
    """Print the table of each track with its notes, and where it was written."""
    results = make_results(ablation)
    for track in results["tracks"]:
        print_sheet(sheet_of(results, track))
    print("", *notes_of(results), sep="\n")
    path, report = _paths(ablation)
    print(f"\nWrote {path}\nWrote {report}")


def sheet_of(results: Json, track: str) -> Sheet:
    """Return the table of a track.

    Args:
        results: The content of ablation.json.
        track: One of its tracks.
    """
    rows = results["tracks"][track]
    columns = ["experiment", "runs", "score [95 %]", "difference [95 %]"]
    title = f"Track {track}, all levels, score table {results['score_table'] or '-'}"
    return Sheet(title, columns, [_cells(row) for row in rows])


def _cells(row: Json) -> list[str]:
    difference = row["difference"]
    if not row["changes"]:
        last = "(all parts)"
    else:
        last = "-" if difference is None else _signed(difference)
    score = "-" if row["score"] is None else estimate_text(row["score"])
    return [row["name"], str(row["num_runs"]), score, last]


def _signed(found: Json) -> str:
    text = f"{found['estimate']:+.3f}"
    return text if found["low"] is None else f"{text} [{found['low']:+.3f}, {found['high']:+.3f}]"


def notes_of(results: Json) -> list[str]:
    """What has to be said about the numbers."""
    lines = [
        "score: mean normalised return over games and seeds; difference: that score less the one "
        "with all parts, run by run of the same game and seed. Below 0: the part that this "
        "experiment lacks helps; above 0: it is better without.",
        "[low, high]: 95 % stratified bootstrap interval over training runs; with few runs it is "
        "too narrow, and with one there is none.",
    ]
    budget = results["budget"]
    if budget is not None:
        scaled = " (a rehearsal: budget scale {:g}; the scores compare with nothing outside)"
        lines.append(
            f"Budget of a trial: {budget['steps']:,} environment steps, "
            f"{show_time(budget['seconds'])}"
            f"{scaled.format(budget['scale']) if budget['scale'] < 1 else ''}."
        )
    return [*lines, *_changes(results)]


def _changes(results: Json) -> Iterator[str]:
    first = next(iter(results["tracks"].values()))
    for row in first:
        if row["changes"]:
            yield f"{row['name']}: {', '.join(row['changes'])}"


def _report(results: Json, command: Sequence[str]) -> list[str]:
    lines = [f"# {results['name']}", ""]
    for track in results["tracks"]:
        sheet = sheet_of(results, track)
        lines += [f"## {sheet.title}", "", *markdown(sheet), ""]
    lines += [*(f"* {note}" for note in notes_of(results)), ""]
    return [*lines, "Made by", "", f"    rllib {shlex.join(command)}"]
