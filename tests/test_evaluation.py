"""The numbers of an evaluation during training."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from evaluation import config_of, procgen_policy

from rllib_ppg import UserError
from rllib_ppg.algorithm.evaluate_episodes import EpisodeStatistics
from rllib_ppg.algorithm.evaluate_levels import Task
from rllib_ppg.algorithm.evaluation import Evaluator, summary
from rllib_ppg.algorithm.metrics import EVALUATION, nested

FEW = {"env_name": "starpilot", "distribution_mode": "easy", "num_levels": 3}


def episodes(*returns: float) -> EpisodeStatistics:
    lengths = np.arange(len(returns)) + 5
    return EpisodeStatistics(np.array(returns), lengths, lengths, None, 100)


def tasks(*levels: str) -> list[Task]:
    return [Task("procgen", {}, "coinrun", name, "easy") for name in levels]


def evaluator(env_config: dict[str, Any] = FEW, **keys: Any) -> Evaluator:
    config = config_of("procgen", env_config, **{"evaluation_duration": 2, **keys})
    config.validate()
    return Evaluator(config, procgen_policy(env_config), lambda text: None)


def test_the_gap_is_train_less_test_and_has_the_errors_of_both():
    played = [episodes(10, 10, 5, 10), episodes(5, 5, 10, 5)]  # coinrun: score 0 is 5, 1 is 10
    found = summary(tasks("train", "test"), played, ["easy_challenge"] * 2)
    error = np.std([10, 10, 5, 10], ddof=1) / 2
    assert (found["train_return"], found["test_return"], found["gap"]) == (8.75, 6.25, 2.5)
    assert found["train_return_stderr"] == pytest.approx(error)
    assert found["gap_stderr"] == pytest.approx(math.sqrt(2) * error)
    assert (found["train_score"], found["test_score"], found["gap_score"]) == (0.75, 0.25, 0.5)
    assert found["gap_score_stderr"] == pytest.approx(math.sqrt(2) * error / 5)
    assert found["num_env_steps_sampled_this_iter"] == 200
    assert found["score_table"] == "easy_challenge"


@pytest.mark.parametrize(
    ("levels", "main"),
    [(["train", "test"], 1), (["all", "test"], 1), (["train", "all"], 1), (["train"], 0)],
)
def test_rllibs_names_hold_the_unseen_levels(levels: list[str], main: int):
    played = [episodes(1, 2, 3), episodes(4, 5)]
    found = summary(tasks(*levels), played[: len(levels)], [None] * len(levels))
    expected = played[main]
    assert found["env_runners/episode_return_mean"] == expected.mean
    assert found["env_runners/episode_return_stderr"] == expected.stderr
    assert found["env_runners/episode_return_min"] == expected.returns.min()
    assert found["env_runners/episode_return_max"] == expected.returns.max()
    assert found["env_runners/episode_len_mean"] == expected.lengths.mean()
    assert found["env_runners/num_episodes"] == len(expected.returns)
    assert ("gap" in found) == ("train" in levels and len(levels) == 2)
    assert not any("score" in name for name in found)


def test_an_environment_without_levels_has_rllibs_names_only():
    found = summary([Task("CartPole-v1", {}, "CartPole-v1")], [episodes(1, 2)], [None])
    assert {name.split("/")[0] for name in found} == {
        "env_runners",
        "num_env_steps_sampled_this_iter",
    }


def test_every_number_is_defined_and_no_evaluation_gives_the_same_names():
    made = evaluator()
    found, none = made.run(procgen_policy(FEW), 1), made.nothing()
    assert list(found) == list(none)
    assert list(found["env_runners"]) == list(none["env_runners"])
    names = set(nested(EVALUATION))
    assert set(found) <= names and set(found["env_runners"]) <= set(
        nested(EVALUATION)["env_runners"]
    )
    assert math.isnan(none["test_return"]) and none["score_table"] == found["score_table"]
    assert math.isnan(none["env_runners"]["num_episodes"]) and math.isnan(none["time_s"])


def numbers(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name != "time_s"}


def test_seed_and_policy_iteration_decide_on_the_episodes():
    policy = procgen_policy(FEW)
    first = numbers(evaluator().run(policy, 7))
    assert numbers(evaluator().run(policy, 7)) == first
    assert numbers(evaluator().run(policy, 8)) != first
    assert numbers(evaluator(evaluation_config={"seed": 5}).run(policy, 7)) != first


def test_the_evaluation_may_explore_otherwise_than_the_training():
    greedy = evaluator(evaluation_config={"explore": False})
    assert greedy._temperature == 0.0 and evaluator()._temperature is None
    policy = procgen_policy(FEW)
    assert numbers(greedy.run(policy, 1)) != numbers(evaluator().run(policy, 1))


@pytest.mark.parametrize(
    ("env_config", "keys", "levels"),
    [
        (FEW, {}, ["train", "test"]),
        ({**FEW, "num_levels": 0}, {}, ["all"]),
        ({**FEW, "use_sequential_levels": True}, {}, ["all"]),
        (FEW, {"evaluation_levels": "all"}, ["all"]),
        (FEW, {"evaluation_levels": ["test", "all"]}, ["test", "all"]),
        (FEW, {"evaluation_config": {"env_config": {"num_levels": 9}}}, ["custom"]),
        (FEW, {"evaluation_config": {"env_config": {"use_backgrounds": False}}}, ["train", "test"]),
    ],
)
def test_which_levels_are_played(env_config, keys, levels):
    made = evaluator(env_config, **keys)
    assert [task.levels for task in made._tasks] == levels
    for task in made._tasks:
        assert "rand_seed" not in task.env_config


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"evaluation_levels": ["tests"]}, "evaluation_levels"),
        ({"evaluation_levels": []}, "name some of train, test, all"),
        ({"evaluation_levels": ["test", "test"]}, "once"),
        ({"evaluation_config": {"lr": 1}}, '"lr" cannot differ in an evaluation'),
        ({"evaluation_config": {"env_cfg": {}}}, 'Did you mean "env_config"'),
        ({"evaluation_config": {"seed": -1}}, "seed=-1"),
        ({"evaluation_config": {"env_config": {"rand_seed": 1}}}, "rand_seed"),
        ({"evaluation_config": {"env_config": {"env_name": "starpilott"}}}, "starpilot"),
        ({"evaluation_config": {"env_config": {"frame_stack": 2}}}, "was trained with"),
        ({"evaluation_duration": 0}, "evaluation_duration"),
        ({"evaluation_interval": -1}, "evaluation_interval"),
    ],
)
def test_what_makes_no_sense_is_refused(keys: dict[str, Any], why: str):
    with pytest.raises(UserError, match=why):
        evaluator(**keys)


def test_test_levels_need_levels_that_the_training_leaves_out():
    with pytest.raises(UserError, match=r"evaluation_levels.*trained on all levels"):
        evaluator({**FEW, "num_levels": 0}, evaluation_levels="test")


def test_levels_are_procgens():
    config = config_of("CartPole-v1", {}, evaluation_levels="test", num_envs=8, nminibatch=4)
    with pytest.raises(UserError, match="only Procgen has levels"):
        config.validate()


def test_evaluations_while_training_are_at_the_evaluation_temperature():
    def played(**keys: Any) -> dict[str, Any]:
        config = config_of("procgen", FEW, evaluation_duration=2, **keys)
        config.validate()
        torch.manual_seed(0)
        policy = procgen_policy(FEW, **keys)
        found = Evaluator(config, policy, lambda text: None).run(policy, 1)
        return {name: value for name, value in found.items() if name != "time_s"}

    greedy = played(evaluation_config={"explore": False})
    assert played(evaluation_temperature=0) == greedy != played()


def test_two_ways_to_choose_actions_contradict_each_other():
    with pytest.raises(UserError, match=r"evaluation_temperature=0\.5 says how.*leave one out"):
        evaluator(evaluation_temperature=0.5, evaluation_config={"explore": False})
    with pytest.raises(UserError, match=r"evaluation_temperature=1e-09: must be 0"):
        evaluator(evaluation_temperature=1e-9)
