"""Algorithm: what a checkpoint of PPG holds and how a run goes on from it, bit for bit."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rllib_ppg._ray_compat import NUM_ENV_STEPS_SAMPLED, TrainingResult
from rllib_ppg.algorithm import checkpoint, hardware, trial_checkpoints
from rllib_ppg.algorithm.checked_restore import CheckedRestore
from rllib_ppg.algorithm.checkpoint_files import (
    check_checkpoint,
    checkpoint_path,
    remove_manifest,
    write_manifest,
)
from rllib_ppg.algorithm.checkpoint_fit import check_fit, describe
from rllib_ppg.algorithm.out_of_memory import SAVING, memory_of
from rllib_ppg.algorithm.sampling import RolloutSampler
from rllib_ppg.core.adaptive_gamma import AdaptiveGamma
from rllib_ppg.core.aux_phase import AuxPhase
from rllib_ppg.core.budget import RunBudget
from rllib_ppg.core.learner import PhasicLearner
from rllib_ppg.core.phase_plan import PhasePlan
from rllib_ppg.core.reward_norm import RewardPipeline
from rllib_ppg.core.run_clock import RunClock
from rllib_ppg.core.segments import SegmentStore
from rllib_ppg.errors import UserError, told


class Resumable(CheckedRestore):
    """The part of `PPG` that writes and reads its state; `PPG.setup` makes the attributes."""

    _store: SegmentStore
    _learner: PhasicLearner
    _rewards: RewardPipeline
    _plan: PhasePlan
    _gamma_rule: AdaptiveGamma | None
    _budget: RunBudget
    _clock: RunClock
    _finished: bool
    _sampler: RolloutSampler
    _aux_phase: AuxPhase | None
    _totals: dict[str, int]
    _rates_at: tuple[int, int]
    _acting: dict[str, Any]
    _saved: dict[str, float]
    _unsaved: str = ""
    _started: tuple[float, float]

    def _sample_ahead(self, weights: dict[str, Any]) -> None:
        raise NotImplementedError

    def _begin_aux_phase(self, state: dict[str, Any] | None = None) -> AuxPhase:
        raise NotImplementedError

    def save(self, checkpoint_dir: str | None = None) -> TrainingResult:
        """Write a checkpoint to a folder, or as the next one of a Tune trial.

        Under Tune a checkpoint that cannot be written, because a disk is full for instance, ends
        nothing: the run goes on, earlier checkpoints stay, and the next result says what happened,
        once until one is written.

        Raises:
            OSError: If it cannot be written to `checkpoint_dir`.
            OutOfMemory: If the memory does not suffice; its message says what to lower.
        """
        if checkpoint_dir or self._storage is None:
            return super().save(checkpoint_dir)
        try:
            made = trial_checkpoints.save(
                self.save_checkpoint, self._last_result or {}, self._storage
            )
        except OSError as error:
            problem = f"No checkpoint was written: {told(error)}."
            if problem != self._unsaved:
                self._notices.append(problem)
            self._unsaved = problem
            return TrainingResult(checkpoint=None, metrics={})
        self._unsaved = ""
        return made

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write a checkpoint that a run goes on from bit for bit.

        That of a run which has reached its budget has nothing of the phase: it has to be quick, and
        nobody goes on from it but with a larger budget, in a new phase.

        Raises:
            OSError: If it cannot be written; the folder then holds no manifest.
            OutOfMemory: If the memory does not suffice for that; likewise.
        """
        begin, folder = time.perf_counter(), Path(checkpoint_dir)
        remove_manifest(folder)
        with memory_of(SAVING):
            self._write(folder)
        self._saved = {
            "time/checkpoint_s": time.perf_counter() - begin,
            "checkpoint_mb": sum(file.stat().st_size for file in folder.rglob("*")) / 1e6,
        }

    def _write(self, folder: Path) -> None:
        super().save_checkpoint(str(folder))
        checkpoint.save_workers(folder, self._acting["workers"] or self._sampler.states())
        if self.config.checkpoint_store and not self._finished:
            threads = hardware.learner_threads(self.config)
            checkpoint.save_phase(folder, self._phase_state(), self._store, threads)
        checkpoint.declare(folder, type(self), self.config)
        write_manifest(folder, {**self._summary(), "counters": self._ray_counters()})

    def _ray_counters(self) -> dict[str, Any]:
        """What Ray counts on from a checkpoint, by its names; `trial_checkpoints.COUNTERS`."""
        return {
            "training_iteration": self._iteration,
            "time_total_s": self._time_total,
            "timesteps_total": self._timesteps_total,
            "episodes_total": self._episodes_total,
        }

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """Go on from a checkpoint; it is unpickled, so only from sources you trust.

        Raises:
            UserError: If it is broken or does not fit this configuration.
        """
        folder = checkpoint_path(checkpoint_dir)
        summary = self._summary_checked or check_checkpoint(folder)
        fit = check_fit(folder, summary, self._description())
        self._notices += fit.notes
        super().load_checkpoint(str(folder))
        try:
            phase = checkpoint.load_phase(folder, self._store) if fit.phase else None
        except ValueError as error:
            raise _unfit(error) from error
        if phase is not None:
            self._set_phase_state(phase)
        states = checkpoint.load_workers(folder) if fit.environments else {}
        anew = self._sampler.set_states(states, self._counters[NUM_ENV_STEPS_SAMPLED])
        if fit.environments:
            self._notices += self._begun_anew(states, anew)
        if phase is not None and phase["acting_weights"] is not None:
            self._sample_ahead(phase["acting_weights"])
        if phase is not None:  # the last: what came before may draw from them
            checkpoint.set_random_states(phase["random"])

    def _begun_anew(self, states: Mapping[int, Any], workers: Sequence[int]) -> list[str]:
        """What there is to say about workers whose environments begin new episodes."""
        without = [worker for worker in workers if states.get(worker) is None]
        notices = [
            f"The checkpoint holds no state of worker {worker}: its environments begin new "
            "episodes."
            for worker in without
        ]
        if len(workers) > len(without):
            notices.append(
                f"{self.config.env} cannot save its state: all environments begin new episodes."
            )
        return notices

    def __getstate__(self) -> dict[str, Any]:
        """State of the algorithm: RLlib's (weights, counters), and the learner's.

        The phase, its frames and the workers' environments stand in files of a checkpoint.
        """
        state = super().__getstate__()
        state["ppg"] = {
            "learner": self._learner.get_state(),
            "rewards": self._rewards.get_state(),
            "totals": dict(self._totals),
            "rates_at": self._rates_at,
            "budget": self._budget.get_state(),
            "elapsed_s": self._clock.elapsed_s,
            "gamma": self._gamma_rule.get_state() if self._gamma_rule else None,
        }
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the state of `__getstate__`; the current phase starts anew.

        Rollouts under way are waited for and thrown away: they are of the weights before.

        Raises:
            UserError: If it belongs to another network, number of environments or kind of epochs.
        """
        self._sampler.discard()
        try:
            super().__setstate__(state)
            self._learner.set_state(state["ppg"]["learner"])
            self._rewards.set_state(state["ppg"]["rewards"])
        except (ValueError, RuntimeError, KeyError) as error:
            raise _unfit(error) from error
        self._totals = dict(state["ppg"]["totals"])
        self._set_parts_state(state["ppg"])
        self._acting = {"workers": None, "weights": None}
        self._aux_phase = None
        self._plan.restart()
        self._store.clear()
        self._started = (time.perf_counter(), self._counters[NUM_ENV_STEPS_SAMPLED])

    def _so_far(self) -> tuple[int, int]:
        """Environment steps and policy iterations."""
        return int(self._counters[NUM_ENV_STEPS_SAMPLED]), self._totals["policy_iterations"]

    def _set_parts_state(self, state: dict[str, Any]) -> None:
        """Take the state of the parts; a checkpoint of before they were has none."""
        self._rates_at = state.get("rates_at", self._so_far())
        self._plan.phases = self._totals["aux_phases"]
        self._clock.go_on(float(state.get("elapsed_s", 0.0)))
        self._finished = False  # its budget may be larger here
        if "budget" in state:
            self._budget.set_state(state["budget"])
        if self._gamma_rule is not None and state.get("gamma") is not None:
            self._gamma_rule.set_state(state["gamma"])

    def _phase_state(self) -> dict[str, Any]:
        return {
            "iterations": self._plan.stored,
            "skipped": self._plan.skipped,
            "aux_phase": self._aux_phase.get_state() if self._aux_phase else None,
            "acting_weights": self._acting["weights"],
            "episodes": list(self._episode_history),
            "random": checkpoint.random_states(),
        }

    def _set_phase_state(self, state: dict[str, Any]) -> None:
        self._plan.stored, self._plan.skipped = state["iterations"], state.get("skipped", 0)
        if state["aux_phase"] is not None:
            self._aux_phase = self._begin_aux_phase(state["aux_phase"])
        self._episode_history = list(state["episodes"])

    def _description(self) -> dict[str, Any]:
        return describe(self.config, self.get_policy(), self._store.frame_stack)

    def _summary(self) -> dict[str, Any]:
        return {
            **self._description(),
            "env_steps": int(self._counters[NUM_ENV_STEPS_SAMPLED]),
            "training_iteration": int(self.training_iteration),
            "stored_segments": self._store.count,
            "finished": self._finished,
        }


def _unfit(error: Exception) -> UserError:
    return UserError(f"The checkpoint does not fit this configuration: {error}")
