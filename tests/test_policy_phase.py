"""The policy phase: which losses, on which rows, in which order."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_learner import (
    NUM_ENVS,
    NUM_STEPS,
    POLICY,
    assert_close_weights,
    assert_same_weights,
    make_batch,
    make_learner,
    moved,
    weights,
)

from rllib_ppg.core.distributions import ActionSpec

SEPARATE = {"n_epoch_pi": 1, "n_epoch_vf": 2}


@pytest.mark.parametrize("unit, count", [("segment", NUM_ENVS), ("step", NUM_ENVS * NUM_STEPS)])
def test_minibatches_partition_everything_and_differ_between_epochs(unit, count):
    learner = make_learner({"minibatch_unit": unit})
    epochs: dict[int, list[int]] = {0: [], 1: []}
    for step in learner.policy_steps(make_batch()):
        epochs[step.epoch].extend(step.units.tolist())
        assert len(step.units) == count // POLICY.nminibatch
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(count))
    assert epochs[0] != epochs[1]


def test_segment_minibatches_hold_all_steps_of_their_environments():
    learner = make_learner()
    seen: list[torch.Tensor] = []
    learner.network.policy_encoder.register_forward_pre_hook(
        lambda module, args: seen.append(args[0])
    )
    batch = make_batch()
    for i, step in enumerate(learner.policy_steps(batch)):
        assert np.array_equal(seen[i].numpy(), np.concatenate(batch.obs[step.units]))


@pytest.mark.parametrize("unit", ["segment", "step"])
@pytest.mark.parametrize("size", [1, 4, 7])
def test_micro_batches_change_nothing_but_rounding(size, unit):
    policy = {"minibatch_unit": unit}
    whole, cut = make_learner(policy), make_learner(policy, micro_batch_size=size)
    expected, found = whole.policy_phase(make_batch()), cut.policy_phase(make_batch())
    assert_close_weights(whole, cut)
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_frames_reach_the_encoder_as_bytes_a_micro_batch_at_a_time():
    learner = make_learner(micro_batch_size=4)
    seen: list[torch.Tensor] = []
    learner.network.policy_encoder.register_forward_pre_hook(
        lambda module, args: seen.append(args[0])
    )
    learner.policy_phase(make_batch())
    assert {frames.dtype for frames in seen} == {torch.uint8}
    assert max(len(frames) for frames in seen) == 4
    assert sum(len(frames) for frames in seen) == 2 * NUM_ENVS * NUM_STEPS


@pytest.mark.parametrize("arch", ["dual", "detach", "shared"])
def test_auxiliary_head_takes_no_part(arch):
    learner = make_learner(arch=arch)
    before = weights(learner)
    learner.policy_phase(make_batch())
    assert "aux_value_head" not in moved(before, weights(learner))


@pytest.mark.parametrize(
    "arch, by_value",
    [
        ("dual", {"value_encoder", "value_head"}),
        ("detach", {"value_head"}),
        ("shared", {"policy_encoder", "value_head"}),
    ],
)
def test_separate_epochs_move_only_what_their_loss_reaches(arch, by_value):
    learner = make_learner(SEPARATE, arch=arch)
    before = weights(learner)
    for step in learner.policy_steps(make_batch()):
        after = weights(learner)
        expected = by_value if step.kind == "value" else {"policy_encoder", "policy_head"}
        assert moved(before, after) == expected
        before = after


def test_value_epochs_come_first_and_epochs_count_on():
    steps = list(make_learner({**SEPARATE, "nminibatch": 1}).policy_steps(make_batch()))
    assert [(step.kind, step.epoch) for step in steps] == [
        ("value", 0),
        ("value", 1),
        ("policy", 2),
    ]


@pytest.mark.parametrize("epochs, kinds", [((0, 2), ["value"] * 2), ((1, 0), ["policy"])])
def test_one_kind_of_epoch_may_be_missing(epochs, kinds):
    policy = {"n_epoch_pi": epochs[0], "n_epoch_vf": epochs[1], "nminibatch": 1}
    steps = make_learner(policy).policy_steps(make_batch())
    assert [step.kind for step in steps] == kinds


def test_statistics_of_separate_epochs_are_nan_where_not_made():
    stats = make_learner({**SEPARATE, "nminibatch": 1}).policy_phase(make_batch())
    assert np.isnan(stats["loss_pi"]).tolist() == [True, True, False]
    assert np.isnan(stats["entropy"]).tolist() == [True, True, False]
    assert np.isnan(stats["loss_vf"]).tolist() == [False, False, True]
    assert np.isfinite(stats["loss_total"]).all()
    assert stats.means()["loss_vf"] == pytest.approx(stats["loss_vf"][:2].mean())


def test_joint_loss_is_the_sum_of_both():
    stats = make_learner().policy_phase(make_batch())
    np.testing.assert_allclose(stats["loss_total"], stats["loss_pi"] + stats["loss_vf"], rtol=1e-5)


def test_entropy_coefficient_can_be_changed_between_phases():
    learner = make_learner()
    learner.set_entropy_coeff(0.5)
    stats = learner.policy_phase(make_batch())
    np.testing.assert_allclose(stats["negent"], -0.5 * stats["entropy"], rtol=1e-5)


def test_value_change_clip_and_gradient_clip_reach_the_update():
    plain = make_learner({"n_epoch_pi": 1, "n_epoch_vf": 1, "nminibatch": 1})
    stats = plain.policy_phase(make_batch())
    held = make_learner(
        {"n_epoch_pi": 1, "n_epoch_vf": 1, "nminibatch": 1, "value_clip_param": 1e-3}
    )
    assert held.policy_phase(make_batch())["loss_vf"][0] > stats["loss_vf"][0]
    clipped = make_learner({"grad_clip": 1e-3})
    for _ in clipped.policy_steps(make_batch()):
        gradients = [p.grad for p in clipped.network.parameters() if p.grad is not None]
        norm = torch.linalg.vector_norm(torch.cat([g.flatten() for g in gradients]))
        assert norm.item() == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.parametrize(
    "spec",
    [ActionSpec("multi_categorical", (2, 3)), ActionSpec("gaussian", (2,))],
    ids=lambda spec: spec.kind,
)
def test_the_policy_learns_the_better_action_of_any_kind(spec):
    """Advantages reward agreement with one fixed action, which must become more likely."""
    learner = make_learner({"n_epoch_pi": 10, "n_epoch_vf": 10}, spec=spec)
    batch = make_batch(spec)
    actions = torch.from_numpy(batch.actions).flatten(0, 1)
    target = actions[:1].expand_as(actions)
    agreement = -(actions - target).float().abs().sum(dim=1).reshape(batch.logp.shape).numpy()
    obs = torch.from_numpy(batch.obs).flatten(0, 1)

    def logp(of: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return spec.distribution(learner.network(obs).logits).logp(of)

    before = logp(target).mean()
    old_logp = logp(actions).reshape(batch.logp.shape).numpy()
    advantages = (agreement - agreement.mean()) / agreement.std()
    learner.policy_phase(replace(batch, logp=old_logp, advantages=advantages))
    assert logp(target).mean() > before


def test_tensors_and_read_only_arrays_give_the_same_phase():
    batch = make_batch()
    arrays = {k: v for k, v in vars(batch).items() if v is not None}
    tensors = {k: torch.from_numpy(v.copy()) for k, v in arrays.items()}
    for array in arrays.values():
        array.flags.writeable = False
    first, second = make_learner(), make_learner()
    first.policy_phase(batch)
    second.policy_phase(replace(batch, **tensors))
    assert_same_weights(first, second)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"minibatch_unit": "row"}, '"segment" or "step"'),
        ({"n_epoch_pi": -1}, "n_epoch_pi=-1"),
        ({"n_epoch_pi": 0, "n_epoch_vf": 0}, "at least 1"),
        ({"nminibatch": 0}, "nminibatch=0"),
    ],
)
def test_impossible_settings_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        replace(POLICY, **change)
