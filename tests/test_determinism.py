"""Same seed: identical weights and metrics, twice. Another seed: others."""

from typing import Any

import numpy as np
import pytest
from test_checkpoint import make_config, same, weights

from rllib_ppg import PPG


def run(**changes: Any) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
    """Weights and metrics after a phase and a half, without the numbers in seconds."""
    algorithm: PPG = make_config(**changes).build_algo()
    metrics = []
    for _ in range(9):
        result = algorithm.train()
        stats = result["info"]["learner"]["default_policy"]["learner_stats"]
        stats = {name: value for name, value in stats.items() if name != "time"}
        episodes = result["env_runners"]["hist_stats"]
        steps = result["num_env_steps_sampled_lifetime"]
        metrics.append({"stats": stats, "episodes": episodes, "steps": steps})
    final = weights(algorithm)
    algorithm.stop()
    return final, metrics


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_seed_decides_on_weights_and_metrics(ray_local, workers):
    (one, first), (other, second) = (run(num_env_runners=workers) for _ in range(2))
    assert same(one, other)
    np.testing.assert_equal(first, second)


def test_another_seed_gives_other_weights_and_metrics(ray_local):
    (one, first), (other, second) = run(seed=3), run(seed=4)
    assert not any(np.array_equal(one[n], other[n]) for n in one if n.endswith("weight"))
    assert first[0]["stats"]["policy_phase"] != second[0]["stats"]["policy_phase"]
