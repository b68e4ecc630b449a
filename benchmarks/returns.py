"""GAE and reward normalisation beside plain numpy loops; they have to give the same numbers."""

from __future__ import annotations

import numpy as np

from benchmarks.bare import generalized_advantages, reward_scale
from benchmarks.measure import Progress, Row, interleave, speed_row
from rllib_ppg.core.returns import RewardNormalizer, compute_gae

GAMMA, LAMBDA, REWARD_GAMMA, CLIP = 0.999, 0.95, 0.99, 10.0


def run(quick: bool, progress: Progress) -> list[Row]:
    """Measure both on one rollout of the default size, T = 256 and N = 64."""
    steps, envs, rounds = (16, 4, 3) if quick else (256, 64, 21)
    calls = 1 if quick else 10
    rng = np.random.default_rng(0)
    rewards, values = (rng.standard_normal((steps, envs)).astype(np.float32) for _ in range(2))
    bootstrap = rng.standard_normal(envs).astype(np.float32)
    dones = rng.random((steps, envs)) < 0.02
    firsts = np.concatenate([np.ones((1, envs), bool), dones[:-1]])

    def our_gae() -> np.ndarray:
        return compute_gae(rewards, values, bootstrap, dones, gamma=GAMMA, lambda_=LAMBDA)[0]

    def bare_gae() -> np.ndarray:
        return generalized_advantages(
            rewards, values, bootstrap, dones, gamma=GAMMA, lambda_=LAMBDA
        )

    def our_rewards() -> np.ndarray:
        normalizer = RewardNormalizer(envs, gamma=REWARD_GAMMA, clip=CLIP)
        normalizer.moments.count = 0.0  # the bare loop knows this one rollout only
        return normalizer(rewards, firsts)

    def bare_rewards() -> np.ndarray:
        return np.clip(rewards / reward_scale(rewards, firsts, REWARD_GAMMA), -CLIP, CLIP)

    table = []
    for what, ours, bare in (
        ("GAE", our_gae, bare_gae),
        ("reward normalisation", our_rewards, bare_rewards),
    ):
        np.testing.assert_allclose(ours(), bare(), rtol=1e-4, atol=1e-5)
        seconds = interleave(
            {
                "ours": lambda ours=ours: [ours() for _ in range(calls)],
                "plain numpy loop": lambda bare=bare: [bare() for _ in range(calls)],
            },
            rounds,
            lambda text, what=what: progress(f"{what}: {text}"),
        )
        table.append(
            speed_row(
                "returns",
                f"{what}, T = {steps}, N = {envs}",
                seconds,
                ours="ours",
                against="plain numpy loop",
                amount=calls * steps * envs / 1000,
                unit="1000 steps/s",
            )
        )
    return table
