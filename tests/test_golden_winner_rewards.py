"""Reward normalisation of the challenge's winners against their numbers."""

import golden_files
import numpy as np
import pytest
import winner_files
from golden_files import case_id
from winner_files import firsts_of

from rllib_ppg.algorithm.parts import reward_pipeline
from rllib_ppg.core.reward_norm import FragmentTransform, StepTransform, fragments

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.mark.parametrize(
    "path, case", winner_files.cases("a_reward_norm", "standardize_rewards"), ids=case_id
)
def test_step_by_step_normalisation_of_consecutive_batches(path, case):
    whole = golden_files.load(path)
    golden = whole.below(case)
    batches, envs, steps = golden["reward_raw"].shape
    config = winner_files.make_config(
        envs,
        steps,
        nminibatch=1,
        aux_mbsize=1,
        normalize_rewards=bool(golden["standardize_rewards"]),
        reward_scale=golden.number("scale_reward"),
        **normalisation_options(golden, whole.number("discount")),
    )
    pipeline, by_step, before = reward_pipeline(config), reward_pipeline(config), None
    for i in range(batches):
        done = golden["done"][i]
        raw, firsts = golden["reward_raw"][i].T, firsts_of(done, before).T
        rewards = pipeline(raw, firsts, np.arange(envs))
        before = done[:, -1]
        np.testing.assert_allclose(rewards.T, golden["reward"][i], **CLOSE)
        if not golden["standardize_rewards"]:
            continue
        for t in range(steps):
            by_step(raw[t : t + 1], firsts[t : t + 1], np.arange(envs))
            returns = by_step.transform.returns
            np.testing.assert_allclose(returns, golden["ret"][i][:, t], **CLOSE)
        transform = pipeline.transform
        assert isinstance(transform, StepTransform)
        assert transform.eps == whole.number("epsilon")
        np.testing.assert_allclose(transform.returns, golden["ret_carry"][i], **CLOSE)
        np.testing.assert_allclose(transform.moments.mean, golden["ret_mean"][i], **CLOSE)
        np.testing.assert_allclose(transform.moments.var, golden["ret_var"][i], **CLOSE)
        count = golden["ret_count"][i]
        np.testing.assert_allclose(transform.moments.count, count, **CLOSE)
        assert abs(count - (i + 1) * envs * steps - whole.number("count_init")) < 1e-9


def normalisation_options(golden, discount: float) -> dict:
    if not golden["standardize_rewards"]:
        return {}
    return {
        "reward_transform": {
            "type": "step",
            "reset": "late" if golden["reset_returns"] else "never",
        },
        "reward_norm_gamma": discount,
        "reward_clip": "return_max",
        "return_max": golden.number("return_max"),
    }


@pytest.mark.parametrize("path, case", winner_files.cases("b_reward", "stat_var"), ids=case_id)
def test_normalisation_by_fragments_in_their_order_of_arrival(path, case):
    golden = golden_files.load(path).below(case)
    envs, total = golden["reward_shaped"].shape
    steps = golden.count("T")
    config = winner_files.make_config(
        envs,
        steps,
        nminibatch=1,
        aux_mbsize=1,
        reward_clip=None,
        reward_transform={"type": "fragment", "alpha": golden.number("alpha")},
    )
    pipeline = reward_pipeline(config)
    transform = pipeline.transform
    assert isinstance(transform, FragmentTransform)
    seen, before = 0, None
    for start in range(0, total, steps):
        part = slice(start, start + steps)
        done = golden["done"][:, part]
        firsts = firsts_of(done, before).T
        before = done[:, -1]
        raw = golden["reward_shaped"][:, part].T
        rewards = pipeline(raw, firsts, np.arange(envs))
        np.testing.assert_allclose(rewards.T, golden["reward_norm"][:, part], **CLOSE)
        for env, first, stop in fragments(firsts):
            assert env == golden["frag_env"][seen]
            assert start + first == golden["frag_start"][seen]
            assert stop - first == golden["frag_len"][seen]
            np.testing.assert_allclose(
                raw[first:stop, env].sum(), golden["frag_sum"][seen], **CLOSE
            )
            seen += 1
        np.testing.assert_allclose(transform.mean[0], golden["stat_mean"][seen - 1], **CLOSE)
        np.testing.assert_allclose(transform.var[0], golden["stat_var"][seen - 1], **CLOSE)
        assert transform.count[0] == golden["stat_n"][seen - 1]
    assert seen == len(golden["frag_env"])
