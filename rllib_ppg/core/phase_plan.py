"""Core: which policy iterations an auxiliary phase takes, and when it follows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Place = Literal["drop", "store", "aux"]


@dataclass
class PhasePlan:
    """Counts policy iterations through phases.

    A phase is `skips` iterations that the auxiliary phase does not learn from, then `n_pi` that it
    does. After `max_phases` of them there are policy iterations only.

    Args:
        n_pi: Iterations that an auxiliary phase learns from.
        skips: Iterations of a phase that come before these.
        max_phases: Most auxiliary phases; None sets no limit, 0 leaves them out.

    Attributes:
        skipped: Iterations of the current phase that were skipped.
        stored: Iterations of the current phase that are stored.
        phases: Auxiliary phases that were finished.
    """

    n_pi: int
    skips: int = 0
    max_phases: int | None = None
    skipped: int = 0
    stored: int = 0
    phases: int = 0

    def iteration(self) -> Place:
        """Count a policy iteration.

        Returns:
            "drop" if its observations are not needed any more, "store" if they are, "aux" if an
            auxiliary phase follows.
        """
        if self.max_phases is not None and self.phases >= self.max_phases:
            return "drop"
        if self.skipped < self.skips:
            self.skipped += 1
            return "drop"
        self.stored += 1
        return "aux" if self.stored == self.n_pi else "store"

    def phase_done(self) -> None:
        """Count a finished auxiliary phase, and begin the next phase."""
        self.phases += 1
        self.restart()

    def restart(self) -> None:
        """Begin the current phase anew."""
        self.skipped = self.stored = 0

    def phases_within(self, iterations: int) -> int:
        """Return how many auxiliary phases follow the first `iterations` policy iterations."""
        phases = iterations // (self.skips + self.n_pi)
        return phases if self.max_phases is None else min(phases, self.max_phases)
