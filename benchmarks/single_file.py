"""Yardstick: PPG as one script, the way a widely used single-file implementation goes about it.

Written anew from its published description: one network with a detached value head in PyTorch's
default weight layout, float observations, whole minibatches, one plain Adam for both phases,
gradient-norm and value clipping, reward statistics updated in every environment step. Nothing in it
is slow on purpose.

Source: vwxyzjn/cleanrl@fe8d8a0, ppg_procgen.py and its documentation (behaviour only).
Shape key: N games, T steps, R rows of a minibatch, P iterations of a phase.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, kl_divergence

from rllib_ppg.envs.procgen_library import import_procgen

WIDTHS, HIDDEN = (16, 32, 32), 256
GAMMA, LAMBDA = 0.999, 0.95
CLIP, VALUE_CLIP, ENTROPY, VALUE, GRAD_CLIP = 0.2, 0.2, 0.01, 0.5, 0.5
REWARD_CLIP = 10.0


def scaled(layer: nn.Module, norm: float) -> nn.Module:
    """Give each output unit's weights the L2 norm `norm`, and no bias."""
    weight = layer.weight.data
    norms = weight.flatten(1).norm(dim=1)
    weight *= (norm / norms).view(-1, *[1] * (weight.dim() - 1))
    layer.bias.data.zero_()
    return layer


class Residual(nn.Module):
    """Two convolutions beside the identity."""

    def __init__(self, width: int, norm: float) -> None:
        super().__init__()
        self.first = scaled(nn.Conv2d(width, width, 3, padding=1), norm)
        self.second = scaled(nn.Conv2d(width, width, 3, padding=1), norm)

    def forward(self, x: Tensor) -> Tensor:
        """Map (R, C, H, W) to the same shape."""
        return x + self.second(torch.relu(self.first(torch.relu(x))))


class Agent(nn.Module):
    """One IMPALA encoder with policy, detached value and auxiliary value head."""

    def __init__(self, actions: int = 15) -> None:
        super().__init__()
        norm = (len(WIDTHS) * 2) ** -0.25
        layers: list[nn.Module] = []
        for before, width in zip((3, *WIDTHS), WIDTHS, strict=False):
            layers += [
                scaled(nn.Conv2d(before, width, 3, padding=1), 1.0),
                nn.MaxPool2d(3, stride=2, padding=1),
                Residual(width, norm),
                Residual(width, norm),
            ]
        dense = scaled(nn.Linear(WIDTHS[-1] * 8 * 8, HIDDEN), 1.4)
        self.encoder = nn.Sequential(*layers, nn.Flatten(), nn.ReLU(), dense, nn.ReLU())
        self.policy = scaled(nn.Linear(HIDDEN, actions), 0.1)
        self.value = scaled(nn.Linear(HIDDEN, 1), 0.1)
        self.aux_value = scaled(nn.Linear(HIDDEN, 1), 0.1)

    def forward(self, frames: Tensor) -> tuple[Categorical, Tensor, Tensor]:
        """Policy, value (R,) and auxiliary value (R,) of float frames (R, H, W, C) in 0..255."""
        code = self.encoder(frames.permute(0, 3, 1, 2) / 255.0)
        value = self.value(code.detach())[:, 0]
        return Categorical(logits=self.policy(code)), value, self.aux_value(code)[:, 0]


@dataclass(frozen=True)
class Sizes:
    """How much of everything: N, T, P and the minibatches (`aux_mbsize` counts whole rollouts)."""

    num_envs: int
    steps: int
    n_pi: int
    n_aux_epochs: int
    nminibatch: int
    aux_mbsize: int


class Rollout(NamedTuple):
    """T steps of N games, time first; `obs` are floats (T, N, H, W, C)."""

    obs: Tensor
    actions: Tensor
    logp: Tensor
    rewards: Tensor
    firsts: Tensor
    values: Tensor


class RewardStatistics:
    """Divides rewards by the running deviation of their discounted sums, step by step."""

    def __init__(self, num_envs: int) -> None:
        self.sums = np.zeros(num_envs)
        self.mean, self.var, self.count = 0.0, 1.0, 1e-4

    def __call__(self, rewards: np.ndarray, ended: np.ndarray) -> np.ndarray:
        """Normalise the rewards of one step (N,)."""
        self.sums = self.sums * GAMMA + rewards
        batch_mean, batch_var, batch = self.sums.mean(), self.sums.var(), len(self.sums)
        delta, total = batch_mean - self.mean, self.count + batch
        square = self.var * self.count + batch_var * batch
        square += delta**2 * self.count * batch / total
        self.mean += delta * batch / total
        self.var, self.count = square / total, total
        self.sums[ended] = 0.0
        return np.clip(rewards / np.sqrt(self.var + 1e-8), -REWARD_CLIP, REWARD_CLIP)


class SingleFilePPG:
    """The script's main loop, one phase at a time.

    Args:
        sizes: Sizes of everything.
        options: Arguments of `ProcgenGym3Env`.
        rand_seed: Its seed.
    """

    def __init__(self, sizes: Sizes, options: dict[str, object], *, rand_seed: int = 0) -> None:
        self.sizes = sizes
        self.games = import_procgen().ProcgenGym3Env(
            num=sizes.num_envs, rand_seed=rand_seed, **options
        )
        self.agent = Agent()
        self.adam = torch.optim.Adam(self.agent.parameters(), lr=5e-4, eps=1e-8)
        self.statistics = RewardStatistics(sizes.num_envs)
        stored = (sizes.steps, sizes.num_envs * sizes.n_pi)
        self.aux_obs = torch.zeros((*stored, 64, 64, 3), dtype=torch.uint8)
        self.aux_returns = torch.zeros(stored)
        self._look()

    def _look(self) -> np.ndarray:
        rewards, frames, firsts = self.games.observe()
        self.frames, self.firsts = torch.tensor(frames["rgb"]).float(), torch.tensor(firsts)
        return rewards

    def cycle(self) -> None:
        """Run the policy iterations of one phase and its auxiliary phase."""
        for number in range(self.sizes.n_pi):
            rollout = self.rollout()
            advantages, returns = self.estimate(rollout)
            self.policy_phase(rollout, advantages, returns)
            columns = slice(number * self.sizes.num_envs, (number + 1) * self.sizes.num_envs)
            self.aux_obs[:, columns] = rollout.obs.to(torch.uint8)
            self.aux_returns[:, columns] = returns
        self.aux_phase(self.old_logits())

    @torch.no_grad()
    def rollout(self) -> Rollout:
        """Play T steps."""
        shape = (self.sizes.steps, self.sizes.num_envs)
        out = Rollout(torch.zeros((*shape, 64, 64, 3)), *(torch.zeros(shape) for _ in range(5)))
        for t in range(self.sizes.steps):
            out.obs[t], out.firsts[t] = self.frames, self.firsts
            policy, out.values[t], _ = self.agent(self.frames)
            actions = policy.sample()
            out.actions[t], out.logp[t] = actions, policy.log_prob(actions)
            self.games.act(actions.numpy())
            rewards = self._look()
            out.rewards[t] = torch.tensor(self.statistics(rewards, self.firsts.numpy()))
        return out

    @torch.no_grad()
    def estimate(self, rollout: Rollout) -> tuple[Tensor, Tensor]:
        """Standardised advantages and value targets (T, N)."""
        following, alive = self.agent(self.frames)[1], 1.0 - self.firsts.float()
        advantages, last = torch.zeros_like(rollout.rewards), torch.zeros(self.sizes.num_envs)
        for t in reversed(range(self.sizes.steps)):
            delta = rollout.rewards[t] + GAMMA * following * alive - rollout.values[t]
            advantages[t] = last = delta + GAMMA * LAMBDA * alive * last
            following, alive = rollout.values[t], 1.0 - rollout.firsts[t]
        returns = advantages + rollout.values
        return (advantages - advantages.mean()) / (advantages.std() + 1e-8), returns

    def policy_phase(self, rollout: Rollout, advantages: Tensor, returns: Tensor) -> None:
        """Make one epoch over random steps."""
        flat = [x.flatten(0, 1) for x in (*rollout, advantages, returns)]
        obs, actions, logp, _, _, values, advantages, returns = flat
        for rows in torch.randperm(len(obs)).chunk(self.sizes.nminibatch):
            loss = policy_loss(
                self.agent, obs[rows], actions[rows], logp[rows], values[rows], advantages[rows],
                returns[rows],
            )  # fmt: skip
            self.step(loss)

    def old_logits(self) -> Tensor:
        """The policy before the auxiliary phase, (T, N * P, A)."""
        with torch.no_grad():
            parts = self.aux_obs.split(self.sizes.aux_mbsize, 1)
            logits = [self.agent(part.flatten(0, 1).float())[0].logits for part in parts]
        steps = self.sizes.steps
        return torch.cat([part.unflatten(0, (steps, -1)) for part in logits], 1)

    def aux_phase(self, old_logits: Tensor) -> None:
        """Make the auxiliary epochs over whole rollouts in random order."""
        for _ in range(self.sizes.n_aux_epochs):
            for columns in torch.randperm(self.aux_obs.shape[1]).split(self.sizes.aux_mbsize):
                loss = aux_loss(
                    self.agent,
                    self.aux_obs[:, columns].flatten(0, 1).float(),
                    old_logits[:, columns].flatten(0, 1),
                    self.aux_returns[:, columns].flatten(),
                )
                self.step(loss)

    def step(self, loss: Tensor) -> None:
        """Make one optimiser step."""
        self.adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.agent.parameters(), GRAD_CLIP)
        self.adam.step()

    def close(self) -> None:
        """Free the games."""
        self.games.close()


def policy_loss(
    agent: Agent,
    obs: Tensor,
    actions: Tensor,
    logp: Tensor,
    values: Tensor,
    advantages: Tensor,
    returns: Tensor,
) -> Tensor:
    """Clipped surrogate, clipped value loss and entropy bonus of R rows."""
    policy, value, _ = agent(obs)
    ratio = (policy.log_prob(actions) - logp).exp()
    surrogate = torch.max(-advantages * ratio, -advantages * ratio.clamp(1 - CLIP, 1 + CLIP))
    near = values + (value - values).clamp(-VALUE_CLIP, VALUE_CLIP)
    value_error = torch.max((value - returns) ** 2, (near - returns) ** 2)
    value_loss = 0.5 * value_error.mean()
    return surrogate.mean() - ENTROPY * policy.entropy().mean() + VALUE * value_loss


def aux_loss(agent: Agent, obs: Tensor, old_logits: Tensor, returns: Tensor) -> Tensor:
    """KL(old || new) and half the squared errors of both value heads, of R rows."""
    policy, value, aux_value = agent(obs)
    divergence = kl_divergence(Categorical(logits=old_logits), policy).mean()
    real, aux = ((v - returns).square().mean() for v in (value, aux_value))
    return divergence + 0.5 * real + 0.5 * aux
