"""Core: what an exported policy needs to be known by beside its weights, as plain JSON.

Shape key: N observations at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

import numpy as np
from torch import nn

from rllib_ppg.core.distributions import ActionSpec
from rllib_ppg.core.encoders import ImpalaEncoder, MLPEncoder
from rllib_ppg.core.networks import Arch, PhasicNetwork
from rllib_ppg.core.temperature import check_temperature

NetworkKind = Literal["impala", "mlp"]
Scaling = Literal["none", "unsquash", "clip"]


@dataclass(frozen=True)
class Observations:
    """What the policy takes.

    Attributes:
        shape: Shape of one observation; () for a number, (H, W, C) for an image.
        dtype: NumPy's name of its type. Bytes are scaled to [0, 1] by the network, floats are not.
        categories: Number of values where the observation is a category, else None.
        start: The first category.
    """

    shape: tuple[int, ...]
    dtype: str
    categories: int | None = None
    start: int = 0


@dataclass(frozen=True)
class EnvActions:
    """How the policy's own actions become the environment's.

    Attributes:
        shape: Shape of one action of the environment.
        dtype: NumPy's name of its type.
        start: First category of each choice; empty where the actions are continuous.
        scaling: "unsquash" maps [-1, 1] to [low, high] and clips; "clip" clips only.
        low: Lower bounds, one a dimension; empty without scaling.
        high: Upper bounds.
    """

    shape: tuple[int, ...]
    dtype: str
    start: tuple[int, ...] = ()
    scaling: Scaling = "none"
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()

    def __call__(self, actions: np.ndarray) -> np.ndarray:
        """Map the policy's actions (N, ...) to the environment's (N, *shape)."""
        actions = actions.reshape(len(actions), *self.shape)
        if self.start:
            actions = actions + np.array(self.start, np.int64).reshape(self.shape)
        elif self.scaling != "none":
            low = np.array(self.low, self.dtype).reshape(self.shape)
            high = np.array(self.high, self.dtype).reshape(self.shape)
            if self.scaling == "unsquash":
                actions = low + (actions + 1.0) * (high - low) / 2.0
            actions = np.clip(actions, low, high)
        return actions.astype(self.dtype, copy=False)


@dataclass(frozen=True)
class NetworkSpec:
    """The network.

    Attributes:
        kind: "impala" for images or "mlp" for vectors and categories.
        arch: "dual", "detach" or "shared".
        encoder: Arguments of the encoder: those of `ImpalaEncoder` or `MLPEncoder` beyond the
            observation's size. `num_actions` above 0 says that the network takes the previous
            action beside the observation.
        aux_value_head: Whether there is an auxiliary value head.
    """

    kind: NetworkKind
    arch: Arch
    encoder: Mapping[str, Any] = field(default_factory=dict)
    aux_value_head: bool = True

    def build(self, observations: Observations, num_outputs: int) -> PhasicNetwork:
        """Make the network, its weights still random.

        Raises:
            TypeError, ValueError: If the arguments make no network.
        """
        arguments: dict[str, Any] = {**self.encoder, "normed_init": False}

        def make_encoder() -> nn.Module:
            if self.kind == "impala":
                return ImpalaEncoder(observations.shape, **arguments)
            size = observations.categories or math.prod(observations.shape)
            return MLPEncoder(size, one_hot=observations.categories is not None, **arguments)

        return PhasicNetwork(
            make_encoder,
            num_outputs,
            arch=self.arch,
            normed_init=False,
            aux_value_head=self.aux_value_head,
        )


@dataclass(frozen=True)
class PolicyMeta:
    """What an exported policy is.

    Attributes:
        network: Its network.
        observations: What it takes.
        action: The distribution of its own actions.
        env_actions: How they become the environment's.
        env: Name of the environment that it was trained in.
        env_options: That environment's configuration, as plain JSON.
        frame_stack: Number of last frames in an observation, oldest first, on the channel axis.
        env_steps: Environment steps of its training.
        version: Version of rllib_ppg that exported it.
        temperature: At which it acts unless another is asked for; 0 takes the most probable action.
    """

    network: NetworkSpec
    observations: Observations
    action: ActionSpec
    env_actions: EnvActions
    env: str
    env_options: Mapping[str, Any]
    frame_stack: int
    env_steps: int
    version: str
    temperature: float = 1.0


_PARTS: dict[str, Any] = {
    "network": NetworkSpec,
    "observations": Observations,
    "action": ActionSpec,
    "env_actions": EnvActions,
}


def to_json(meta: PolicyMeta) -> dict[str, Any]:
    """Return a description as plain JSON; an infinite bound becomes null."""
    content = asdict(meta)
    for name in ("low", "high"):
        bounds = content["env_actions"][name]
        content["env_actions"][name] = [x if math.isfinite(x) else None for x in bounds]
    return content


def from_json(content: Mapping[str, Any]) -> PolicyMeta:
    """Return the description that `to_json` gave.

    Raises:
        KeyError, TypeError, ValueError: If it is none.
    """
    content = {"temperature": 1.0, **content}  # older ones have none
    values = {part.name: content[part.name] for part in fields(PolicyMeta)}
    for name, part in _PARTS.items():
        values[name] = part(**{key: _tuples(value) for key, value in values[name].items()})
    actions = values["env_actions"]
    values["env_actions"] = EnvActions(
        **{**vars(actions), "low": _bounds(actions.low, -math.inf), "high": _bounds(actions.high)}
    )
    meta = PolicyMeta(**values)
    _check(meta)
    return meta


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _bounds(values: Sequence[float | None], infinite: float = math.inf) -> tuple[float, ...]:
    return tuple(infinite if value is None else float(value) for value in values)


def _check(meta: PolicyMeta) -> None:
    """Refuse what would fail, or be wrong without a word, only when the policy acts."""
    np.empty((0, *meta.observations.shape), meta.observations.dtype)
    _check_choice("network.kind", meta.network.kind, get_args(NetworkKind))
    _check_choice("env_actions.scaling", meta.env_actions.scaling, get_args(Scaling))
    _check_type("env_options", meta.env_options, Mapping)
    for name in ("env", "version"):
        _check_type(name, getattr(meta, name), str)
    for name in ("frame_stack", "env_steps"):
        _check_type(name, getattr(meta, name), int)
    _check_type("temperature", meta.temperature, int | float)
    check_temperature(meta.temperature)
    _check_bounds(meta.env_actions)
    meta.env_actions(np.zeros((1, *meta.action.shape), int if meta.env_actions.start else float))


def _check_bounds(actions: EnvActions) -> None:
    if actions.scaling == "unsquash" and not np.isfinite([*actions.low, *actions.high]).all():
        raise ValueError("env_actions.scaling unsquash needs finite bounds")


def _check_choice(name: str, value: Any, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} {value!r} is none of {', '.join(allowed)}")


def _check_type(name: str, value: Any, kind: Any) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{name} is {value!r}")
