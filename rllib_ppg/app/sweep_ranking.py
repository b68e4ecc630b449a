"""App: the configurations of a sweep, the best first."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rllib_ppg.app.objective import number_in
from rllib_ppg.app.progress import show
from rllib_ppg.app.report import TrialEnd
from rllib_ppg.app.result_files import results
from rllib_ppg.app.run_folder import is_remote
from rllib_ppg.app.sweep import Sweep
from rllib_ppg.app.variants import NodePath, nodes, value_at
from rllib_ppg.app.view import show_value

STEPS = "timesteps_total"
MAX_ROWS = 10
"""Configurations in the table; the results have all."""


@dataclass
class Member:
    """One trial of a configuration.

    Attributes:
        end: How it ended.
        value: Its objective, or NaN.
        curve: Environment steps and objective of its results that have one.
    """

    end: TrialEnd
    value: float
    curve: list[tuple[float, float]]

    @property
    def steps(self) -> float:
        """Environment steps of its newest result."""
        return self.curve[-1][0] if self.curve else self.end.progress.steps


@dataclass
class Ranked:
    """One configuration.

    Attributes:
        values: What the sweep has varied, by name; `-` for what does not apply.
        members: Its trials.
        expected: How many trials it has to have.
    """

    values: dict[str, Any]
    members: list[Member] = field(default_factory=list)
    expected: int = 1

    @property
    def value(self) -> float:
        """Its objective: the mean over its trials, NaN where one has none."""
        if len(self.members) < self.expected:
            return math.nan
        return sum(member.value for member in self.members) / len(self.members)

    @property
    def config(self) -> Mapping[str, Any]:
        """The configuration of its first trial."""
        return self.members[0].end.config


def rank(sweep: Sweep, space: Mapping[str, Any], ends: Sequence[TrialEnd]) -> list[Ranked]:
    """Sort the configurations by their objective, those without one last.

    Args:
        sweep: How they are compared.
        space: The configuration with its spaces.
        ends: How the trials ended.
    """
    found: dict[str, Ranked] = {}
    for end in ends:
        values = values_of(sweep, space, end.config)
        key = repr(values) if sweep.over else end.name
        ranked = found.setdefault(key, Ranked(values, expected=sweep.members))
        ranked.members.append(_member(sweep, end))
    return sorted(found.values(), key=lambda ranked: sweep.objective.order(ranked.value))


def values_of(
    sweep: Sweep, space: Mapping[str, Any], config: Mapping[str, Any], *, members: bool = False
) -> dict[str, Any]:
    """What a trial's configuration has where the sweep varies it, by name; `-` for nothing.

    Args:
        sweep: The sweep.
        space: Its configuration with spaces.
        config: The trial's.
        members: Take what is averaged over too.
    """
    whole = sweep.expanded(space)
    found = [path for path, _ in nodes(whole)] + [path for path, _ in nodes(sweep.mutations)]
    paths = [path for path in dict.fromkeys(found) if members or path not in sweep.over]
    return {name: value_at(config, path, "-") for name, path in _named(paths).items()}


def _named(paths: Sequence[NodePath]) -> dict[str, NodePath]:
    """The last part of each path, or as much of it as tells it from others."""
    names: dict[str, NodePath] = {}
    for path in paths:
        words = [str(part) for part in path]
        short = [p for p in paths if str(p[-1]) == words[-1]]
        names[words[-1] if len(short) == 1 else ".".join(words)] = path
    return names


def _member(sweep: Sweep, end: TrialEnd) -> Member:
    objective = sweep.objective
    rows = [end.progress.result] if is_remote(end.folder) else results(Path(end.folder))
    curve = []
    for row in rows:
        value = objective.of(row, end.config)
        if not math.isnan(value):
            curve.append((number_in(row, STEPS), value))
    value = curve[-1][1] if curve and end.status != "ERROR" else math.nan
    return Member(end, value, curve)


def table(sweep: Sweep, ranking: Sequence[Ranked]) -> list[str]:
    """The best configurations, as lines."""
    names = list(ranking[0].values) if ranking else []
    heads = ["", "trial" if sweep.members == 1 else "trials", sweep.objective.name, *names, "steps"]
    rows = [heads]
    for number, ranked in enumerate(ranking[:MAX_ROWS], start=1):
        values = [show_value(value) for value in ranked.values.values()]
        steps = sum(0.0 if math.isnan(m.steps) else m.steps for m in ranked.members)
        row = [str(number), _trials(ranked), show(ranked.value, ".4g"), *values]
        rows.append([*row, show(steps, ",.0f")])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(w.rjust(n) for w, n in zip(row, widths, strict=True)) for row in rows]
    more = len(ranking) - MAX_ROWS
    return [*lines, *([f"{more} more"] if more > 0 else [])]


def _trials(ranked: Ranked) -> str:
    """A trial's number and how it ended, or how many trials of a configuration have ended."""
    if ranked.expected > 1:
        known = sum(not math.isnan(member.value) for member in ranked.members)
        return f"{known} of {ranked.expected}"
    (member,) = ranked.members
    number = member.end.name.split()[0]
    ended = member.end.status == "TERMINATED"
    return number if ended else f"{number} ({member.end.status.lower()})"
