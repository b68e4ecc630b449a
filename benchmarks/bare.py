"""Yardsticks: the same work in the plainest loops that PyTorch and Procgen allow.

Nothing here checks, records or reports anything. Shape key: R rows of a minibatch, N games,
T steps, A actions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from rllib_ppg.core.networks import PhasicNetwork
from rllib_ppg.envs.procgen_library import import_procgen

CLIP, ENTROPY, VALUE = 0.2, 0.01, 0.5
LEARNING_RATE = 5e-4


@dataclass
class Minibatch:
    """Rows to learn from.

    Attributes:
        obs: uint8 (R, H, W, C).
        actions: int64 (R,).
        logp: Log-probability of the actions while acting (R,).
        advantages: (R,).
        targets: Value targets (R,).
        old_logits: The old policy's outputs (R, A).
    """

    obs: Tensor
    actions: Tensor
    logp: Tensor
    advantages: Tensor
    targets: Tensor
    old_logits: Tensor

    def __len__(self) -> int:
        return len(self.obs)

    def rows(self, part: slice) -> Minibatch:
        """Return some of the rows."""
        return Minibatch(*(getattr(self, field.name)[part] for field in fields(self)))


def random_minibatch(rows: int, *, actions: int = 15, seed: int = 0) -> Minibatch:
    """Return rows of random frames (64, 64, 3); what is in them does not change the speed."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    return Minibatch(
        torch.randint(0, 256, (rows, 64, 64, 3), dtype=torch.uint8, generator=generator),
        torch.randint(0, actions, (rows,), generator=generator),
        torch.full((rows,), -float(np.log(actions))),
        normal(rows),
        normal(rows),
        normal(rows, actions),
    )


Loss = Callable[[PhasicNetwork, Tensor, Minibatch], Tensor]


def policy_phase_loss(network: PhasicNetwork, obs: Tensor, rows: Minibatch) -> Tensor:
    """PPO's clipped surrogate, entropy bonus and half the squared value error, as one mean."""
    output = network(obs)
    log_probs = F.log_softmax(output.logits, -1)
    logp = log_probs.gather(1, rows.actions[:, None])[:, 0]
    ratio = (logp - rows.logp).exp()
    clipped = ratio.clamp(1 - CLIP, 1 + CLIP)
    surrogate = torch.minimum(ratio * rows.advantages, clipped * rows.advantages)
    entropy = -(log_probs.exp() * log_probs).sum(-1)
    value_error = (output.vf - rows.targets).square()
    return (-surrogate - ENTROPY * entropy + VALUE * value_error).mean()


def aux_phase_loss(network: PhasicNetwork, obs: Tensor, rows: Minibatch) -> Tensor:
    """KL(old || new) and half the squared errors of both value heads, as one mean."""
    output = network(obs)
    new, old = F.log_softmax(output.logits, -1), F.log_softmax(rows.old_logits, -1)
    divergence = (old.exp() * (old - new)).sum(-1)
    errors = (output.aux_vf - rows.targets).square() + (output.vf - rows.targets).square()
    return (divergence + 0.5 * errors).mean()


class FastestLoop:
    """The fastest loop known here: each core works through its share of the rows by itself.

    Threads of one intra-op thread each take micro-batches that stay in the cache, in channels-last
    layout, on the same parameters; the gradients are added and a fused Adam makes the step.

    Args:
        network: The network, in channels-last layout as it is made.
        threads: Number of threads.
        micro_batch: Rows of one pass.
    """

    def __init__(self, network: PhasicNetwork, *, threads: int, micro_batch: int = 64) -> None:
        self.network = network
        self.parameters = list(network.parameters())
        self.adam = torch.optim.Adam(self.parameters, lr=LEARNING_RATE, fused=True)
        self.threads, self.micro_batch = threads, micro_batch
        self.pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))

    def parts(self, rows: int) -> list[list[slice]]:
        """Return the micro-batches of each thread."""
        size = self.micro_batch
        bounds = [rows * i // self.threads for i in range(self.threads + 1)]
        return [
            [slice(at, min(at + size, last)) for at in range(first, last, size)]
            for first, last in pairwise(bounds)
        ]

    def gradient(self, loss: Loss, rows: Minibatch) -> list[Tensor | None]:
        """Return the gradient of the mean loss, by parameter; None where it has none."""

        def share(parts: list[slice]) -> list[Tensor | None]:
            total: list[Tensor | None] = [None] * len(self.parameters)
            for part in parts:
                micro = rows.rows(part)
                value = loss(self.network, micro.obs, micro) * (len(micro) / len(rows))
                made = torch.autograd.grad(value, self.parameters, allow_unused=True)
                total = [_add(a, b) for a, b in zip(total, made, strict=True)]
            return total

        shares = list(self.pool.map(share, self.parts(len(rows))))
        total = shares[0]
        for other in shares[1:]:
            total = [_add(a, b) for a, b in zip(total, other, strict=True)]
        return total

    def step(self, loss: Loss, rows: Minibatch) -> None:
        """Make one optimiser step."""
        for parameter, gradient in zip(self.parameters, self.gradient(loss, rows), strict=True):
            parameter.grad = gradient
        self.adam.step()

    def forward(self, function: Callable[[Tensor], Tensor], obs: Tensor) -> Tensor:
        """Return a function's outputs for all rows, without gradient."""

        def share(parts: list[slice]) -> list[Tensor]:
            with torch.inference_mode():
                return [function(obs[part]) for part in parts]

        return torch.cat(
            [out for outs in self.pool.map(share, self.parts(len(obs))) for out in outs]
        )

    def close(self) -> None:
        """End the threads."""
        self.pool.shutdown()


def _add(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return b if a is None else a
    return a.add_(b)


class NaiveLoop:
    """What one writes first: the whole minibatch at once, floats in (R, C, H, W), plain Adam.

    Args:
        network: The network; its weights are put in PyTorch's default layout.
    """

    def __init__(self, network: PhasicNetwork) -> None:
        self.network = network.to(memory_format=torch.contiguous_format)
        self.adam = torch.optim.Adam(self.network.parameters(), lr=LEARNING_RATE)

    def gradient(self, loss: Loss, rows: Minibatch) -> list[Tensor | None]:
        """Return the gradient of the mean loss, by parameter; None where it has none."""
        self.adam.zero_grad()
        images = (rows.obs.float() / 255.0).permute(0, 3, 1, 2).contiguous()
        # The network takes (R, H, W, C); this view of the images becomes (R, C, H, W) there again.
        loss(self.network, images.permute(0, 2, 3, 1), rows).backward()
        return [parameter.grad for parameter in self.network.parameters()]

    def step(self, loss: Loss, rows: Minibatch) -> None:
        """Make one optimiser step."""
        self.gradient(loss, rows)
        self.adam.step()


class BareRollout:
    """Procgen and the network in turns, nothing else: observe, forward, sample, act.

    Args:
        network: The network that acts.
        num_envs: N.
        options: Arguments of `ProcgenGym3Env`.
        rand_seed: Its seed.
        greedy: Take the most probable actions and do not sample.
    """

    def __init__(
        self,
        network: PhasicNetwork,
        num_envs: int,
        options: dict[str, object],
        *,
        rand_seed: int,
        greedy: bool = False,
    ) -> None:
        self.network, self.greedy = network, greedy
        self.games = import_procgen().ProcgenGym3Env(num=num_envs, rand_seed=rand_seed, **options)
        self.frames = self.games.observe()[1]["rgb"]

    @torch.inference_mode()
    def play(self, steps: int) -> np.ndarray:
        """Make T steps; return the rewards, float32 (T, N)."""
        rewards = []
        for _ in range(steps):
            logits, _ = self.network.policy(torch.from_numpy(self.frames))
            if self.greedy:
                actions = logits.argmax(-1)
            else:
                actions = torch.multinomial(logits.softmax(-1), 1)[:, 0]
            self.games.act(actions.numpy())
            reward, observed, _ = self.games.observe()
            self.frames = observed["rgb"]
            rewards.append(reward)
        return np.stack(rewards)

    def close(self) -> None:
        """Free the games."""
        self.games.close()


def generalized_advantages(
    rewards: np.ndarray,
    values: np.ndarray,
    bootstrap: np.ndarray,
    dones: np.ndarray,
    *,
    gamma: float,
    lambda_: float,
) -> np.ndarray:
    """GAE by the book: one step after the other, backwards; all arrays (T, N)."""
    advantages = np.zeros_like(rewards, np.float64)
    last = np.zeros(rewards.shape[1])
    following = bootstrap
    for t in reversed(range(len(rewards))):
        alive = 1.0 - dones[t]
        delta = rewards[t] + gamma * following * alive - values[t]
        last = delta + gamma * lambda_ * alive * last
        advantages[t] = last
        following = values[t]
    return advantages


def reward_scale(rewards: np.ndarray, firsts: np.ndarray, gamma: float) -> float:
    """Deviation of the discounted sums of one rollout (T, N), by the book."""
    total = np.zeros(rewards.shape[1])
    sums = []
    for t in range(len(rewards)):
        total = rewards[t] + gamma * (1.0 - firsts[t]) * total
        sums.append(total)
    return float(np.sqrt(np.var(sums) + 1e-8))


def minibatches(rows: Minibatch, size: int) -> Iterator[Minibatch]:
    """Cut rows into minibatches; drawing them at random would cost next to nothing."""
    return (rows.rows(slice(at, at + size)) for at in range(0, len(rows), size))
