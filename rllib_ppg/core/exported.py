"""Core: policies as files without pickle: written, loaded and acting, without Ray or environments.

A policy is a folder: `policy.safetensors` holds the weights by name, `policy.json` all else.

Shape key: N observations at once, A actions of one choice.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rllib_ppg.core.distributions import Categorical, Distribution, MultiCategorical
from rllib_ppg.core.networks import PhasicNetwork
from rllib_ppg.core.policy_meta import PolicyMeta, from_json, to_json
from rllib_ppg.core.temperature import check_temperature, tempered
from rllib_ppg.core.tensor_folder import TensorFolder, why_damaged
from rllib_ppg.errors import UserError

WEIGHTS = "policy.safetensors"
DESCRIPTION = "policy.json"
FILES = TensorFolder(
    format="rllib_ppg policy",
    version=2,
    description=DESCRIPTION,
    tensors=WEIGHTS,
    checksum="weights_crc32",
    describes="no policy of rllib_ppg",
    absent="no exported policy",
)


class ExportedPolicy:
    """A policy that acts; `load_policy` makes one.

    Attributes:
        network: The network, in evaluation mode.
        meta: What the policy is: network, observations, actions, environment, training.
    """

    def __init__(self, network: PhasicNetwork, meta: PolicyMeta) -> None:
        self.network = network.eval()
        self.meta = meta

    @torch.inference_mode()
    def act(
        self,
        obs: Any,
        previous_actions: Any = None,
        *,
        generator: torch.Generator | None = None,
        greedy: bool = False,
        temperature: float | None = None,
    ) -> np.ndarray:
        """Choose an action for each observation.

        Args:
            obs: Observations (N, ...) as the environment gives them; frames stacked where
                `meta.frame_stack` is above 1.
            previous_actions: The environment's actions that led to them (N,), in an episode's
                beginning its first action; for a network that takes them
                (`network.takes_prev_actions`), and for no other.
            generator: What to draw from (a generator of the CPU); torch's global one if None.
            greedy: Take the most probable action instead of drawing one, as at temperature 0.
            temperature: Draw from softmax(logits / temperature); None: `meta.temperature`, at which
                the training evaluated.

        Returns:
            Actions (N, ...) as the environment takes them.

        Raises:
            UserError: If shape or type of the observations are others than in training, or the
                temperature makes no sense.
        """
        at = self._temperature(0.0 if greedy else temperature)
        distribution = self._distribution(obs, previous_actions, at)
        actions = distribution.sample(generator) if at else distribution.mode()
        return self.meta.env_actions(actions.numpy())

    @torch.inference_mode()
    def probabilities(
        self, obs: Any, previous_actions: Any = None, *, temperature: float | None = None
    ) -> np.ndarray | tuple[np.ndarray, ...]:
        """Compute the probability with which `act` takes every action.

        Args:
            obs: As for `act`.
            previous_actions: As for `act`.
            temperature: As for `act`; at 0 the most probable action has probability 1.

        Returns:
            float32 (N, A), in the order of the environment's actions; where an action is several
            choices a tuple of such arrays, one a choice.

        Raises:
            UserError: If the actions are continuous, or as for `act`.
        """
        at = self._temperature(temperature)
        distribution = self._distribution(obs, previous_actions, at)
        if isinstance(distribution, Categorical):
            return _probabilities(distribution, at)
        if isinstance(distribution, MultiCategorical):
            return tuple(_probabilities(part, at) for part in distribution.parts)
        raise UserError("The actions of this policy are continuous: they have no probabilities.")

    def _temperature(self, given: float | None) -> float:
        check_temperature(given)
        return self.meta.temperature if given is None else given

    def _distribution(self, obs: Any, previous_actions: Any, temperature: float) -> Distribution:
        device = next(self.network.parameters()).device
        rows = torch.from_numpy(self._checked(obs)).to(device)
        if self.meta.observations.start:
            rows = rows - self.meta.observations.start
        before = self._checked_actions(previous_actions, len(rows))
        logits, _ = self.network.policy(rows, None if before is None else before.to(device))
        # On the CPU, so that one generator draws the same actions on every device.
        inputs = tempered(self.meta.action, logits.float().cpu(), temperature)
        return self.meta.action.distribution(inputs)

    def _checked_actions(self, given: Any, count: int) -> Tensor | None:
        """The policy's own previous actions (N,), refused where the network would misread them."""
        if not self.network.takes_prev_actions:
            if given is not None:
                raise UserError("This policy takes no previous actions; leave them out.")
            return None
        actions, first = np.asarray(given), int(self.meta.env_actions.start[0])
        last = first + self.meta.action.num_inputs - 1
        fits = actions.shape == (count,) and np.issubdtype(actions.dtype, np.integer)
        if given is None or not fits or np.any((actions < first) | (actions > last)):
            raise UserError(
                "This policy takes the previous actions beside the observations: whole numbers "
                f"from {first} to {last}, one for each of the {count} rows, {first} where an "
                "episode begins."
            )
        return torch.from_numpy(np.asarray(actions - first, np.int64))

    def _checked(self, obs: Any) -> np.ndarray:
        """Observations as the network takes them, refused where it would misread them."""
        expected, given = self.meta.observations, np.asarray(obs)
        dtype = np.dtype(expected.dtype)
        wrong_type = not np.can_cast(given.dtype, dtype, "same_kind")
        if given.shape[1:] != expected.shape or given.ndim != len(expected.shape) + 1 or wrong_type:
            wanted = ", ".join(["N", *map(str, expected.shape)])
            raise UserError(
                f"Observations have shape {given.shape} and type {given.dtype}; this policy takes "
                f"({wanted}) of type {dtype}."
            )
        # A copy where the array cannot be written: torch would warn of it.
        return np.require(given, dtype, ["C", "W"])


def _probabilities(distribution: Categorical, temperature: float) -> np.ndarray:
    """Probabilities (N, A) of one choice."""
    if temperature:
        return distribution.log_probs.exp().numpy()
    count = distribution.log_probs.shape[-1]
    return torch.nn.functional.one_hot(distribution.mode(), count).float().numpy()


def save_policy(
    folder: str | os.PathLike[str],
    meta: PolicyMeta,
    weights: Mapping[str, Tensor],
    *,
    overwrite: bool = False,
) -> Path:
    """Write a policy into a new folder; it is there whole or not at all.

    Args:
        folder: The folder to make.
        meta: What the policy is.
        weights: The network's state, by parameter name.
        overwrite: Replace the folder if it holds a policy and nothing else.

    Returns:
        The folder's absolute path.

    Raises:
        OSError: If it cannot be written.
        UserError: If the folder exists, or the weights are not those of the network.
    """
    place = Path(folder).expanduser().absolute()
    check_target(place, overwrite=overwrite)
    _check_weights(_build(meta), weights, "The weights")
    FILES.write(place, to_json(meta), weights)
    return place


def check_target(folder: Path, *, overwrite: bool) -> None:
    """Refuse a folder that must not be written.

    Raises:
        UserError: If it exists, unless it is to be overwritten and holds a policy and nothing else.
    """
    if not os.path.lexists(folder):
        return
    if not overwrite:
        raise UserError(
            f"{folder} exists already; give another folder, or replace it with --force."
        )
    files = {path.name for path in folder.iterdir()} if folder.is_dir() else {folder.name}
    if folder.is_symlink() or not files <= {WEIGHTS, DESCRIPTION}:
        raise UserError(
            f"{folder} holds other things than an exported policy and is not replaced; give "
            "another folder."
        )


def load_policy(
    folder: str | os.PathLike[str], *, device: str | torch.device = "cpu"
) -> ExportedPolicy:
    """Load a policy that `rllib export` wrote. Nothing is unpickled, nothing of Ray is needed.

    Args:
        folder: The folder with `policy.json` and `policy.safetensors`.
        device: Where the network computes.

    Raises:
        UserError: If the folder holds no policy, or a damaged one, or one of a newer version.
    """
    place = Path(folder).expanduser()
    content = FILES.read_description(place)
    try:
        meta = from_json(content)
        crc32 = content["weights_crc32"]
        network = _build(meta)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise UserError(
            f"{place / DESCRIPTION} is damaged: it describes no policy ({why_damaged(error)})."
        ) from error
    weights = FILES.read_tensors(place, crc32)
    _check_weights(network, weights, str(place / WEIGHTS))
    network.load_state_dict(weights)
    return ExportedPolicy(network.to(device), meta)


def _check_weights(network: PhasicNetwork, weights: Mapping[str, Tensor], what: str) -> None:
    """Refuse weights that are not the network's, by the first name that differs."""
    expected = network.state_dict()
    for name in sorted({*expected, *weights}):
        shapes = [
            tuple(state[name].shape) if name in state else None for state in (expected, weights)
        ]
        if shapes[0] != shapes[1]:
            wanted, given = ("absent" if shape is None else f"of shape {shape}" for shape in shapes)
            raise UserError(f"{what} do not fit the network: {name} is {given}, not {wanted}.")


def _build(meta: PolicyMeta) -> PhasicNetwork:
    """The network, made without a trace in torch's random numbers."""
    with torch.random.fork_rng(devices=[]):
        return meta.network.build(meta.observations, meta.action.num_inputs)
