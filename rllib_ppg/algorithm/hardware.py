"""Algorithm: how the learner uses the machine: threads, devices, compiled passes."""

import secrets
from functools import partial
from types import TracebackType
from typing import Any

import numpy as np
import torch

from rllib_ppg.algorithm import resources
from rllib_ppg.algorithm.config import PPGConfig
from rllib_ppg.algorithm.model import is_image
from rllib_ppg.algorithm.policy import PPGTorchPolicy
from rllib_ppg.core.learner import PhasicLearner
from rllib_ppg.core.replicas import CannotCopy, Compile
from rllib_ppg.errors import UserError

_deterministic: Any = torch.utils.deterministic  # what it holds is made at run time


class LearnerThreads:
    """Context in which torch uses the learner's threads; workers idle meanwhile.

    RLlib turns torch's deterministic mode on where a seed is set. What that mode fills new memory
    with is never read and costs some percent of the time, so it is left out.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._before = threads
        self._filled = True

    def __enter__(self) -> None:
        self._before = torch.get_num_threads()
        torch.set_num_threads(self._threads)
        self._filled = _deterministic.fill_uninitialized_memory
        _deterministic.fill_uninitialized_memory = False

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        torch.set_num_threads(self._before)
        _deterministic.fill_uninitialized_memory = self._filled


def reserved_threads(config: PPGConfig) -> int:
    """CPU threads of the learner, from the CPUs that the run reserves where it is `auto`."""
    if config.learner_threads != "auto":
        return int(config.learner_threads)
    return min(config.reserved_cpus(), resources.machine_cpus())


def learner_threads(config: PPGConfig) -> int:
    """CPU threads of the learner in this process, which may have more than the run reserves."""
    threads = reserved_threads(config)
    if config.learner_threads == "auto" and not config.num_env_runners:
        threads = max(threads, torch.get_num_threads())
    return threads


def check_gpus(config: PPGConfig) -> None:
    """Refuse more GPUs than torch finds in this process.

    Raises:
        UserError: With the numbers that fit.
    """
    found = resources.machine_gpus()
    if config._fake_gpus or config.num_gpus <= found:
        return
    if not found:
        raise UserError(
            f"num_gpus={config.num_gpus}, but torch finds no GPU here; use num_gpus: auto."
        )
    fits = "1" if found == 1 else f"1 to {found}"
    raise UserError(
        f"num_gpus={config.num_gpus}, but torch finds {found} here; use {fits}, or auto."
    )


def slow_notes(config: PPGConfig) -> list[str]:
    """Say which keys of a checked configuration are for GPUs, where there is none to learn on."""
    names = ["policy_precision", *(["aux_precision"] if config.has_aux_phases else [])]
    return [
        f"{name}: float16 is for GPUs; the learner has none, and takes about twenty times as long "
        f"as with {name}: float32."
        for name in names
        if getattr(config, name) == "float16" and not config.uses_gpu
    ]


def make_learner(
    config: PPGConfig, policy: PPGTorchPolicy, space: Any, device: torch.device | None = None
) -> PhasicLearner:
    """Make the learner of a policy's network, on the devices where RLlib placed it.

    Args:
        config: The algorithm's configuration.
        policy: The learner's own policy.
        space: Observation space.
        device: Another device for the network.

    Raises:
        UserError: If `torch_compile_learner` is set and nothing can be compiled here, or a network
            of the user's own cannot have replicas, or does not fit the layout of optimisers.
    """
    images = is_image(space)
    device = device or policy.device
    compile = compiler(config, device)
    # A vector's network is too small to be worth a thread for each part of a minibatch, and
    # compiled passes use threads inside each operation.
    side_by_side = images and compile is None and device.type == "cpu"
    try:
        return _learner(config, policy, device, images, compile, side_by_side)
    except CannotCopy as error:
        raise UserError(f"{error}; set learner_threads: 1.") from error
    except ValueError as error:
        raise UserError(str(error)) from error


def _learner(
    config: PPGConfig,
    policy: PPGTorchPolicy,
    device: torch.device,
    images: bool,
    compile: Compile | None,
    side_by_side: bool,
) -> PhasicLearner:
    return PhasicLearner(
        policy.network,
        policy.action_spec,
        config.policy_phase_settings(),
        config.aux_phase_settings(),
        device=device,
        copies=policy.network_copies,
        threads=learner_threads(config) if side_by_side else 1,
        compile=compile,
        micro_batch_size=config.rows_per_pass(images=images, gpu=device.type == "cuda"),
        generator=np.random.default_rng(config.seed),
    )


def compiler(config: PPGConfig, device: torch.device) -> Compile | None:
    """Return how the learner's passes are compiled, or None where they are not.

    Raises:
        UserError: If nothing can be compiled here.
    """
    if not config.torch_compile_learner:
        return None
    backend = config.torch_compile_learner_dynamo_backend
    # dynamic is left at None: sizes that change (rows) become symbolic when they do. With True the
    # images' height and width are symbolic too, and inductor fails at their convolutions' gradient.
    compile: Compile = partial(
        torch.compile,
        backend=backend,
        mode=config.torch_compile_learner_dynamo_mode,
    )
    # A number that stands in no cache of earlier kernels, so that the compiler really runs.
    number = secrets.randbits(24)
    try:
        compile(lambda x: (x * number).relu())(torch.ones(8, device=device))
    except Exception as error:
        # torch wraps what the compiler said in errors of many types.
        reason = " ".join(str(error).split())[:200]
        needs = "Triton" if device.type == "cuda" else "a C++ compiler"
        raise UserError(
            f"torch_compile_learner: true, but torch.compile with the backend {backend!r} does not "
            f"work here: {reason} Install {needs}, or leave the key out."
        ) from error
    return compile
