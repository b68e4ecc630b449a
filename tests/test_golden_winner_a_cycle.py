"""Whole runs of the generalization winner against its numbers: the order of all steps."""

from collections.abc import Iterator
from functools import partial
from itertools import count
from typing import Any

import golden_files
import numpy as np
import pytest
import torch
import winner_a
import winner_files
from golden_files import Golden, case_id
from winner_files import firsts_of

from rllib_ppg import PPGConfig
from rllib_ppg.algorithm.parts import gamma_rule, phase_plan, reward_pipeline, run_budget
from rllib_ppg.core.learner import PhasicLearner, PolicyBatch
from rllib_ppg.core.returns import compute_gae, standardize
from rllib_ppg.core.segments import SegmentStore, segment_rows
from rllib_ppg.core.value_targets import recomputed_targets

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
EXACT = {"rtol": 1e-9, "atol": 0}


def options(hp: Golden, envs: int, steps: int) -> dict[str, Any]:
    total = hp.count("total_steps")
    return {
        **winner_a.policy_options(hp, envs * steps),
        **winner_a.reward_options(hp, hp.number("return_max")),
        **winner_a.aux_options(hp, steps),
        **winner_a.rate_options(hp, total),
        **winner_a.entropy_options(hp, total),
        "n_pi": hp.count("n_pi"),
        "aux_skips": hp.count("skips"),
        "max_aux_phases": hp.count("num_retunes"),
        "adaptive_gamma": bool(hp["adaptive_gamma"]),
        "best_weights": True,
        "budget_env_steps": total,
    }


def make_store(config: PPGConfig, obs_shape: tuple[int, ...]) -> SegmentStore:
    return SegmentStore(
        config.store_segments(),
        config.rollout_fragment_length,
        obs_shape,
        with_returns=config.recomputes_targets,
    )


def permutations(golden: Golden, config: PPGConfig) -> Iterator[np.ndarray]:
    """All that are drawn, in order."""
    store = make_store(config, (1,))
    for _ in range(config.n_pi):
        store.append(np.arange(config.num_envs))
    phases = count()
    for i, drawn in enumerate(golden["pol/perm"]):
        yield from drawn
        if golden["aux_phase"][i]:
            yield from aux_permutations(golden.below(f"aux{next(phases)}"), store)


def aux_permutations(own: Golden, store: SegmentStore) -> Iterator[np.ndarray]:
    envs = len(np.unique(store.env[: store.count]))
    flat, units = "mb" in own, winner_a.aux_units(own)
    order = segment_rows(store.pairs(), store.num_steps) if flat else store.pairs()
    for epoch in range(own["epoch"].max() + 1):
        of_epoch = [u for u, e in zip(units, own["epoch"], strict=True) if e == epoch]
        drawn = np.concatenate(of_epoch)
        rows = drawn if flat else drawn[:, 1] * envs + drawn[:, 0]
        yield winner_a.store_order(rows, order)


def assert_acting(learner: PhasicLearner, data: Golden) -> None:
    """Compare values and log-probabilities of the weights of this moment."""
    shape = data["action"].shape
    with torch.no_grad():
        output = learner.network(torch.from_numpy(data["obs"]).flatten(0, 1))
    dist = learner.action_spec.distribution(output.logits)
    logp = dist.logp(torch.from_numpy(data["action"]).flatten())
    np.testing.assert_allclose(logp.numpy().reshape(shape), data["logp"], **winner_a.OUTPUT)
    np.testing.assert_allclose(output.vf.numpy().reshape(shape), data["value"], **winner_a.OUTPUT)


def run_aux_phase(
    learner: PhasicLearner,
    store: SegmentStore,
    own: Golden,
    gamma: float,
    config: PPGConfig,
    p: int,
) -> None:
    retarget = partial(recomputed_targets, gamma=gamma, lambda_=config.lambda_)
    phase = learner.begin_aux_phase(store, retarget=retarget)
    while phase.epoch == 0:
        assert phase.step() is None
    old = phase.old_inputs.numpy().reshape(own["old_logits"].shape)
    np.testing.assert_allclose(old, own["old_logits"], **winner_a.OUTPUT)
    values = phase.old_values.numpy().reshape(own["old_value"].shape)
    np.testing.assert_allclose(values, own["old_value"], **winner_a.OUTPUT)
    targets = store.value_targets.reshape(own["target"].shape)
    np.testing.assert_allclose(targets, own["target"], **winner_a.OUTPUT)

    def after_first() -> None:
        if p == 0:
            winner_a.overwrite_policy_head(learner, winner_files.named(own, "param_step1"))

    envs, steps = config.num_envs, config.rollout_fragment_length
    winner_a.run_aux_epochs(learner, phase, own, envs, steps, after_first)


@pytest.mark.parametrize("path", winner_files.paths("a_cycle"), ids=case_id)
def test_whole_run_of_policy_and_auxiliary_phases(path):
    golden = golden_files.load(path)
    iterations, envs, steps = golden["batch/action"].shape
    hp = golden.below("hp")
    config = winner_files.make_config(
        envs,
        steps,
        whole=winner_a.is_whole(hp, hp.count("n_pi") * envs),
        **options(hp, envs, steps),
    )
    learner = winner_a.make_learner(config, golden, "param0", permutations(golden, config))
    pipeline, plan, budget = reward_pipeline(config), phase_plan(config), run_budget(config)
    rule, store = gamma_rule(config), make_store(config, golden["batch/obs"].shape[3:])
    before, env_steps = None, 0
    for i in range(iterations):
        data = per_iteration(golden, i)
        learner.set_lr(*config.rates(env_steps, i + 1))
        learner.set_entropy_coeff(config.scheduled("entropy_coeff", env_steps))
        rates = [learner.lr, learner.aux_lr, learner.value_lr]
        expected = [golden[f"lr_{which}"][i] for which in ("policy", "aux", "value")]
        np.testing.assert_allclose(rates, expected, **EXACT)
        np.testing.assert_allclose(learner.entropy_coeff, golden["ent_coef"][i], **EXACT)
        gamma = rule.gamma if rule else config.gamma
        np.testing.assert_allclose(gamma, golden["gamma"][i], **EXACT)
        assert_acting(learner, data)

        firsts = firsts_of(data["done"], before).T
        begins, before = firsts[0], data["done"][:, -1]
        rewards = pipeline(data["reward_raw"].T, firsts, np.arange(envs))
        np.testing.assert_allclose(rewards.T, golden["reward"][i], **CLOSE)
        env_steps += envs * steps
        assert env_steps == golden["steps_total"][i]
        mine = golden["batch/ep_iter"] == i
        returns, lengths = golden["batch/ep_return"][mine], golden["batch/ep_length"][mine]
        budget.note(returns.tolist(), env_steps, dict)
        if rule is not None:
            rule.note(returns.tolist(), lengths.tolist())
        np.testing.assert_allclose(budget.best_return, golden["best_reward"][i], **EXACT)
        assert budget.best_steps == golden["best_steps"][i]
        assert not budget.used_up(env_steps, 0.0)

        bootstrap = learner.values(data["final_ob"])
        np.testing.assert_allclose(bootstrap, golden["bootstrap"][i], **winner_a.OUTPUT)
        advantages, targets = compute_gae(
            rewards,
            data["value"].T,
            bootstrap,
            data["done"].T,
            gamma=gamma,
            lambda_=config.lambda_,
        )
        np.testing.assert_allclose(targets.T, golden["ret"][i], **winner_a.OUTPUT)
        np.testing.assert_allclose(advantages.T, golden["adv"][i], **winner_a.OUTPUT)
        standard = np.ascontiguousarray(standardize(advantages).T)
        expected_std = golden["adv_std"][i].reshape(envs, steps)
        np.testing.assert_allclose(standard, expected_std, **winner_a.OUTPUT)
        batch = PolicyBatch(
            data["obs"],
            data["action"],
            data["logp"],
            standard,
            np.ascontiguousarray(targets.T),
            data["value"],
        )
        winner_a.run_policy_phase(learner, batch, golden.below("pol").at(i))
        rows = store.append(np.arange(envs))
        store.obs[rows] = data["obs"]
        store.returns.write(
            rows, rewards=rewards.T, dones=data["done"], bootstrap=bootstrap, begins=begins
        )
        place = plan.iteration()
        assert (place == "aux") == golden["aux_phase"][i]
        if place == "drop":
            store.drop(rows)
        if place == "aux":
            p = plan.phases
            run_aux_phase(learner, store, golden.below(f"aux{p}"), gamma, config, p)
            plan.phase_done()
            store.clear()
        if rule is not None:
            rule.move()
        after = {k: v[i] for k, v in winner_files.named(golden, "param_after").items()}
        winner_files.assert_parameters(learner.network, after, 2e-5)
    winner_a.assert_optimizers(learner, golden.below("opt"))


def per_iteration(golden: Golden, i: int) -> Golden:
    """The batch of one iteration, without the lists of episodes."""
    batch = golden.below("batch").arrays
    return Golden({k: v[i] for k, v in batch.items() if not k.startswith("ep_")})
