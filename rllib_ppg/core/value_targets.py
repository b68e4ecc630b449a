"""Core: value targets of stored segments, computed anew with the values of a later moment.

Shape key: T steps, S segments stored.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rllib_ppg.core.returns import compute_gae
from rllib_ppg.core.segments import SegmentStore


def recomputed_targets(
    store: SegmentStore,
    values: npt.NDArray[np.float32],
    *,
    gamma: float,
    lambda_: float,
) -> npt.NDArray[np.float32]:
    """Compute the value targets of all stored segments from other values.

    The segments of an environment are chained in time: behind the last step of one stands the new
    value of the first observation of the next. The sum over lambda begins anew in each segment.
    Where there is no next one, the value of the time of collection stands there: at the end of the
    phase, and where the environment was lost or began anew in between.

    Args:
        store: The segments, with their returns.
        values: New values of all stored observations (S, T).
        gamma: Discount per step.
        lambda_: GAE trade-off.

    Returns:
        Float32 (S, T).

    Source: Dipamc77/procgen-competition@f473f51, "recalculated advantages".
    """
    returns, count = store.returns, store.count
    assert returns is not None, "the store keeps no returns"
    bootstrap = returns.bootstrap[:count].copy()
    number = {(env, i): row for row, (env, i) in enumerate(_keys(store))}
    for row, (env, iteration) in enumerate(_keys(store)):
        following = number.get((env, iteration + 1))
        if following is not None and not returns.begins[following]:
            bootstrap[row] = values[following, 0]
    _, targets = compute_gae(
        returns.rewards[:count].T,
        values.T,
        bootstrap,
        returns.dones[:count].T,
        gamma=gamma,
        lambda_=lambda_,
    )
    return np.ascontiguousarray(targets.T)


def _keys(store: SegmentStore) -> list[tuple[int, int]]:
    """Environment and iteration of each segment."""
    pairs = (store.env[: store.count].tolist(), store.iteration[: store.count].tolist())
    return list(zip(*pairs, strict=True))
