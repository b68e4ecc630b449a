"""Algorithm: `PPGConfig`, where every check of a configuration stands.

Python, Tune and the command line all end here, so that they agree on names, types and ranges.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from rllib_ppg._ray_compat import AlgorithmConfig, RLlibCallback
from rllib_ppg.algorithm import resources
from rllib_ppg.algorithm.evaluate_levels import Task, tasks_while_training
from rllib_ppg.algorithm.keys import (
    WORKER_SHARES,
    check_keys,
    check_model_keys,
    is_search_space,
    own_keys,
    rllib_defaults,
)
from rllib_ppg.algorithm.model import MODEL_SETTINGS, MODELS, parse_model_settings
from rllib_ppg.algorithm.rollout import PPGRolloutWorker
from rllib_ppg.algorithm.settings import DEFAULTS, PPGSettings, check_settings, interpolate
from rllib_ppg.core.learner import AuxPhaseSettings, PolicyPhaseSettings
from rllib_ppg.core.segments import SegmentStore
from rllib_ppg.envs.procgen import parse_options
from rllib_ppg.envs.procgen_vector import MAX_NUM_ENVS
from rllib_ppg.errors import UserError, shown
from rllib_ppg.spelling import did_you_mean

FIXED = {
    "framework_str": ("torch", "PPG runs on torch"),
    "enable_rl_module_and_learner": (False, "PPG runs on RLlib's old API stack"),
    "enable_env_runner_and_connector_v2": (False, "PPG runs on RLlib's old API stack"),
    "_disable_preprocessor_api": (True, "PPG's networks take the raw observations"),
    "preprocessor_pref": (None, "PPG's networks take the raw observations"),
    "_model_config": ({}, "RLlib's RLModules are not used; set model"),
    "_rl_module_spec": (None, "RLlib's RLModules are not used; set model"),
}
"""RLlib keys that PPG sets itself, and why they cannot be changed."""


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
        self._check_fixed()
        self._check_env()
        self._check_model()
        self._check_sampling()
        self._check_compiler()
        self._check_sizes()
        self._check_micro_batch()
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

    def _check_fixed(self) -> None:
        for name, (value, why) in FIXED.items():
            if getattr(self, name) != value:
                raise UserError(f"{name}={getattr(self, name)!r}: {why}; leave it out.")
        worker = self.env_runner_cls
        if not (isinstance(worker, type) and issubclass(worker, PPGRolloutWorker)):
            raise UserError(f"env_runner_cls={worker!r}: must be a subclass of PPGRolloutWorker.")

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

    def _check_sampling(self) -> None:
        if self.overlap_aux and not self.num_env_runners:
            raise UserError(
                "overlap_aux=True needs remote workers, which sample beside the learner, but "
                "num_env_runners is 0; set it to 1 or more, or leave overlap_aux out."
            )
        if self.overlap_aux and not self.n_aux_epochs:
            raise UserError(
                "overlap_aux=True has nothing to overlap with: n_aux_epochs is 0, which leaves the "
                "auxiliary phase out; leave overlap_aux out too."
            )
        kind = (self.exploration_config or {}).get("type", "StochasticSampling")
        kind = getattr(kind, "__name__", kind)
        if str(kind).rsplit(".", 1)[-1] != "StochasticSampling":
            raise UserError(
                f"exploration_config.type={kind!r}: PPG samples from its policy "
                "(StochasticSampling), or takes its most likely action (explore: false)."
            )
        if isinstance(self.callbacks_class, list | tuple):
            raise UserError("callbacks: RLlib's old API stack takes one class, not several.")
        for name in ("on_postprocess_trajectory", "on_learn_on_batch"):
            if getattr(self.callbacks_class, name, None) is not getattr(RLlibCallback, name, None):
                raise UserError(
                    f"The callback {name} is never called by PPG, whose learner works on whole "
                    "rollouts; use on_sample_end."
                )

    def _check_compiler(self) -> None:
        backend = self.torch_compile_learner_dynamo_backend
        if backend == rllib_defaults()["torch_compile_learner_dynamo_backend"]:
            return  # torch takes seconds to list what there is
        known = torch._dynamo.list_backends(None)
        if backend not in known:
            hint = did_you_mean(str(backend), known) or f" Use one of {', '.join(known)}."
            raise UserError(
                f"torch_compile_learner_dynamo_backend={shown(backend)}: torch knows no such "
                f"backend.{hint}"
            )

    def _check_sizes(self) -> None:
        rows = self.num_envs * self.rollout_fragment_length
        if self.minibatch_unit == "segment":
            resources.check_divides("nminibatch", self.nminibatch, self.num_envs, "num_envs")
        else:
            what = "num_envs x rollout_fragment_length"
            resources.check_divides("nminibatch", self.nminibatch, rows, what)
        if self.n_aux_epochs:
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
        smallest = min(self._minibatch_sizes())
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
        return max(self._minibatch_sizes())

    def _minibatch_sizes(self) -> list[int]:
        sizes = [self.num_envs * self.rollout_fragment_length // self.nminibatch]
        if self.n_aux_epochs:
            sizes.append(self.aux_mbsize * self.rollout_fragment_length)
        return sizes

    def policy_phase_settings(self) -> PolicyPhaseSettings:
        """The policy phase's part of the configuration, for the learner."""
        return PolicyPhaseSettings(
            n_epoch_pi=self.n_epoch_pi,
            n_epoch_vf=self.n_epoch_vf,
            nminibatch=self.nminibatch,
            clip_param=self.clip_param,
            kl_penalty=self.kl_penalty,
            entropy_coeff=self.scheduled("entropy_coeff", 0),
            vf_loss_coeff=self.vf_loss_coeff,
            value_clip_param=self.value_clip_param,
            grad_clip=self.grad_clip,
            minibatch_unit=self.minibatch_unit,
            lr=self.scheduled("lr", 0),
            precision=self.policy_precision,
        )

    def aux_phase_settings(self) -> AuxPhaseSettings:
        """The auxiliary phase's part of the configuration, for the learner."""
        return AuxPhaseSettings(
            n_aux_epochs=self.n_aux_epochs,
            aux_mbsize=self.aux_mbsize,
            beta_clone=self.beta_clone,
            vf_true_weight=self.vf_true_weight,
            aux_lr=self.scheduled("aux_lr", 0),
            grad_clip=self.grad_clip,
            minibatch_unit=self.minibatch_unit,
            precision=self.aux_precision,
        )

    def scheduled(self, name: str, env_steps: int) -> float:
        """Value of `lr`, `aux_lr` or `entropy_coeff` after `env_steps` environment steps."""
        schedule = getattr(self, f"{name}_schedule")
        return interpolate(schedule, env_steps) if schedule else getattr(self, name)

    def store_segments(self) -> int:
        """Segments that the learner's store holds: a phase's, or an iteration's without one."""
        return self.num_envs * (self.n_pi if self.n_aux_epochs else 1)

    def store_bytes(self, obs_shape: tuple[int, ...], obs_dtype: Any, frame_stack: int = 1) -> int:
        """Bytes of the frame store for observations of this shape and dtype."""
        return SegmentStore.bytes_needed(
            self.store_segments(),
            self.rollout_fragment_length,
            obs_shape,
            np.dtype(obs_dtype),
            frame_stack,
        )

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
