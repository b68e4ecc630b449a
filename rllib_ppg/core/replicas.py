"""Core: replicas of the network, which work on a minibatch side by side.

CPU threads that share every operation wait for each other at the end of each, and for any other
process that takes a core. So a CPU learner gives every thread a replica and its own rows, which is
a little faster on an idle machine and far faster on a busy one (BENCHMARKS.md). Several GPUs are
used in the same way.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, TypeVar

import torch
from torch import Tensor

from rllib_ppg.core.networks import PhasicNetwork, PhasicOutput

Part = TypeVar("Part")
Result = TypeVar("Result")
Compile = Callable[[Callable[..., Any]], Callable[..., Any]]


class Replica:
    """A network on its device, and its passes (compiled or not).

    Args:
        network: The network.
        compile: Makes a faster version of a function; None leaves it.

    Attributes:
        device: Where the parameters stand.
        forward: All three heads, as `PhasicNetwork.forward`.
        policy: As `PhasicNetwork.policy`.
        value: As `PhasicNetwork.value`.
    """

    def __init__(self, network: PhasicNetwork, compile: Compile | None = None) -> None:
        make = compile or (lambda function: function)
        self.network = network
        self.parameters = list(network.parameters())
        self.device = self.parameters[0].device
        self.forward: Callable[..., PhasicOutput] = make(network.forward)
        self.policy: Callable[..., tuple[Tensor, Tensor | None]] = make(network.policy)
        self.value: Callable[..., Tensor] = make(network.value)


class CannotCopy(ValueError):
    """A network that allows one thread only."""


class Replicas:
    """The network that is trained, and its replicas.

    Args:
        networks: The network, then its copies on further devices.
        threads: CPU threads that work side by side, each with a replica that shares the network's
            weights and has gradients of its own; used where there is one network, on a CPU.
        compile: Makes a faster version of a function; None leaves it.

    Raises:
        ValueError: If there is no network or no thread.
        CannotCopy: If the network cannot be copied for a second thread.

    Networks may hold buffers, which the first network's are copied to; layers that write to theirs
    in a training pass (batch normalisation) need a single replica.
    """

    def __init__(
        self,
        networks: Sequence[PhasicNetwork],
        *,
        threads: int = 1,
        compile: Compile | None = None,
    ) -> None:
        if not networks or threads < 1:
            raise ValueError(f"{len(networks)} networks and threads={threads} must be at least 1.")
        first = networks[0]
        self._copies = [_tensors(network) for network in networks[1:]]
        if len(networks) == 1 and next(first.parameters()).device.type == "cpu":
            networks = [first, *(_share_weights(first) for _ in range(threads - 1))]
        self._replicas = [Replica(network, compile) for network in networks]
        self._pool: ThreadPoolExecutor | None = None

    def __len__(self) -> int:
        return len(self._replicas)

    def __iter__(self) -> Iterator[Replica]:
        return iter(self._replicas)

    def __getitem__(self, index: int) -> Replica:
        return self._replicas[index]

    def run(
        self, function: Callable[[Replica, Part], Result], parts: Sequence[Part]
    ) -> list[Result]:
        """Call `function` with each part on a replica of its own, all at once.

        Gradient mode and autocast belong to a thread: `function` has to set them itself.
        """
        if len(parts) == 1:
            return [function(self._replicas[0], parts[0])]
        if self._pool is None:
            self._pool = ThreadPoolExecutor(
                len(self), "learner", initializer=torch.set_num_threads, initargs=(1,)
            )
        futures = [
            self._pool.submit(function, replica, part)
            for replica, part in zip(self._replicas, parts, strict=False)
        ]
        wait(futures)
        return [future.result() for future in futures]

    def zero_grad(self) -> None:
        """Forget all gradients.

        They become None, not zero: Adam would move a parameter that has a zero gradient.
        """
        for replica in self._replicas:
            for parameter in replica.parameters:
                parameter.grad = None

    def reduce_gradients(self) -> None:
        """Add the replicas' gradients to the network's, in the replicas' order."""
        first, *others = self._replicas
        for i, parameter in enumerate(first.parameters):
            for other in others:
                grad = other.parameters[i].grad
                if grad is None:
                    continue
                grad = grad.to(first.device, non_blocking=True)
                parameter.grad = grad if parameter.grad is None else parameter.grad.add_(grad)

    @torch.no_grad()
    def broadcast(self) -> None:
        """Copy the network's weights and buffers to the copies on further devices."""
        for targets in self._copies:
            for source, target in zip(_tensors(self._replicas[0].network), targets, strict=True):
                target.copy_(source, non_blocking=True)


def _share_weights(network: PhasicNetwork) -> PhasicNetwork:
    """Return a copy whose parameters and buffers lie in the same memory."""
    try:
        other = copy.deepcopy(network)
    except RuntimeError as error:
        raise CannotCopy(f"the network cannot be copied for a second thread: {error}") from error
    pairs = zip(_tensors(network), _tensors(other), strict=True)
    for source, target in pairs:
        target.data = source.data
        target.grad = None
    return other


def _tensors(network: PhasicNetwork) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]
