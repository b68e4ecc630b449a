"""A whole run of the sample-efficiency winner against its numbers, from raw rewards to weights."""

from collections.abc import Iterator

import golden_files
import numpy as np
import pytest
import torch
import winner_b
import winner_files
from golden_files import Golden, case_id
from winner_files import firsts_of

from rllib_ppg import PPGConfig
from rllib_ppg.algorithm.parts import phase_plan, reward_pipeline
from rllib_ppg.core.learner import PhasicLearner, PolicyBatch
from rllib_ppg.core.returns import compute_gae, standardize
from rllib_ppg.core.reward_norm import FragmentTransform
from rllib_ppg.core.segments import segment_rows
from rllib_ppg.envs.state_counts import Counts, Penalties

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def permutations(golden: Golden, envs: int, steps: int, stored: int) -> Iterator[np.ndarray]:
    """All that are drawn, in order."""
    obs = golden["seg/ob"][:stored]
    zeros = np.zeros((stored, envs, steps))
    store = winner_b.fill_store(obs, zeros, zeros)
    order, phase = segment_rows(store.pairs(), steps), 0
    for i, fired in enumerate(golden["aux_fired"]):
        yield from winner_b.permutations(winner_b.filled(golden["pol/mb_row"][i]), envs * steps)
        if fired:
            minibatches = winner_b.filled(golden["aux/mb_row"][phase])
            yield from winner_b.permutations(minibatches, stored * envs * steps, order)
            phase += 1


def shifts(golden: Golden):
    """All shifts that are drawn, in order."""
    recorded = iter(golden["aux/shift"].reshape(-1, *golden["aux/shift"].shape[2:]))
    return lambda shape: {"augment/shift": next(recorded)[: shape[0]]}


def assert_acting(learner: PhasicLearner, seg: Golden) -> None:
    shape = seg["action"].shape
    with torch.no_grad():
        output = learner.network(
            torch.from_numpy(seg["ob"]).flatten(0, 1),
            torch.from_numpy(seg["prev_action"]).flatten(),
        )
    dist = learner.action_spec.distribution(output.logits)
    found = {
        "logits": output.logits,
        "value": output.vf,
        "logp": dist.logp(torch.from_numpy(seg["action"]).flatten()),
    }
    for name, value in found.items():
        value = value.numpy().reshape(seg[name].shape)
        np.testing.assert_allclose(value, seg[name], **winner_b.OUTPUT, err_msg=name)
    assert shape == output.vf.reshape(shape).shape


def shaped(seg: Golden, hp: Golden) -> np.ndarray:
    """Raw rewards with the penalty for steps that change nothing (N, T)."""
    counts = Counts(
        np.ones_like(seg["t"]), seg["num_unique_states"], seg["matches_previous_obs"], seg["t"]
    )
    penalties = Penalties(hp.number("noop_reward"), hp.count("noop_min_timestep"))
    return seg["reward_raw"] + penalties(counts, seg["done"])


def assert_after(learner: PhasicLearner, golden: Golden, at: tuple[int, ...]) -> None:
    """Compare the weights that are recorded after every step, and all norms."""
    arrays = golden.arrays
    recorded = {
        winner_files.rename(name.removeprefix("after_")): torch.from_numpy(np.array(v[at]))
        for name, v in arrays.items()
        if name.startswith("after_")
    }
    winner_files.assert_parameters(learner.network, recorded, winner_b.WEIGHTS)


def assert_norms(learner: PhasicLearner, names: list[str], expected: np.ndarray) -> None:
    weights = learner.network.state_dict()
    norms = [float(weights[winner_files.rename(name)].norm()) for name in names]
    np.testing.assert_allclose(norms, expected, **winner_b.NORM)


def make_config(golden: Golden, envs: int, steps: int) -> PPGConfig:
    hp = golden.below("hp")
    options = winner_b.options(hp)
    return winner_b.make_config(
        golden,
        envs,
        steps,
        n_epoch_pi=hp.count("epochs"),
        n_epoch_vf=hp.count("epochs"),
        mbsize_rows=hp.count("minibatch"),
        aux_mbsize_rows=hp.count("minibatch"),
        n_aux_epochs=hp.count("aux_epochs"),
        n_pi=hp.count("aux_every"),
        aux_augmentation="random_translate",
        reward_transform={"type": "fragment", "alpha": hp.number("alpha")},
        **options,
    )


@pytest.mark.parametrize("path", winner_files.paths("b_cycle"), ids=case_id)
def test_whole_run_of_policy_and_auxiliary_phases(path):
    golden = golden_files.load(path)
    hp, names = golden.below("hp"), golden["param_names"].tolist()
    iterations, envs, steps = golden["seg/action"].shape
    config = make_config(golden, envs, steps)
    drawn = permutations(golden, envs, steps, config.n_pi)
    learner = winner_b.make_learner(config, golden, "param0", drawn, shifts(golden))
    pipeline, plan, before = reward_pipeline(config), phase_plan(config), None
    for i in range(iterations):
        seg = golden.below("seg").at(i)
        assert_acting(learner, seg)
        rewards = pipeline(shaped(seg, hp).T, firsts_of(seg["done"], before).T, np.arange(envs))
        before = seg["done"][:, -1]
        np.testing.assert_allclose(rewards.T, seg["reward"], **CLOSE)
        transform = pipeline.transform
        assert isinstance(transform, FragmentTransform)
        np.testing.assert_allclose(transform.mean[0], golden["rnorm/stat_mean"][i], **CLOSE)
        np.testing.assert_allclose(transform.var[0], golden["rnorm/stat_var"][i], **CLOSE)
        assert transform.count[0] == golden["rnorm/stat_n"][i]
        advantages, targets = compute_gae(
            rewards,
            seg["value"].T,
            learner.values(seg["ob_last"], np.ascontiguousarray(seg["action"][:, -1])),
            seg["done"].T,
            gamma=config.gamma,
            lambda_=config.lambda_,
        )
        np.testing.assert_allclose(advantages.T, seg["adv_raw"], **winner_b.OUTPUT)
        np.testing.assert_allclose(targets.T, seg["vtarg"], **winner_b.OUTPUT)
        standard = standardize(advantages, std_min=config.advantage_std_min).T
        np.testing.assert_allclose(standard, seg["adv"], **winner_b.OUTPUT)
        batch = PolicyBatch(
            seg["ob"],
            seg["action"],
            seg["logp"],
            np.ascontiguousarray(standard),
            np.ascontiguousarray(targets.T),
            seg["value"],
            prev_actions=seg["prev_action"],
            num_unique_states=seg["num_unique_states"],
            episode_step=seg["t"],
        )
        policy = golden.below("pol")
        made = learner.policy_steps(batch)
        for k in range(len(policy["mb_row"][i])):
            winner_b.assert_policy_step(learner, next(made).stats, policy.at(i), k)
            assert_after(learner, policy, (i, k))
            assert_norms(learner, names, policy["param_norm"][i, k])
        assert next(made, None) is None
        place = plan.iteration()
        assert (place == "aux") == golden["aux_fired"][i]
        if place == "aux":
            run_aux_phase(learner, golden, i, plan.phases, names)
            plan.phase_done()
        winner_b.assert_weights(learner, golden, f"param_after_iter{i}")


def run_aux_phase(learner: PhasicLearner, golden: Golden, i: int, p: int, names: list[str]) -> None:
    winner_b.assert_weights(learner, golden, f"param_before_aux{p}")
    own, seg = golden.below("aux"), golden.below("seg")
    stored = slice(i + 1 - own["old_logits"].shape[1], i + 1)
    store = winner_b.fill_store(seg["ob"][stored], seg["prev_action"][stored], seg["vtarg"][stored])
    phase = learner.begin_aux_phase(store)
    winner_b.record(phase, own["old_logits"][p])
    for k in range(len(own["mb_row"][p])):
        step = phase.step()
        assert step is not None
        winner_b.assert_aux_step(learner, step.stats, own.at(p), k)
        assert_after(learner, own, (p, k))
        assert_norms(learner, names, own["param_norm"][p, k])
    assert phase.done
