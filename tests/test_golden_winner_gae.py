"""Advantages and value targets of the challenge's winners against their numbers."""

from pathlib import Path

import golden_files
import numpy as np
import pytest
import winner_files
from golden_files import case_id

from rllib_ppg.core.returns import compute_gae, standardize
from rllib_ppg.core.segments import SegmentStore
from rllib_ppg.core.value_targets import recomputed_targets

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def of_rank(rank: int) -> list[tuple[Path, str]]:
    return [
        (path, case)
        for path, case in winner_files.cases("a_gae", "ret")
        if golden_files.load(path)[f"{case}/value"].ndim == rank
    ]


@pytest.mark.parametrize("path, case", of_rank(2), ids=case_id)
def test_a_batch_of_the_generalization_winner(path, case):
    golden = golden_files.load(path).below(case)
    advantages, targets = gae(golden)
    np.testing.assert_allclose(advantages.T, golden["adv"], **CLOSE)
    np.testing.assert_allclose(targets.T, golden["ret"], **CLOSE)
    if "adv_std" in golden:
        found = standardize(advantages).T
        expected = golden["adv_std"].reshape(found.shape)
        np.testing.assert_allclose(found, expected, **CLOSE)


def gae(golden):
    return compute_gae(
        golden["reward"].T,
        golden["value"].T,
        golden["bootstrap"],
        golden["done"].T,
        gamma=golden.number("gamma"),
        lambda_=golden.number("lam"),
    )


@pytest.mark.parametrize("path, case", of_rank(3), ids=case_id)
def test_targets_of_a_whole_buffer_computed_anew(path, case):
    golden = golden_files.load(path).below(case)
    segments, envs, steps = golden["value"].shape
    store = SegmentStore(segments * envs, steps, (1,), with_returns=True)
    for i in range(segments):
        rows = store.append(np.arange(envs))
        store.returns.write(
            rows,
            rewards=golden["reward"][i],
            dones=golden["done"][i],
            bootstrap=golden["bootstrap"] if i == segments - 1 else np.full(envs, np.nan),
            begins=golden["done"][i - 1][:, -1] if i else np.ones(envs, bool),
        )
    values = golden["value"].reshape(-1, steps)
    # Where an episode ends with a segment nothing is bootstrapped, whatever stands behind it.
    store.returns.bootstrap[np.isnan(store.returns.bootstrap)] = 0.0
    targets = recomputed_targets(
        store, values, gamma=golden.number("gamma"), lambda_=golden.number("lam")
    )
    np.testing.assert_allclose(targets.reshape(golden["ret"].shape), golden["ret"], **CLOSE)


@pytest.mark.parametrize("path, case", winner_files.cases("b_gae", "vtarg"), ids=case_id)
def test_a_batch_of_the_sample_efficiency_winner(path, case):
    golden = golden_files.load(path).below(case)
    advantages, targets = gae(golden)
    np.testing.assert_allclose(advantages.T, golden["adv"], **CLOSE)
    np.testing.assert_allclose(targets.T, golden["vtarg"], **CLOSE)
    found = standardize(advantages, std_min=1e-4).T
    np.testing.assert_allclose(found, golden["adv_std"], **CLOSE)
