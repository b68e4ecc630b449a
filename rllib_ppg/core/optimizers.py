"""Core: which Adam holds which parameters, and which of them step together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import nn

Layout = Literal["phases", "heads", "one"]
Kind = Literal["joint", "value", "policy", "aux"]

_MOMENTS = ("exp_avg", "exp_avg_sq")  # Adam's names
_VALUE = ("value_head.", "value_encoder.")
_AUX = ("aux_value_head.",)


def check_layout(layout: str) -> None:
    """Refuse an unknown layout.

    Raises:
        ValueError: If it is none of `Layout`.
    """
    if layout not in get_args(Layout):
        raise ValueError(
            f"optimizers={layout!r} is unknown; use one of {', '.join(get_args(Layout))}."
        )


def make_adam(
    parameters: Sequence[nn.Parameter], lr: float, weight_decay: float = 0.0
) -> torch.optim.Adam:
    """Return Adam as the reference sets it, one fused kernel a step where the device has it."""
    fused = parameters[0].device.type in ("cpu", "cuda")
    return torch.optim.Adam(
        parameters, lr=lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=weight_decay, fused=fused
    )


class Optimizers:
    """The optimisers of both phases; all are made once and live through the whole run.

    Args:
        network: Its parameters are optimised.
        layout: "phases": one Adam over all parameters for each phase, two for the policy phase
            where its epochs are not joint, as the reference. "heads": the policy phase's holds all
            but the value's parameters and the auxiliary head, the auxiliary phase's all but the
            value's, and a third one for both phases the value's (its head, and its encoder where
            it has one). "one": a single Adam for everything.
        joint: Whether policy and value epochs of the policy phase share their steps.
        weight_decay: Adam's L2 penalty.

    Raises:
        ValueError: If the layout is unknown, or does not fit the network.

    Source: "phases", openai/phasic-policy-gradient@7295473; "heads",
    Dipamc77/procgen-competition@f473f51; "one", wulfebw/neurips2020-procgen@e131684 and
    single_optimizer of the former.
    """

    def __init__(
        self,
        network: nn.Module,
        layout: Layout,
        *,
        joint: bool,
        weight_decay: float = 0.0,
    ) -> None:
        check_layout(layout)
        if layout == "heads" and getattr(network, "arch", None) == "shared":
            raise ValueError(
                "optimizers=heads needs a value head without gradient into the policy's encoder; "
                "set arch to detach or dual."
            )
        self.layout = layout
        self._network = network
        everything = [name for name, _ in network.named_parameters()]
        value = [name for name in everything if name.startswith(_VALUE)]
        aux = [name for name in everything if name not in value]
        policy = [name for name in aux if not name.startswith(_AUX)]
        held: dict[str, list[str]]
        self._kinds: dict[str, tuple[str, ...]]
        if layout == "one":
            held = {"one": everything}
            self._kinds = dict.fromkeys(get_args(Kind), ("one",))
        elif layout == "heads":
            held = {"policy": policy, "aux": aux, "value": value}
            self._kinds = {
                "joint": ("policy", "value"),
                "policy": ("policy",),
                "value": ("value",),
                "aux": ("aux", "value"),
            }
        else:
            kinds = ("joint",) if joint else ("value", "policy")
            held = dict.fromkeys((*kinds, "aux"), everything)
            self._kinds = {kind: (kind,) for kind in held}
        parameters = dict(network.named_parameters())
        self._adams = {
            key: make_adam([parameters[name] for name in names], 1e-3, weight_decay)
            for key, names in held.items()
        }

    def of(self, kind: Kind) -> list[torch.optim.Adam]:
        """Return the optimisers that step together on a kind of loss."""
        return [self._adams[key] for key in self._kinds[kind]]

    def coast(self) -> None:
        """Give parameters that were optimised before, and have no gradient now, a zero one.

        With "one" Adam for everything what only the other phase moves goes on by its momentum, as
        in both originals.
        """
        if self.layout != "one":
            return
        (adam,) = self._adams.values()
        for parameter in self._network.parameters():
            if parameter.grad is None and parameter in adam.state:
                parameter.grad = torch.zeros_like(parameter)

    def set_rates(self, lr: float, aux_lr: float, value_lr: float) -> None:
        """Set the learning rates: `aux_lr` has no effect on "one", `value_lr` only on "heads"."""
        for key, adam in self._adams.items():
            rate = aux_lr if key == "aux" else lr
            if key == "value" and self.layout == "heads":
                rate = value_lr
            adam.param_groups[0]["lr"] = rate

    def get_state(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Return each Adam's counts and moments by parameter; those without a step are left out."""
        return {key: self._state_of(adam) for key, adam in self._adams.items()}

    def _state_of(self, adam: torch.optim.Adam) -> dict[str, dict[str, Any]]:
        state: dict[str, dict[str, Any]] = {}
        for name, parameter in self._network.named_parameters():
            entry = adam.state.get(parameter)
            if entry:
                state[name] = {k: np.array(v.detach().cpu()) for k, v in entry.items()}
        return state

    def set_state(self, saved: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
        """Take the state of `get_state`.

        Raises:
            ValueError: If it belongs to another network or to other optimisers.
        """
        if set(saved) != set(self._adams):
            raise ValueError(
                f"the state has optimisers for {sorted(saved)}, this learner for "
                f"{sorted(self._adams)}; n_epoch_pi == n_epoch_vf must hold in both or in neither, "
                "and optimizers must be the same."
            )
        for entries in saved.values():
            self._check_moments(entries)
        for key, adam in self._adams.items():
            self._set_state_of(adam, saved[key])

    def _check_moments(self, saved: Mapping[str, Mapping[str, Any]]) -> None:
        shapes = {name: tuple(p.shape) for name, p in self._network.named_parameters()}
        for name, entry in saved.items():
            shape = np.shape(entry["exp_avg"])
            if shapes.get(name) != shape:
                raise ValueError(
                    f"the optimiser state for {name} {shape} does not fit this network, which has "
                    f"{shapes.get(name, 'no such parameter')}; restore with the same model."
                )

    def _set_state_of(self, adam: torch.optim.Adam, saved: Mapping[str, Mapping[str, Any]]) -> None:
        adam.state.clear()
        for name, parameter in self._network.named_parameters():
            if name in saved:
                entry = saved[name]
                moments = {k: torch.empty_like(parameter.detach()) for k in _MOMENTS}
                for key, moment in moments.items():
                    moment.copy_(torch.from_numpy(np.array(entry[key])))
                device = parameter.device if adam.defaults["fused"] else "cpu"
                step = torch.tensor(float(entry["step"]), dtype=torch.float32, device=device)
                adam.state[parameter] = {"step": step, **moments}
