"""Algorithm: keys that would have no effect.

A key counts as set where it is not at its default. Two keys that decide the same are refused, and
so is an option of a part that nobody switched on. Where a part that is on by default was switched
off, its options stand there from before, so a line says that they have no effect.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rllib_ppg.algorithm.settings import DEFAULTS
from rllib_ppg.errors import shown

if TYPE_CHECKING:
    from rllib_ppg.algorithm.config import PPGConfig

# The options of parts that are off by default, by the key that switches them on.
_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "alternate_entropy_coeff": ("unique_threshold",),
    "drac_weight": ("drac_augmentation", "drac_ucb", "drac_value_weight", "drac_policy_weight"),
    "best_weights": ("best_weights_min_env_steps",),
    "budget_s": ("budget_margin_s",),
}

# Keys that replace another one.
_REPLACED: Mapping[str, str] = {
    "lr_schedule": "lr",
    "aux_lr_schedule": "aux_lr",
    "value_lr_schedule": "value_lr",
    "entropy_coeff_schedule": "entropy_coeff",
    "mbsize_rows": "nminibatch",
    "aux_mbsize_rows": "aux_mbsize",
}

AUX_KEYS = (
    "n_pi", "n_aux_epochs", "aux_lr", "aux_lr_schedule", "aux_mbsize", "aux_mbsize_rows",
    "aux_minibatch_unit", "aux_num_accumulates", "beta_clone", "vf_true_weight", "aux_augmentation",
    "aux_value_targets", "aux_skips", "max_aux_phases", "aux_slice_s", "aux_precision",
    "overlap_aux",
)  # fmt: skip
"""Keys that nothing but the auxiliary phase reads."""

_REWARD_KEYS = ("reward_transform", "reward_norm_gamma", "reward_clip")


def idle_problems(config: PPGConfig) -> Iterator[str]:
    """Yield a sentence for each key that is refused, because it would have no effect."""
    yield from _option_problems(config)
    yield from _unused_problems(config)
    yield from _replaced_problems(config)
    yield from _rate_problems(config)
    if config.normalize_rewards and _kind(config.reward_transform) == "fragment":
        for name in _set(config, ("reward_norm_gamma",)):
            yield (
                f"{name} has no effect with reward_transform: fragment, which discounts nothing; "
                "leave it out."
            )


def _option_problems(config: PPGConfig) -> Iterator[str]:
    for switch, options in _OPTIONS.items():
        off = getattr(config, switch)
        if off == DEFAULTS[switch]:
            for name in _set(config, options):
                yield f"{name} has no effect with {switch}={off!r}; set {switch}, or leave it out."


def _unused_problems(config: PPGConfig) -> Iterator[str]:
    """What another key has to ask for, and weights that leave nothing of a part."""
    if _set(config, ("return_max",)):
        if config.reward_clip != "return_max" and not config.adaptive_gamma:
            yield (
                f"return_max={config.return_max:g} has no effect without reward_clip: return_max "
                "or adaptive_gamma; set one of them, or leave it out."
            )
    if config.drac_weight and not (config.drac_value_weight or config.drac_policy_weight):
        yield (
            f"drac_weight={config.drac_weight:g} has no effect with drac_value_weight=0 and "
            "drac_policy_weight=0; set one of them, or leave it out."
        )


def _replaced_problems(config: PPGConfig) -> Iterator[str]:
    idle = {name for _, names in _idle(config) for name in names}
    for name, replaced in _REPLACED.items():
        if name in idle or getattr(config, name) is None or _agree(config, name, replaced):
            continue
        yield (
            f"{replaced}={shown(getattr(config, replaced))} has no effect with {name}, which "
            "replaces it; leave one of them out."
        )


def idle_notes(config: PPGConfig) -> list[str]:
    """Say which keys have no effect because a part that is on by default was switched off."""
    return [
        f"{why}, so {', '.join(names)} {'have' if len(names) > 1 else 'has'} no effect."
        for why, names in _idle(config)
    ]


def _idle(config: PPGConfig) -> Iterator[tuple[str, list[str]]]:
    if off := config.without_aux_phases:
        names = [name for name in _set(config, AUX_KEYS) if name != off]
        if _dropout(config) and not config.drac_weight:
            names.append("dropout")
        if names:
            yield f"{off}=0 leaves the auxiliary phase out", names
    if not config.normalize_rewards:
        names = _set(config, _REWARD_KEYS)
        if names:
            yield "normalize_rewards=False leaves rewards as they are", names


def _set(config: PPGConfig, names: Sequence[str]) -> list[str]:
    return [name for name in names if getattr(config, name) != DEFAULTS[name]]


def _agree(config: PPGConfig, name: str, replaced: str) -> bool:
    """Whether the replaced key is not set, or a schedule begins with it."""
    value, other = getattr(config, name), getattr(config, replaced)
    return other == DEFAULTS[replaced] or (isinstance(value, Sequence) and value[0][1] == other)


def _rate_problems(config: PPGConfig) -> Iterator[str]:
    """Rates of optimisers that the layout does not have; the same as those that count are none."""
    if config.optimizers == "heads":
        return
    one = config.optimizers == "one"
    without = {"value": "the value has no Adam of its own"}
    if one and config.has_aux_phases:
        without["aux"] = "the auxiliary phase has none"
    for phase, why in without.items():
        for end in ("lr_schedule", "lr"):
            name = f"{phase}_{end}"
            if _set(config, (name,)) and getattr(config, name) != getattr(config, end):
                yield (
                    f"{name} has no effect with optimizers={config.optimizers}, where {why}; "
                    f"set optimizers: {'phases or heads' if phase == 'aux' else 'heads'}, or "
                    "leave it out."
                )


def _dropout(config: PPGConfig) -> Any:
    return (config.model.get("custom_model_config") or {}).get("dropout")


def _kind(setting: Any) -> Any:
    return setting.get("type") if isinstance(setting, Mapping) else setting
