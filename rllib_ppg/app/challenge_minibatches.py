"""App: minibatches of a challenge made small, which still make whole optimiser steps."""

import math
from collections.abc import Iterator, Sequence

from rllib_ppg.algorithm.config import PPGConfig


def policy_minibatches(checked: PPGConfig, num_envs: int, rows: int) -> dict[str, int]:
    """Return keys that cut a smaller iteration into as many minibatches as before, or fewer.

    Args:
        checked: The configuration as it was.
        num_envs: Environments now.
        rows: Environment steps of an iteration now.
    """
    pi, vf = checked.n_epoch_pi, checked.n_epoch_vf
    epochs = [pi] if pi == vf else [pi, vf]
    accumulates = ("num_accumulates", checked.num_accumulates)
    if checked.mbsize_rows is not None:
        cuts = _row_cuts(rows, checked.policy_minibatches())
        return _chosen("mbsize_rows", cuts, accumulates, epochs)
    parts = num_envs if checked.minibatch_unit == "segment" else rows
    counts = ((count, count) for count in _divisors(parts, checked.nminibatch))
    return _chosen("nminibatch", counts, accumulates, epochs)


def aux_minibatches(checked: PPGConfig, n_pi: int, num_envs: int, fragment: int) -> dict[str, int]:
    """Return keys that cut a smaller phase's store into minibatches.

    They have as many segments as before or fewer; counted in rows they shrink as an iteration does.

    Args:
        checked: The configuration as it was.
        n_pi: Iterations in the store now.
        num_envs: Environments now.
        fragment: Steps of a segment now.
    """
    accumulates = ("aux_num_accumulates", checked.aux_num_accumulates)
    if checked.aux_mbsize_rows is not None:
        rows, before = num_envs * fragment, checked.num_envs * checked.rollout_fragment_length
        size = max(1, round(checked.aux_mbsize_rows * rows / before))
        cuts = _row_cuts(n_pi * rows, math.ceil(n_pi * rows / size))
        return _chosen("aux_mbsize_rows", cuts, accumulates, [1])
    segments = n_pi * num_envs
    sizes = ((size, segments // size) for size in _divisors(segments, checked.aux_mbsize))
    return _chosen("aux_mbsize", sizes, accumulates, [1])


def divisor(number: int, most: int) -> int:
    """The largest divisor of a number that is no more than `most`."""
    return next(_divisors(number, most))


def _divisors(number: int, most: int) -> Iterator[int]:
    """Yield a number's divisors that are no more than `most`, the largest first."""
    return (d for d in range(min(number, most), 0, -1) if number % d == 0)


def _row_cuts(rows: int, most: int) -> Iterator[tuple[int, int]]:
    """Yield sizes of minibatches, and how many of them some rows make, from `most` on down."""
    for wanted in range(min(rows, most), 0, -1):
        size = math.ceil(rows / wanted)
        yield size, math.ceil(rows / size)


def _chosen(
    name: str,
    cuts: Iterator[tuple[int, int]],
    accumulates: tuple[str, int],
    epochs: Sequence[int],
) -> dict[str, int]:
    """Choose the first cut whose minibatches make whole optimiser steps.

    Args:
        name: Key of the cut.
        cuts: Values of that key, each with the minibatches of an epoch.
        accumulates: Key and number of the minibatches that make a step; fewer where no cut suits.
        epochs: Epochs through which they are counted on, by kind.
    """
    key, most = accumulates
    first = None
    for value, count in cuts:
        first = first or (value, count)
        if all(each * count % most == 0 for each in epochs):
            return {name: value}
    assert first is not None
    value, count = first
    return {name: value, key: divisor(math.gcd(*(each * count for each in epochs)), most)}
