"""Number formats of the network's passes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_learner import make_batch, make_learner, make_store, weights

from rllib_ppg.core.precision import MixedPrecision

CPU = torch.device("cpu")
HALF = ["bfloat16", "float16"]


def aux_phase(precision: str, **options):
    learner = make_learner(aux={"precision": precision}, **options)
    phase = learner.begin_aux_phase(make_store())
    phase.run()
    return learner, phase


@pytest.mark.parametrize("precision", HALF)
def test_the_auxiliary_phase_runs_in_the_format_and_ends_nearby(precision):
    exact, exact_phase = aux_phase("float32")
    half, half_phase = aux_phase(precision)
    exact_stats, half_stats = exact_phase.run(), half_phase.run()
    for name in ("vf_aux", "vf_true"):
        assert not np.array_equal(half_stats[name], exact_stats[name])
        np.testing.assert_allclose(half_stats[name], exact_stats[name], rtol=0.05)
    for name, value in weights(half).items():
        assert value.dtype == np.float32
        np.testing.assert_allclose(value, weights(exact)[name], atol=0.1)


@pytest.mark.parametrize("precision", HALF)
@pytest.mark.parametrize("recomputed", [False, True])
def test_old_policy_and_recomputed_values_are_float32_in_every_format(precision, recomputed):
    def retarget(store, values):
        return np.zeros_like(values)

    phases = [
        make_learner(aux={"precision": each}).begin_aux_phase(
            make_store(), retarget=retarget if recomputed else None
        )
        for each in ("float32", precision)
    ]
    for phase in phases:
        phase.run()
        assert phase.epoch == 1
    exact, half = phases
    assert torch.equal(half.old_inputs, exact.old_inputs)
    assert torch.equal(half.old_values, exact.old_values)
    assert len(half.old_values) == (half.old_inputs.shape[0] if recomputed else 0)
    # The training passes are in the format, so that the KL starts near 0 and not at it.
    assert half.run()["pol_distance"][0] == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize("precision", HALF)
def test_the_policy_phase_takes_a_format_of_its_own(precision):
    exact = make_learner().policy_phase(make_batch())
    half = make_learner({"precision": precision}).policy_phase(make_batch())
    other = make_learner(aux={"precision": precision}).policy_phase(make_batch())
    assert not np.array_equal(half["loss_vf"], exact["loss_vf"])
    np.testing.assert_allclose(half["loss_vf"], exact["loss_vf"], rtol=0.05)
    assert np.array_equal(other["loss_vf"], exact["loss_vf"])


def test_a_threads_passes_run_in_the_format_too():
    _, alone = aux_phase("bfloat16")
    _, shared = aux_phase("bfloat16", threads=2)
    np.testing.assert_allclose(alone.run()["vf_true"], shared.run()["vf_true"], rtol=1e-3)


def test_a_scaled_loss_gives_unscaled_gradients():
    # Without the scale's undoing the norm would be 65536 times as large.
    exact, scaled = make_learner(), make_learner({"precision": "float16"})
    theirs, ours = exact.policy_phase(make_batch()), scaled.policy_phase(make_batch())
    np.testing.assert_allclose(ours["grad_norm"], theirs["grad_norm"], rtol=0.05)


def test_an_overflow_leaves_the_step_out_and_lowers_the_scale():
    learner = make_learner(
        {"precision": "float16", "nminibatch": 1, "n_epoch_pi": 1, "n_epoch_vf": 1}
    )
    learner._precisions["policy"].set_state({"scale": 2.0**40, "good_steps": 5.0})
    before = weights(learner)
    stats = learner.policy_phase(make_batch())
    assert all(np.array_equal(value, before[name]) for name, value in weights(learner).items())
    assert np.isnan(stats["grad_norm"]).all() and np.isfinite(stats["loss_total"]).all()
    state = learner.get_state()["precisions"]["policy"]
    assert state == {"scale": 2.0**39, "good_steps": 0.0}


def test_the_scale_grows_after_many_good_steps():
    precision = MixedPrecision("float16", CPU)
    precision.set_state({"scale": 8.0, "good_steps": 1998.0})
    good = torch.tensor(False)
    precision.adapt(good)
    assert precision.get_state() == {"scale": 8.0, "good_steps": 1999.0}
    precision.adapt(good)
    assert precision.get_state() == {"scale": 16.0, "good_steps": 0.0}


def test_a_gradient_that_no_scale_mends_ends_the_run():
    learner = make_learner({"precision": "float16"})
    learner.network.policy_head.weight.register_hook(lambda gradient: gradient / 0)
    learner._precisions["policy"].set_state({"scale": 4.0, "good_steps": 0.0})
    with pytest.raises(FloatingPointError, match=r"grad_norm became .* minibatch 3 of 3"):
        learner.policy_phase(make_batch())
    assert learner.get_state()["precisions"]["policy"] == {"scale": 1.0, "good_steps": 0.0}


def test_a_loss_that_is_not_finite_is_not_blamed_on_the_scale():
    learner = make_learner({"precision": "float16"})
    broken = replace(make_batch(), advantages=np.full_like(make_batch().advantages, np.nan))
    before = learner.get_state()["precisions"]["policy"]
    with pytest.raises(FloatingPointError, match=r"loss_pi became nan.* minibatch 1 of 3"):
        learner.policy_phase(broken)
    assert learner.get_state()["precisions"]["policy"] == before


def test_other_formats_have_no_scale():
    precision = MixedPrecision("bfloat16", CPU)
    loss = torch.tensor(3.0)
    assert precision.scale(loss) is loss


def test_the_state_survives():
    learner = make_learner({"precision": "float16"})
    learner._precisions["policy"].set_state({"scale": 32.0, "good_steps": 7.0})
    other = make_learner({"precision": "float16"})
    other.set_state(learner.get_state())
    assert other.get_state()["precisions"]["policy"] == {"scale": 32.0, "good_steps": 7.0}


def test_an_unknown_format_is_refused():
    with pytest.raises(ValueError, match="'half' is unknown; use one of float32, bfloat16"):
        make_learner({"precision": "half"})
    with pytest.raises(ValueError, match="'half' is unknown"):
        make_learner(aux={"precision": "half"})
