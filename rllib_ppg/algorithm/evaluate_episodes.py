"""Algorithm: the episodes of an evaluation, and their mean."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class EpisodeStatistics:
    """Finished episodes: those of the first environment in order, then the second's, and so on.

    With the same seed and number of environments, the k-th entries of two policies are episodes
    that began on the same level.

    Attributes:
        returns: Sum of the raw rewards of each episode, float64 (E,).
        lengths: Steps of each episode, int64 (E,).
        envs: Environment of each episode, from 0, int64 (E,).
        level_seeds: Procgen's number of the level that each episode began on, int64 (E,); None for
            other environments.
        env_steps: Environment steps that were made in all, those left out included.
    """

    returns: np.ndarray
    lengths: np.ndarray
    envs: np.ndarray
    level_seeds: np.ndarray | None = None
    env_steps: int = 0

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(self.returns.mean())

    @property
    def stderr(self) -> float:
        """Standard error of the mean return; NaN for a single episode."""
        count = len(self.returns)
        return float(self.returns.std(ddof=1) / np.sqrt(count)) if count > 1 else float("nan")

    def __str__(self) -> str:
        """Mean return, its standard error, and what it is made of."""
        return (
            f"return {self.mean:.4g} +- {self.stderr:.2g} over {len(self.returns)} episodes, "
            f"mean length {self.lengths.mean():.4g}"
        )


def join(parts: Sequence[EpisodeStatistics]) -> EpisodeStatistics:
    """Put the episodes of different environments of one evaluation one after the other."""
    levels = [part.level_seeds for part in parts if part.level_seeds is not None]
    return EpisodeStatistics(
        np.concatenate([part.returns for part in parts]),
        np.concatenate([part.lengths for part in parts]),
        np.concatenate([part.envs for part in parts]),
        np.concatenate(levels) if len(levels) == len(parts) else None,
        sum(part.env_steps for part in parts),
    )
