"""The auxiliary phase: the old policy, slices, and which rows are trained on."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_learner import (
    AUX,
    NUM_ENVS,
    NUM_STEPS,
    assert_close_weights,
    assert_same_weights,
    make_learner,
    make_store,
    moved,
    weights,
)

from rllib_ppg.core.distributions import ActionSpec
from rllib_ppg.core.learner import AuxPhase
from rllib_ppg.core.segments import SegmentStore


def run_all(phase: AuxPhase, max_seconds: float | None = None) -> list[dict[str, np.ndarray]]:
    slices = []
    while not phase.done:
        slices.append(phase.run(max_seconds))
    return slices


def train_steps(phase: AuxPhase):
    while not phase.done:
        step = phase.step()
        if step is not None:
            yield step


@pytest.mark.parametrize("unit", ["segment", "step"])
def test_slices_change_no_number(unit):
    whole, sliced = (
        make_learner(aux={"minibatch_unit": unit}),
        make_learner(aux={"minibatch_unit": unit}),
    )
    long_slices = run_all(whole.begin_aux_phase(make_store()))
    short_slices = run_all(sliced.begin_aux_phase(make_store()), max_seconds=0.0)
    assert len(long_slices) == 1 + AUX.n_aux_epochs
    assert len(short_slices) == 3 * (1 + AUX.n_aux_epochs)
    assert_same_weights(whole, sliced)
    for name in long_slices[0]:
        parts = [np.concatenate([s[name] for s in each]) for each in (long_slices, short_slices)]
        assert np.array_equal(*parts), name
        assert len(parts[0]) == 3 * AUX.n_aux_epochs


def test_position_and_progress_move_with_every_slice():
    phase = make_learner().begin_aux_phase(make_store())
    seen = [(phase.epoch, phase.minibatch, phase.progress)]
    while not phase.done:
        phase.run(0.0)
        seen.append((phase.epoch, phase.minibatch, phase.progress))
    assert [place[:2] for place in seen] == [(e, m) for e in range(3) for m in range(3)] + [(3, 0)]
    progress = [place[2] for place in seen]
    assert progress == sorted(set(progress))
    assert (progress[0], progress[-1]) == (0.0, 1.0)
    assert (phase.epochs, phase.minibatches) == (2, 3)


def test_a_slice_ends_with_its_epoch_and_epoch_zero_makes_no_statistics():
    phase = make_learner().begin_aux_phase(make_store())
    first, second = phase.run(None), phase.run(1000.0)
    assert {len(values) for values in first.values()} == {0}
    assert {len(values) for values in second.values()} == {3}
    assert phase.epoch == 2


@pytest.mark.parametrize("micro_batch_size", [None, 4])
def test_old_policy_is_recorded_once_for_every_step(micro_batch_size):
    learner = make_learner(micro_batch_size=micro_batch_size)
    store = make_store()
    with torch.no_grad():
        expected = learner.network(torch.from_numpy(store.obs).flatten(0, 1)).logits
    before = weights(learner)
    phase = learner.begin_aux_phase(store)
    phase.run(None)
    assert not moved(before, weights(learner))
    run_all(phase)
    torch.testing.assert_close(phase.old_inputs, expected)
    assert moved(before, weights(learner))


def go_on(learner, store, phase):
    """The same learner, store and phase, made anew from their states."""
    other, other_store = make_learner(aux={"minibatch_unit": "segment"}), make_store(seed=9)
    other.network.load_state_dict(learner.network.state_dict())
    other.set_state(learner.get_state())
    other_store.set_state(store.get_state())
    other_store.write_frames(slice(0, store.count), store.read_frames(slice(0, store.count)))
    return other, other.begin_aux_phase(other_store, phase.get_state())


@pytest.mark.parametrize("done", range(10))
def test_a_phase_goes_on_from_its_state_bit_for_bit(done):
    learner, store = make_learner(aux={"minibatch_unit": "segment"}), make_store()
    phase = learner.begin_aux_phase(store)
    for _ in range(done):
        phase.step()
    other, resumed = go_on(learner, store, phase)
    assert (resumed.epoch, resumed.minibatch) == (phase.epoch, phase.minibatch)
    while not phase.done:
        ours, theirs = resumed.step(), phase.step()
        assert (ours is None) == (theirs is None)
        assert ours is None or np.array_equal(ours.units, theirs.units)
    assert resumed.done
    assert_same_weights(learner, other)


def test_a_state_of_other_segments_is_refused():
    learner = make_learner()
    state = learner.begin_aux_phase(make_store(iterations=1)).get_state()
    with pytest.raises(ValueError, match=r"\(30, 4\) does not fit its segments \(60, 4\)"):
        learner.begin_aux_phase(make_store(iterations=2), state)


@pytest.mark.parametrize("unit, count", [("segment", 12), ("step", 12 * NUM_STEPS)])
def test_minibatches_partition_the_store_and_differ_between_epochs(unit, count):
    phase = make_learner(aux={"minibatch_unit": unit}).begin_aux_phase(make_store())
    epochs: dict[int, list[int]] = {1: [], 2: []}
    sizes = []
    for step in train_steps(phase):
        epochs[step.epoch].extend(step.units.tolist())
        sizes.append(len(step.units))
    assert sorted(epochs[1]) == sorted(epochs[2]) == list(range(count))
    assert epochs[1] != epochs[2]
    scale = 1 if unit == "segment" else NUM_STEPS
    assert sizes == [5 * scale, 5 * scale, 2 * scale] * 2


def test_only_stored_segments_are_trained_on():
    store = SegmentStore(3 * NUM_ENVS, NUM_STEPS, (3,), np.uint8)
    for envs in ([0, 1, 2], [5, 2]):
        rows = store.append(envs)
        store.obs[rows] = 7
        store.value_targets[rows] = 1.0
    phase = make_learner().begin_aux_phase(store)
    assert phase.minibatches == 1
    steps = list(train_steps(phase))
    assert [sorted(step.units) for step in steps] == [[0, 1, 2, 3, 4]] * 2


def test_frames_and_targets_stay_together():
    """One step with a learning rate of nothing: its loss must be that of the rows it names."""
    learner = make_learner(aux={"aux_lr": 0.0})
    store = make_store()
    for step in train_steps(learner.begin_aux_phase(store)):
        with torch.no_grad():
            vf = learner.network(torch.from_numpy(store.obs[step.units]).flatten(0, 1)).vf
        error = vf - torch.from_numpy(store.value_targets[step.units]).flatten()
        torch.testing.assert_close(step.stats["vf_true"], 0.5 * error.square().mean())


@pytest.mark.parametrize("size", [1, 7])
def test_micro_batches_change_nothing_but_rounding(size):
    # Without the KL, whose gradient is zero in the first step: Adam would blow its rounding up.
    aux = {"beta_clone": 0.0}
    whole, cut = make_learner(aux=aux), make_learner(aux=aux, micro_batch_size=size)
    run_all(whole.begin_aux_phase(make_store()))
    run_all(cut.begin_aux_phase(make_store()))
    assert_close_weights(whole, cut)


@pytest.mark.parametrize(
    "arch, weight, reached",
    [
        ("dual", 0.0, {"policy_encoder", "aux_value_head"}),
        ("detach", 0.0, {"policy_encoder", "aux_value_head"}),
        ("dual", 1.0, {"policy_encoder", "aux_value_head", "value_encoder", "value_head"}),
        ("detach", 1.0, {"policy_encoder", "aux_value_head", "value_head"}),
        ("shared", 1.0, {"policy_encoder", "aux_value_head", "value_head"}),
    ],
)
def test_value_losses_move_what_they_reach(arch, weight, reached):
    learner = make_learner(aux={"beta_clone": 0.0, "vf_true_weight": weight}, arch=arch)
    before = weights(learner)
    run_all(learner.begin_aux_phase(make_store()))
    assert moved(before, weights(learner)) == reached


def test_cloning_keeps_the_policy():
    """The same phase drifts further without the KL term."""

    def drift(beta_clone: float) -> float:
        learner = make_learner(aux={"beta_clone": beta_clone, "n_aux_epochs": 20})
        phase = learner.begin_aux_phase(make_store())
        return float(np.concatenate([s["pol_distance"] for s in run_all(phase)])[-1])

    assert drift(50.0) < 0.5 * drift(0.0)


@pytest.mark.parametrize(
    "spec",
    [ActionSpec("multi_categorical", (2, 3)), ActionSpec("gaussian", (2,))],
    ids=lambda spec: spec.kind,
)
def test_other_actions_and_float_observations(spec):
    store = SegmentStore(2, NUM_STEPS, (3,), np.float32)
    rows = store.append([0, 1])
    store.obs[rows] = np.random.default_rng(0).standard_normal(store.obs.shape)
    store.value_targets[rows] = 1.0
    slices = run_all(make_learner(spec=spec).begin_aux_phase(store))
    assert abs(slices[1]["pol_distance"][0]) < 1e-6
    assert slices[2]["pol_distance"][0] > 0
    assert slices[2]["vf_aux"][0] < slices[1]["vf_aux"][0]


def test_gradient_clip_reaches_the_update():
    learner = make_learner(aux={"grad_clip": 1e-3})
    for step in train_steps(learner.begin_aux_phase(make_store())):
        gradients = [p.grad.flatten() for p in learner.network.parameters()]
        norm = torch.linalg.vector_norm(torch.cat(gradients))
        assert norm.item() == pytest.approx(1e-3, rel=1e-2)
        assert step.stats["grad_norm"] > 1e-2


def test_a_loss_that_is_not_finite_is_named_with_its_step():
    store = make_store()
    store.value_targets[7, 2] = np.nan
    phase = make_learner().begin_aux_phase(store)
    phase.run(None)
    with pytest.raises(
        FloatingPointError,
        match=r"vf_aux became nan.* at auxiliary-phase minibatch [123] of 3 \(epoch 1\)",
    ):
        phase.run(None)


def test_no_epochs_are_done_at_once():
    phase = make_learner(aux={"n_aux_epochs": 0}).begin_aux_phase(make_store())
    assert phase.done
    assert phase.progress == 1.0


def test_a_finished_phase_and_an_empty_store_are_refused():
    learner = make_learner()
    phase = learner.begin_aux_phase(make_store())
    run_all(phase)
    with pytest.raises(ValueError, match="begin another"):
        phase.step()
    with pytest.raises(ValueError, match="needs stored segments"):
        learner.begin_aux_phase(SegmentStore(2, 3, (3,)))


@pytest.mark.parametrize(
    "change, words",
    [
        ({"minibatch_unit": "row"}, '"segment" or "step"'),
        ({"n_aux_epochs": -1}, "n_aux_epochs=-1"),
        ({"aux_mbsize": 0}, "aux_mbsize=0"),
    ],
)
def test_impossible_settings_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        replace(AUX, **change)
