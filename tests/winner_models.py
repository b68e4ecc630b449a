"""The networks that the winners' golden files describe, built by our options.

Sizes, cases and hyper-parameters are read from the files' keys, never assumed.
"""

from pathlib import Path
from typing import Any

import golden_files
import gymnasium as gym
import numpy as np
from golden_files import Golden
from winner_files import FOLDER, named

from rllib_ppg.algorithm.model import ImpalaModel
from rllib_ppg.core.networks import PhasicNetwork


def files(*keys: str) -> list[Path]:
    """All files that have these keys.

    Raises:
        FileNotFoundError: If there is none, so that no test passes by comparing nothing.
    """
    found = [path for path in sorted(FOLDER.rglob("*.npz")) if set(keys) <= _keys(path)]
    if not found:
        raise FileNotFoundError(f"no golden file with {', '.join(keys)} in {FOLDER.absolute()}.")
    return found


def cases(*suffixes: str) -> list[tuple[Path, str]]:
    """All (file, case) that have `<case>/<suffix>` for each suffix.

    Raises:
        FileNotFoundError: If there is none.
    """
    found = [
        (path, case)
        for path in sorted(FOLDER.rglob("*.npz"))
        for case in golden_files.load(path).prefixes(suffixes[0])
        if all(f"{case}/{suffix}" in _keys(path) for suffix in suffixes)
    ]
    if not found:
        raise FileNotFoundError(f"no golden case with {suffixes} in {FOLDER.absolute()}.")
    return found


def _keys(path: Path) -> set[str]:
    with np.load(path, allow_pickle=False) as archive:
        return set(archive.files)


def settings_a(golden: Golden, **changes: Any) -> dict[str, Any]:
    """The generalisation winner's `custom_model_config`, at a file's sizes."""
    return {"arch": "detach", "frame_differences": True, **sizes_a(golden), **changes}


def sizes_a(golden: Golden) -> dict[str, Any]:
    """The sizes of a file of the generalisation winner."""
    return {"widths": golden["cfg/depths"].tolist(), "hidden_size": golden.count("cfg/hidden")}


def settings_b(golden: Golden, **changes: Any) -> dict[str, Any]:
    """The sample-efficiency winner's `custom_model_config`, at a file's sizes."""
    return {
        "arch": "shared",
        "aux_value_head": False,
        "normed_init": False,
        "previous_action": True,
        **sizes_b(golden),
        **changes,
    }


def sizes_b(golden: Golden) -> dict[str, Any]:
    """The sizes and the dropout of a file of the sample-efficiency winner."""
    return {
        "widths": golden["cfg/filters"].tolist(),
        "hidden_size": golden.count("cfg/fc"),
        "dropout": golden.number("cfg/dropout"),
    }


def make_network(obs_shape: Any, actions: int, settings: dict[str, Any]) -> PhasicNetwork:
    """Make a network as an experiment file's `custom_model_config` does."""
    space = gym.spaces.Box(0, 255, tuple(int(size) for size in obs_shape), np.uint8)
    return ImpalaModel(
        space, gym.spaces.Discrete(actions), actions, {}, "golden", **settings
    ).network


def loaded_network(golden: Golden, prefix: str, settings: dict[str, Any]) -> PhasicNetwork:
    """Make a file's network with the weights `<prefix>/<name>`, all of them and no others."""
    network = make_network(golden["cfg/ob_shape"], golden.count("cfg/nact"), settings)
    network.load_state_dict(named(golden, prefix), strict=True)
    return network
