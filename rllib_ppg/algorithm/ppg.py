"""Algorithm: `PPG`, the loop of policy iterations and auxiliary phases."""

import logging
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from rllib_ppg._ray_compat import (
    DEFAULT_POLICY_ID,
    LEARNER_STATS_KEY,
    NUM_AGENT_STEPS_SAMPLED,
    NUM_AGENT_STEPS_TRAINED,
    NUM_ENV_STEPS_SAMPLED,
    NUM_ENV_STEPS_TRAINED,
    AlgorithmConfig,
)
from rllib_ppg.algorithm import fault_dump, hardware, metrics, part_metrics, parts
from rllib_ppg.algorithm.batch import make_batch
from rllib_ppg.algorithm.config import PPGConfig
from rllib_ppg.algorithm.environment import check_environment, check_fit, try_environment
from rllib_ppg.algorithm.evaluating import Evaluating
from rllib_ppg.algorithm.hardware import LearnerThreads
from rllib_ppg.algorithm.idle_keys import idle_notes
from rllib_ppg.algorithm.out_of_memory import AUXILIARY, POLICY, SAMPLING, memory_of
from rllib_ppg.algorithm.policy import PPGTorchPolicy
from rllib_ppg.algorithm.registration import register
from rllib_ppg.algorithm.rollout import Rollout
from rllib_ppg.algorithm.sampling import RolloutSampler, sampling_shares
from rllib_ppg.algorithm.store_place import make_store
from rllib_ppg.core.aux_phase import AuxPhase
from rllib_ppg.core.value_targets import recomputed_targets
from rllib_ppg.errors import UserError, WorkersLost

logger = logging.getLogger(__name__)


class PPG(Evaluating):
    """Phasic Policy Gradient (Cobbe et al. 2020, arXiv:2009.04416) on RLlib's old API stack.

    One `train()` is one policy iteration (sample, policy phase) or one slice of the auxiliary phase
    that follows every `n_pi` iterations.
    """

    @classmethod
    def get_default_config(cls) -> AlgorithmConfig:
        """Return PPG's default configuration."""
        return PPGConfig()

    @classmethod
    def get_default_policy_class(cls, config: AlgorithmConfig) -> type[PPGTorchPolicy]:
        """Return PPG's policy class."""
        return PPGTorchPolicy

    def setup(self, config: AlgorithmConfig) -> None:
        """Start the workers and build the learner.

        Raises:
            RuntimeError: If no rollout worker could start.
            UserError: If the environment or machine does not fit the configuration.
        """
        if self.config.env is None:
            raise UserError("No environment is set; use .environment(...) or the key env.")
        hardware.check_gpus(self.config)
        if self._storage is None:  # under Tune, rllib train has said so before
            for note in [*idle_notes(self.config), *hardware.slow_notes(self.config)]:
                logger.warning(note)
        frame_stack = None
        if self.config.num_env_runners:
            frame_stack = try_environment(self.env_creator, self.config)
        try:
            super().setup(config)
        except IndexError as error:
            raise RuntimeError(
                "No rollout worker could start; its error stands in the log (shown by -v)."
            ) from error
        self._sync_weights()
        if frame_stack is None:
            check_fit(self.env_runner.array_env, self.config)
        self._build_learner(frame_stack or self.env_runner.frame_stack)
        self._notices: list[str] = []
        self._sampler = RolloutSampler(
            self.env_runner_group,
            timeout_s=self.config.sample_timeout_s,
            ignore_errors=self.config.ignore_env_runner_failures
            or self.config.restart_failed_env_runners,
            tell=lambda text: self._notices.append(text),
            restart=self.config.restart_failed_env_runners,
            restore_s=self.config.env_runner_health_probe_timeout_s,
        )
        self._sampler.admit()
        self._fruitless = 0
        self._aux_phase: AuxPhase | None = None
        self._acting: dict[str, Any] = {"workers": None, "weights": None}
        self._saved: dict[str, float] = {}
        self._totals = {"policy_iterations": 0, "aux_phases": 0}
        self._rates_at = 0, 0
        self._started = (time.perf_counter(), 0)
        self._begin_evaluations()
        self._begin_budget()

    def _build_learner(self, frame_stack: int) -> None:
        config, policy = self.config, self.get_policy()
        space = getattr(policy.observation_space, "original_space", policy.observation_space)
        self._store = make_store(config, policy, space, frame_stack)
        self._learner = hardware.make_learner(config, policy, space)
        self._rewards = parts.reward_pipeline(config)
        self._plan = parts.phase_plan(config)
        self._gamma_rule = parts.gamma_rule(config)

    @staticmethod
    def validate_env(env: Any, env_context: Any) -> None:
        """Refuse environments that PPG cannot learn in; RLlib calls it in each worker."""
        check_environment(env)

    def step(self) -> dict[str, Any]:
        """Run a training iteration, and the evaluation that it makes due.

        What a person has to be told stands under `notices`.
        """
        before = self._totals["policy_iterations"]
        self._clock.begin()
        with self._clock.measured("iteration"):
            result: dict[str, Any] = super().step()
        self._look_ahead()
        if self.config.evaluation_interval:
            with self._clock.measured("evaluation"):
                result["evaluation"] = self._evaluation_since(before)
        result["notices"], self._notices = self._notices, []
        if self._finished:
            result["done"] = True
        self._clock.end()
        return result

    def training_step(self) -> dict[str, Any] | None:
        """Run one policy iteration, or one slice of the auxiliary phase that is due.

        Returns:
            The statistics of `metrics.METRICS`, or None where no worker delivered a rollout, so
            that RLlib tries again within the iteration.

        Raises:
            FloatingPointError: If a loss, a gradient, an observation or a reward became NaN or
                infinite; its message names the dump.
            OutOfMemory: If the memory does not suffice; its message says what to lower.
        """
        in_aux = self._aux_phase is not None
        if not in_aux:  # an auxiliary phase keeps the rates of the iteration before it
            self._rates_at = self._so_far()
        self._apply_schedules()
        try:
            with memory_of(AUXILIARY if in_aux else POLICY):
                stats = self._one_iteration(in_aux)
        except FloatingPointError as error:
            raise self._numeric_fault(error) from error
        if stats is None:
            return None
        stats |= self._position(in_aux)
        return {DEFAULT_POLICY_ID: {LEARNER_STATS_KEY: metrics.nested(metrics.complete(stats))}}

    def _one_iteration(self, in_aux: bool) -> dict[str, float] | None:
        if self._is_over():
            self._finish(self._env_steps)
            return self._aux_position(self._aux_phase) if self._aux_phase else {}
        return self._aux_slice() if in_aux else self._policy_iteration()

    def _numeric_fault(self, error: FloatingPointError) -> FloatingPointError:
        return fault_dump.final_error(
            error,
            self.get_policy(),
            self._learner,
            env_steps=int(self._counters[NUM_ENV_STEPS_SAMPLED]),
            logdir=self.logdir,
            storage=self._storage,
        )

    def _apply_schedules(self) -> None:
        steps, iterations = self._rates_at
        self._learner.set_lr(*self.config.rates(steps, iterations + 1))
        self._learner.set_entropy_coeff(self.config.scheduled("entropy_coeff", steps))

    # ---- policy phase

    def _policy_iteration(self) -> dict[str, float] | None:
        begin = time.perf_counter()
        with memory_of(SAMPLING):
            rollouts = self._sampler.collect()
        acting = self._acting["weights"]
        self._acting = {"workers": None, "weights": None}
        self._count_fruitless(rollouts)
        if not rollouts:
            return None
        sampled = time.perf_counter()
        env_steps = sum(len(rollout.batch) for rollout in rollouts)
        with self._threads():
            stats = self._policy_phase(rollouts, acting)
        learned = time.perf_counter()
        self._count(env_steps)
        stats["time/weight_sync_s"] = self._sync_weights()
        if self.config.overlap_aux and self._aux_phase is not None:
            self._sample_ahead(self._weights())
        stats |= sampling_shares(rollouts)
        stats |= {
            "time/sample_s": sampled - begin,
            "time/policy_phase_s": learned - sampled,
            "time/env_steps_per_s": env_steps / (time.perf_counter() - begin),
            "lost_envs": self.config.num_envs - sum(r.num_envs for r in rollouts),
            "lost_workers": len(self._sampler.causes),
        }
        return stats

    def _count_fruitless(self, rollouts: Sequence[Rollout]) -> None:
        """Give up where nobody has given a rollout several times in a row.

        Raises:
            WorkersLost: Why each of them was lost.
        """
        self._fruitless = 0 if rollouts else self._fruitless + 1
        if self._fruitless > self.config.num_consecutive_env_runner_failures_tolerance:
            causes = self._sampler.causes.items()
            reasons = "; ".join(f"worker {index}: {cause}" for index, cause in causes)
            raise WorkersLost(f"No rollout worker is left. {reasons}.")

    def restore_env_runners(self, env_runner_group: Any) -> list[int]:
        """Take lost workers that are up again into service; RLlib calls it before each iteration.

        They have begun new episodes, with a seed of their own, and are given the weights.
        """
        up = self._sampler.back()
        back = self._sampler.admit(up, self.env_runner.get_state()) if up else []
        self._notices += [f"Worker {index} is back, with new episodes." for index in back]
        self._counters["total_num_restored_workers"] += len(back)
        return back

    def _sample_ahead(self, weights: dict[str, Any]) -> None:
        """Let the workers sample with these weights while the auxiliary phase runs.

        A checkpoint meanwhile holds what they began from, and not what they make.
        """
        self._acting = {"workers": self._sampler.states(), "weights": weights}
        self._sampler.set_weights(weights)
        self._sampler.begin()

    def _policy_phase(
        self, rollouts: list[Rollout], acting: dict[str, Any] | None
    ) -> dict[str, float]:
        batch, rows, targets = make_batch(
            rollouts, self._store, self._learner, self._rewards, self.config, self.gamma
        )
        stats = {
            "policy_phase/explained_variance": targets.explained_variance,
            "reward_scale": self._rewards.scale,
            **part_metrics.of_environments(rollouts),
        }
        steps = self._env_steps + sum(len(rollout.batch) for rollout in rollouts)
        self._note_episodes(rollouts, acting, steps)
        if self._budget.used_up(steps, self._clock.elapsed_s):
            self._store.drop(rows)
            self._finish(steps)
            return stats
        self._store.value_targets[rows] = targets.value_targets
        if self._store.returns is not None:
            self._store.returns.write(rows, **targets.returns)
        phase = self._learner.policy_phase(batch)
        self._end_policy_iteration(rows, steps)
        means = {f"policy_phase/{name}": value for name, value in phase.means().items()}
        means = {name: value for name, value in means.items() if name in metrics.METRICS}
        means["policy_phase/minibatches"] = len(phase["loss_total"])
        return stats | means | part_metrics.of_policy_phase(self._learner)

    @property
    def gamma(self) -> float:
        """The current discount."""
        return self._gamma_rule.gamma if self._gamma_rule else float(self.config.gamma)

    def _end_policy_iteration(self, rows: slice, steps: int) -> None:
        self._totals["policy_iterations"] += 1
        place = self._plan.iteration()
        if self._budget.reached(steps):
            self._finish(steps)
            return
        if place == "drop":
            self._store.drop(rows)
        if place == "aux":
            self._aux_phase = self._begin_aux_phase()
        else:
            self._move_gamma()

    def _move_gamma(self) -> None:
        if self._gamma_rule is not None:
            self._gamma_rule.move()

    def _begin_aux_phase(self, state: dict[str, Any] | None = None) -> AuxPhase:
        retarget = None
        if self.config.recomputes_targets:
            retarget = partial(recomputed_targets, gamma=self.gamma, lambda_=self.config.lambda_)
        return self._learner.begin_aux_phase(self._store, state, retarget)

    def _count(self, env_steps: int) -> None:
        for counter in (
            NUM_ENV_STEPS_SAMPLED,
            NUM_AGENT_STEPS_SAMPLED,
            NUM_ENV_STEPS_TRAINED,
            NUM_AGENT_STEPS_TRAINED,
        ):
            self._counters[counter] += env_steps

    # ---- auxiliary phase

    def _aux_slice(self) -> dict[str, float]:
        assert self._aux_phase is not None
        begin, position = time.perf_counter(), self._aux_position(self._aux_phase)
        with self._threads():
            phase = self._aux_phase.run(self.config.aux_slice_s)
        stats = {f"aux_phase/{name}": value for name, value in phase.means().items()}
        stats = {name: value for name, value in stats.items() if name in metrics.METRICS}
        stats["aux_phase/minibatches"] = len(phase["loss_total"])
        if position["phase/aux_epoch"] == 0:
            stats["aux_phase/target_change"] = self._aux_phase.target_change
        stats["time/aux_phase_s"] = time.perf_counter() - begin
        stats |= {**position, "phase/aux_progress": self._aux_phase.progress}
        if self._aux_phase.done:
            self._end_aux_phase()
            stats["time/weight_sync_s"] = self._sync_weights()
        return stats

    @staticmethod
    def _aux_position(phase: AuxPhase) -> dict[str, float]:
        return {"phase/aux_epoch": phase.epoch, "phase/aux_progress": phase.progress}

    def _end_aux_phase(self) -> None:
        self._aux_phase = None
        self._store.clear()
        self._plan.phase_done()
        self._totals["aux_phases"] += 1
        self._move_gamma()

    # ---- both

    def _position(self, in_aux: bool) -> dict[str, float]:
        elapsed = time.perf_counter() - self._started[0]
        steps = self._counters[NUM_ENV_STEPS_SAMPLED] - self._started[1]
        return {
            "phase/policy_iterations": self._plan.stored,
            "phase/n_pi": self.config.n_pi,
            "phase/in_aux_phase": float(in_aux),
            "phase/aux_epochs": self.config.n_aux_epochs if self.config.has_aux_phases else 0,
            "phase/aux_phases": self._totals["aux_phases"],
            "phase/policy_iterations_total": self._totals["policy_iterations"],
            "phase/stored_segments": self._store.count,
            "lr": self._learner.lr,
            "aux_lr": self._learner.aux_lr,
            "gamma": self.gamma,
            "entropy_coeff": self._learner.entropy_coeff,
            "time/env_steps_per_s_overall": steps / elapsed,
            "time/run_s": self._clock.elapsed_s,
            **self._saved,
            **part_metrics.of_run(self._learner, self._budget, self.config),
        }

    def _sync_weights(self) -> float:
        begin = time.perf_counter()
        steps = {"timestep": self._counters[NUM_ENV_STEPS_SAMPLED]}
        if self.env_runner_group.num_remote_workers():
            self.env_runner_group.sync_weights(policies=[DEFAULT_POLICY_ID], global_vars=steps)
        self.env_runner.set_global_vars(steps)
        return time.perf_counter() - begin

    def _threads(self) -> LearnerThreads:
        return LearnerThreads(hardware.learner_threads(self.config))

    def _remote_worker_ids_for_metrics(self) -> Iterator[int]:
        """Nobody: remote workers send their episodes with the rollouts.

        RLlib would wait for workers that sample beside the auxiliary phase. It takes an empty list
        for all workers, hence an iterator.
        """
        return iter(())


register()
