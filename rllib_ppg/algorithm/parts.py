"""Algorithm: the parts that a configuration chooses beside the phases, and how they fit together.

Each part is off by default. `check_parts` says in one sentence what contradicts what.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rllib_ppg.algorithm.idle_keys import idle_problems
from rllib_ppg.algorithm.model_settings import MODEL_SETTINGS
from rllib_ppg.core.adaptive_gamma import AdaptiveGamma
from rllib_ppg.core.augment import Augmentation, Mixture, OnePerChunk
from rllib_ppg.core.augment_setting import make_augmentation
from rllib_ppg.core.budget import BudgetSettings, RunBudget
from rllib_ppg.core.clipping import AdaptiveClip
from rllib_ppg.core.phase_plan import PhasePlan
from rllib_ppg.core.reward_norm import RewardPipeline, make_reward_transform
from rllib_ppg.core.reward_trial import try_reward_transform
from rllib_ppg.core.scores import get_table, table_names
from rllib_ppg.core.transform_choice import ChoiceSettings
from rllib_ppg.envs.procgen_options import ProcgenOptions, parse_options
from rllib_ppg.errors import UserError

if TYPE_CHECKING:
    from rllib_ppg.algorithm.config import PPGConfig


def return_max(config: PPGConfig) -> float:
    """The largest return of the game.

    Raises:
        UserError: If it is `auto`, and not known for the game and its mode.
    """
    if config.return_max != "auto":
        return float(config.return_max)
    users = " and ".join(_users_of_return_max(config))
    if config.env != "procgen":
        raise UserError(
            f"return_max='auto': {users} needs the largest return, and only Procgen's games have "
            "one; set return_max to a number."
        )
    options = parse_options(config.env_config)
    found = options.return_constants().high
    if found is None:
        raise UserError(
            f"return_max='auto': {users} needs the largest return, and the challenge's holds for "
            f"distribution_mode easy, not {options.distribution_mode}; set return_max to a number"
            f"{_example(options)}."
        )
    if found <= 0:
        raise UserError(
            f"env_config.return_max={found:g}: {users} needs a number above 0; give one, or leave "
            "it out."
        )
    return float(found)


def _example(options: ProcgenOptions) -> str:
    """A published number for a game in another mode than easy, as the end of a sentence."""
    for name in table_names(options.distribution_mode):
        found = get_table(name).ranges.get(options.env_name)
        if found is not None:
            return f", such as {found.high:g} of the table {name}"
    return ""


def _users_of_return_max(config: PPGConfig) -> list[str]:
    users = ["reward_clip: return_max"] if config.reward_clip == "return_max" else []
    return [*users, "adaptive_gamma"] if config.adaptive_gamma else users


def reward_pipeline(config: PPGConfig) -> RewardPipeline:
    """Make what turns raw rewards into those that returns are computed from.

    Raises:
        UserError: If an option makes no sense.
    """
    if not config.normalize_rewards:
        return RewardPipeline(None, clip=None, scale=config.reward_scale)
    transform = make_reward_transform(
        config.reward_transform, config.num_envs, gamma=config.reward_norm_gamma
    )
    clip = return_max(config) if config.reward_clip == "return_max" else config.reward_clip
    return RewardPipeline(transform, clip=clip, scale=config.reward_scale)


def try_rewards(config: PPGConfig) -> None:
    """Refuse a reward transform of the user's own that would fail in a run.

    Raises:
        UserError: Saying how.
    """
    if config.normalize_rewards:
        shape = config.num_envs, config.rollout_fragment_length
        try_reward_transform(config.reward_transform, *shape, gamma=config.reward_norm_gamma)


def run_budget(config: PPGConfig) -> RunBudget:
    """Make what ends the run and keeps its best weights."""
    return RunBudget(
        BudgetSettings(
            env_steps=config.budget_env_steps,
            seconds=config.budget_s,
            margin_s=config.budget_margin_s,
            best_weights=config.best_weights,
            min_env_steps=config.best_weights_min_env_steps,
        )
    )


def phase_plan(config: PPGConfig) -> PhasePlan:
    """Make what says when auxiliary phases follow."""
    most = config.max_aux_phases if config.has_aux_phases else 0
    return PhasePlan(config.n_pi, config.aux_skips, most)


def gamma_rule(config: PPGConfig) -> AdaptiveGamma | None:
    """Make what moves the discount; None where it is constant."""
    if not config.adaptive_gamma:
        return None
    return AdaptiveGamma(config.gamma, return_max(config))


def adaptive_clip(options: Mapping[str, float] | None) -> AdaptiveClip | None:
    """Make the adaptive limit of the gradient's norm; None without one.

    Raises:
        UserError: If an option is unknown or out of its range.
    """
    if options is None:
        return None
    known = AdaptiveClip.__dataclass_fields__
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise UserError(
            f"grad_clip_adaptive: unknown {', '.join(unknown)}; its options: {', '.join(known)}."
        )
    try:
        values: dict[str, Any] = dict(options)
        if "buffer_size" in values:
            if not float(values["buffer_size"]).is_integer():
                raise ValueError(f"buffer_size={values['buffer_size']} must be a whole number.")
            values["buffer_size"] = int(values["buffer_size"])
        return AdaptiveClip(**values)
    except ValueError as error:
        raise UserError(f"grad_clip_adaptive: {error}") from error


def augmentation_of(config: PPGConfig, key: str) -> Augmentation | None:
    """Make the augmentation of `aux_augmentation` or `drac_augmentation`; None without one.

    Raises:
        UserError: If the setting is wrong, naming the key.
    """
    setting = getattr(config, key)
    if setting is None:
        return None
    try:
        return make_augmentation(setting)
    except UserError as error:
        raise UserError(f"{key}: {error}") from error


def check_parts(config: PPGConfig) -> None:
    """Refuse parts that contradict each other, or have no effect.

    Raises:
        UserError: One sentence for each.
    """
    problems = [
        *idle_problems(config),
        *_optimizer_problems(config),
        *_minibatch_problems(config),
        *_budget_problems(config),
        *_count_problems(config),
        *_drac_problems(config),
    ]
    if problems:
        raise UserError("\n".join(problems))
    adaptive_clip(config.grad_clip_adaptive)
    _check_chunks(config)
    _check_drac(config)
    reward_pipeline(config)
    gamma_rule(config)


def _check_chunks(config: PPGConfig) -> None:
    """Refuse minibatches that have fewer rows than chunks.

    Raises:
        UserError: Naming the key; also where an augmentation cannot be made.
    """
    policy, *aux = config.minibatch_sizes()
    sizes = {"drac_augmentation": policy, "aux_augmentation": aux[0] if aux else None}
    for key, rows in sizes.items():
        augmentation = augmentation_of(config, key)
        if rows is None or not isinstance(augmentation, OnePerChunk):
            continue
        if rows < len(augmentation.members):
            raise UserError(
                f"{key}: one_per_chunk cuts each minibatch into {len(augmentation.members)} "
                f"chunks, and it has {rows} rows; give fewer members, or larger minibatches."
            )


def _arch(config: PPGConfig) -> str | None:
    """The network's architecture; None for a model of the user's own, which may have any."""
    name = config.model.get("custom_model") or "ppg_mlp"  # ours by default agree on it
    if name not in MODEL_SETTINGS:
        return None
    default = MODEL_SETTINGS[name].model_fields["arch"].default
    return str((config.model.get("custom_model_config") or {}).get("arch", default))


def _other_arch(config: PPGConfig) -> str:
    if config.model.get("custom_model") == "ppg_random":
        return "ppg_random has no other, so leave optimizers out"
    return "set arch to detach or dual"


def _optimizer_problems(config: PPGConfig) -> Iterator[str]:
    arch = _arch(config)
    if config.optimizers == "heads" and arch == "shared":
        yield (
            "optimizers=heads needs a value head without gradient into the policy's encoder, and "
            f"arch: shared has one; {_other_arch(config)}."
        )
    schedules = [
        name
        for name in ("lr_schedule", "aux_lr_schedule", "value_lr_schedule")
        if getattr(config, name)
    ]
    if config.lr_decay != 1 and schedules:
        yield f"lr_decay={config.lr_decay} contradicts {schedules[0]}; leave one out."
    if config.detach_value_head and arch in ("detach", "dual"):
        yield (
            f"detach_value_head=True has no effect with arch: {arch}, whose value loss never "
            "reaches the policy's encoder; leave it out."
        )
    if config.detach_value_head and config.n_epoch_pi != config.n_epoch_vf:
        yield (
            "detach_value_head=True needs joint epochs: a value epoch of its own would train one "
            "linear layer only; set n_epoch_vf equal to n_epoch_pi."
        )


def _minibatch_problems(config: PPGConfig) -> Iterator[str]:
    rows = config.num_envs * config.rollout_fragment_length
    yield from _rows_problems("mbsize_rows", config.mbsize_rows, config.minibatch_unit, rows)
    pieces = config.policy_minibatches()
    pi, vf = config.n_epoch_pi, config.n_epoch_vf
    for epochs in {pi} if pi == vf else {pi, vf}:
        yield from _leftover("num_accumulates", config.num_accumulates, epochs * pieces)
    if not config.has_aux_phases:
        return
    stored = rows * config.n_pi
    yield from _rows_problems("aux_mbsize_rows", config.aux_mbsize_rows, config.aux_unit, stored)
    yield from _leftover(
        "aux_num_accumulates", config.aux_num_accumulates, config.aux_minibatches()
    )


def _rows_problems(name: str, size: int | None, unit: str, rows: int) -> Iterator[str]:
    if size is not None and unit != "step":
        key = "aux_minibatch_unit" if name.startswith("aux") else "minibatch_unit"
        yield f"{name}={size} counts single steps, and needs {key}: step."
    elif size is not None and size > rows:
        yield f"{name}={size} is more than the {rows} rows that there are."


def _leftover(name: str, accumulates: int, minibatches: int) -> Iterator[str]:
    left = minibatches % accumulates
    if left:
        yield (
            f"{name}={accumulates} does not divide the {minibatches} minibatches, so that the "
            f"last {left} would make no whole step; change it, or the minibatches' size."
        )


def _budget_problems(config: PPGConfig) -> Iterator[str]:
    if config.best_weights and config.budget_env_steps is None and config.budget_s is None:
        yield (
            "best_weights=True takes effect at the end of a budget; set budget_env_steps or "
            "budget_s."
        )
    if config.budget_s is not None and config.budget_margin_s >= config.budget_s:
        yield (
            f"budget_margin_s={config.budget_margin_s:g} leaves nothing of "
            f"budget_s={config.budget_s:g}."
        )


def _count_problems(config: PPGConfig) -> Iterator[str]:
    """Other environments, and wrappers of the user's own, are asked when they are made."""
    if config.alternate_entropy_coeff is None or config.env != "procgen":
        return
    options = parse_options(config.env_config)
    if not (options.count_states or options.wrappers):
        yield (
            f"alternate_entropy_coeff={config.alternate_entropy_coeff:g} looks at counted frames; "
            "set env_config.count_states: true, or leave it out."
        )


def _drac_problems(config: PPGConfig) -> Iterator[str]:
    if config.drac_weight and config.drac_augmentation is None:
        yield f"drac_weight={config.drac_weight:g} needs drac_augmentation, which changes frames."
    if config.drac_weight and config.n_epoch_pi != config.n_epoch_vf:
        yield (
            f"drac_weight={config.drac_weight:g} needs joint epochs, for its terms are of policy "
            "and value; set n_epoch_vf equal to n_epoch_pi."
        )


def _check_drac(config: PPGConfig) -> None:
    if config.drac_augmentation is None:
        return
    augmentation = augmentation_of(config, "drac_augmentation")
    if config.drac_ucb is None:
        return
    known = list(ChoiceSettings.__dataclass_fields__)
    unknown = sorted(set(config.drac_ucb) - set(known))
    if unknown:
        raise UserError(f"drac_ucb: unknown {', '.join(unknown)}; its options: {', '.join(known)}.")
    try:
        ChoiceSettings(**config.drac_ucb)
    except (ValueError, TypeError) as error:
        raise UserError(f"drac_ucb: {error}") from error
    if not isinstance(augmentation, Mixture):
        raise UserError(
            "drac_ucb chooses among the members of drac_augmentation, which must be one_of or "
            "one_per_chunk."
        )
