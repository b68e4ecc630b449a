"""The protocol: the challenge's rules, and one message for each value that makes no sense."""

from pathlib import Path
from typing import Any

import pytest

from rllib_ppg.algorithm.tables import fill, settings_table
from rllib_ppg.app.challenge_protocol import (
    TRAIN_LEVELS,
    Protocol,
    levels_of,
    make_protocol,
)
from rllib_ppg.app.experiment import Source
from rllib_ppg.core.scores import PRIVATE_GAMES, PUBLIC_GAMES, ROUND_2_GAMES
from rllib_ppg.errors import UserError

DOCS = Path(__file__).parents[1] / "docs"
SOURCE = Source("c", "c.yaml", {("protocol", "games"): "c.yaml:7"})


def protocol(**keys: Any) -> Protocol:
    return make_protocol(keys, SOURCE)


def test_the_defaults_are_the_challenges_rules():
    made = protocol()
    assert made.tracks == ("sample_efficiency", "generalization")
    assert made.games == list(PUBLIC_GAMES) and len(made.games) == 16
    assert (made.steps, made.seconds, made.distribution_mode) == (8_000_000, 7200, "easy")
    assert TRAIN_LEVELS == {"sample_efficiency": 0, "generalization": 200}
    assert levels_of("sample_efficiency") == ("all",)
    assert levels_of("generalization") == ("all", "train")


def test_groups_lists_and_text_name_games_and_seeds():
    assert protocol(games="round2").games == list(ROUND_2_GAMES)
    assert protocol(games="maze, ninja").games == protocol(games=["maze", "ninja"]).games
    assert protocol(seeds="1,2").seeds == protocol(seeds=[1, 2]).seeds == [1, 2]
    assert protocol(seeds=7).seeds == [7] and protocol(budget_steps="2e6").steps == 2_000_000


def test_a_rehearsal_has_fewer_steps_and_seconds_but_not_less_than_a_minute():
    made = protocol(budget_scale=0.001)
    assert (made.steps, made.seconds, made.margin) == (8000, 60, 3)
    assert protocol(budget_scale=0.5).seconds == 3600
    assert protocol(budget_scale=0.5, budget_seconds=30).seconds == 30


def test_the_margin_is_a_winners_or_a_twentieth():
    assert protocol().margin == 20 and protocol(budget_seconds=100).margin == 5
    assert protocol(margin_seconds=1).margin == 1


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"gmes": "all"}, 'unknown key "gmes". Did you mean "games"?'),
        ({"track": "speed"}, "must be 'sample_efficiency', 'generalization' or 'both'"),
        ({"games": "coinrum"}, 'Did you mean "coinrun"?'),
        ({"games": ["maze", "maze"]}, "stands there twice"),
        ({"games": []}, "must not be empty"),
        ({"games": ["round2", "maze"]}, "is a group of games"),
        ({"seeds": [1, 1]}, "same seed is no second run"),
        ({"seeds": []}, "must not be empty"),
        ({"seeds": [-1]}, "greater than or equal to 0"),
        ({"budget_steps": 0}, "greater than or equal to 1"),
        ({"budget_seconds": 0}, "greater than 0"),
        ({"budget_seconds": float("inf")}, "finite"),
        ({"budget_scale": 0}, "greater than 0"),
        ({"budget_scale": 1.5}, "less than or equal to 1"),
        ({"margin_seconds": 7200}, "leaves nothing"),
        ({"episodes": 0}, "greater than or equal to 1"),
        ({"score_table": "easy_challnge"}, 'Did you mean "easy_challenge"?'),
        ({"score_table": "hard"}, "played on easy ones"),
        ({"distribution_mode": "hard"}, "'easy'"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(keys: dict[str, Any], message: str):
    with pytest.raises(UserError) as refused:
        protocol(**keys)
    assert message in str(refused.value)
    assert str(refused.value).startswith("c.yaml") and "\n" not in str(refused.value)


def test_a_private_game_that_is_not_installed_says_so():
    for game in PRIVATE_GAMES:
        with pytest.raises(UserError, match=r"c.yaml:7.*private games.*contest-envs"):
            protocol(games=[game])


def test_private_games_are_played_where_the_installed_procgen_has_them(monkeypatch):
    installed = (*PUBLIC_GAMES, *PRIVATE_GAMES)
    monkeypatch.setattr("rllib_ppg.app.challenge_protocol.game_names", lambda: installed)
    assert protocol(games=list(PRIVATE_GAMES)).games == list(PRIVATE_GAMES)
    with pytest.raises(UserError, match=r"easy_paper.*no constants for caterpillar"):
        protocol(games=["caterpillar"], score_table="easy_paper")


def test_the_documents_table_is_up_to_date():
    path = DOCS / "challenge.md"
    text = path.read_text(encoding="utf-8")
    current = fill(text, {"protocol": settings_table(Protocol)})
    assert current == text, "put settings_table(Protocol) between the markers of docs/challenge.md"
