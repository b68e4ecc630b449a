"""App: the report of a challenge, Markdown with tables and figures, from results.json alone."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rllib_ppg.app.challenge_protocol import GENERALIZATION
from rllib_ppg.app.challenge_tables import markdown, notes_of, sheets_of
from rllib_ppg.app.plot_curves import CurvePlot, draw_curves
from rllib_ppg.app.plot_figure import save, style
from rllib_ppg.app.plot_flags import PlotFlags
from rllib_ppg.app.plot_make_curves import make_curves
from rllib_ppg.app.plot_make_scores import make_scores
from rllib_ppg.app.progress import show_time
from rllib_ppg.app.run_folder import write_text
from rllib_ppg.errors import UserError

REPORT, FIGURES = "report.md", "figures"

Json = Mapping[str, Any]


def write_report(path: Path, results: Json, command: Sequence[str]) -> Path:
    """Draw the figures and write the report.

    Args:
        path: The file results.json, which is there already.
        results: Its content.
        command: The words of the command line after `rllib`.

    Returns:
        The report.
    """
    folder = path.parent
    captions = draw_figures(path, results)
    target = folder / REPORT
    write_text(target, "\n".join(_lines(results, captions, command)) + "\n")
    return target


def draw_figures(path: Path, results: Json) -> dict[str, str]:
    """Draw what the runs suffice for; returns the captions by name of the figure.

    A figure of an earlier report that cannot be drawn any more is removed.
    """
    folder = path.parent / FIGURES
    folder.mkdir(exist_ok=True)
    captions: dict[str, str] = {}
    for name, (flags, caption) in _figures(str(path), results).items():
        target = folder / f"{name}.png"
        try:
            _draw(flags, target)
        except UserError:  # no episode of the training ended, or more games than fit one figure
            target.unlink(missing_ok=True)
            continue
        captions[target.name] = caption
    return captions


def _figures(path: str, results: Json) -> dict[str, tuple[PlotFlags, str]]:
    table = results["score_table"]["name"]
    scores = {"runs": [path], "normalize": table}
    several = len({run["game"] for run in results["runs"]}) > 1
    found = {
        "curves": (
            PlotFlags(kind="curves", title="Learning curves", **scores),
            f"Normalised return of the training's episodes (table {table}), mean over games and "
            "runs, by environment steps.",
        ),
        "games": (
            PlotFlags(kind="curves", runs=[path], title="Learning curves of the games"),
            "Mean return of the training's episodes of each game, by environment steps.",
        ),
        "scores": (
            PlotFlags(kind="bars", levels="all", title="Scores on all levels", **scores),
            f"Normalised return on all levels (table {table}), evaluated after the training.",
        ),
    }
    if several:
        found["profiles"] = (
            PlotFlags(kind="profiles", levels="all", title="Performance profiles", **scores),
            f"Share of all runs of all games above each score (table {table}).",
        )
    if GENERALIZATION in results["summary"]:
        found["gap"] = (
            PlotFlags(kind="gap", title="Training levels and all levels", **scores),
            f"Score (table {table}) on the 200 levels of the training and on all levels.",
        )
    return found


def _draw(flags: PlotFlags, target: Path) -> None:
    notes: list[str] = []
    plot: Any = (make_curves if flags.kind == "curves" else make_scores)(flags, notes.append)
    with style():
        save(draw_curves(plot) if isinstance(plot, CurvePlot) else plot.draw(), target)


def _lines(results: Json, captions: Mapping[str, str], command: Sequence[str]) -> list[str]:
    lines = [f"# {results['name']}", "", *_protocol(results), ""]
    for track in results["summary"]:
        for sheet in sheets_of(results, track):
            lines += [f"## {sheet.title}", "", *markdown(sheet), ""]
        lines += [*(f"* {note}" for note in notes_of(results, track)), ""]
    lines += ["## Figures", ""]
    for name, caption in captions.items():
        lines += [f"![{caption}]({FIGURES}/{name})", "", caption, ""]
    lines += ["## Runs", "", *_runs(results), ""]
    if results["missing"]:
        lines += ["## Missing", "", *_missing(results), ""]
    lines += ["## Made by", "", f"    rllib {shlex.join(command)}", "", *_versions(results)]
    return lines


def _versions(results: Json) -> list[str]:
    """What was done with which versions, a line for each that differ."""
    versions = results["versions"]
    steps = [(f"training ({track})", found) for track, found in versions["training"].items()]
    steps += [("evaluation", versions["evaluation"]), ("scoring", [versions["scoring"]])]
    by_text: dict[str, list[str]] = {}
    for step, found in steps:
        for each in found or [{"versions": "that are not known"}]:
            text = ", ".join(f"{name} {value}" for name, value in each.items())
            by_text.setdefault(text, []).append(step)
    return [f"* {', '.join(done)} with {text}" for text, done in by_text.items()]


def _protocol(results: Json) -> list[str]:
    budget, runs = results["budget"], results["runs"]
    games = list(dict.fromkeys(run["game"] for run in runs))
    seeds = sorted({run["seed"] for run in runs})
    table = results["score_table"]
    scale = budget["scale"]
    scaled = f" (a rehearsal: budget scale {scale:g}; the scores compare with nothing)"
    episodes = sorted({run["all"]["num_episodes"] for run in runs})
    return [
        f"* track: {results['track']}",
        f"* games: {', '.join(games)} (easy)",
        f"* seeds: {', '.join(map(str, seeds))}",
        f"* budget of a trial: {budget['steps']:,} environment steps, "
        f"{show_time(budget['seconds'])}{scaled if scale < 1 else ''}",
        f"* evaluation: {' or '.join(map(str, episodes))} episodes each, actions at temperature "
        f"{', '.join(sorted({format(run['temperature'], 'g') for run in runs}))}",
        f"* score table: {table['name']} ({table['source']})",
    ]


def _runs(results: Json) -> list[str]:
    table = results["score_table"]["name"]
    lines = [
        f"| track | game | seed | steps | training | auxiliary phases | return | score ({table}) |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for run in results["runs"]:
        cells = (
            run["track"], run["game"], str(run["seed"]), f"{run['env_steps_trained']:,}",
            show_time(run["train_seconds"]), str(run["aux_phases"]), f"{run['all']['mean']:.2f}",
            f"{run['score']:.3f}",
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _missing(results: Json) -> list[str]:
    return [
        f"* {each['track']}, {each['game']}, seed {each['seed']}: {each['reason']}"
        for each in results["missing"]
    ]
