"""Reads golden files of the challenge's winners, and turns their hyper-parameters into our options.

The folder is `tests/golden_winners`, or what the environment variable RLLIB_PPG_GOLDEN_WINNERS
names, with `generalization` and `sample_efficiency` in it. Sizes are read from the files.
"""

import os
from pathlib import Path
from typing import Any

import golden_files
import numpy as np
import torch
from golden_files import Golden

from rllib_ppg import PPGConfig
from rllib_ppg.core.networks import PhasicNetwork

ENV_VAR = "RLLIB_PPG_GOLDEN_WINNERS"
FOLDER = Path(os.environ.get(ENV_VAR) or Path(__file__).parent / "golden_winners")

_RENAMES = (
    ("conv_seqs.", "policy_encoder.stages."),
    (".res_block", ".blocks."),
    ("hidden_fc.", "policy_encoder.dense."),
    ("logits_fc.", "policy_head."),
    ("pi_fc.", "policy_head."),
    ("value_fc.", "value_head."),
    ("aux_vf.", "aux_value_head."),
)


def paths(name: str) -> list[Path]:
    """The files with `name` in their names, wherever they stand in the folder.

    Raises:
        FileNotFoundError: If there is none, so that no test passes by comparing nothing.
    """
    found = sorted(FOLDER.rglob(f"*{name}*.npz"))
    if not found:
        raise FileNotFoundError(
            f"no {name}.npz in {FOLDER.absolute()}; set {ENV_VAR} to a folder that holds it, or "
            "leave it unset for tests/golden_winners."
        )
    return found


def cases(name: str, suffix: str) -> list[tuple[Path, str]]:
    """All (file, case) that have a key `<case>/<suffix>`.

    Raises:
        ValueError: If a file has none.
    """
    found = []
    for path in paths(name):
        own = golden_files.load(path).prefixes(suffix)
        if not own:
            raise ValueError(f"{path} has no case with {suffix}.")
        found += [(path, case) for case in own]
    return found


def rename(name: str) -> str:
    """Translate their name of a parameter into ours."""
    for theirs, ours in _RENAMES:
        name = name.replace(theirs, ours)
    return name


def named(golden: Golden, prefix: str) -> dict[str, torch.Tensor]:
    """Tensors by our parameter names from the keys `prefix/<name>`."""
    found = golden.below(prefix).arrays
    return {rename(name): torch.from_numpy(np.array(value)) for name, value in found.items()}


def assert_parameters(
    network: PhasicNetwork, expected: dict[str, torch.Tensor], atol: float
) -> None:
    """Compare the weights that are recorded."""
    assert expected
    actual = network.state_dict()
    assert set(expected) <= set(actual)
    for name, value in expected.items():
        np.testing.assert_allclose(
            actual[name].numpy(), value.numpy(), rtol=0, atol=atol, err_msg=name
        )


def gradients_of(network: PhasicNetwork) -> dict[str, torch.Tensor]:
    """The gradients that stand in a network, by parameter."""
    return {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}


def assert_gradients(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """Compare the gradients that are recorded: 1e-4 of each tensor's largest entry."""
    assert expected
    for name, value in expected.items():
        assert name in found, f"{name} got no gradient"
        atol = 1e-4 * float(value.abs().max())
        np.testing.assert_allclose(
            found[name].numpy(), value.numpy(), rtol=0, atol=atol, err_msg=name
        )


def env_config(options: dict[str, Any]) -> dict[str, Any]:
    """The environment's options that these options need."""
    counted = options.get("alternate_entropy_coeff") is not None
    return {"env_name": "coinrun", "count_states": counted}


def make_config(num_envs: int, num_steps: int, whole: bool = True, **options: Any) -> PPGConfig:
    """A checked configuration with these options, as an experiment file sets them.

    Args:
        num_envs: N.
        num_steps: T.
        whole: Check that auxiliary minibatches of segments are whole, as a user's have to be.
        options: The other keys.
    """
    config = PPGConfig().environment("procgen", env_config=env_config(options))
    sizes = {"num_envs": num_envs, "rollout_fragment_length": num_steps}
    config.update_from_dict({**sizes, **options})
    if whole:
        config.validate()
    return config


def firsts_of(done: np.ndarray, before: np.ndarray | None = None) -> np.ndarray:
    """Whether each step begins an episode (N, T), from `done` (N, T).

    Args:
        done: Whether the episode ended with the step.
        before: The last column of the rollout before; None at the beginning of the run.
    """
    first = np.ones(len(done), bool) if before is None else before
    return np.concatenate([first[:, None], done[:, :-1]], axis=1)
