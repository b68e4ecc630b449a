"""App: what a challenge takes on disk, roughly, before it is begun."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rllib_ppg.algorithm.config import PPGConfig
from rllib_ppg.app.checks import network_parameters, store_bytes
from rllib_ppg.app.experiment import CheckpointKeys
from rllib_ppg.app.run_folder import free_megabytes

# Measured; BENCHMARKS.md has the first one.
COMPRESSED = 0.1
"""Share of its size that the frame store has in a checkpoint, for Procgen's frames."""

BYTES_A_PARAMETER = 20
"""Of a checkpoint: the weights, and the moments of two Adams."""

BYTES_AN_ENV = 45_000
"""Of a checkpoint: the state of one of Procgen's games."""

BYTES_A_CHECKPOINT = 250_000
"""The rest of it."""

BYTES_AN_ITERATION = 22_000
"""Of the results of a training iteration, in all files."""


@dataclass(frozen=True)
class DiskSpace:
    """What a challenge takes on disk, in bytes.

    Attributes:
        checkpoint: A checkpoint of a trial under way, at its largest.
        kept: How many of these a trial has at a time, with the one that is being written.
        side_by_side: Trials that train at a time.
        finished: What stays of a trial that is over.
        trials: All trials.
    """

    checkpoint: int
    kept: int
    side_by_side: int
    finished: int
    trials: int

    @property
    def peak(self) -> int:
        """The most that it takes at a time."""
        rest = self.trials - self.side_by_side
        under_way = self.kept * self.checkpoint + self.finished
        return self.side_by_side * under_way + rest * self.finished

    @property
    def end(self) -> int:
        """What it takes when all is over."""
        return self.trials * self.finished

    def lines(self, folder: Path) -> list[str]:
        """What there is to say, a warning included where the disk is too small for it.

        Args:
            folder: The challenge's folder, which need not exist.
        """
        free = int(free_megabytes(folder) * 1e6)
        many = f"{self.side_by_side} trial(s) at a time with {self.kept} checkpoint(s)"
        found = [
            f"about {show_bytes(self.peak)} at most ({many} of {show_bytes(self.checkpoint)}), "
            f"{show_bytes(self.end)} at the end; {show_bytes(free)} are free"
        ]
        if self.peak > free:
            found.append(
                "TOO LITTLE is free: give another --storage-path, a smaller "
                "checkpoint_config.num_to_keep, or --set checkpoint_store=false."
            )
        return found


def estimate(
    config: PPGConfig, keys: CheckpointKeys, *, iterations: int, trials: int, at_a_time: int
) -> DiskSpace:
    """Estimate what a challenge takes.

    Args:
        config: A checked configuration.
        keys: When checkpoints are written and how many are kept.
        iterations: Policy iterations of a trial; slices of auxiliary phases come on top.
        trials: All trials.
        at_a_time: Trials that the machine or cluster can train side by side.
    """
    last = network_parameters(config) * BYTES_A_PARAMETER + BYTES_A_CHECKPOINT
    frames = COMPRESSED * store_bytes(config) if config.checkpoint_store else 0.0
    checkpoint = last + config.num_envs * BYTES_AN_ENV + round(frames)
    every = keys.checkpoint_frequency
    written = (iterations // every if every else 0) + 1
    kept = min(written, keys.num_to_keep + 1) if keys.num_to_keep else written
    finished = last + iterations * BYTES_AN_ITERATION
    return DiskSpace(checkpoint, kept, min(trials, at_a_time), finished, trials)


def trials_at_a_time(config: PPGConfig, there: Mapping[str, float], limit: int | None) -> int:
    """How many trials fit side by side, at least one.

    Args:
        config: A checked configuration, `auto` resolved.
        there: CPUs and GPUs of the machine or cluster, as Ray calls them.
        limit: `max_concurrent_trials`.
    """
    workers = config.num_env_runners * config.num_cpus_per_env_runner
    cpus = config.num_cpus_for_main_process + workers + config.evaluation_cpus()
    needs = {"CPU": cpus, "GPU": config.num_gpus}
    fitting = [int(there.get(kind, 0.0) // need) for kind, need in needs.items() if need]
    return max(1, min([*fitting, *([limit] if limit else [])], default=1))


def show_bytes(size: int) -> str:
    """A number of bytes for a person."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{max(1, round(size / 1e6))} MB"
