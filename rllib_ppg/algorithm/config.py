"""Algorithm: `PPGConfig`, where every check of a configuration stands.

Python, Tune and the command line all end here, so that they agree on names, types and ranges.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from rllib_ppg._ray_compat import AlgorithmConfig
from rllib_ppg.algorithm import resources
from rllib_ppg.algorithm.evaluate_levels import Task, tasks_while_training
from rllib_ppg.algorithm.keys import (
    WORKER_SHARES,
    check_keys,
    check_model_keys,
    is_search_space,
    own_keys,
)
from rllib_ppg.algorithm.model import MODELS
from rllib_ppg.algorithm.model_settings import MODEL_SETTINGS, parse_model_settings
from rllib_ppg.algorithm.parts import check_parts
from rllib_ppg.algorithm.phase_settings import aux_phase_settings, policy_phase_settings
from rllib_ppg.algorithm.rllib_checks import check_rllib_keys
from rllib_ppg.algorithm.rollout import PPGRolloutWorker
from rllib_ppg.algorithm.setting_types import interpolate
from rllib_ppg.algorithm.settings import DEFAULTS, PPGSettings, check_settings
from rllib_ppg.core.learner import AuxPhaseSettings, PolicyPhaseSettings
from rllib_ppg.core.segments import SegmentStore
from rllib_ppg.core.temperature import check_temperature
from rllib_ppg.envs.procgen import parse_options
from rllib_ppg.envs.procgen_vector import MAX_NUM_ENVS
from rllib_ppg.errors import UserError


class PPGConfig(AlgorithmConfig):
    """Configuration of Phasic Policy Gradient.

    The keys beyond RLlib's common ones are those of `PPGSettings`, documented there; set them with
    `.training(...)`, `.env_runners(...)`, `.update_from_dict(...)` or as attributes.

    Example:
        >>> config = PPGConfig().environment("CartPole-v1").training(n_pi=4, aux_mbsize=16)
        >>> algorithm = config.build_algo()
        >>> result = algorithm.train()
    """

    train_batch_size: int | None

    def __init__(self, algo_class: type | None = None) -> None:
        from rllib_ppg.algorithm.ppg import PPG
        from rllib_ppg.algorithm.registration import register

        super().__init__(algo_class=algo_class or PPG)
        register()
        self._prior_exploration_config = {"type": "StochasticSampling"}
        self.api_stack(enable_rl_module_and_learner=False, enable_env_runner_and_connector_v2=False)
        for name, value in DEFAULTS.items():
            setattr(self, name, value)
        self.env_runner_cls = PPGRolloutWorker
        self._disable_preprocessor_api = True
        self.preprocessor_pref = None
        self.create_local_env_runner = False
        self.sample_timeout_s = 1800.0
        self.delay_between_env_runner_restarts_s = 0.0
        self.num_consecutive_env_runner_failures_tolerance = 10
        self.log_sys_usage = False

    def training(self, **keys: Any) -> "PPGConfig":
        """Set training keys: those of `PPGSettings`, and RLlib's `model`.

        Raises:
            UserError: If a key is unknown or its value is not allowed.
        """
        keys = check_keys(keys)
        return self._set(keys, super().training)

    def env_runners(self, **keys: Any) -> "PPGConfig":
        """Set rollout keys: `num_envs` (total), and RLlib's (`num_env_runners`, ...).

        Raises:
            UserError: If a key is unknown or its value is not allowed.
        """
        keys = check_keys(keys)
        return self._set(keys, super().env_runners)

    def resources(self, **keys: Any) -> "PPGConfig":
        """Set resource keys, such as `num_gpus` (a share, a whole number, or auto).

        Raises:
            UserError: If a key is unknown or its value is not allowed.
        """
        keys = check_keys(keys)
        return self._set(keys, super().resources)

    def evaluation(self, **keys: Any) -> "PPGConfig":
        """Set keys of evaluations during training: `evaluation_interval` and the like.

        Raises:
            UserError: If a key is unknown or its value is not allowed.
        """
        keys = check_keys(keys)
        return self._set(keys, super().evaluation)

    def _set(self, keys: Mapping[str, Any], rllib_setter: Any) -> "PPGConfig":
        own = {name: value for name, value in keys.items() if name in own_keys()}
        self._set_own(own)
        rllib_setter(**{name: value for name, value in keys.items() if name not in own})
        return self

    def _set_own(self, keys: Mapping[str, Any]) -> None:
        values = {name: value for name, value in keys.items() if not is_search_space(value)}
        for name, value in {**keys, **check_settings(values)}.items():
            setattr(self, name, value)

    def update_from_dict(self, config_dict: Mapping[str, Any]) -> "PPGConfig":
        """Set keys from a dict, as Tune and experiment files do.

        Raises:
            UserError: Naming every unknown, outdated or unused key, or a bad value.
        """
        config = check_keys(config_dict)
        if isinstance(config.get("model"), Mapping):  # RLlib looks into it, and knows no user
            check_model_keys(config["model"])
        self._set_own({name: config.pop(name) for name in list(config) if name in own_keys()})
        super().update_from_dict(config)
        return self

    def validate(self) -> None:
        """Check the whole configuration and resolve `auto` keys to numbers.

        Raises:
            UserError: With what was given, what is allowed, and what to do.
        """
        if not self._validate_config:
            return
        if self.in_evaluation:  # RLlib's own copy for its evaluation workers, which are not used
            super().validate()
            return
        check_keys({k: v for k, v in vars(self).items() if not k.startswith("_")})
        for name, value in check_settings({name: getattr(self, name) for name in DEFAULTS}).items():
            setattr(self, name, value)
        self._resolve_counts()
        check_rllib_keys(self)
        self._check_env()
        self._check_model()
        self._check_overlap()
        self._check_sizes()
        self._check_micro_batch()
        check_parts(self)
        self._check_evaluation()
        super().validate()

    def _resolve_counts(self) -> None:
        names = ("num_envs", "num_env_runners", "num_envs_per_env_runner", "num_gpus")
        resolved = resources.resolve_all(
            {name: getattr(self, name) for name in (*names, *WORKER_SHARES)},
            main_cpus=self.num_cpus_for_main_process + self.evaluation_cpus(),
        )
        for name, value in resolved.items():
            setattr(self, name, value)
        rows = self.num_envs * self.rollout_fragment_length
        given = self.train_batch_size
        if given not in (None, rows):
            raise UserError(
                f"train_batch_size={given} contradicts num_envs x "
                f"rollout_fragment_length = {self.num_envs} x {self.rollout_fragment_length} = "
                f"{rows}; leave it out, or change those two."
            )
        self.train_batch_size = rows

    def _check_env(self) -> None:
        if not isinstance(self.env_config, Mapping):
            raise UserError(f"env_config={self.env_config!r}: must be a mapping.")
        if self.env == "procgen":
            parse_options(self.env_config)
            if self.num_envs_per_env_runner > MAX_NUM_ENVS:
                raise UserError(
                    f"num_envs={self.num_envs} on {self.num_env_runners} worker(s): Procgen plays "
                    f"at most {MAX_NUM_ENVS} games in one worker."
                )

    def _check_model(self) -> None:
        if not isinstance(self.model, Mapping):
            raise UserError(f"model={self.model!r}: must be a mapping.")
        check_model_keys(self.model)
        name = self.model.get("custom_model")
        if name is None and self.env == "procgen":
            name = "ppg_impala"
        settings = self.model.get("custom_model_config") or {}
        if name is None:  # the observations will decide; whichever it is must know the keys
            known = {key for each in MODEL_SETTINGS.values() for key in each.model_fields}
            name = "ppg_mlp" if set(settings) - known else None
        if name in MODELS:
            parse_model_settings(name, settings)

    def _check_overlap(self) -> None:
        if self.overlap_aux and not self.num_env_runners:
            raise UserError(
                "overlap_aux=True needs remote workers, which sample beside the learner, but "
                "num_env_runners is 0; set it to 1 or more, or leave overlap_aux out."
            )

    def _check_sizes(self) -> None:
        rows = self.num_envs * self.rollout_fragment_length
        if self.mbsize_rows is not None:
            pass  # the last minibatch may be shorter
        elif self.minibatch_unit == "segment":
            resources.check_divides("nminibatch", self.nminibatch, self.num_envs, "num_envs")
        else:
            what = "num_envs x rollout_fragment_length"
            resources.check_divides("nminibatch", self.nminibatch, rows, what)
        if self.has_aux_phases and self.aux_mbsize_rows is None:
            segments = self.n_pi * self.num_envs
            resources.check_divides("aux_mbsize", self.aux_mbsize, segments, "n_pi x num_envs")

    def _check_micro_batch(self) -> None:
        largest = self.minibatch_rows()
        if self.micro_batch_size != "auto" and self.micro_batch_size > largest:
            raise UserError(
                f"micro_batch_size={self.micro_batch_size} is more than the {largest} rows of the "
                f"largest minibatch; use at most {largest}, or auto."
            )

        gpus = self.num_gpus
        smallest = min(self.minibatch_sizes())
        if gpus > smallest:
            raise UserError(
                f"num_gpus={gpus} is more than the {smallest} rows of the smallest minibatch, "
                f"which the GPUs share; use at most {smallest}."
            )
        if self.store_device == "cuda" and not gpus:
            raise UserError(
                "store_device='cuda' needs a learner on a GPU, but num_gpus is 0; set num_gpus, or "
                "leave store_device at auto."
            )

    def _check_evaluation(self) -> None:
        try:
            check_temperature(self.evaluation_temperature)
        except UserError as error:
            raise UserError(f"evaluation_{error}") from None
        explore = (self.evaluation_config or {}).get("explore")
        if self.evaluation_temperature is not None and explore is not None:
            raise UserError(
                f"evaluation_temperature={self.evaluation_temperature:g} says how evaluations "
                f"choose actions, and so does evaluation_config.explore={explore}; leave one out."
            )
        levels = self.evaluation_levels != "auto"
        if self.env is not None and (self.evaluation_interval or levels or self.evaluation_config):
            self.evaluation_tasks()

    def evaluation_tasks(self) -> list[Task]:
        """What each evaluation during training plays: one task for each kind of levels.

        Raises:
            UserError: If the keys of evaluation contradict each other or the environment.
        """
        overrides = self.evaluation_config or {}
        return tasks_while_training(
            self.env, self.env_config, self.evaluation_levels, overrides.get("env_config")
        )

    def evaluation_cpus_each(self) -> float:
        """CPUs of one evaluation worker."""
        overrides: dict[str, Any] = dict(self.evaluation_config or {})
        given = overrides.get("num_cpus_per_env_runner")
        each = self.num_cpus_per_env_runner if given is None else given
        return 1.0 if each == "auto" else float(each or 0)

    def evaluation_cpus(self) -> float:
        """CPUs of all evaluation workers."""
        return self.evaluation_num_env_runners * self.evaluation_cpus_each()

    def minibatch_rows(self) -> int:
        """Rows of the largest minibatch of both phases."""
        return max(self.minibatch_sizes())

    def minibatch_sizes(self) -> list[int]:
        """Rows of a minibatch of the policy phase and, where there is one, the auxiliary one."""
        rows = self.num_envs * self.rollout_fragment_length
        sizes = [self.mbsize_rows or rows // self.nminibatch]
        if self.has_aux_phases:
            sizes.append(self.aux_mbsize_rows or self.aux_mbsize * self.rollout_fragment_length)
        return sizes

    def policy_minibatches(self) -> int:
        """Minibatches of a policy-phase epoch."""
        rows = self.num_envs * self.rollout_fragment_length
        return math.ceil(rows / self.mbsize_rows) if self.mbsize_rows else self.nminibatch

    def aux_minibatches(self) -> int:
        """Minibatches of an epoch of the auxiliary phase."""
        steps = self.rollout_fragment_length
        rows = self.n_pi * self.num_envs * steps
        return math.ceil(rows / (self.aux_mbsize_rows or self.aux_mbsize * steps))

    @property
    def has_aux_phases(self) -> bool:
        """Whether auxiliary phases follow at all; a run without them is PPO."""
        return self.without_aux_phases is None

    @property
    def without_aux_phases(self) -> str | None:
        """The key that leaves auxiliary phases out, by its 0; None where they follow."""
        off = (name for name in ("n_aux_epochs", "max_aux_phases") if getattr(self, name) == 0)
        return next(off, None)

    @property
    def aux_unit(self) -> Literal["segment", "step"]:
        """What auxiliary minibatches are drawn from."""
        unit: Literal["segment", "step"] = self.aux_minibatch_unit or self.minibatch_unit
        return unit

    def policy_phase_settings(self) -> PolicyPhaseSettings:
        """The policy phase's part of the configuration, for the learner."""
        return policy_phase_settings(self)

    def aux_phase_settings(self) -> AuxPhaseSettings:
        """The auxiliary phase's part of the configuration, for the learner."""
        return aux_phase_settings(self)

    def scheduled(self, name: str, env_steps: int) -> float:
        """Value of a key with a schedule, such as `entropy_coeff`, after `env_steps` steps."""
        schedule = getattr(self, f"{name}_schedule")
        return interpolate(schedule, env_steps) if schedule else getattr(self, name)

    def rates(self, env_steps: int, iteration: int) -> tuple[float, float, float]:
        """Learning rates of the policy phase, the auxiliary phase and the value's Adam.

        Args:
            env_steps: Environment steps before the policy iteration.
            iteration: Its number, from 1.
        """
        lr, aux_lr = self.scheduled("lr", env_steps), self.scheduled("aux_lr", env_steps)
        one = self.optimizers == "one"
        value_lr = self.scheduled("value_lr", env_steps)
        if value_lr is None or self.optimizers != "heads":
            value_lr = lr
        factor = self.lr_decay**iteration
        return lr * factor, (lr if one else aux_lr) * factor, value_lr * factor

    def store_segments(self) -> int:
        """Segments that the learner's store holds: a phase's, or an iteration's without one."""
        return self.num_envs * (self.n_pi if self.has_aux_phases else 1)

    def store_bytes(self, obs_shape: tuple[int, ...], obs_dtype: Any, frame_stack: int = 1) -> int:
        """Bytes of the frame store for observations of this shape and dtype."""
        return SegmentStore.bytes_needed(
            self.store_segments(),
            self.rollout_fragment_length,
            obs_shape,
            np.dtype(obs_dtype),
            frame_stack,
            with_prev_actions=bool(self._network_setting("previous_action")),
            with_returns=self.recomputes_targets,
        )

    def _network_setting(self, name: str) -> Any:
        return (self.model.get("custom_model_config") or {}).get(name)

    @property
    def recomputes_targets(self) -> bool:
        """Whether the store keeps what value targets are computed anew from."""
        return self.has_aux_phases and self.aux_value_targets == "recomputed"

    @property
    def uses_gpu(self) -> bool:
        """Whether the learner is on a GPU; `_fake_gpus` puts its replicas on the CPU."""
        return bool(self.num_gpus) and not self._fake_gpus

    def rows_per_pass(self, *, images: bool, gpu: bool) -> int | None:
        """`micro_batch_size` with `auto` resolved; None means whole minibatches."""
        if self.micro_batch_size != "auto":
            return self.micro_batch_size
        if not images:
            return None
        return 4096 if gpu else 64

    def reserved_cpus(self) -> int:
        """CPUs that the run reserves: the learner's and the workers'."""
        workers = self.num_env_runners * self.num_cpus_per_env_runner
        return max(1, int(self.num_cpus_for_main_process + workers))


PPGConfig.training.__doc__ = (
    (PPGConfig.training.__doc__ or "")
    + "\n\n        Keys:\n"
    + "\n".join(
        f"            {name}: {field.description} Default {field.default!r}."
        for name, field in PPGSettings.model_fields.items()
    )
)
