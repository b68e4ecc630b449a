"""Core: the dump of a numeric fault: a folder of JSON and safetensors, nothing of it pickled.

`fault.json` says what happened, where and with which settings; `fault.safetensors` holds the
numbers, by a group and a name: `minibatch/obs`, `network/policy_head.weight`,
`optimizer/aux/policy_head.weight/exp_avg`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from torch import Tensor

from rllib_ppg.core.numeric_fault import FaultKind
from rllib_ppg.core.policy_meta import PolicyMeta, from_json, to_json
from rllib_ppg.core.tensor_folder import TensorFolder, why_damaged
from rllib_ppg.errors import UserError

TENSORS = "fault.safetensors"
DESCRIPTION = "fault.json"
FILES = TensorFolder(
    format="rllib_ppg numeric fault",
    version=2,
    description=DESCRIPTION,
    tensors=TENSORS,
    checksum="tensors_crc32",
    describes="no numeric fault of rllib_ppg",
    absent="no dump of a numeric fault",
    advice="Give the folder numeric_fault_... that the error names.",
)


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
    content = {
        "kind": dump.kind,
        "message": dump.message,
        "env_steps": dump.env_steps,
        "versions": dict(dump.versions),
        "policy": None if dump.policy is None else to_json(dump.policy),
        "facts": dict(dump.facts),
    }
    # A broken run's facts may hold NaN.
    FILES.write(place, content, dump.tensors, allow_nan=True)
    return place


def read_dump(folder: str | os.PathLike[str]) -> Dump:
    """Read a dump. Nothing is unpickled.

    Raises:
        UserError: If the folder holds no dump, or a damaged one, or one of a newer version.
    """
    place = Path(folder).expanduser()
    content = FILES.read_description(place)
    try:
        policy = content["policy"]
        dump = Dump(
            kind=content["kind"],
            message=str(content["message"]),
            env_steps=int(content["env_steps"]),
            versions=dict(content["versions"]),
            policy=None if policy is None else from_json(policy),
            facts=dict(content["facts"]),
            tensors=FILES.read_tensors(place, content["tensors_crc32"]),
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
    return UserError(
        f"{folder / DESCRIPTION} is damaged: it describes no fault ({why_damaged(error)})."
    )
