"""Reads golden files: numbers of the original PPG code that ours has to meet.

The folder is `tests/golden`, or what the environment variable RLLIB_PPG_GOLDEN names. Which kind of
file a file is, its cases and all sizes are read from its keys, never assumed.
"""

import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from rllib_ppg.core.distributions import ActionSpec
from rllib_ppg.core.encoders import ImpalaEncoder
from rllib_ppg.core.networks import PhasicNetwork

ENV_VAR = "RLLIB_PPG_GOLDEN"
OWN_FOLDER = Path(__file__).parent / "golden"
FOLDER = Path(os.environ.get(ENV_VAR) or OWN_FOLDER)

# The first key that fits tells the kind; cycles also have what marks a phase.
_MARKS = (
    ("init_norms", "param_numel"),
    ("cycle", "hp/n_pi"),
    ("model", "gradnorm_weight"),
    ("policy_phase", "kind"),
    ("aux_phase", "mb_envseg"),
    ("reward_norm", "ret_carry"),
    ("gae", "adv_norm"),
)
KINDS = tuple(kind for kind, _ in _MARKS)

# Their names of parameters and ours, in the order of replacement.
_RENAMES = (
    ("pi_enc.cnn.", "policy_encoder."),
    ("vf_enc.cnn.", "value_encoder."),
    ("stacks.", "stages."),
    (".firstconv.", ".conv."),
    ("aux_vf_head.", "aux_value_head."),
    ("vf_vhead.", "value_head."),
    ("pi_vhead.", "value_head."),
    ("pi_head.", "policy_head."),
)


class Golden:
    """One file, or the part of one below a prefix; `golden["key"]` is an array."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self.arrays = arrays

    def __getitem__(self, key: str) -> np.ndarray:
        return self.arrays[key]

    def __contains__(self, key: str) -> bool:
        return key in self.arrays

    def below(self, prefix: str) -> "Golden":
        """Everything whose key begins with `prefix/`, without the prefix."""
        start = f"{prefix}/"
        found = {k[len(start) :]: v for k, v in self.arrays.items() if k.startswith(start)}
        return Golden(found)

    def prefixes(self, suffix: str) -> list[str]:
        """All cases: what stands before `/suffix` in the keys."""
        end = f"/{suffix}"
        return sorted(key[: -len(end)] for key in self.arrays if key.endswith(end))

    def at(self, index: int) -> "Golden":
        """The entries of one call, iteration or phase; numbers stay as they are."""
        return Golden({k: v[index] if v.ndim else v for k, v in self.arrays.items()})

    def number(self, key: str) -> float:
        return float(self.arrays[key])

    def count(self, key: str) -> int:
        return int(self.arrays[key])

    def named(self, prefix: str) -> dict[str, torch.Tensor]:
        """Tensors by our parameter names from the keys `prefix/<name>`."""
        return {rename(k): torch.from_numpy(v) for k, v in self.below(prefix).arrays.items()}


def rename(name: str) -> str:
    """Translate their name of a parameter into ours."""
    for theirs, ours in _RENAMES:
        name = name.replace(theirs, ours)
    return name


@lru_cache(maxsize=32)
def load(path: Path) -> Golden:
    with np.load(path, allow_pickle=False) as archive:
        return Golden({key: archive[key] for key in archive.files})


def kind_of(path: Path) -> str | None:
    """Tell the kind of a file from its keys; None if it is of no known kind."""
    with np.load(path, allow_pickle=False) as archive:
        keys = archive.files
    for kind, mark in _MARKS:
        if any(key == mark or key.endswith(f"/{mark}") for key in keys):
            return kind
    return None


def find_files(folder: Path) -> dict[Path, str | None]:
    """Every golden file of a folder and its kind, by name.

    Raises:
        FileNotFoundError: If there is none, so that no test passes by comparing nothing.
    """
    found = {path: kind_of(path) for path in sorted(folder.rglob("*.npz"))}
    if not found:
        raise FileNotFoundError(
            f"no golden file (*.npz) in {folder.absolute()}; set {ENV_VAR} to a folder that holds "
            "some, or leave it unset for tests/golden."
        )
    return found


@lru_cache(maxsize=1)
def all_files() -> dict[Path, str | None]:
    """The files of the chosen folder."""
    return find_files(FOLDER)


def files(kind: str) -> list[Path]:
    return [path for path, found in all_files().items() if found == kind]


def cases(kind: str, suffix: str) -> list[tuple[Path, str]]:
    """All (file, case) of a kind; a case is what stands before `/suffix` in the keys."""
    return [(path, case) for path in files(kind) for case in load(path).prefixes(suffix)]


def case_id(value: object) -> str:
    return value.stem if isinstance(value, Path) else str(value)


def build_network(cfg: Golden) -> PhasicNetwork:
    """Make the network that a file's `cfg` describes, freshly initialised."""

    def make_encoder() -> ImpalaEncoder:
        return ImpalaEncoder(
            tuple(cfg["ob_shape"].tolist()),
            widths=tuple(cfg["chans"].tolist()),
            hidden_size=cfg.count("outsize"),
            blocks=cfg.count("nblock"),
        )

    return PhasicNetwork(make_encoder, cfg.count("nact"), arch=str(cfg["arch"]))


def loaded_network(golden: Golden, prefix: str) -> tuple[PhasicNetwork, ActionSpec]:
    """Make a file's network with the weights `prefix/<name>`, all of them and no others."""
    network = build_network(golden.below("cfg"))
    network.load_state_dict(golden.named(prefix), strict=True)
    return network, ActionSpec("categorical", (golden.below("cfg").count("nact"),))


def replay(permutations: Iterable[np.ndarray]):
    """Make a source of permutations that gives the recorded ones in order."""
    remaining = iter(permutations)

    def draw(n: int) -> np.ndarray:
        permutation = next(remaining)
        assert len(permutation) == n, f"asked for {n}, recorded {len(permutation)}"
        return permutation

    return draw


def assert_parameters(network: PhasicNetwork, golden: Golden, prefix: str) -> None:
    """Compare weights after optimiser steps: atol 2e-5."""
    expected = golden.named(prefix)
    actual = network.state_dict()
    assert set(actual) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(
            actual[name].numpy(), value.numpy(), rtol=0, atol=2e-5, err_msg=name
        )


def assert_gradients(
    network: PhasicNetwork, golden: Golden, prefix: str, leave_out: str = "\0"
) -> None:
    """Compare `.grad`: 1e-4 of each tensor's largest entry; None exactly where they had none."""
    expected = golden.named(prefix)
    assert expected, f"no gradients below {prefix}"
    for name, parameter in network.named_parameters():
        if name.startswith(leave_out):
            continue
        if name not in expected:
            assert parameter.grad is None, f"{name} must get no gradient at all"
            continue
        assert parameter.grad is not None, f"{name} got no gradient"
        value = expected[name].numpy()
        atol = max(1e-4 * np.abs(value).max(), 1e-8)
        np.testing.assert_allclose(parameter.grad.numpy(), value, rtol=0, atol=atol, err_msg=name)


def assert_losses(actual: object, expected: object, name: str) -> None:
    """Compare losses and diagnostics: rtol 1e-5 + atol 1e-5."""
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5, err_msg=name)


def env_done(first: np.ndarray, final_first: np.ndarray) -> np.ndarray:
    """Turn `first` (E, T) and the flag after the last step (E,) into `done` (T, E)."""
    return np.concatenate([first[:, 1:], final_first[:, None]], axis=1).T
