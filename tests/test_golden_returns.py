"""GAE and reward normalisation against the original's numbers."""

import golden_files
import numpy as np
import pytest
from golden_files import case_id

from rllib_ppg.core.returns import (
    RewardNormalizer,
    RunningMoments,
    compute_gae,
    discounted_sums,
    standardize,
)


@pytest.mark.parametrize("path, case", golden_files.cases("gae", "adv_norm"), ids=case_id)
def test_gae_and_standardised_advantages(path, case):
    golden = golden_files.load(path).below(case)
    vpred, first = golden["vpred"], golden["first"]
    advantages, targets = compute_gae(
        golden["reward"].T,
        vpred[:, :-1].T,
        vpred[:, -1],
        first[:, 1:].T,
        gamma=golden.number("gamma"),
        lambda_=golden.number("lam"),
    )
    np.testing.assert_allclose(advantages.T, golden["adv"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(targets.T, golden["vtarg"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(advantages.mean(), golden["adv_mean"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(advantages.var(), golden["adv_var"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(standardize(advantages).T, golden["adv_norm"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("path, run", golden_files.cases("reward_norm", "ret_carry"), ids=case_id)
def test_reward_normalisation_over_consecutive_segments(path, run):
    golden = golden_files.load(path).below(run)
    gamma = golden.number("gamma")
    normalizer = RewardNormalizer(
        golden["reward"].shape[1],
        gamma=gamma,
        clip=golden.number("cliprew"),
        eps=golden.number("epsilon"),
    )
    normalizer.moments = RunningMoments(golden.number("count_init"))
    for i in range(len(golden["reward"])):
        call = golden.at(i)
        before = normalizer.returns.copy()
        out = normalizer(call["reward"].T, call["first"].T)
        sums = discounted_sums(call["reward"].T, call["first"].T, before, gamma=gamma)
        np.testing.assert_allclose(out.T, call["out"], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(sums.T, call["ret"], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(normalizer.returns, call["ret_carry"], rtol=1e-5, atol=1e-5)
        moments = normalizer.moments
        np.testing.assert_allclose(moments.mean, call["ret_mean"], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(moments.var, call["ret_var"], rtol=1e-5)
        np.testing.assert_allclose(moments.count, call["ret_count"], rtol=1e-5)
