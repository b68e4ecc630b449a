"""A small network, rollout and store for the tests of the learner and its phases."""

from dataclasses import replace

import numpy as np
import torch

from rllib_ppg.core.distributions import ActionSpec
from rllib_ppg.core.encoders import MLPEncoder
from rllib_ppg.core.learner import (
    AuxPhaseSettings,
    PhasicLearner,
    PolicyBatch,
    PolicyPhaseSettings,
)
from rllib_ppg.core.networks import PhasicNetwork
from rllib_ppg.core.segments import SegmentStore

NUM_ENVS, NUM_STEPS, OBS_SIZE = 6, 5, 3
POLICY = PolicyPhaseSettings(
    n_epoch_pi=2,
    n_epoch_vf=2,
    nminibatch=3,
    clip_param=0.2,
    kl_penalty=0.0,
    entropy_coeff=0.01,
    vf_loss_coeff=0.5,
    lr=1e-2,
)
AUX = AuxPhaseSettings(
    n_aux_epochs=2, aux_mbsize=5, beta_clone=1.0, vf_true_weight=1.0, aux_lr=1e-2
)
CATEGORICAL = ActionSpec("categorical", (4,))


def make_learner(
    policy: dict | None = None,
    aux: dict | None = None,
    *,
    spec: ActionSpec = CATEGORICAL,
    arch: str = "dual",
    **options,
) -> PhasicLearner:
    """Make a learner that is the same each time, with some settings replaced."""
    torch.manual_seed(1)
    network = PhasicNetwork(
        lambda: MLPEncoder(OBS_SIZE, hiddens=(8,)), spec.num_inputs, arch=arch, normed_init=False
    )
    return PhasicLearner(
        network,
        spec,
        replace(POLICY, **policy or {}),
        replace(AUX, **aux or {}),
        generator=np.random.default_rng(2),
        **options,
    )


def make_batch(spec: ActionSpec = CATEGORICAL, *, seed: int = 3) -> PolicyBatch:
    rng = np.random.default_rng(seed)
    shape = (NUM_ENVS, NUM_STEPS)

    def normal(*extra: int) -> np.ndarray:
        return rng.standard_normal((*shape, *extra)).astype(np.float32)

    actions = normal(*spec.shape)
    if spec.kind != "gaussian":
        actions = rng.integers(0, min(spec.sizes), actions.shape)
    return PolicyBatch(
        obs=rng.integers(0, 256, (*shape, OBS_SIZE), dtype=np.uint8),
        actions=actions,
        logp=normal() - 1.5,
        advantages=normal(),
        value_targets=normal(),
        vf_preds=normal(),
    )


def make_store(*, iterations: int = 2, seed: int = 4) -> SegmentStore:
    rng = np.random.default_rng(seed)
    store = SegmentStore(iterations * NUM_ENVS, NUM_STEPS, (OBS_SIZE,), np.uint8)
    for _ in range(iterations):
        rows = store.append(np.arange(NUM_ENVS))
        store.obs[rows] = rng.integers(0, 256, store.obs[rows].shape)
        store.value_targets[rows] = rng.standard_normal(store.value_targets[rows].shape)
    return store


def weights(learner: PhasicLearner) -> dict[str, np.ndarray]:
    return {name: p.detach().numpy().copy() for name, p in learner.network.named_parameters()}


def moved(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> set[str]:
    """Top-level parts of the network that are not the same bits."""
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    return {name.split(".")[0] for name in changed}


def assert_same_weights(first: PhasicLearner, second: PhasicLearner) -> None:
    """Compare bit for bit."""
    assert not moved(weights(first), weights(second))


def assert_close_weights(first: PhasicLearner, second: PhasicLearner) -> None:
    theirs = weights(second)
    for name, value in weights(first).items():
        np.testing.assert_allclose(value, theirs[name], rtol=0, atol=1e-5, err_msg=name)
