"""Runs both phases on the inputs of golden files and compares every step.

Shared by the tests of the single phases and of whole runs.
"""

from collections.abc import Callable
from typing import Any

import golden_files
import numpy as np
import torch
from golden_files import Golden, assert_losses

from rllib_ppg.core.learner import (
    AuxPhase,
    AuxPhaseSettings,
    PhasicLearner,
    PolicyBatch,
    PolicyPhaseSettings,
    PolicyStep,
)
from rllib_ppg.core.losses import policy_loss, value_loss
from rllib_ppg.core.networks import PhasicNetwork
from rllib_ppg.core.segments import SegmentStore

KINDS = {0: "joint", 1: "value", 2: "policy"}
TERMS = ("pol_distance", "vf_aux", "vf_true")
DIAGNOSTICS = {
    "entropy": "entropy",
    "negent": "negent",
    "pg": "policy_gradient_loss",
    "pi_kl": "kl_penalty_loss",
    "clipfrac": "clip_fraction",
    "approxkl": "approx_kl",
}


def policy_settings(common: Golden, own: Golden) -> PolicyPhaseSettings:
    return PolicyPhaseSettings(
        n_epoch_pi=own.count("n_epoch_pi"),
        n_epoch_vf=own.count("n_epoch_vf"),
        nminibatch=own.count("nminibatch"),
        clip_param=own.number("clip_param"),
        kl_penalty=own.number("kl_penalty"),
        entropy_coeff=common.number("entcoef"),
        vf_loss_coeff=common.number("vfcoef"),
        lr=common.number("lr"),
    )


def segment_batch(seg: Golden) -> PolicyBatch:
    return PolicyBatch(seg["ob"], seg["ac"], seg["logp"], seg["adv"], seg["vtarg"], seg["vpred"])


def losses_before_step(learner: PhasicLearner, seg: Golden, envs: np.ndarray) -> dict[str, float]:
    """Both losses and all diagnostics, whichever of them the step will minimise."""
    keys = ("ob", "ac", "logp", "adv", "vtarg")
    rows = {key: torch.from_numpy(seg[key][envs]).flatten(0, 1) for key in keys}
    settings = learner.policy_settings
    with torch.no_grad():
        output = learner.network(rows["ob"])
        _, policy = policy_loss(
            learner.action_spec.distribution(output.logits),
            rows["ac"],
            rows["logp"],
            rows["adv"],
            clip_param=settings.clip_param,
            kl_penalty=settings.kl_penalty,
            entropy_coeff=settings.entropy_coeff,
        )
        _, value = value_loss(output.vf, rows["vtarg"], coeff=settings.vf_loss_coeff)
    return {k: float(v) for k, v in {**policy._asdict(), **value._asdict()}.items()}


def assert_policy_step(step: PolicyStep, before: dict[str, float], golden: Golden, k: int) -> None:
    """Compare what was minimised, on which rows, and every statistic of step k."""
    envs = golden["mb_env"][k]
    assert step.kind == KINDS[int(golden["kind"][k])]
    assert step.epoch == golden["epoch"][k]
    assert len(step.units) == golden["mb_size"][k]
    assert step.units.tolist() == envs[envs >= 0].tolist()
    stats = {name: float(value) for name, value in step.stats.items()}
    expected = {"loss_pi": golden["loss_pi"][k], "loss_vf": golden["loss_vf"][k]}
    expected |= {ours: golden[f"diag_{theirs}"][k] for theirs, ours in DIAGNOSTICS.items()}
    for name, value in expected.items():
        tolerance = {"rtol": 0, "atol": 1e-6} if name == "clip_fraction" else {}
        tolerance = tolerance or {"rtol": 1e-5, "atol": 1e-5}
        np.testing.assert_allclose(before[name], value, err_msg=name, **tolerance)
        if name in stats:
            np.testing.assert_allclose(stats[name], value, err_msg=name, **tolerance)
    assert "loss_pi" in stats or step.kind == "value"
    assert "loss_vf" in stats or step.kind == "policy"
    assert_losses(stats["loss_total"], golden["loss_total"][k], "loss_total")
    np.testing.assert_allclose(stats["grad_norm"], golden["grad_norm"][k], rtol=1e-4)


def run_policy_phase(learner: PhasicLearner, seg: Golden, golden: Golden, gradients: bool) -> None:
    """Run and compare all steps of a policy phase."""
    steps = learner.policy_steps(segment_batch(seg))
    kinds = golden["kind"].tolist()
    for k in range(len(kinds)):
        envs = golden["mb_env"][k]
        before = losses_before_step(learner, seg, envs[envs >= 0])
        assert_policy_step(next(steps), before, golden, k)
        if gradients and k == 0:
            golden_files.assert_gradients(learner.network, golden, "grad0")
        if gradients and golden.below("gradpi0").arrays and k == kinds.index(2):
            golden_files.assert_gradients(learner.network, golden, "gradpi0")
    assert next(steps, None) is None, "more steps than the original made"


def aux_settings(aux_lr: float, mbsize: int, hp: Golden) -> AuxPhaseSettings:
    return AuxPhaseSettings(
        n_aux_epochs=hp.count("n_aux_epochs"),
        aux_mbsize=mbsize,
        beta_clone=hp.number("beta_clone"),
        vf_true_weight=hp.number("vf_true_weight"),
        aux_lr=aux_lr,
    )


def fill_store(obs: np.ndarray, targets: np.ndarray) -> SegmentStore:
    """Store segments (N, E, T, ...), one iteration after the other."""
    num_iterations, num_envs, num_steps = obs.shape[:3]
    store = SegmentStore(num_iterations * num_envs, num_steps, obs.shape[3:], obs.dtype)
    for i in range(num_iterations):
        rows = store.append(np.arange(num_envs))
        store.obs[rows] = obs[i]
        store.value_targets[rows] = targets[i]
    return store


def recorded(old_inputs: np.ndarray) -> dict[str, Any]:
    """State of an auxiliary phase whose epoch 0 recorded this old policy (S * T, A)."""
    return {"epoch": 1, "minibatch": 0, "old_inputs": old_inputs, "pieces": []}


def assert_old_policy(learner: PhasicLearner, phase: AuxPhase, expected: np.ndarray) -> None:
    """Run epoch 0 and compare the recorded policy (N, E, T, A)."""
    while phase.epoch == 0:
        assert phase.step() is None
    log_probs = learner.action_spec.distribution(phase.old_inputs).log_probs.numpy()
    np.testing.assert_allclose(log_probs.reshape(expected.shape), expected, rtol=0, atol=3e-5)


def overwrite_policy_head(network: PhasicNetwork, golden: Golden, prefix: str) -> None:
    """Take the original's policy head after a step whose size is rounding noise times Adam."""
    for parameter in (network.policy_head.weight, network.policy_head.bias):
        assert parameter.grad is not None
        assert parameter.grad.abs().max() < 1e-6
    network.load_state_dict(golden.named(prefix), strict=False)


def run_aux_epochs(
    learner: PhasicLearner,
    phase: AuxPhase,
    store: SegmentStore,
    golden: Golden,
    after_first: Callable[[], None],
) -> None:
    """Run and compare all optimiser steps of an auxiliary phase."""
    coefficients = {
        "pol_distance": learner.aux_settings.beta_clone,
        "vf_aux": 1.0,
        "vf_true": learner.aux_settings.vf_true_weight,
    }
    for k in range(len(golden["mb_size"])):
        step = phase.step()
        assert step is not None
        assert step.epoch == golden["epoch"][k] + 1
        assert len(step.units) == golden["mb_size"][k]
        pairs = np.stack([store.env[step.units], store.iteration[step.units]], axis=1)
        expected_pairs = golden["mb_envseg"][k]
        assert pairs.tolist() == expected_pairs[expected_pairs[:, 0] >= 0].tolist()
        stats = {name: float(value) for name, value in step.stats.items()}
        for term in TERMS:
            assert_losses(stats[term], golden[f"unscaled_{term}"][k], term)
            scaled = stats[term] * coefficients[term]
            assert_losses(scaled, golden[f"scaled_{term}"][k], f"scaled {term}")
        assert_losses(stats["loss_total"], golden["loss_total"][k], "loss_total")
        np.testing.assert_allclose(stats["grad_norm"], golden["grad_norm"][k], rtol=1e-4)
        if k == 0:
            after_first()
    assert phase.done, "the original made fewer steps"
