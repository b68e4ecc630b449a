"""What each iteration of `PPG` uses: gamma, rates and coefficients, in their order, by hand."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import winner_models
import winner_replay
from winner_replay import Recording

from rllib_ppg.core.aux_phase import AuxPhase
from rllib_ppg.core.learner import PolicyBatch, PolicyStep

ENVS, STEPS, ITERATIONS, N_PI = 4, 52, 5, 2
GAMMA, LAMBDA, LR, DECAY = 0.9, 0.8, 1e-3, 0.997
MODEL = {"arch": "detach", "frame_differences": True, "widths": [2, 2, 2], "hidden_size": 4}


def make_recording(rng: np.random.Generator) -> Recording:
    """104 solved episodes of two steps in each iteration."""
    shape = (ITERATIONS, ENVS, STEPS)
    frames = rng.integers(0, 256, (ITERATIONS * STEPS + 1, ENVS, 8, 8, 6), np.uint8)
    obs = frames[:-1].reshape(ITERATIONS, STEPS, *frames.shape[1:]).swapaxes(1, 2)
    dones = np.zeros(shape, bool)
    dones[:, :, 1::2] = True
    rewards = rng.uniform(0.5, 1, shape).astype(np.float32)
    return Recording(obs, frames[STEPS::STEPS], rng.integers(0, 3, shape), rewards, dones)


OPTIONS: dict[str, Any] = {
    "normalize_rewards": False,
    "adaptive_gamma": True,
    "return_max": 1.0,
    "gamma": GAMMA,
    "lambda_": LAMBDA,
    "optimizers": "heads",
    "lr": LR,
    "aux_lr": 2 * LR,
    "value_lr": 3 * LR,
    "lr_decay": DECAY,
    "entropy_coeff_schedule": [[0, 0.01], [4 * ENVS * STEPS, 0.002]],
    "n_pi": N_PI,
    "n_aux_epochs": 1,
    "aux_mbsize": ENVS,
    "nminibatch": 1,
    "aux_value_targets": "recomputed",
    "model": {"custom_model": "ppg_impala", "custom_model_config": MODEL},
}

# Solved episodes have two steps: 1 - 1 / (3 * 2) is what the discount moves to.
GAMMAS = [GAMMA]
for _ in range(ITERATIONS):
    GAMMAS.append(0.98 * GAMMAS[-1] + 0.02 * (1 - 1 / 6))


def plain_targets(
    rewards: np.ndarray, values: np.ndarray, dones: np.ndarray, bootstrap: float, gamma: float
) -> list[float]:
    """Value targets of one segment, by the definition."""
    found, advantage, behind = [], 0.0, bootstrap
    for reward, value, done in reversed(list(zip(rewards, values, dones, strict=True))):
        going = 0.0 if done else 1.0
        delta = reward + gamma * going * behind - value
        advantage = delta + gamma * LAMBDA * going * advantage
        found.append(advantage + value)
        behind = value
    return found[::-1]


@pytest.fixture(scope="module")
def run(ray_local) -> dict[str, list[Any]]:
    """What was used in each policy and each auxiliary phase."""
    rng = np.random.default_rng(0)
    recording = make_recording(rng)
    network = winner_models.make_network(recording.obs.shape[3:], 3, MODEL)
    algorithm = winner_replay.build(OPTIONS, recording, 3, network.state_dict())
    learner, used = algorithm._learner, {"policy": [], "aux": []}

    def now() -> dict[str, Any]:
        return {
            "rates": [learner.lr, learner.aux_lr, learner.value_lr],
            "entropy_coeff": learner.entropy_coeff,
        }

    def policy(batch: PolicyBatch, steps: Iterator[PolicyStep]) -> Iterator[PolicyStep]:
        store = algorithm._store
        rows = slice(store.count - ENVS, store.count)
        used["policy"].append(
            {
                "targets": batch.value_targets.copy(),
                "values": batch.vf_preds.copy(),
                "bootstrap": store.returns.bootstrap[rows].copy(),
                **now(),
            }
        )
        yield from steps
        used["policy"][-1]["rates_after"] = now()["rates"]

    def aux(phase: AuxPhase):
        bootstrap = algorithm._store.returns.bootstrap.copy()
        used["aux"].append({"bootstrap": bootstrap, "after_iteration": len(used["policy"])})

        def after(step) -> None:
            shape = (N_PI, ENVS, STEPS)
            used["aux"][-1] |= {
                "values": phase.old_values.numpy().reshape(shape).copy(),
                "targets": algorithm._store.value_targets.reshape(shape).copy(),
                **now(),
            }

        return after

    winner_replay.watch(algorithm, policy, aux)
    for _ in range(ITERATIONS):
        winner_replay.train_iteration(algorithm)
    used["recording"] = [recording]
    algorithm.stop()
    return used


def test_an_iterations_returns_have_the_discount_that_the_one_before_left(run):
    (recording,) = run["recording"]
    for i, used in enumerate(run["policy"]):
        for n in range(ENVS):
            expected = plain_targets(
                recording.rewards[i, n],
                used["values"][n],
                recording.dones[i, n],
                used["bootstrap"][n],
                GAMMAS[i],
            )
            np.testing.assert_allclose(used["targets"][n], expected, rtol=0, atol=1e-6)
    # What the assertion above can tell apart.
    assert abs(GAMMAS[1] - GAMMAS[0]) > 1e-3


def test_an_auxiliary_phase_has_the_discount_of_its_last_iteration(run):
    """The discount moves after the phase, and the sums begin anew in each segment."""
    (recording,) = run["recording"]
    assert [used["after_iteration"] for used in run["aux"]] == [2, 4]
    for used in run["aux"]:
        last = used["after_iteration"]
        for s in range(N_PI):
            for n in range(ENVS):
                i = last - N_PI + s
                behind = (
                    used["values"][s + 1, n, 0] if s + 1 < N_PI else used["bootstrap"][s * ENVS + n]
                )
                expected = plain_targets(
                    recording.rewards[i, n],
                    used["values"][s, n],
                    recording.dones[i, n],
                    behind,
                    GAMMAS[last - 1],
                )
                np.testing.assert_allclose(used["targets"][s, n], expected, rtol=0, atol=1e-6)


def test_rates_decay_from_iteration_to_iteration_and_stay_in_its_auxiliary_phase(run):
    for i, used in enumerate(run["policy"]):
        expected = [factor * LR * DECAY ** (i + 1) for factor in (1, 2, 3)]
        assert used["rates"] == used["rates_after"] == pytest.approx(expected, rel=1e-12)
    for used in run["aux"]:
        assert used["rates"] == run["policy"][used["after_iteration"] - 1]["rates"]


def test_the_entropy_coefficient_follows_the_steps_before_the_iteration(run):
    found = [used["entropy_coeff"] for used in run["policy"]]
    assert found == pytest.approx([0.01, 0.008, 0.006, 0.004, 0.002])
