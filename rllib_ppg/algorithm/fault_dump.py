"""Algorithm: what a trial leaves behind when a number that is not finite stops it."""

import logging
import platform
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.fs
import torch
from torch import Tensor

from rllib_ppg._version import __version__
from rllib_ppg.algorithm import policy_export
from rllib_ppg.algorithm.model_settings import EXPORTABLE
from rllib_ppg.algorithm.policy import PPGTorchPolicy
from rllib_ppg.core.fault_files import Dump, write_dump
from rllib_ppg.core.learner import PhasicLearner
from rllib_ppg.core.numeric_fault import Evidence, NumericFault

logger = logging.getLogger(__name__)


def final_error(
    error: FloatingPointError,
    policy: PPGTorchPolicy,
    learner: PhasicLearner,
    *,
    env_steps: int,
    logdir: str,
    storage: Any,
) -> FloatingPointError:
    """Write the dump of a numeric fault, and return the error that ends the trial.

    Args:
        error: What was raised; it is dumped where it carries evidence.
        policy: The learner's own policy.
        learner: The learner, whose weights are those before the fault.
        env_steps: Environment steps of the training until now.
        logdir: The trial's working directory.
        storage: Tune's storage of the trial, None without Tune.
    """
    message = f"After {env_steps} environment steps: {error}"
    evidence = error.evidence if isinstance(error, NumericFault) else None
    if evidence is None:
        return FloatingPointError(message)
    try:
        dump = make_dump(message, evidence, policy, learner, env_steps)
        place = save(dump, f"numeric_fault_{env_steps}", logdir, storage)
    except Exception as problem:  # whatever it is, it must not hide the fault
        logger.debug("The dump could not be written.", exc_info=True)
        reason = " ".join(str(problem).split()) or type(problem).__name__
        return FloatingPointError(f"{message} (No dump of it could be written: {reason})")
    return FloatingPointError(f"{message} What broke is kept; to look at it: {place}")


def make_dump(
    message: str,
    evidence: Evidence,
    policy: PPGTorchPolicy,
    learner: PhasicLearner,
    env_steps: int,
) -> Dump:
    """Put together what shows a fault again.

    Args:
        message: The error's text.
        evidence: Where it was, and the numbers there.
        policy: The learner's own policy.
        learner: The learner.
        env_steps: Environment steps of the training until now.
    """
    tensors = {f"{evidence.kind}/{name}": value for name, value in evidence.tensors.items()}
    if evidence.kind == "minibatch":
        tensors |= _learner_tensors(policy, learner)
    facts = {
        **evidence.facts,
        "action": {"kind": policy.action_spec.kind, "sizes": list(policy.action_spec.sizes)},
        "lr": learner.lr,
        "aux_lr": learner.aux_lr,
        "device": str(learner.device),
    }
    versions = {
        "rllib_ppg": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
    known = _is_ours(policy)
    return Dump(
        kind=evidence.kind,
        message=message,
        env_steps=env_steps,
        versions=versions,
        policy=policy_export.describe(policy, env_steps) if known else None,
        facts=facts,
        tensors=tensors,
    )


def _is_ours(policy: PPGTorchPolicy) -> bool:
    """Whether the network can be described by data alone."""
    model = policy.config["model"]["custom_model"]
    return model is None or model in EXPORTABLE


def _learner_tensors(policy: PPGTorchPolicy, learner: PhasicLearner) -> dict[str, Tensor]:
    names = policy_export.exported_names(policy)
    state = learner.network.state_dict()
    tensors = {f"network/{names[name]}": tensor for name, tensor in state.items()}
    for kind, parameters in learner.get_state()["optimizers"].items():
        for name, entry in parameters.items():
            for key, value in entry.items():
                tensors[f"optimizer/{kind}/{names[name]}/{key}"] = torch.from_numpy(value)
    return tensors


def save(dump: Dump, name: str, logdir: str, storage: Any) -> str:
    """Write a dump where the trial's results stand.

    Under Tune that is the trial's folder in the storage path, and not its working directory, which
    Tune deletes. Storage that is no local file system gets a copy.

    Returns:
        The command that looks at it, and where a copy stands.

    Raises:
        OSError: If it cannot be written.
    """
    if storage is None:
        return _command(write_dump(Path(logdir) / name, dump))
    target = Path(storage.trial_fs_path) / name
    if isinstance(storage.storage_filesystem, pyarrow.fs.LocalFileSystem):
        return _command(write_dump(target, dump))
    place = write_dump(Path(logdir) / name, dump)
    destination = storage.storage_filesystem
    destination.create_dir(target.as_posix(), recursive=True)
    pyarrow.fs.copy_files(str(place), target.as_posix(), destination_filesystem=destination)
    return f"{_command(place)} (a copy is in the storage, {target})"


def _command(place: Path) -> str:
    return f"rllib replay {shlex.quote(str(place))}"
