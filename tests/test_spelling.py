"""Misspelt names: the nearest known one, if any is near."""

from rllib_ppg.spelling import did_you_mean, nearest


def test_a_question_names_the_nearest():
    assert did_you_mean("gama", ["gamma", "lr"]) == ' Did you mean "gamma"?'
    assert did_you_mean("gama", ["lr"]) == ""


def test_case_does_not_count_and_the_known_spelling_is_returned():
    assert nearest("cartpole-V1", ["CartPole-v1", "Pendulum-v1"]) == "CartPole-v1"


def test_how_near_a_name_must_be_can_be_set():
    assert nearest("env", ["env_name"]) is None
    assert nearest("env", ["env_name"], cutoff=0.5) == "env_name"
