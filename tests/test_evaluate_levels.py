"""Which games and levels are played: train, test and all are what they say."""

import numpy as np
import pytest
from evaluation import procgen_policy
from gymnasium.spaces import Box, Discrete

from rllib_ppg import UserError
from rllib_ppg.algorithm.evaluate_levels import (
    check_fits,
    level_range,
    make_tasks,
    tasks_while_training,
)
from rllib_ppg.envs.procgen import ProcgenVectorEnv, parse_options
from rllib_ppg.envs.procgen_options import MAX_INT32

TRAINED = {"num_levels": 200, "start_level": 0}


def played_levels(options: dict, count: int = 400) -> np.ndarray:
    env = ProcgenVectorEnv({"env_name": "maze", **options}, count, rand_seed=3)
    env.reset()
    levels = np.array([info["level_seed"] for info in env.infos()])
    env.close()
    return levels


def test_train_levels_are_those_of_the_training():
    options = {"num_levels": 5, "start_level": 40}
    assert level_range(parse_options(options), "train") == options
    assert set(played_levels(options)) == {40, 41, 42, 43, 44}


def test_test_levels_are_all_that_the_training_did_not_have():
    found = level_range(parse_options(TRAINED), "test")
    assert found == {"start_level": 200, "num_levels": MAX_INT32 - 200}
    levels = played_levels(found)
    # Uniform over [200, 2^31 - 1): the mean of 400 has a standard error of 3.1e7.
    assert levels.min() >= 200 and abs(levels.mean() - 2**30) < 4 * 3.1e7


def test_nearly_all_levels_as_training_leave_the_few_others_for_the_test():
    options = {"num_levels": MAX_INT32 - 3, "start_level": 3}
    found = level_range(parse_options(options), "test")
    assert found == {"start_level": 0, "num_levels": 3}
    assert set(played_levels(found)) == {0, 1, 2}


def test_all_levels_are_procgens_full_distribution():
    assert level_range(parse_options(TRAINED), "all") == {"start_level": 0, "num_levels": 0}


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"num_levels": 0}, "trained on all levels"),
        ({"num_levels": MAX_INT32}, "trained on all levels"),
        ({"num_levels": 200, "use_sequential_levels": True}, "none is known to be unseen"),
    ],
)
def test_there_are_no_test_levels_where_none_is_unseen(options: dict, why: str):
    with pytest.raises(UserError, match=why):
        level_range(parse_options(options), "test")


def test_the_default_is_the_trainings_game_on_all_levels():
    (task,) = make_tasks(procgen_policy(TRAINED))
    assert (task.name, task.levels, task.transfer) == ("starpilot", "all", False)
    assert task.env_config["num_levels"] == 0 and task.distribution_mode == "easy"


def test_other_games_and_difficulties_are_marked_as_transfer():
    tasks = make_tasks(procgen_policy(TRAINED), games=["maze", "starpilot"], levels="test")
    assert [(task.name, task.transfer) for task in tasks] == [("maze", True), ("starpilot", False)]
    assert all(task.env_config["start_level"] == 200 for task in tasks)
    (task,) = make_tasks(procgen_policy(), env_config={"env_name": "maze"})
    assert task.name == "maze" and task.transfer
    (task,) = make_tasks(procgen_policy(), env_config={"distribution_mode": "hard"})
    assert (task.name, task.distribution_mode, task.transfer) == ("starpilot", "hard", True)
    (task,) = make_tasks(procgen_policy(), env_config={"use_backgrounds": False})
    assert not task.transfer


def test_no_levels_but_those_of_the_training_are_called_train():
    policy = procgen_policy(TRAINED)
    tasks = make_tasks(policy, games=["maze", "starpilot"], levels="train")
    assert [task.levels for task in tasks] == ["custom", "train"]
    assert all(task.env_config["num_levels"] == 200 for task in tasks)
    (task,) = make_tasks(policy, levels="train", env_config={"distribution_mode": "hard"})
    assert task.levels == "custom"


def test_evaluations_during_training_have_train_levels_only_of_what_is_trained():
    trained_on = {"env_name": "starpilot", "distribution_mode": "easy", **TRAINED}
    hard = {"distribution_mode": "hard"}
    for levels in (["train"], ["train", "test"]):
        with pytest.raises(UserError, match="which has no training levels; give test or all"):
            tasks_while_training("procgen", trained_on, levels, hard)
    names = [task.levels for task in tasks_while_training("procgen", trained_on, "auto", hard)]
    assert names == ["all"]
    names = [task.levels for task in tasks_while_training("procgen", trained_on, "auto")]
    assert names == ["train", "test"]


def test_levels_given_by_number_are_neither_train_nor_test():
    (task,) = make_tasks(procgen_policy(), env_config={"num_levels": 7})
    assert task.levels == "custom" and task.env_config["num_levels"] == 7


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"games": ["coinrum"]}, 'Did you mean "coinrun"'),
        ({"games": ["maze", "maze"]}, "twice"),
        ({"games": ["maze"], "env_config": {"env_name": "maze"}}, "give one"),
        ({"levels": "tests"}, 'Did you mean "test"'),
        ({"levels": "test"}, "trained on all levels"),
        ({"levels": "all", "env_config": {"num_levels": 3}}, "give one"),
        ({"env_config": {"rand_seed": 3}}, "drawn by seed"),
        ({"env_config": {"frame_stack": 2}}, "the agent was trained with"),
        ({"env_config": {"distribution_mode": "memory"}}, "has no distribution_mode"),
    ],
)
def test_what_contradicts_itself_or_the_agent_is_refused(options: dict, why: str):
    with pytest.raises(UserError, match=why):
        make_tasks(procgen_policy(), **options)


def test_a_policy_fits_only_the_spaces_that_it_was_trained_with():
    policy = procgen_policy()
    images, actions = Box(0, 255, (64, 64, 3), np.uint8), Discrete(15)
    check_fits(policy, "game", images, actions)
    for observations in (Box(0, 255, (64, 64, 6), np.uint8), Box(0, 255, (64, 64, 3), np.float32)):
        with pytest.raises(UserError, match="game has observations"):
            check_fits(policy, "game", observations, actions)
    with pytest.raises(UserError, match=r"Discrete\(2\).*was trained with.*Discrete\(15\)"):
        check_fits(policy, "game", images, Discrete(2))
