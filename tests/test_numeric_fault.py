"""A broken optimiser step and all later ones of its pass change nothing."""

import pickle
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_learner import (
    CATEGORICAL,
    NUM_ENVS,
    NUM_STEPS,
    assert_same_weights,
    make_batch,
    make_learner,
    make_store,
    weights,
)

from rllib_ppg.core.learner import PhasicLearner
from rllib_ppg.core.numeric_fault import BrokenStep, Evidence, NumericFault

SEPARATE = {"n_epoch_pi": 1, "n_epoch_vf": 2}
UNITS = ["segment", "step"]


def learner_of(unit: str, threads: int = 1, **policy) -> PhasicLearner:
    """Make a learner whose minibatches are the environments, or steps, in order."""
    settings = {"minibatch_unit": unit}
    return make_learner(
        {**settings, **policy}, settings, threads=threads, permutation=lambda n: np.arange(n)
    )


def optimizers(learner: PhasicLearner) -> dict[str, np.ndarray]:
    """Return Adam's counts and moments; a parameter without a step has zeros."""
    shapes = {name: p.shape for name, p in learner.network.named_parameters()}
    found = {}
    for kind, state in learner.get_state()["optimizers"].items():
        for name, shape in shapes.items():
            none = {"step": np.zeros(()), "exp_avg": np.zeros(shape), "exp_avg_sq": np.zeros(shape)}
            for key, value in none.items():
                found[f"{kind} {name} {key}"] = state.get(name, {}).get(key, value)
    return found


def assert_same_state(first: PhasicLearner, second: PhasicLearner) -> None:
    """Compare weights and optimisers bit for bit."""
    assert_same_weights(first, second)
    theirs = optimizers(second)
    for name, value in optimizers(first).items():
        assert np.array_equal(value, theirs[name]), name


def take(steps: Iterable, count: int) -> None:
    """Make the first `count` steps."""
    for _, _ in zip(range(count), steps, strict=False):
        pass


def broken_batch(field: str, value: float):
    """A rollout in which the fourth environment, of the second minibatch of three, is broken."""
    batch = make_batch()
    getattr(batch, field)[3, 1] = value
    return batch


POLICY_CASES = {
    "joint, advantages": ({}, "advantages", 1),
    "joint, targets": ({}, "value_targets", 1),
    "separate, value epoch": (SEPARATE, "value_targets", 1),
    "separate, policy epoch": (SEPARATE, "advantages", 7),
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("case", POLICY_CASES)
@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_a_policy_phase_ends_as_it_was_before_its_broken_step(case, unit, threads, value):
    settings, field, index = POLICY_CASES[case]
    expected, learner = (learner_of(unit, threads, **settings) for _ in range(2))
    steps = expected.policy_steps(make_batch())
    take(steps, index)
    start = weights(learner)
    with pytest.raises(BrokenStep) as error:
        learner.policy_phase(broken_batch(field, value))
    assert error.value.index == index
    assert_same_state(learner, expected)
    assert any(not np.array_equal(start[name], w) for name, w in weights(learner).items())


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("unit", UNITS)
def test_an_auxiliary_slice_ends_as_it_was_before_its_broken_step(unit, threads):
    expected, learner = learner_of(unit, threads), learner_of(unit, threads)
    clean, broken = make_store(), make_store()
    row = int(broken.pairs()[7])  # the second minibatch of three, of 5 segments each
    broken.value_targets[row, 2] = np.inf
    whole, cut = expected.begin_aux_phase(clean), learner.begin_aux_phase(broken)
    whole.run()
    cut.run()
    whole.step()
    with pytest.raises(BrokenStep, match=r"auxiliary-phase minibatch 2 of 3 \(epoch 1\)"):
        cut.run()
    assert_same_state(learner, expected)


def test_a_first_step_that_breaks_leaves_everything_as_it_was():
    learner, expected = learner_of("segment"), learner_of("segment")
    batch = make_batch()
    batch.advantages[0, 0] = np.nan
    with pytest.raises(BrokenStep):
        learner.policy_phase(batch)
    assert_same_state(learner, expected)


def test_a_broken_loss_is_masked_even_if_its_gradient_is_finite():
    def tamed() -> PhasicLearner:
        learner = learner_of("segment")
        for parameter in learner.network.parameters():
            parameter.register_hook(lambda gradient: torch.nan_to_num(gradient, 1.0, 1.0, 1.0))
        return learner

    learner, expected = tamed(), tamed()
    take(expected.policy_steps(make_batch()), 1)
    with pytest.raises(BrokenStep, match="loss_vf became inf") as error:
        learner.policy_phase(broken_batch("value_targets", np.inf))
    assert "grad_norm" not in str(error.value)
    assert_same_state(learner, expected)


def test_a_pass_after_a_broken_one_is_made_again():
    learner, expected = learner_of("segment"), learner_of("segment")
    batch = make_batch()
    batch.advantages[0, 0] = np.nan
    with pytest.raises(BrokenStep):
        learner.policy_phase(batch)
    for each in (learner, expected):
        each.policy_phase(make_batch())
    assert_same_state(learner, expected)


def test_the_scale_of_a_scaled_loss_stays_as_it_was_too():
    learner = learner_of("segment", precision="float16")
    learner._precisions["policy"].set_state({"scale": 8.0, "good_steps": 5.0})
    with pytest.raises(BrokenStep):
        learner.policy_phase(broken_batch("advantages", np.nan))
    assert learner.get_state()["precisions"]["policy"] == {"scale": 8.0, "good_steps": 6.0}


# ---- the evidence


@pytest.mark.parametrize("unit", UNITS)
def test_the_error_carries_the_policy_phases_minibatch(unit):
    batch = broken_batch("advantages", np.inf)
    with pytest.raises(BrokenStep) as error:
        learner_of(unit).policy_phase(batch)
    evidence = error.value.evidence
    facts = evidence.facts
    assert (facts["phase"], facts["kind"], facts["epoch"], facts["minibatch"]) == (
        "policy", "joint", 0, 1,
    )  # fmt: skip
    rows = slice(2 * NUM_STEPS, 4 * NUM_STEPS)  # environments 2 and 3, whatever the unit
    for name in ("obs", "actions", "logp", "advantages", "value_targets", "vf_preds"):
        flat = np.asarray(getattr(batch, name)).reshape(NUM_ENVS * NUM_STEPS, -1)
        kept = evidence.tensors[name].numpy()
        assert np.array_equal(kept.reshape(len(kept), -1), flat[rows]), name


def test_the_error_carries_the_auxiliary_phases_minibatch():
    store = make_store()
    order = store.pairs()
    store.value_targets[order[7], 2] = np.nan
    phase = learner_of("segment").begin_aux_phase(store)
    phase.run()
    with pytest.raises(BrokenStep) as error:
        phase.run()
    tensors = error.value.evidence.tensors
    segments = order[5:10]
    assert np.array_equal(tensors["obs"].numpy(), store.obs[segments].reshape(-1, 3))
    assert np.array_equal(
        tensors["value_targets"].numpy(), store.value_targets[segments].ravel(), equal_nan=True
    )
    old = phase.old_inputs.view(len(order), NUM_STEPS, -1)[segments].flatten(0, 1)
    assert torch.equal(tensors["old_inputs"], old)
    assert old.shape[1] == CATEGORICAL.num_inputs


def test_evidence_travels_with_a_pickled_error():
    error = NumericFault("broken", Evidence("sample", {"step": 3}, {"obs": torch.ones(2)}))
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == "broken" and copy.evidence.facts == {"step": 3}
    assert torch.equal(copy.evidence.tensors["obs"], torch.ones(2))


def test_evidence_that_cannot_be_gathered_hides_no_error():

    learner = learner_of("segment")
    batch = broken_batch("advantages", np.inf)
    frames = batch.frames()
    read: Callable = frames.read
    reads = []

    def failing(rows, device):
        reads.append(rows)
        if len(reads) > 6:  # after the six steps of the phase
            raise RuntimeError("no memory left")
        return read(rows, device)

    frames.read = failing
    with pytest.raises(BrokenStep, match=r"loss_pi became .*could not be kept: no memory left"):
        learner.policy_phase(replace(batch, obs=frames))
