"""App: from the flags of `rllib plot` to a plot of scores: bars, profiles, improvement, the gap."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from rllib_ppg.app import plot_terminal as terminal
from rllib_ppg.app.plot_aggregate import interval_text
from rllib_ppg.app.plot_curves import runs_label
from rllib_ppg.app.plot_draw_scores import (
    Labels,
    draw_bars,
    draw_gap,
    draw_improvement,
    draw_profiles,
)
from rllib_ppg.app.plot_evaluations import Score, find_document, read_scores
from rllib_ppg.app.plot_flags import PlotFlags
from rllib_ppg.app.plot_groups import make_groups, parse_labels
from rllib_ppg.app.plot_make_curves import check_games, check_table
from rllib_ppg.app.plot_runs import Note
from rllib_ppg.app.plot_scores import (
    NUM_RESAMPLES,
    ByGame,
    Cell,
    by_game,
    cells,
    choose_levels,
    common_games,
    game_name,
    gap_levels,
    is_transfer,
    matrix,
    merge,
    overall,
)
from rllib_ppg.app.plot_training_gaps import read_training_gaps
from rllib_ppg.core.intervals import (
    Interval,
    Profile,
    performance_profile,
    probability_of_improvement,
)
from rllib_ppg.core.scores import normalized_return
from rllib_ppg.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUM_THRESHOLDS = 201

Groups = dict[str, list[Score]]


@dataclass(frozen=True)
class ScorePlot:
    """A plot of scores in its two forms.

    Attributes:
        draw: Makes the figure.
        show: Prints the numbers.
    """

    draw: Callable[[], "Figure"]
    show: Callable[[], None]


def make_scores(flags: PlotFlags, note: Note) -> ScorePlot:
    """Read evaluations and put them together.

    Raises:
        UserError: If anything that was given is wrong.
    """
    scores = [_normalised(score, flags.normalize) for score in _read(flags, note)]
    found = make_groups(scores, flags.group, parse_labels(flags.label))
    groups = {name: merge(name, members) for name, members in found.items()}
    if flags.kind == "gap":
        return _gap(groups, flags, note)
    every = [score for members in groups.values() for score in members]
    levels = choose_levels(every, flags.levels)
    values: dict[str, ByGame] = {name: by_game(members, levels) for name, members in groups.items()}
    make = {"bars": _bars, "profiles": _profiles, "improvement": _improvement}[flags.kind or "bars"]
    return make(values, flags, levels, note)


def _read(flags: PlotFlags, note: Note) -> list[Score]:
    scores: dict[object, list[Score]] = {}
    for given in flags.runs:
        document = find_document(given)
        if document is None and flags.kind == "gap":
            for score in read_training_gaps(given, note, partial=flags.partial):
                scores[score.origin.path.resolve()] = [score]
            continue
        if document is None:
            raise UserError(
                f"--kind {flags.kind} needs results of evaluation, which {given} is not: give "
                "files of `rllib evaluate --out` or results of `rllib challenge`."
            )
        scores[document.resolve()] = read_scores(document, note)
    found = [score for part in scores.values() for score in part]
    if flags.games is not None:
        names = [name.strip() for name in flags.games.split(",")]
        check_games(names, [score.origin for score in found])
        found = [score for score in found if score.origin.game in names]
    if not found:
        raise UserError(f"{', '.join(flags.runs)}: no run has been evaluated yet.")
    return found


def _normalised(score: Score, table: str | None) -> Score:
    if table is None:
        return score
    game = check_table(score.origin, table)
    returns = {
        k: float(normalized_return(value, game, table)) for k, value in score.returns.items()
    }
    return replace(score, returns=returns)


def _value_label(flags: PlotFlags, levels: str) -> str:
    kind = f"normalised return (table {flags.normalize})" if flags.normalize else "mean return"
    return f"{kind}, {levels} levels"


def _bars(groups: dict[str, ByGame], flags: PlotFlags, levels: str, note: Note) -> ScorePlot:
    found = cells(groups, flags.interval)
    if flags.normalize:
        found += overall(groups, flags.aggregate or "iqm", flags.interval, note)
    labels = Labels(_value_label(flags, levels), interval_text(flags.interval), flags.title)
    return ScorePlot(
        lambda: draw_bars(found, labels),
        lambda: terminal.print_cells(found, {}, labels.value, labels.interval),
    )


def _comparable(
    groups: dict[str, ByGame], flags: PlotFlags, note: Note
) -> tuple[dict[str, np.ndarray], str]:
    """The scores (R, M) of each group on the games that all groups have, and what these are.

    Transfer games count only where there are no others.
    """
    if flags.interval == "t":
        raise UserError(f"--interval t: --kind {flags.kind} has bootstrap intervals only.")
    common = common_games(groups, note)
    games = [game for game in common if not is_transfer(game)]
    rest = [game for game in common if is_transfer(game)]
    if games and rest:
        note(f"Left out, for transfer is no result on trained games: {', '.join(rest)}.")
    chosen = games or rest
    arrays = {name: matrix(name, found, chosen, note) for name, found in groups.items()}
    return arrays, "" if games else ", transfer"


def _profiles(groups: dict[str, ByGame], flags: PlotFlags, levels: str, note: Note) -> ScorePlot:
    arrays, kind = _comparable(groups, flags, note)
    games = next(iter(arrays.values())).shape[1]
    if games > 1 and not flags.normalize:
        raise UserError(
            "--kind profiles: returns of different games do not compare; add --normalize TABLE."
        )
    every = np.concatenate([array.ravel() for array in arrays.values()])
    taus = np.linspace(min(0.0, every.min()), max(every.max(), 1e-9), NUM_THRESHOLDS)
    profiles = {
        name: _without_bounds(performance_profile(array, taus), flags.interval)
        for name, array in arrays.items()
    }
    names = {
        name: runs_label(name, [len(array)], interval=flags.interval != "none", games=games)
        for name, array in arrays.items()
    }
    label = _value_label(flags, levels) + kind
    labels = Labels(label, interval_text(flags.interval), flags.title)
    shares = {name: profile.estimate for name, profile in profiles.items()}
    return ScorePlot(
        lambda: draw_profiles(taus, profiles, names, labels),
        lambda: terminal.print_profiles(taus, shares, names),
    )


def _without_bounds(profile: Profile, interval: str) -> Profile:
    if interval != "none":
        return profile
    nothing = np.full_like(profile.estimate, math.nan)
    return Profile(profile.estimate, nothing, nothing)


def _improvement(groups: dict[str, ByGame], flags: PlotFlags, levels: str, note: Note) -> ScorePlot:
    arrays, kind = _comparable(groups, flags, note)
    if len(arrays) < 2:
        raise UserError(
            f"--kind improvement compares groups, and there is one ({next(iter(arrays))}); give "
            "runs of another too, or tell them apart with --group or --label."
        )
    first, *others = arrays
    pairs: dict[tuple[str, str], Interval] = {}
    for other in others:
        found = probability_of_improvement(
            arrays[first], arrays[other], num_resamples=NUM_RESAMPLES
        )
        bounds = (math.nan, math.nan) if flags.interval == "none" else (found.low, found.high)
        pairs[first, other] = Interval(found.estimate, *bounds)
    games = arrays[first].shape[1]
    over = f", mean over {games} games" if games > 1 else ""
    labels = Labels(
        f"probability that a run scores higher, {levels} levels{kind}{over}",
        interval_text(flags.interval),
        flags.title,
    )
    return ScorePlot(
        lambda: draw_improvement(pairs, labels),
        lambda: terminal.print_pairs(pairs, labels.interval),
    )


def _gap(groups: Groups, flags: PlotFlags, note: Note) -> ScorePlot:
    groups = _with_train_levels(_without_transfer(groups, note), note)
    every = [score for members in groups.values() for score in members]
    unseen = gap_levels(every)
    columns = {}
    for levels in ("train", unseen):
        values: dict[str, ByGame] = {n: by_game(found, levels) for n, found in groups.items()}
        columns[levels] = _with_mean(values, flags, note)
    gaps: dict[str, ByGame] = {
        name: _differences(members, unseen) for name, members in groups.items()
    }
    differences = _with_mean(gaps, flags, note)
    kind = f"normalised return (table {flags.normalize})" if flags.normalize else "mean return"
    labels = Labels(kind, interval_text(flags.interval), flags.title)
    what = f"{kind}; gap: train less {unseen}, run by run"
    train, test = columns["train"], columns[unseen]
    return ScorePlot(
        lambda: draw_gap(train, test, labels, unseen),
        lambda: terminal.print_cells(differences, columns, what, labels.interval),
    )


def _without_transfer(groups: Groups, note: Note) -> Groups:
    """Leave out games that the agents were not trained on: they have no training levels."""
    every = [score for members in groups.values() for score in members]
    rest = list(dict.fromkeys(game_name(s) for s in every if s.origin.transfer))
    if not rest:
        return groups
    if all(score.origin.transfer for score in every):
        raise UserError(f"--kind gap: no agent was trained on what was played ({', '.join(rest)}).")
    note(f"Left out of the gap, as no agent was trained on them: {', '.join(rest)}.")
    found = {n: [s for s in g if not s.origin.transfer] for n, g in groups.items()}
    return {name: members for name, members in found.items() if members}


def _with_train_levels(groups: Groups, note: Note) -> Groups:
    """Leave out groups that were trained on all levels: a challenge's other track has no gap."""
    found = {n: g for n, g in groups.items() if any("train" in score.returns for score in g)}
    if not found or len(found) == len(groups):
        return groups
    rest = ", ".join(name for name in groups if name not in found)
    note(f"Left out of the gap, without scores on train levels: {rest}.")
    return found


def _with_mean(groups: dict[str, ByGame], flags: PlotFlags, note: Note) -> list[Cell]:
    """Each game's mean and, for normalised returns, the mean over games: means alone subtract."""
    found = cells(groups, flags.interval)
    return found + overall(groups, "mean", flags.interval, note) if flags.normalize else found


def _differences(scores: Sequence[Score], unseen: str) -> dict[str, np.ndarray]:
    """Train less test score of each run, by game."""
    seen, other = by_game(scores, "train"), by_game(scores, unseen)
    return {game: seen[game] - other[game] for game in seen}
