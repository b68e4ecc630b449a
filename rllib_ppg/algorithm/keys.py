"""Algorithm: which configuration keys are allowed, and what to say of the others.

Ray 2.60 takes misspelt and outdated keys without a word and trains on defaults. Here every key is
known, or refused with the nearest name, its new name, or the reason why PPG does not use it.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import gymnasium as gym
from ray.tune.search.sample import Domain

from rllib_ppg._ray_compat import MODEL_DEFAULTS, AlgorithmConfig
from rllib_ppg.algorithm.setting_types import parse_number
from rllib_ppg.algorithm.settings import PPGSettings
from rllib_ppg.errors import UserError, shown
from rllib_ppg.spelling import did_you_mean

OUTDATED = {
    "num_workers": "num_env_runners",
    "num_rollout_workers": "num_env_runners",
    "num_envs_per_worker": "num_envs_per_env_runner",
    "num_cpus_per_worker": "num_cpus_per_env_runner",
    "num_gpus_per_worker": "num_gpus_per_env_runner",
    "num_cpus_for_driver": "num_cpus_for_main_process",
    "num_cpus_for_local_worker": "num_cpus_for_main_process",
    "custom_resources_per_worker": "custom_resources_per_env_runner",
    "sample_batch_size": "rollout_fragment_length",
    "num_sgd_iter": "n_epoch_pi and n_epoch_vf",
    "num_epochs": "n_epoch_pi and n_epoch_vf",
    "sgd_minibatch_size": "nminibatch (how many minibatches, not how large)",
    "minibatch_size": "nminibatch (how many minibatches, not how large)",
    "vf_clip_param": "value_clip_param (clips the value's change, not its error)",
    "kl_coeff": "kl_penalty (policy phase) or beta_clone (auxiliary phase)",
    "lambda_coeff": "lambda_",
    "entropy_coef": "entropy_coeff",
    "use_pytorch": "framework: torch (the only one, so leave it out)",
    "evaluation_num_workers": "evaluation_num_env_runners",
    "evaluation_num_episodes": "evaluation_duration",
    "recreate_failed_workers": "restart_failed_env_runners",
    "recreate_failed_env_runners": "restart_failed_env_runners",
    "ignore_worker_failures": "ignore_env_runner_failures",
    "num_consecutive_worker_failures_tolerance": "num_consecutive_env_runner_failures_tolerance",
    "collect_metrics_timeout": "metrics_episode_collection_timeout_s",
    "timesteps_per_iteration": "min_sample_timesteps_per_iteration",
    "min_iter_time_s": "min_time_s_per_iteration",
    "monitor": "render_env (not supported by PPG either)",
    "custom_options": "model.custom_model_config",
    "n_aux_iterations": "n_aux_epochs",
    "ent_coef": "entropy_coeff",
    "entcoef": "entropy_coeff",
    "vf_coef": "vf_loss_coeff",
    "vfcoef": "vf_loss_coeff",
    "lam": "lambda_",
    "nstep": "rollout_fragment_length",
    "arch": "model.custom_model_config.arch",
    "checkpoint_freq": "checkpoint_config.checkpoint_frequency, beside config and not in it",
    "checkpoint_at_end": "checkpoint_config.checkpoint_at_end, beside config and not in it",
    "keep_checkpoints_num": "checkpoint_config.num_to_keep, beside config and not in it",
}

_NOT_WITH_STEPS = "evaluation_duration counts episodes, not steps"
_LOST = "a lost evaluation worker is replaced at once, see evaluation_sample_timeout_s"

UNUSED = {
    "evaluation_parallel_to_training": "it would measure the weights of the iteration before; "
    "evaluations stand between training iterations",
    "evaluation_auto_duration_min_env_steps_per_sample": _NOT_WITH_STEPS,
    "evaluation_auto_duration_max_env_steps_per_sample": _NOT_WITH_STEPS,
    "evaluation_force_reset_envs_before_iteration": "every evaluation has new environments",
    "evaluation_unhealthy_workers_timeout_s": _LOST,
    "evaluation_error_after_n_consecutive_skips": _LOST,
    "always_attach_evaluation_results": "every result has the evaluation's keys, NaN where none "
    "was made",
    "custom_evaluation_function": "Ray calls it without arguments on its old API stack; use the "
    "callback on_train_result, or rllib_ppg.evaluate()",
    "kl_target": "PPG has no adaptive KL coefficient",
    "use_gae": "PPG always uses GAE",
    "use_critic": "PPG always has a critic",
    "use_kl_loss": "use kl_penalty",
    "vf_share_layers": "set model.custom_model_config.arch: shared",
    "horizon": "limit episodes in the environment (gymnasium's TimeLimit)",
    "soft_horizon": "Ray removed it",
    "no_done_at_end": "Ray removed it",
    "eager": "PPG runs on torch only",
    "eager_tracing": "PPG runs on torch only",
    "shuffle_sequences": "minibatches are always shuffled; see minibatch_unit",
    "straggler_mitigation": "Ray removed it",
    "multiagent": "PPG is for one agent",
}

MULTI_AGENT = {"policies", "policies_to_train", "policy_mapping_fn", "is_policy_to_train"}

RECURRENT = {"use_lstm", "use_attention", "lstm_cell_size", "max_seq_len"}

CHOICES = {
    "log_level": ("DEBUG", "INFO", "WARN", "WARNING", "ERROR", None),
    "placement_strategy": ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"),
    "torch_compile_learner_dynamo_mode": (
        None, "default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs",
    ),
}  # fmt: skip
"""RLlib's keys with a fixed set of values."""

SHARES = {"num_cpus_for_main_process", "num_cpus_per_env_runner", "num_gpus_per_env_runner"}
"""RLlib's numbers that need not be whole, though their defaults are."""

WORKER_SHARES = ("num_cpus_per_env_runner", "num_gpus_per_env_runner")
"""Those that may be `auto`."""

LARGEST = 2**31 - 1
"""No number of RLlib's may be larger: Ray hands them on to C, times in milliseconds too."""

# RLlib's own keys that PPG honours. Whatever else RLlib has may only keep its default.
HONOURED = {
    "_disable_preprocessor_api", "_fake_gpus", "_is_frozen", "_model_config",
    "_prior_exploration_config", "_rl_module_spec", "_validate_config", "action_space",
    "algo_class", "callbacks", "callbacks_class", "clip_actions", "create_env_on_driver",
    "create_local_env_runner", "custom_resources_for_main_process",
    "custom_resources_per_env_runner", "delay_between_env_runner_restarts_s",
    "disable_env_checking", "enable_env_runner_and_connector_v2",
    "enable_rl_module_and_learner", "env", "env_config", "env_runner_cls",
    "env_runner_health_probe_timeout_s", "env_runner_restore_timeout_s", "exploration_config",
    "explore", "export_native_model_files", "extra_python_environs_for_driver",
    "extra_python_environs_for_worker", "framework", "framework_str",
    "ignore_env_runner_failures", "keep_per_episode_custom_metrics", "local_gpu_idx",
    "log_level", "log_sys_usage", "max_num_env_runner_restarts",
    "metrics_episode_collection_timeout_s", "metrics_num_episodes_for_smoothing",
    "min_sample_timesteps_per_iteration", "min_time_s_per_iteration",
    "min_train_timesteps_per_iteration", "model", "normalize_actions",
    "num_consecutive_env_runner_failures_tolerance", "num_cpus_for_main_process",
    "num_cpus_per_env_runner", "num_gpus_per_env_runner", "observation_space",
    "placement_strategy", "preprocessor_pref", "restart_failed_env_runners", "sample_timeout_s",
    "torch_compile_learner", "torch_compile_learner_dynamo_backend",
    "torch_compile_learner_dynamo_mode",
}  # fmt: skip


@cache
def rllib_defaults() -> dict[str, Any]:
    """RLlib's common keys with their defaults, by both of the names that Ray gives some."""
    base = AlgorithmConfig()
    return {**vars(base), **base.to_dict()}


def own_keys() -> frozenset[str]:
    """The keys of `PPGSettings`."""
    return frozenset(PPGSettings.model_fields)


def check_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    """Refuse keys that PPG's configuration does not know or does not use.

    Args:
        config: Configuration keys as a user, Tune or a checkpoint gives them.

    Returns:
        The same keys (`lambda` as `lambda_`), number strings such as `"5e-4"` turned into numbers
        where RLlib's key is one.

    Raises:
        UserError: Naming all refused keys, each with what to do.
    """
    # Ray writes `lambda_` without the underscore, as a user may.
    named = {"lambda_" if name == "lambda" else name: value for name, value in config.items()}
    parsed = {name: _parse_rllib_number(name, value) for name, value in named.items()}
    problems = [p for name, value in parsed.items() if (p := key_problem(name, value))]
    if problems:
        raise UserError("\n".join(problems))
    return parsed


def _parse_rllib_number(name: str, value: Any) -> Any:
    default = rllib_defaults().get(name)
    if name in own_keys() or not isinstance(value, str) or isinstance(default, bool):
        return value
    if not isinstance(default, int | float):
        return value
    try:
        number = parse_number(value)
    except ValueError:
        return value
    return int(number) if isinstance(default, int) and number.is_integer() else number


def is_search_space(value: Any) -> bool:
    """Whether Tune will put a value here, such as `tune.grid_search([...])`."""
    grid = isinstance(value, Mapping) and set(value) == {"grid_search"}
    return grid or isinstance(value, Domain)


def key_problem(name: str, value: Any) -> str | None:
    """What is wrong with one configuration key, or None."""
    if name.startswith("__") or name == "class" or name in own_keys():
        return None
    if name in OUTDATED and not _is_default(name, value):
        return f'Unknown config key "{name}": use {OUTDATED[name]}.'
    if name in UNUSED and not _is_default(name, value):
        return f'Config key "{name}" is not used by PPG: {UNUSED[name]}.'
    if name in rllib_defaults():
        return _rllib_key_problem(name, value)
    known = own_keys() | HONOURED
    return f'Unknown config key "{name}".{did_you_mean(name, known)}'


def _is_default(name: str, value: Any) -> bool:
    defaults = rllib_defaults()
    return name in defaults and _same(value, defaults[name])


def _same(a: Any, b: Any) -> bool:
    try:
        return a is b or bool(a == b)
    except (ValueError, TypeError, AttributeError):  # RLlib's PolicySpec takes only its like
        return False


def _rllib_key_problem(name: str, value: Any) -> str | None:
    default = rllib_defaults()[name]
    if name in HONOURED:
        return _type_problem(name, value, default)
    if name.startswith("callbacks_on_") and value is not None:
        return (
            f'Config key "{name}": RLlib calls functions on its new API stack only; make them '
            "methods of an RLlibCallback class and give that to callbacks(...)."
        )
    if name.startswith("_") or _same(value, default) or _is_plumbing(name, value):
        return None
    if name in MULTI_AGENT:
        return f'Config key "{name}": PPG is for one agent; remove it.'
    return f'Config key "{name}" is RLlib\'s, but PPG does not use it; remove it.'


def _is_plumbing(name: str, value: Any) -> bool:
    """Whether a non-default value is only another writing of the default (after a restore)."""
    default = rllib_defaults()[name]
    if name in MULTI_AGENT:
        if isinstance(value, Mapping | list | tuple | set):
            return all(policy == "default_policy" for policy in value)
        return callable(value)
    if callable(default) or isinstance(default, type):
        return getattr(default, "__name__", None) == getattr(value, "__name__", None)
    return name in ("simple_optimizer", "stats_cls_lookup", "torch_compile_learner_what_to_compile")


def _type_problem(name: str, value: Any, default: Any) -> str | None:
    if is_search_space(value):
        return None
    expected = _expected(name, value, default)
    return f"{name}={shown(value)}: must be {expected}." if expected else None


def _expected(name: str, value: Any, default: Any) -> str | None:
    """What `value` should have been, or None where it is allowed."""
    if name in CHOICES:
        return None if value in CHOICES[name] else " or ".join(map(repr, CHOICES[name]))
    if name in OBJECTS:
        expected, is_one = OBJECTS[name]
        return None if is_one(value) else expected
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "true or false"
    if isinstance(default, int | float) or name == "min_time_s_per_iteration":
        return _expected_number(name, value, default)
    if isinstance(default, dict):
        return None if isinstance(value, Mapping) else "a mapping"
    return None


def _expected_number(name: str, value: Any, default: Any) -> str | None:
    may_be_none = default is None or name.endswith("timeout_s")
    whole = isinstance(default, int) and name not in SHARES
    positive = name == "sample_timeout_s"  # 0 would drop every rollout
    if value is None and may_be_none:
        return None
    if name in WORKER_SHARES and value == "auto":
        return None
    if _is_number(value) and (0 < value if positive else 0 <= value) and value <= LARGEST:
        return None if not whole or float(value).is_integer() else "a whole number"
    if _is_number(value) and value > LARGEST:
        return f"at most {LARGEST}"
    kind = "a whole number" if whole else "a number"
    if name in WORKER_SHARES:
        return f"{kind}, not negative, or auto"
    return f"{kind}, more than 0, or null for no limit" if positive else f"{kind}, not negative"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_space(value: Any) -> bool:
    return value is None or isinstance(value, gym.Space)


def _is_class(value: Any) -> bool:
    return value is None or isinstance(value, type)


def _is_callback(value: Any) -> bool:
    return value is None or callable(value) or isinstance(value, str | list | tuple)


def _is_exploration(value: Any) -> bool:
    kinds = str | type | None
    return isinstance(value, Mapping) and isinstance(value.get("type"), kinds)


def _are_amounts(value: Any) -> bool:
    if not isinstance(value, Mapping) or set(value) & {"CPU", "GPU"}:
        return False
    return all(_is_number(amount) and 0 <= amount <= LARGEST for amount in value.values())


def _are_texts(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(text, str) for text in value.values())


_SPACE = ("a Gymnasium space, which only Python can give; leave it out", _is_space)
_CALLBACK = ("a callback class, or its path package.module.Class", _is_callback)
_AMOUNTS = (
    "a mapping of names to numbers, not negative; CPUs and GPUs have keys of their own",
    _are_amounts,
)
_TEXTS = ("a mapping of names to text (in quotes where it looks like a number)", _are_texts)

OBJECTS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "action_space": _SPACE,
    "observation_space": _SPACE,
    "algo_class": ("a class, which only Python can give; leave it out", _is_class),
    "callbacks": _CALLBACK,
    "callbacks_class": _CALLBACK,
    "custom_resources_for_main_process": _AMOUNTS,
    "custom_resources_per_env_runner": _AMOUNTS,
    "exploration_config": ("a mapping with type: StochasticSampling", _is_exploration),
    "extra_python_environs_for_driver": _TEXTS,
    "extra_python_environs_for_worker": _TEXTS,
}
"""RLlib's keys that hold no plain value: what they take, and whether a value is such."""


_MODEL_TYPES: dict[str, tuple[Any, str]] = {
    "custom_model": (str | type | None, "the name of a model"),
    "custom_model_config": (Mapping | None, "a mapping"),
}


def check_model_keys(model: Mapping[str, Any]) -> None:
    """Refuse keys of `model` other than `custom_model` and `custom_model_config`.

    Raises:
        UserError: Naming each refused key, and a wrong type of those two.
    """
    problems = [p for name, value in model.items() if (p := _model_key_problem(name, value))]
    if problems:
        raise UserError("\n".join(problems))


def _model_key_problem(name: str, value: Any) -> str | None:
    if name in _MODEL_TYPES:
        types, expected = _MODEL_TYPES[name]
        fits = isinstance(value, types) or is_search_space(value)
        return None if fits else f"model.{name}={shown(value)}: must be {expected}."
    if name in RECURRENT and not _same(value, MODEL_DEFAULTS[name]):
        return f'Config key "model.{name}": PPG has no recurrent networks; remove it.'
    if name in MODEL_DEFAULTS:
        # Names with a _ are RLlib's copies of its own switches.
        if name.startswith("_") or _same(value, MODEL_DEFAULTS[name]):
            return None
        return (
            f"Config key \"model.{name}\" is RLlib's, but PPG's networks do not use it; "
            'set "model.custom_model_config" instead.'
        )
    if name in OUTDATED:
        return f'Unknown config key "model.{name}": use {OUTDATED[name]}.'
    return f'Unknown config key "model.{name}".{did_you_mean(name, _MODEL_TYPES)}'
