"""Core: from a replayed numeric fault to what a person should do about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rllib_ppg.core.fault_numbers import Layer, Module, Numbers

_LARGE_WEIGHT = 100.0

_SMALLER_STEPS = (
    "Go on from the last checkpoint with a lower lr (and aux_lr), or with grad_clip: 0.5"
)


def advise(
    inputs: Sequence[Numbers],
    layers: Sequence[Layer],
    module: Module | None,
    facts: Mapping[str, bool | None],
) -> list[str]:
    """Return what to do, the likeliest cause first.

    Args:
        inputs: What went into the loss, or what the environment gave.
        layers: The network's parameters; empty where nothing was computed.
        module: The first module whose output is not finite.
        facts: `repeats` and `in_float32` of the diagnosis.
    """
    if facts["repeats"] is False:
        return [
            "The fault does not repeat here. It may hang on the device (another processor rounds "
            "differently), on a fault of its memory, or on code that changes gradients from "
            f"outside. {_SMALLER_STEPS}; if it comes back elsewhere, test the machine."
        ]
    found = [*_of_inputs({entry.name: entry for entry in inputs}), *_of_network(layers, module)]
    if facts["in_float32"] is False:
        found.insert(
            0,
            "With float32 passes the fault does not come: set policy_precision (in the auxiliary "
            "phase aux_precision) to float32, or to bfloat16 if it was float16.",
        )
    if facts["repeats"] is None and found:
        return found
    return found or [f"{_SMALLER_STEPS}."]


def _of_inputs(inputs: Mapping[str, Numbers]) -> Iterator[str]:
    broken = {name for name, entry in inputs.items() if entry.broken}
    extreme = {name for name, entry in inputs.items() if entry.extreme}
    if "obs" in broken:
        yield (
            "The environment gives observations that are not finite: correct it there, or wrap it "
            "with one that replaces them."
        )
    if "rewards" in broken:
        yield "The environment gives rewards that are not finite: correct it there."
    if "old_inputs" in broken:
        yield (
            "The policy recorded before the phase is not finite already: go on from an earlier "
            "checkpoint, with a lower lr."
        )
    if broken & {"advantages", "value_targets", "vf_preds"} and "obs" not in broken:
        yield (
            "Values or rewards left the range of float32 before the loss: keep normalize_rewards: "
            "true, lower reward_clip, and lower lr."
        )
    if "log_ratio" in extreme or (broken & {"log_ratio", "logp"} and not broken & {"obs"}):
        yield (
            "The policy moved too far from the one that acted: lower lr, set grad_clip or "
            "kl_penalty, or take fewer epochs (n_epoch_pi)."
        )
    if "obs" in extreme:
        yield "Observations are large: scale them to order one in the environment."
    if extreme & {"value_targets", "vf_preds", "advantages", "rewards"}:
        yield (
            "Rewards or values are large: set normalize_rewards: true, lower reward_clip, or scale "
            "the rewards in the environment."
        )


def _of_network(layers: Sequence[Layer], module: Module | None) -> Iterator[str]:
    broken = [layer.name for layer in layers if layer.broken]
    large = [layer.name for layer in layers if layer.largest > _LARGE_WEIGHT]
    if broken:
        yield (
            f"Weights were not finite before this step already ({broken[0]}): go on from an "
            "earlier checkpoint."
        )
    if large:
        yield f"Weights are large ({large[0]}), so training diverged: {_SMALLER_STEPS}."
    elif module is not None and module.inputs_finite and module.weights_finite:
        yield f"{module.name} overflowed on finite numbers. {_SMALLER_STEPS}."
