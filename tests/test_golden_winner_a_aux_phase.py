"""The generalization winner's auxiliary phase against its numbers."""

from functools import partial
from typing import Any

import golden_files
import numpy as np
import pytest
import torch
import winner_a
import winner_files
from golden_files import case_id

from rllib_ppg.core.learner import PhasicLearner
from rllib_ppg.core.segments import SegmentStore, segment_rows
from rllib_ppg.core.value_targets import recomputed_targets


def fill_store(seg, bootstrap: np.ndarray) -> SegmentStore:
    segments, envs, steps = seg["done"].shape
    store = SegmentStore(segments * envs, steps, seg["obs"].shape[3:], with_returns=True)
    for i in range(segments):
        rows = store.append(np.arange(envs))
        store.obs[rows] = seg["obs"][i]
        store.returns.write(
            rows,
            rewards=seg["reward"][i],
            dones=seg["done"][i],
            bootstrap=bootstrap,
            begins=seg["done"][i - 1][:, -1] if i else np.ones(envs, bool),
        )
    return store


def permutations(own, store: SegmentStore):
    """Of the store's own order, for each epoch."""
    flat, envs = "mb" in own, len(np.unique(store.env[: store.count]))
    order = segment_rows(store.pairs(), store.num_steps) if flat else store.pairs()
    for epoch in range(own["epoch"].max() + 1):
        units = np.concatenate(
            [u for u, e in zip(winner_a.aux_units(own), own["epoch"], strict=True) if e == epoch]
        )
        rows = units if flat else units[:, 1] * envs + units[:, 0]
        yield winner_a.store_order(rows, order)


def optimizer_options(own) -> dict[str, Any]:
    if own["hp/single_optimizer"]:
        return {"optimizers": "one", "lr": own.number("lr_aux")}
    rates = {"aux_lr": own.number("lr_aux"), "value_lr": own.number("lr_value")}
    return {"optimizers": "heads", **rates}


def is_stale(learner: PhasicLearner, obs: np.ndarray, old_logits: np.ndarray) -> bool:
    """Whether the old policy is one of another network.

    It differs by far more than rounding then. A network that is wrong in ours would be taken for
    another one, too, and fail in the losses.
    """
    with torch.no_grad():
        logits = learner.network(torch.from_numpy(obs.reshape(-1, *obs.shape[3:]))).logits
    found = logits.numpy().reshape(old_logits.shape)
    return bool(np.abs(found - old_logits).max() > 100 * winner_a.OUTPUT["atol"])


@pytest.mark.parametrize("path, case", winner_files.cases("a_aux_phase", "target"), ids=case_id)
def test_targets_losses_gradients_and_weights_of_every_step(path, case):
    golden = golden_files.load(path)
    own, seg = golden.below(case), golden.below("seg")
    hp = own.below("hp")
    segments, envs, steps = seg["done"].shape
    store = fill_store(seg, golden["bootstrap"])
    config = winner_files.make_config(
        envs,
        steps,
        whole=winner_a.is_whole(hp, segments * envs),
        n_pi=segments,
        nminibatch=1,
        gamma=hp.number("gamma"),
        lambda_=hp.number("lambda"),
        **optimizer_options(own),
        **winner_a.aux_options(hp, steps),
    )
    learner = winner_a.make_learner(config, golden, "param0", permutations(own, store))
    assert config.recomputes_targets
    retarget = partial(recomputed_targets, gamma=config.gamma, lambda_=config.lambda_)
    old_inputs = own["old_logits"].reshape(-1, learner.action_spec.num_inputs)
    old_values = own["old_value"].reshape(-1)
    stale = is_stale(learner, seg["obs"], own["old_logits"])
    if stale:
        targets = retarget(store, own["old_value"].reshape(-1, steps))
        store.value_targets[:] = targets
        state = {"epoch": 1, "minibatch": 0, "old_inputs": old_inputs, "pieces": []}
        phase = learner.begin_aux_phase(store, state, retarget)
    else:
        phase = learner.begin_aux_phase(store, retarget=retarget)
        while phase.epoch == 0:
            assert phase.step() is None
        np.testing.assert_allclose(phase.old_inputs.numpy(), old_inputs, **winner_a.OUTPUT)
        np.testing.assert_allclose(phase.old_values.numpy(), old_values, **winner_a.OUTPUT)
    targets = store.value_targets.reshape(own["target"].shape)
    np.testing.assert_allclose(targets, own["target"], **winner_a.OUTPUT)

    def after_first() -> None:
        gradients = winner_files.named(own, "grad0")
        if gradients:
            found = winner_files.gradients_of(learner.network)
            winner_files.assert_gradients(found, gradients)
        expected = winner_files.named(own, "param_step1")
        if not stale:
            winner_a.overwrite_policy_head(learner, expected)
        winner_files.assert_parameters(learner.network, expected, 2e-5)

    compare = winner_a.AuxComparison(own, envs, steps, after_first)
    while not phase.done:
        step = phase.step()
        assert step is not None
        compare(step)
    compare.finish()
    winner_files.assert_parameters(learner.network, winner_files.named(own, "param1"), 2e-5)
    winner_a.assert_optimizers(learner, own.below("opt"))
