"""Core: data-regularised actor-critic, in the policy phase.

Policy and value of changed observations are drawn to those of the clean ones. Shape key: B rows,
A outputs of the policy head.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

from rllib_ppg.core.augment import Augmentation, Mixture
from rllib_ppg.core.distributions import ActionSpec
from rllib_ppg.core.frames import Frames, Rows
from rllib_ppg.core.losses import drac_loss
from rllib_ppg.core.networks import PhasicNetwork
from rllib_ppg.core.noise import Draw, DrawnFrames, Noise, NoisyFrames
from rllib_ppg.core.policy_loss import Regularizer
from rllib_ppg.core.replicas import Replica
from rllib_ppg.core.transform_choice import TransformChoice
from rllib_ppg.core.updates import StepStats

DRAC_STATS = ("drac_value", "drac_policy")


class Drac:
    """What the regularisers' terms are made with.

    Args:
        augmentation: Changes the observations. With `choice` a mixture, of which one member is used
            at a time; the whole mixture until the first choice.
        network: Says whether the changed passes have dropout.
        generator: What to draw from.
        weight: Of both terms.
        value_weight: Of the value's term.
        policy_weight: Of the policy's term.
        choice: Chooses among the mixture's members; None uses `augmentation` as it is.
        draw: Gives the draws instead of the generator.

    Source: Raileanu et al. 2020 (arXiv:2006.12862), with the direction of the KL and the masks of
    wulfebw/neurips2020-procgen@e131684.
    """

    def __init__(
        self,
        augmentation: Augmentation,
        network: PhasicNetwork,
        generator: np.random.Generator,
        *,
        weight: float,
        value_weight: float = 1.0,
        policy_weight: float = 1.0,
        choice: TransformChoice | None = None,
        draw: Draw | None = None,
    ) -> None:
        self.choice = choice
        self._augmentation = augmentation
        self._noise = Noise(augmentation, network, generator, draw)
        self._weight = weight
        self._weights = {"value_weight": value_weight, "policy_weight": policy_weight}

    def frames(self, frames: Frames) -> NoisyFrames:
        """Return the observations of a rollout, to be changed minibatch by minibatch."""
        return NoisyFrames(frames, self._noise, frames.obs_shape)

    def choose(self, mean_reward: Callable[[], float]) -> None:
        """Choose anew, before the last minibatch of a policy iteration.

        Args:
            mean_reward: Computes the mean reward of the iteration.
        """
        if self.choice is not None:
            self.choice.update(mean_reward())
            self._apply_choice()

    def _apply_choice(self) -> None:
        if self.choice is not None and self.choice.choice is not None:
            assert isinstance(self._augmentation, Mixture)
            self._noise.augmentation = self._augmentation.members[self.choice.choice]

    def regularizer(self, spec: ActionSpec, changed: NoisyFrames) -> Regularizer:
        """Return what adds the terms to the loss of both heads.

        Args:
            spec: How the policy head's outputs are read.
            changed: The observations, changed.
        """
        return drac_regularizer(spec, changed, self._weight, **self._weights)

    def get_state(self) -> dict[str, Any]:
        """Return the choice's state; empty without one."""
        return self.choice.get_state() if self.choice else {}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take the state of `get_state`."""
        if self.choice is not None and state:
            self.choice.set_state(state)
            self._apply_choice()


def drac_regularizer(
    spec: ActionSpec,
    changed: NoisyFrames | DrawnFrames,
    weight: float,
    *,
    value_weight: float,
    policy_weight: float,
) -> Regularizer:
    """Return what adds DrAC's weighted terms to the loss of both heads.

    Args:
        spec: How the policy head's outputs are read.
        changed: The observations, changed.
        weight: Of both terms.
        value_weight: Of the value's term.
        policy_weight: Of the policy's term.
    """
    weights = {"value_weight": value_weight, "policy_weight": policy_weight}
    return partial(_loss, spec, changed, weight, weights)


def _loss(
    spec: ActionSpec,
    changed: NoisyFrames | DrawnFrames,
    weight: float,
    weights: Mapping[str, float],
    replica: Replica,
    rows: Rows,
    logits: Tensor,
    vf: Tensor,
    options: Mapping[str, bool],
) -> tuple[Tensor, StepStats]:
    """Compute the weighted terms over some rows, of whose clean observations the outputs are."""
    output = replica.forward(*changed(replica, rows), **options)
    loss, stats = drac_loss(
        spec.distribution(output.logits),
        spec.distribution(logits.detach()),
        output.vf.float(),
        vf.detach().float(),
        changed.policy_mask(rows, replica.device),
        **weights,
    )
    return weight * loss, stats._asdict()
