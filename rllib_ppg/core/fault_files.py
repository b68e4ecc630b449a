"""Core: the dump of a numeric fault: a folder of JSON and safetensors, nothing of it pickled.

`fault.json` says what happened, where and with which settings; `fault.safetensors` holds the
numbers, by a group and a name: `minibatch/obs`, `network/policy_head.weight`,
`optimizer/aux/policy_head.weight/exp_avg`.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import safetensors
from safetensors import torch as safetensors_torch
from torch import Tensor

from rllib_ppg._version import __version__
from rllib_ppg.core.exported import write_folder
from rllib_ppg.core.numeric_fault import FaultKind
from rllib_ppg.core.policy_meta import PolicyMeta, from_json, to_json
from rllib_ppg.errors import UserError

TENSORS = "fault.safetensors"
DESCRIPTION = "fault.json"
FORMAT = "rllib_ppg numeric fault"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Dump:
    """A numeric fault on disk.

    Attributes:
        kind: "minibatch" for a loss or gradient, "sample" for what an environment gave.
        message: The error's text.
        env_steps: Environment steps of the training until then.
        versions: Of the packages that trained.
        policy: What the network is; None where it is of the user's own.
        facts: Where the fault was and which settings it was made with.
        tensors: All numbers, by group and name; weights are those before the broken step.
    """

    kind: FaultKind
    message: str
    env_steps: int
    versions: Mapping[str, str]
    policy: PolicyMeta | None
    facts: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    def group(self, name: str) -> dict[str, Tensor]:
        """Return the tensors of one group: "minibatch", "sample", "network" or "optimizer"."""
        prefix = f"{name}/"
        return {k.removeprefix(prefix): v for k, v in self.tensors.items() if k.startswith(prefix)}


def write_dump(folder: str | os.PathLike[str], dump: Dump) -> Path:
    """Write a dump into a folder, over an older one; it is there whole or not at all.

    Returns:
        The folder's absolute path.

    Raises:
        OSError: If it cannot be written.
    """
    place = Path(folder).absolute()
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in dump.tensors.items()}
    data = safetensors_torch.save(tensors)
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "kind": dump.kind,
        "message": dump.message,
        "env_steps": dump.env_steps,
        "versions": dict(dump.versions),
        "policy": None if dump.policy is None else to_json(dump.policy),
        "facts": dict(dump.facts),
        "tensors_crc32": f"{zlib.crc32(data):08x}",
    }
    text = json.dumps(content, indent=2) + "\n"
    write_folder(place, {TENSORS: data, DESCRIPTION: text.encode()})
    return place


def read_dump(folder: str | os.PathLike[str]) -> Dump:
    """Read a dump. Nothing is unpickled.

    Raises:
        UserError: If the folder holds no dump, or a damaged one, or one of a newer version.
    """
    place = Path(folder).expanduser()
    content = _read_description(place)
    try:
        policy = content["policy"]
        dump = Dump(
            kind=content["kind"],
            message=str(content["message"]),
            env_steps=int(content["env_steps"]),
            versions=dict(content["versions"]),
            policy=None if policy is None else from_json(policy),
            facts=dict(content["facts"]),
            tensors=_read_tensors(place / TENSORS, content["tensors_crc32"]),
        )
        if dump.kind not in get_args(FaultKind):
            raise ValueError(f"kind {dump.kind!r} is unknown")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, UserError):
            raise
        raise damaged(place, error) from error
    return dump


def damaged(folder: Path, error: Exception) -> UserError:
    """Return the complaint about a dump whose parts do not fit together."""
    reason = f"{type(error).__name__}: {error}".splitlines()[0].rstrip(".")
    return UserError(f"{folder / DESCRIPTION} is damaged: it describes no fault ({reason}).")


def _read_description(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION
    try:
        content = json.loads(_read(path))
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is damaged: it is no JSON.") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{path} describes no numeric fault of rllib_ppg.")
    version = content.get("format_version")
    if not isinstance(version, int):
        raise UserError(f"{path} is damaged: its format_version is {version!r}.")
    if version > FORMAT_VERSION:
        raise UserError(
            f"{path} was written in format {version}; rllib_ppg {__version__} reads formats up to "
            f"{FORMAT_VERSION}, so upgrade it."
        )
    return content


def _read_tensors(path: Path, crc32: str) -> dict[str, Tensor]:
    data = _read(path)
    if f"{zlib.crc32(data):08x}" != crc32:
        raise UserError(f"{path} is damaged, or belongs to another {DESCRIPTION}.")
    try:
        return safetensors_torch.load(data)
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise UserError(f"{path} is damaged: it holds no tensors ({error}).") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"{path.parent} is no dump of a numeric fault: it has no {path.name}. Give the folder "
            "numeric_fault_... that the error names."
        ) from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}).") from error
