"""The winners' tiny networks, made by the options of `model.custom_model_config`."""

from typing import Any

import gymnasium as gym
import numpy as np
import torch
import winner_files
from golden_files import Golden

from rllib_ppg._ray_compat import MODEL_DEFAULTS
from rllib_ppg.algorithm.model import ImpalaModel
from rllib_ppg.core.distributions import ActionSpec
from rllib_ppg.core.networks import PhasicNetwork


def make_network(cfg: Golden, settings: dict[str, Any], prefix: Golden | None = None) -> Any:
    """A fresh network for the observations and actions of a file's `cfg`."""
    shape = tuple(cfg["ob_shape"].tolist())
    space = gym.spaces.Box(0, 255, shape, np.uint8)
    actions = gym.spaces.Discrete(cfg.count("nact"))
    model = ImpalaModel(
        space, actions, cfg.count("nact"), dict(MODEL_DEFAULTS), "ppg_impala", **settings
    )
    return model.network


def settings_a(cfg: Golden) -> dict[str, Any]:
    """`custom_model_config` of the generalization winner."""
    return {
        "arch": "detach",
        "widths": cfg["depths"].tolist(),
        "hidden_size": cfg.count("hidden"),
        "frame_differences": True,
    }


def settings_b(cfg: Golden, dropout: float) -> dict[str, Any]:
    """`custom_model_config` of the sample-efficiency winner."""
    return {
        "arch": "shared",
        "aux_value_head": False,
        "widths": cfg["filters"].tolist(),
        "hidden_size": cfg.count("fc"),
        "previous_action": True,
        "dropout": dropout,
        "normed_init": False,
    }


def loaded(
    golden: Golden, prefix: str, settings: dict[str, Any]
) -> tuple[PhasicNetwork, ActionSpec]:
    """A file's network with the weights `prefix/<name>`, all of them and no others."""
    cfg = golden.below("cfg")
    network = make_network(cfg, settings)
    network.load_state_dict(winner_files.named(golden, prefix), strict=True)
    return network, ActionSpec("categorical", (cfg.count("nact"),))


def as_tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))
