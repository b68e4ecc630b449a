import numpy as np
import pytest

from rllib_ppg.envs.procgen_options import ProcgenOptions, parse_options
from rllib_ppg.errors import UserError

DEFAULTS = {
    "env_name": "coinrun",
    "num_levels": 0,
    "start_level": 0,
    "paint_vel_info": False,
    "use_generated_assets": False,
    "center_agent": True,
    "use_sequential_levels": False,
    "distribution_mode": "hard",
    "use_backgrounds": True,
    "restrict_themes": False,
    "use_monochrome_assets": False,
    "rand_seed": None,
    "num_threads": 0,
}
OURS = {
    "frame_stack": 1,
    "stale_frame_stack": False,
    "noop_reward": 0.0,
    "noop_min_timestep": 10,
    "revisit_reward": 0.0,
    "count_states": False,
    "wrappers": (),
    "return_min": None,
    "return_blind": None,
    "return_max": None,
}
OTHERS = {
    "env_name": "maze",
    "num_levels": 200,
    "start_level": 50,
    "paint_vel_info": True,
    "use_generated_assets": True,
    "center_agent": False,
    "use_sequential_levels": True,
    "distribution_mode": "memory",
    "use_backgrounds": False,
    "restrict_themes": True,
    "use_monochrome_assets": True,
    "rand_seed": 12,
    "num_threads": 3,
}
OUR_OTHERS = {
    "frame_stack": 4,
    "stale_frame_stack": True,
    "noop_reward": -0.5,
    "noop_min_timestep": 3,
    "revisit_reward": -0.25,
    "count_states": True,
    "wrappers": ("rllib_ppg.envs.array_wrapper.ArrayWrapper",),
    "return_min": -1.0,
    "return_blind": 1.0,
    "return_max": 9.0,
}


def refusal(**options):
    with pytest.raises(UserError) as error:
        parse_options(options)
    return str(error.value)


def test_defaults_are_procgens_own():
    assert parse_options({}).model_dump() == {**DEFAULTS, **OURS}


def test_every_option_is_taken_and_reaches_the_library():
    options = parse_options({**OTHERS, **OUR_OTHERS})
    assert options.model_dump() == {**OTHERS, **OUR_OTHERS}
    passed = options.gym3_arguments()
    assert passed == {k: v for k, v in OTHERS.items() if k != "rand_seed"}


def test_resolved_options_can_be_given_again():
    for config in ({}, OTHERS, {"distribution_mode": "exploration"}):
        options = parse_options(config)
        assert parse_options(options.model_dump()) == options


@pytest.mark.parametrize("value", ["200", "2e2", 200.0, np.int64(200), " 200 "])
def test_whole_numbers_may_be_written_as_strings(value):
    options = parse_options({"num_levels": value})
    assert options.num_levels == 200
    assert type(options.num_levels) is int


@pytest.mark.parametrize("value", [True, -1, 1.5, "many", "nan", "inf", 2**31, [1], None, "1,"])
def test_what_is_no_whole_number_in_range_is_refused(value):
    message = refusal(num_levels=value)
    assert "num_levels" in message
    assert repr(value) in message
    assert "from 0 to 2147483647" in message


@pytest.mark.parametrize("value", ["True,", "True", "true", 1, 0, None, "yes"])
def test_only_true_and_false_are_booleans(value):
    message = refusal(use_backgrounds=value)
    assert f"use_backgrounds={value!r}" in message
    assert "true or false" in message


@pytest.mark.parametrize(
    ("option", "low", "high"),
    [("num_threads", -1, 10**6), ("frame_stack", 0, 10**6), ("rand_seed", -5, 2**31)],
)
def test_absurd_sizes_are_refused(option, low, high):
    assert f"{option}={low}" in refusal(**{option: low})
    assert f"{option}={high}" in refusal(**{option: high})


@pytest.mark.parametrize(
    ("given", "nearest"), [("coinrum", "coinrun"), ("StarPilot", "starpilot"), ("mazes", "maze")]
)
def test_unknown_game_names_the_nearest(given, nearest):
    message = refusal(env_name=given)
    assert repr(given) in message
    assert f'Did you mean "{nearest}"?' in message
    assert "bigfish" in message, "and all that there are"


def test_private_games_of_the_challenge_say_what_they_need():
    message = refusal(env_name="caterpillar")
    assert "private games" in message
    assert "Did you mean" not in message


@pytest.mark.parametrize(
    ("given", "nearest"),
    [("num_level", "num_levels"), ("env", "env_name"), ("framestack", "frame_stack")],
)
def test_unknown_option_names_the_nearest(given, nearest):
    message = refusal(**{given: 1})
    assert f"unknown option '{given}'" in message
    assert f'Did you mean "{nearest}"?' in message


def test_unknown_mode_names_the_nearest():
    assert 'Did you mean "easy"?' in refusal(distribution_mode="esay")


def test_mode_that_the_game_lacks_is_refused_with_the_games_that_have_it():
    message = refusal(env_name="coinrun", distribution_mode="memory")
    assert "'coinrun' has no distribution_mode 'memory'" in message
    assert "caveflyer" in message
    assert "starpilot" in refusal(env_name="maze", distribution_mode="extreme")
    assert "climber" in refusal(env_name="bigfish", distribution_mode="exploration")


def test_levels_that_would_be_ignored_are_refused():
    assert "one fixed level" in refusal(distribution_mode="exploration", num_levels=10)
    assert "no effect with num_levels=0" in refusal(start_level=10)
    assert "at most 2147483647" in refusal(start_level=2**31 - 1, num_levels=2)


def test_exploration_mode_leaves_the_levels_to_the_library():
    passed = parse_options({"distribution_mode": "exploration"}).gym3_arguments()
    assert "num_levels" not in passed
    assert "start_level" not in passed


def test_all_mistakes_are_in_one_message():
    message = refusal(env_name="coinrum", frame_stack=0, typo=1)
    assert all(word in message for word in ("coinrum", "frame_stack=0", "'typo'"))


@pytest.mark.parametrize("env_config", [None, [("env_name", "coinrun")], "coinrun", {3: 4}])
def test_what_is_no_mapping_of_names_is_refused(env_config):
    with pytest.raises(UserError, match="env_config of 'procgen'"):
        parse_options(env_config)


def test_options_cannot_be_changed_afterwards():
    with pytest.raises(ValueError, match="frozen"):
        ProcgenOptions().env_name = "maze"
