"""Episodes of an evaluation and their mean."""

import numpy as np
import pytest

from rllib_ppg.algorithm.evaluate_episodes import EpisodeStatistics, join


def statistics(*returns: float, env: int = 0, levels: bool = False) -> EpisodeStatistics:
    count = len(returns)
    seeds = np.arange(count) + 10 * env if levels else None
    ones = np.ones(count, np.int64)
    return EpisodeStatistics(np.array(returns), ones, np.full(count, env), seeds, 5)


def test_mean_and_standard_error():
    episodes = statistics(1.0, 2.0, 3.0, 6.0)
    assert episodes.mean == 3.0
    assert episodes.stderr == pytest.approx(np.std([1, 2, 3, 6], ddof=1) / 2)
    assert str(episodes) == "return 3 +- 1.1 over 4 episodes, mean length 1"
    assert np.isnan(statistics(1.0).stderr)


def test_joined_episodes_keep_their_order_and_add_their_steps():
    both = join([statistics(1, 2, levels=True), statistics(3, env=1, levels=True)])
    assert both.returns.tolist() == [1, 2, 3] and both.envs.tolist() == [0, 0, 1]
    assert both.level_seeds.tolist() == [0, 1, 10] and both.env_steps == 10
    assert join([statistics(1), statistics(2)]).level_seeds is None
