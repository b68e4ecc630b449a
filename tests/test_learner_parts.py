"""Small parts of the learner on numbers that are computed by hand."""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from small_learner import NUM_ENVS, NUM_STEPS, make_batch, make_learner, make_store, moved, weights
from torch import nn

from rllib_ppg.core.adaptive_gamma import AdaptiveGamma
from rllib_ppg.core.budget import BudgetSettings, RunBudget
from rllib_ppg.core.clipping import AdaptiveClip, GradientClip
from rllib_ppg.core.entropy import EntropyCoefficient
from rllib_ppg.core.phase_plan import PhasePlan
from rllib_ppg.core.returns import standardize
from rllib_ppg.core.segments import SegmentStore
from rllib_ppg.core.transform_choice import ChoiceSettings, TransformChoice
from rllib_ppg.core.value_targets import recomputed_targets

CPU = torch.device("cpu")


# ---- optimisers


def test_which_optimiser_moves_what_with_heads():
    learner = make_learner({"optimizers": "heads"}, arch="detach")
    start = weights(learner)
    learner.policy_phase(make_batch())
    middle = weights(learner)
    assert moved(start, middle) == {"policy_encoder", "policy_head", "value_head"}
    phase = learner.begin_aux_phase(make_store())
    while not phase.done:
        phase.run()
    assert moved(middle, weights(learner)) == {
        "policy_encoder", "policy_head", "value_head", "aux_value_head",
    }  # fmt: skip
    state = learner.get_state()["optimizers"]
    policy = {name for name in start if name.startswith(("policy_encoder", "policy_head"))}
    assert set(state["policy"]) == policy
    assert set(state["aux"]) == policy | {"aux_value_head.weight", "aux_value_head.bias"}
    assert set(state["value"]) == {"value_head.weight", "value_head.bias"}


def test_rates_reach_their_optimisers():
    learner = make_learner({"optimizers": "heads"}, arch="detach")
    learner.set_lr(1e-3, 2e-3, 3e-3)
    rates = {key: adam.param_groups[0]["lr"] for key, adam in learner._optimizers._adams.items()}
    assert rates == {"policy": 1e-3, "aux": 2e-3, "value": 3e-3}


def test_with_one_optimiser_the_auxiliary_head_goes_on_by_its_momentum():
    learner = make_learner({"optimizers": "one"})
    learner.policy_phase(make_batch())
    assert "aux_value_head.weight" not in learner.get_state()["optimizers"]["one"]
    phase = learner.begin_aux_phase(make_store())
    while not phase.done:
        phase.run()
    before = weights(learner)
    learner.policy_phase(make_batch())
    assert "aux_value_head" in moved(before, weights(learner))


def test_heads_need_a_value_head_without_gradient_into_the_encoder():
    with pytest.raises(ValueError, match="detach or dual"):
        make_learner({"optimizers": "heads"}, arch="shared")


def test_the_value_loss_reaches_a_shared_encoder_unless_it_is_detached():
    for detach in (False, True):
        settings = {"vf_loss_coeff": 1.0, "entropy_coeff": 0.0, "detach_value_head": detach}
        learner = make_learner(settings, arch="shared")
        batch = make_batch()
        still = np.zeros_like(batch.advantages)  # no gradient but the value's
        before = weights(learner)
        learner.policy_phase(replace(batch, advantages=still))
        assert ("policy_encoder" in moved(before, weights(learner))) == (not detach)


# ---- accumulated minibatches


def test_minibatches_are_counted_on_through_the_epochs():
    settings = {"minibatch_unit": "step", "mbsize_rows": 12, "num_accumulates": 2}
    learner = make_learner({**settings, "n_epoch_pi": 2, "n_epoch_vf": 2})
    steps = list(learner.policy_steps(make_batch()))
    assert NUM_ENVS * NUM_STEPS == 30
    # 12, 12, 6 and 12, 12, 6 rows, two by two: the second step takes the end of the first epoch.
    assert [len(step.units) for step in steps] == [24, 18, 18]
    assert [step.epoch for step in steps] == [0, 1, 1]


def test_every_minibatch_of_a_step_counts_the_same():
    common = {"minibatch_unit": "step", "n_epoch_pi": 1, "n_epoch_vf": 1, "clip_param": 0.0}
    accumulated = make_learner({**common, "mbsize_rows": 20, "num_accumulates": 2})
    (step,) = accumulated.policy_steps(make_batch())
    parts = [step.units[:20], step.units[20:]]
    losses = []
    for part in parts:
        fresh = make_learner({**common, "mbsize_rows": 30}, permutation=lambda n, part=part: part)
        (alone,) = fresh.policy_steps(make_batch())
        losses.append(float(alone.stats["loss_total"]))
    mean = (losses[0] + losses[1]) / 2
    np.testing.assert_allclose(float(step.stats["loss_total"]), mean, rtol=1e-5)


def test_auxiliary_minibatches_are_counted_in_each_epoch():
    settings = {"aux_mbsize": 5, "num_accumulates": 2, "n_aux_epochs": 2}
    phase = make_learner(aux=settings).begin_aux_phase(make_store())
    sizes = []
    while not phase.done:
        step = phase.step()
        sizes += [] if step is None else [len(step.units)]
    assert sizes == [10, 2, 10, 2]


# ---- targets


def test_recomputed_targets_are_those_of_a_plain_loop():
    rng = np.random.default_rng(0)
    envs, steps, segments, gamma, decay = 3, 4, 3, 0.9, 0.8
    store = SegmentStore(envs * segments, steps, (1,), with_returns=True)
    for i in range(segments):
        present = [0, 2] if i == 1 else [0, 1, 2]  # environment 1 is lost for an iteration
        rows, n = store.append(present), len(present)
        store.returns.write(
            rows,
            rewards=rng.normal(size=(n, steps)),
            dones=rng.random((n, steps)) < 0.3,
            bootstrap=rng.normal(size=n),
            begins=np.array([i == 2 and env == 2 for env in present]),  # 2 begins anew
        )
    values = rng.normal(size=(store.count, steps)).astype(np.float32)
    found = recomputed_targets(store, values, gamma=gamma, lambda_=decay)
    for row in range(store.count):
        env, iteration = store.env[row], store.iteration[row]
        following = [
            r
            for r in range(store.count)
            if store.env[r] == env and store.iteration[r] == iteration + 1
        ]
        after = store.returns.bootstrap[row]
        if following and not store.returns.begins[following[0]]:
            after = values[following[0], 0]
        running = 0.0
        for t in reversed(range(steps)):
            ahead = values[row, t + 1] if t + 1 < steps else after
            keep = 1.0 - store.returns.dones[row, t]
            delta = store.returns.rewards[row, t] + gamma * keep * ahead - values[row, t]
            running = delta + gamma * decay * keep * running
            np.testing.assert_allclose(found[row, t], running + values[row, t], rtol=1e-5)


def test_an_auxiliary_phase_goes_on_with_new_targets_from_any_point():
    def filled() -> SegmentStore:
        store, rng = SegmentStore(12, NUM_STEPS, (3,), with_returns=True), np.random.default_rng(1)
        for _ in range(2):
            rows = store.append(np.arange(6))
            store.obs[rows] = rng.integers(0, 256, store.obs[rows].shape)
            store.value_targets[rows] = 0.0
            columns = {"rewards": rng.normal(size=(6, NUM_STEPS)), "bootstrap": np.zeros(6)}
            ends = {"dones": np.zeros((6, NUM_STEPS), bool), "begins": np.zeros(6, bool)}
            store.returns.write(rows, **columns, **ends)
        return store

    retarget = partial(recomputed_targets, gamma=0.9, lambda_=0.9)
    whole = make_learner()
    phase = whole.begin_aux_phase(filled(), retarget=retarget)
    while not phase.done:
        phase.step()
    for cut in (1, 2, 3, 5):
        learner, store = make_learner(), filled()
        first = learner.begin_aux_phase(store, retarget=retarget)
        for _ in range(cut):
            first.step()
        other, copied = make_learner(), filled()
        other.set_state(learner.get_state())
        other.network.load_state_dict(learner.network.state_dict())
        copied.set_state(store.get_state())
        second = other.begin_aux_phase(copied, first.get_state(), retarget)
        while not second.done:
            second.step()
        assert not moved(weights(whole), weights(other)), cut
        in_time = cut < phase.minibatches  # epoch 0, at whose end the targets change
        expected = phase.target_change if in_time else math.nan
        np.testing.assert_equal(second.target_change, expected)
    assert phase.target_change > 0


def test_advantages_are_divided_by_no_less_than_the_least_deviation():
    values = np.array([1.0, 3.0])
    assert standardize(values, std_min=0.5).tolist() == [-1.0, 1.0]
    assert standardize(values, std_min=4.0).tolist() == [-0.25, 0.25]


# ---- clipping


def clipped(clip: GradientClip, gradient: list[float], limit: float | None) -> list[float]:
    parameter = nn.Parameter(torch.zeros(len(gradient)))
    parameter.grad = torch.tensor(gradient)
    clip([parameter], limit)
    return parameter.grad.tolist()


def test_entries_are_clipped_first_and_then_the_norm():
    found = clipped(GradientClip(CPU, elementwise=3.0), [10.0, 4.0], 1.5 * math.sqrt(2))
    np.testing.assert_allclose(found, [1.5, 1.5], rtol=1e-5)


def test_the_limit_is_a_percentile_of_earlier_norms_within_bounds():
    adaptive = AdaptiveClip(percentile=50, buffer_size=2, min=1.0, max=4.0)
    clip = GradientClip(CPU, adaptive=adaptive)
    limits = []
    for gradient in ([2.0], [3.0], [100.0], [100.0], [0.1], [0.1], [0.1]):
        clipped(clip, gradient, 7.0)
        limits.append(float(clip.limit))
    # 7 until two norms are known, then the mean of the last two: 2.5, 51.5, 100, 50.05, 0.1.
    assert limits == pytest.approx([7, 7, 2.5, 4, 4, 4, 1])


def test_a_broken_gradient_is_not_remembered():
    clip = GradientClip(CPU, adaptive=AdaptiveClip(buffer_size=2))
    clipped(clip, [math.inf], None)
    assert clip.get_state()["count"] == 0


# ---- schedules, phases and the end


def test_gamma_moves_towards_three_times_the_81st_shortest_solved_episode():
    rule = AdaptiveGamma(0.9, return_max=5.0)
    rule.note([5.0] * 99 + [4.9], [1] * 100)
    rule.move()
    assert rule.gamma == 0.9, "99 solved episodes"
    rule.note([6.0] * 100, list(range(1, 101)))
    rule.move()
    assert rule.gamma == pytest.approx(0.98 * 0.9 + 0.02 * (1 - 1 / (3 * 81)))


def test_iterations_are_skipped_at_the_beginning_of_each_phase():
    plan = PhasePlan(n_pi=2, skips=1, max_phases=2)
    places = []
    for _ in range(8):
        places.append(plan.iteration())
        if places[-1] == "aux":
            plan.phase_done()
    assert places == ["drop", "store", "aux", "drop", "store", "aux", "drop", "drop"]
    assert [plan.phases_within(n) for n in (2, 3, 6, 9)] == [0, 1, 2, 2]


def test_the_best_mean_is_of_an_iteration_or_of_the_last_hundred_episodes():
    budget = RunBudget(BudgetSettings(env_steps=100, best_weights=True, min_env_steps=50))
    assert budget.note([1.0] * 100, 10, lambda: {"w": 1})
    assert budget.note([50.0], 20, lambda: {"w": 2}) and budget.best_return == 1.49
    assert budget.note([2.0] * 100, 30, lambda: {"w": 3}) and budget.best_return == 2.0
    assert not budget.used_up(100, 0.0) and budget.reached(100), "as many steps as allowed"
    assert budget.used_up(101, 0.0) and budget.handed_in(101) == {"w": 3}


def test_best_weights_are_handed_in_after_enough_steps_and_the_last_ones_before():
    settings = BudgetSettings(seconds=100, margin_s=20, best_weights=True, min_env_steps=50)
    budget = RunBudget(settings)
    assert budget.handed_in(60) is None and "no episode has ended" in budget.told(60)
    budget.note([1.0], 10, lambda: {"w": 1})
    assert budget.handed_in(50) is None and "no more than 50" in budget.told(50)
    assert budget.handed_in(51) == {"w": 1} and "at 10 environment steps" in budget.told(51)
    assert not budget.used_up(51, 80.0) and budget.used_up(51, 80.1)
    assert RunBudget(BudgetSettings(seconds=100)).used_up(1, 80.1)


def test_entropy_rises_where_observations_repeat_and_falls_back():
    rule = EntropyCoefficient(0.01, alternate=0.02, threshold=0.9)
    steps = np.array([0, 8])
    assert rule.observe(np.array([2, 8]), steps) == 0.01, "u is exactly 0.9"
    assert rule.observe(np.array([2, 7]), steps) == 0.02
    assert rule.fraction_unique == 0.85
    assert rule.observe(None, None) == 0.02, "as it was"
    assert np.isnan(rule.fraction_unique)
    assert rule.observe(np.array([2, 10]), steps) == 0.01


def test_the_first_choice_is_the_first_transform_and_then_those_not_tried():
    choice = TransformChoice(3, ChoiceSettings(c=1.0, q_alpha=0.5, trace_decay=0.0))
    assert [choice.update(1.0) for _ in range(3)] == [0, 1, 2]
    assert choice.q.tolist() == [0.5, 0.5, 0.0], "each credited by the reward after it was chosen"
