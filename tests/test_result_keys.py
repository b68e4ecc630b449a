"""Result keys for `stop` and checkpoint scores: what is known, and what to say of the others."""

import pytest

from rllib_ppg.algorithm.metrics import EVALUATION, METRICS
from rllib_ppg.app.result_keys import LEARNER_STATS, flat_stop, key_problem, stop_value


@pytest.mark.parametrize(
    "name",
    [
        "timesteps_total",
        "training_iteration",
        "time_total_s",
        "num_env_steps_sampled_lifetime",
        "env_runners/episode_return_mean",
        "env_runners/custom_metrics/coins_mean",
        *(f"{LEARNER_STATS}/{metric}" for metric in METRICS),
        *(f"evaluation/{metric}" for metric in EVALUATION if metric != "score_table"),
    ],
)
def test_a_key_of_ppgs_results_is_known(name: str):
    assert key_problem(name) is None


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("timesteps_totl", "timesteps_total"),
        ("episode_reward_mean", "env_runners/episode_return_mean"),
        ("sampler_results/episode_reward_mean", "env_runners/episode_return_mean"),
        ("env_runners/episode_return_men", "env_runners/episode_return_mean"),
        ("policy_phase/entropy", f"{LEARNER_STATS}/policy_phase/entropy"),
        ("test_return", "evaluation/test_return"),
        ("evaluation/test_retur", "evaluation/test_return"),
        ("evaluation/score_table", "evaluation/"),
        ("xyz", "progress.csv"),
    ],
)
def test_an_unknown_key_is_answered_with_the_right_one(name: str, hint: str):
    assert hint in str(key_problem(name))


def test_nested_stop_keys_are_flattened():
    stop = {"timesteps_total": 5, "env_runners": {"episode_return_mean": 2}}
    expected = [("timesteps_total", 5), ("env_runners/episode_return_mean", 2)]
    assert list(flat_stop(stop)) == expected


@pytest.mark.parametrize(("given", "number"), [(1e6, 1_000_000), ("25e3", 25_000), (0.5, 0.5)])
def test_a_stop_value_is_a_number(given: object, number: float):
    found = stop_value("env_runners/episode_return_mean", given)
    assert found == number and type(found) is type(number)


@pytest.mark.parametrize("given", ["many", None, True, float("nan"), [1]])
def test_other_stop_values_are_refused(given: object):
    with pytest.raises(ValueError, match="number"):
        stop_value("env_runners/episode_return_mean", given)


def test_ppgs_results_hold_the_keys_that_are_said_to_be_known(ray_local: None):
    from rllib_ppg import PPGConfig
    from rllib_ppg.app.progress import Progress
    from rllib_ppg.app.result_keys import EPISODE_KEYS, STATISTIC_KEYS, TOP_KEYS

    config = PPGConfig().environment("CartPole-v1").env_runners(num_envs=4)
    config = config.training(rollout_fragment_length=16, nminibatch=2, n_pi=2, aux_mbsize=2)
    algorithm = config.build_algo()
    result = algorithm.train()
    algorithm.stop()
    progress = Progress(result=result)
    missing = [
        key
        for key in (*TOP_KEYS, *EPISODE_KEYS)
        if progress.number(key) != progress.number(key) and not found(result, key)
    ]
    assert missing == []
    assert all(found(result, key) for key in STATISTIC_KEYS)


def found(result: dict, key: str) -> bool:
    node = result
    for name in key.split("/"):
        if name not in node:
            return False
        node = node[name]
    return True


@pytest.mark.parametrize("name", ["timesteps_total", "training_iteration", "time_total_s"])
def test_a_count_that_is_over_before_it_begins_is_refused(name: str):
    with pytest.raises(ValueError, match="more than 0"):
        stop_value(name, -3)
    assert stop_value("env_runners/episode_return_mean", -3) == -3
