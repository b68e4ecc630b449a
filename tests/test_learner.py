"""The learner: its optimisers, its state, values, and losses that are not finite."""

import pickle

import numpy as np
import pytest
import torch
from small_learner import (
    assert_same_weights,
    make_batch,
    make_learner,
    make_store,
    moved,
    weights,
)

from rllib_ppg.core.learner import POLICY_STATS, PhasicLearner

SEPARATE = {"n_epoch_pi": 1, "n_epoch_vf": 2}


def one_phase(learner: PhasicLearner, seed: int = 3) -> None:
    learner.policy_phase(make_batch(seed=seed))
    phase = learner.begin_aux_phase(make_store(seed=seed))
    while not phase.done:
        phase.run(None)


def restored(learner: PhasicLearner, policy: dict, **options) -> PhasicLearner:
    """Another learner with this one's weights and state, through a pickle."""
    other = make_learner(policy, **options)
    state = pickle.loads(pickle.dumps((weights(learner), learner.get_state())))
    other.network.load_state_dict({k: torch.from_numpy(v) for k, v in state[0].items()})
    other.set_state(state[1])
    return other


@pytest.mark.parametrize("policy", [{}, SEPARATE], ids=["joint", "separate"])
def test_a_restored_learner_continues_bit_for_bit(policy):
    learner = make_learner(policy)
    one_phase(learner)
    learner.set_lr(3e-3, 4e-3)
    learner.set_entropy_coeff(0.02)
    other = restored(learner, policy)
    assert (other.lr, other.aux_lr, other.entropy_coeff) == (3e-3, 4e-3, 0.02)
    for seed in (5, 6):
        one_phase(learner, seed)
        one_phase(other, seed)
    assert_same_weights(learner, other)


def test_the_state_is_plain_and_does_not_change_with_the_learner():
    learner = make_learner()
    one_phase(learner)
    state = learner.get_state()
    kept = pickle.dumps(state)
    one_phase(learner)
    assert pickle.dumps(state) == kept
    assert b"torch" not in kept


def test_fresh_state_can_be_restored():
    other = restored(make_learner(), {})
    one_phase(other)
    fresh = make_learner()
    one_phase(fresh)
    assert_same_weights(fresh, other)


def test_state_is_keyed_by_name_and_leaves_out_what_never_moved():
    learner = make_learner()
    learner.policy_phase(make_batch())
    optimizers = learner.get_state()["optimizers"]
    assert set(optimizers) == {"joint", "aux"}
    names = {name for name, _ in learner.network.named_parameters()}
    assert set(optimizers["joint"]) == {n for n in names if not n.startswith("aux_value_head")}
    assert optimizers["aux"] == {}


def test_optimisers_are_one_for_joint_and_two_for_separate_epochs():
    assert set(make_learner().get_state()["optimizers"]) == {"joint", "aux"}
    separate = make_learner(SEPARATE)
    assert set(separate.get_state()["optimizers"]) == {"value", "policy", "aux"}


def test_moments_survive_from_phase_to_phase():
    learner = make_learner()
    for phases in (1, 2):
        one_phase(learner)
        optimizers = learner.get_state()["optimizers"]
        assert optimizers["joint"]["policy_head.bias"]["step"] == 6 * phases
        assert optimizers["aux"]["policy_head.bias"]["step"] == 6 * phases


def test_another_network_or_other_optimisers_are_refused_before_anything_changes():
    learner = make_learner()
    one_phase(learner)
    state = learner.get_state()
    with pytest.raises(ValueError, match="optimisers for"):
        make_learner(SEPARATE).set_state(state)
    other = make_learner(arch="shared")
    with pytest.raises(ValueError, match=r"value_encoder.* no such parameter"):
        other.set_state(state)
    assert other.get_state()["optimizers"] == {"joint": {}, "aux": {}}


def test_learning_rates_are_set_for_all_optimisers():
    learner = make_learner(SEPARATE)
    learner.set_lr(0.0, 0.0)
    before = weights(learner)
    one_phase(learner)
    assert not moved(before, weights(learner))


def test_leftover_gradients_do_not_enter_either_phase():
    clean, dirty = make_learner(), make_learner()
    for learner in (clean, dirty):
        for phase in range(2):
            if learner is dirty:
                for parameter in learner.network.parameters():
                    parameter.grad = torch.full_like(parameter, 1e3)
            one_phase(learner, phase)
    assert_same_weights(clean, dirty)


def test_phases_run_alike_from_the_same_seed_and_differ_with_another():
    first, second = make_learner(), make_learner()
    one_phase(first)
    one_phase(second)
    assert_same_weights(first, second)
    other = make_learner(permutation=np.random.default_rng(99).permutation)
    one_phase(other)
    assert moved(weights(first), weights(other))


@pytest.mark.parametrize("size", [None, 1, 4])
def test_values_are_the_networks(size):
    learner = make_learner(micro_batch_size=size)
    obs = make_batch().obs[0]
    with torch.no_grad():
        expected = learner.network(torch.from_numpy(obs)).vf.numpy()
    found = learner.values(obs)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert learner.values(obs[:0]).shape == (0,)


def test_policy_statistics_have_all_names_and_one_entry_a_step():
    stats = make_learner().policy_phase(make_batch())
    assert tuple(stats) == POLICY_STATS
    assert {values.shape for values in stats.values()} == {(6,)}
    assert all(np.isfinite(values).all() for values in stats.values())


@pytest.mark.parametrize(
    "field, words",
    [("value_targets", "loss_vf became nan"), ("advantages", "loss_pi became nan")],
)
def test_a_loss_that_is_not_finite_is_named_with_its_step(field, words):
    learner = make_learner(permutation=lambda n: np.arange(n))
    batch = make_batch()
    getattr(batch, field)[3, 1] = np.nan
    with pytest.raises(
        FloatingPointError,
        match=rf"{words}.* at policy-phase minibatch 2 of 3 \(epoch 1\).*last checkpoint",
    ):
        learner.policy_phase(batch)


def test_a_gradient_that_is_not_finite_is_found_even_if_the_loss_is():
    learner = make_learner(permutation=lambda n: np.arange(n))
    learner.network.policy_head.weight.register_hook(lambda gradient: gradient / 0)
    with pytest.raises(FloatingPointError, match=r"^grad_norm became .* minibatch 1 of 3"):
        learner.policy_phase(make_batch())
