"""A random policy scores on all games what it scores in the bare library."""

import pytest
from bare_play import bare_returns, random_returns, standard_errors_apart

from rllib_ppg.core.scores import PUBLIC_GAMES


@pytest.mark.slow
@pytest.mark.parametrize("game", PUBLIC_GAMES)
def test_a_random_policy_scores_what_it_scores_in_the_bare_library(game: str):
    ours, bare = random_returns(game, 480), bare_returns(game, 480, rand_seed=12345)
    assert abs(standard_errors_apart(ours, bare)) < 3
