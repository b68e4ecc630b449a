"""Core: the network: encoder(s), and policy and value heads on them.

Shape key: B rows, A outputs of the policy head.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from rllib_ppg.core.encoders import ExtendedEncoder, rescale_rows

Arch = Literal["dual", "detach", "shared"]

_HEAD_NORM = 0.1  # of openai/phasic-policy-gradient@7295473, as the encoders' norms


class PhasicOutput(NamedTuple):
    """What one forward pass gives: logits (B, A), true value (B,), auxiliary value (B,) or None."""

    logits: Tensor
    vf: Tensor
    aux_vf: Tensor | None


class PhasicNetwork(nn.Module):
    """Encoder(s) with policy, value and auxiliary value head, each head one linear layer.

    The policy and the auxiliary value head stand on the policy encoder. The value head stands, by
    `arch`: "dual" on an encoder of its own; "detach" on the policy encoder's code, without gradient
    into it in either phase; "shared" on the same code with gradient.

    Args:
        make_encoder: Makes an encoder module with an `output_size`; called once, or twice for dual.
            Its `forward` takes the observations; that of an `ExtendedEncoder` with `num_actions`
            above 0 the previous actions too, and with `dropout_share` above 0 `kept`.
        num_outputs: Outputs of the policy head, A.
        arch: "dual", "detach" or "shared".
        normed_init: Heads start with weight norm 0.1 and no bias.
        aux_value_head: Whether there is an auxiliary value head. Without one the auxiliary phase
            trains the encoder by the true value, so `arch` must be "shared".

    Raises:
        ValueError: If `arch` is unknown, `num_outputs` is not positive, or the auxiliary head is
            left out with another `arch`.

    Source: Cobbe et al. 2020 (arXiv:2009.04416), section 2 and appendix; the three architectures of
    openai/phasic-policy-gradient@7295473.
    """

    def __init__(
        self,
        make_encoder: Callable[[], nn.Module],
        num_outputs: int,
        *,
        arch: Arch = "dual",
        normed_init: bool = True,
        aux_value_head: bool = True,
    ) -> None:
        super().__init__()
        if arch not in get_args(Arch):
            raise ValueError(f"arch {arch!r} is unknown; use one of {', '.join(get_args(Arch))}.")
        if num_outputs < 1:
            raise ValueError(f"num_outputs={num_outputs} must be at least 1.")
        if not aux_value_head and arch != "shared":
            raise ValueError(
                f"arch {arch!r} needs the auxiliary value head: only the value head of 'shared' "
                "trains the policy's encoder."
            )
        self.arch = arch
        self.policy_encoder = make_encoder()
        if arch == "dual":
            self.value_encoder = make_encoder()
        code_size = int(self.policy_encoder.output_size)  # type: ignore[arg-type]
        self.policy_head = nn.Linear(code_size, num_outputs)
        self.value_head = nn.Linear(code_size, 1)
        self.aux_value_head = nn.Linear(code_size, 1) if aux_value_head else None
        if normed_init:
            for head in (self.policy_head, self.value_head, self.aux_value_head):
                if head is not None:
                    rescale_rows(head, _HEAD_NORM)

    @property
    def separate_value_encoder(self) -> bool:
        """Whether the true value costs a second encoder pass."""
        return self.arch == "dual"

    @property
    def takes_prev_actions(self) -> bool:
        """Whether every pass needs the previous actions."""
        encoder = self.policy_encoder
        return isinstance(encoder, ExtendedEncoder) and encoder.num_actions > 0

    @property
    def dropout(self) -> float:
        """Share of units that a pass with `kept` leaves out; 0 without dropout."""
        encoder = self.policy_encoder
        return encoder.dropout_share if isinstance(encoder, ExtendedEncoder) else 0.0

    def draw_kept(
        self, count: int, generator: np.random.Generator
    ) -> dict[str, npt.NDArray[np.bool_]]:
        """Draw what dropout keeps of `count` rows; both encoders of "dual" get the same."""
        assert isinstance(self.policy_encoder, ExtendedEncoder), "only where there is dropout"
        return self.policy_encoder.draw_kept(count, generator)

    def forward(
        self,
        obs: Tensor,
        prev_actions: Tensor | None = None,
        kept: Mapping[str, Tensor] | None = None,
        *,
        detach_value: bool = False,
    ) -> PhasicOutput:
        """Compute all heads.

        Args:
            obs: Observations (B, ...).
            prev_actions: The actions before (B,), where `takes_prev_actions`.
            kept: What dropout keeps, as `draw_kept` names it; None is a pass without dropout.
            detach_value: Stop the value's gradient at the encoder in this pass, whatever `arch`.
        """
        code = self._code(self.policy_encoder, obs, prev_actions, kept)
        aux_vf = None if self.aux_value_head is None else self.aux_value_head(code).squeeze(-1)
        value_code = code
        if self.separate_value_encoder:
            value_code = self._code(self.value_encoder, obs, prev_actions, kept)
        vf = self._value(value_code.detach() if detach_value else value_code)
        return PhasicOutput(self.policy_head(code), vf, aux_vf)

    def policy(
        self,
        obs: Tensor,
        prev_actions: Tensor | None = None,
        kept: Mapping[str, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Compute logits (B, A) and, where it costs no second encoder, the true value (B,)."""
        code = self._code(self.policy_encoder, obs, prev_actions, kept)
        vf = None if self.separate_value_encoder else self._value(code)
        return self.policy_head(code), vf

    def value(
        self,
        obs: Tensor,
        prev_actions: Tensor | None = None,
        kept: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Compute the true value (B,) only."""
        encoder = self.value_encoder if self.separate_value_encoder else self.policy_encoder
        # "detach" needs no graph of the encoder: its code gets no gradient anyway.
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.arch != "detach"):
            code = self._code(encoder, obs, prev_actions, kept)
        return self._value(code)

    def _code(
        self,
        encoder: nn.Module,
        obs: Tensor,
        prev_actions: Tensor | None,
        kept: Mapping[str, Tensor] | None,
    ) -> Tensor:
        # By position: hooks see them. An encoder that asks for neither takes observations only.
        beside: tuple[Any, ...] = ()
        if kept is not None:
            beside = (prev_actions, kept)
        elif self.takes_prev_actions:
            beside = (prev_actions,)
        code: Tensor = encoder(obs, *beside)
        return code

    def _value(self, code: Tensor) -> Tensor:
        if self.arch == "detach":
            code = code.detach()
        vf: Tensor = self.value_head(code).squeeze(-1)
        return vf
