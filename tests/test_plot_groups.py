"""Seeds of one agent become one group, whatever its game and machine; groups have telling names."""

from pathlib import Path
from typing import NamedTuple

import pytest

from rllib_ppg.app.plot_groups import make_groups, parse_labels
from rllib_ppg.app.plot_runs import Origin
from rllib_ppg.errors import UserError


class Thing(NamedTuple):
    origin: Origin


def thing(name: str, **config: object) -> Thing:
    seed = config.get("seed")
    path = Path(f"/r/{name}/trial{seed}/progress.csv")
    return Thing(Origin(path, name, config=config or None, seed=seed if seed else None))


def names(things: list[Thing], way: str = "auto", *labels: str) -> dict[str, int]:
    return {
        name: len(found) for name, found in make_groups(things, way, parse_labels(labels)).items()
    }


def test_runs_that_differ_in_seed_game_and_machine_only_are_one_group():
    things = [
        thing("ppg-s1", seed=1, lr=0.1, num_env_runners=2, **{"env_config.env_name": "maze"}),
        thing("ppg-s2", seed=2, lr=0.1, num_env_runners=8, **{"env_config.env_name": "heist"}),
    ]
    assert names(things) == {"ppg": 2}


def test_trials_of_a_sweep_are_told_apart_by_what_differs():
    things = [thing("sweep", seed=k, lr=lr, gamma=0.9) for lr in (0.1, 0.2) for k in (1, 2)]
    assert names(things) == {"lr=0.1": 2, "lr=0.2": 2}


def test_a_key_that_one_group_lacks_counts_as_a_difference():
    things = [thing("a", lr=0.1), thing("a", lr=0.1, **{"model.arch": "dual"})]
    assert names(things) == {"arch=default": 1, "arch=dual": 1}


def test_one_agent_played_in_two_ways_is_two_groups():
    def origin(mode: str, **config: object) -> Thing:
        played = {"distribution_mode": mode, "temperature": 1}
        return Thing(Origin(Path("e.json"), "ppg", config=config or None, played=played, agent="a"))

    expected = {"ppg played distribution_mode=easy": 1, "ppg played distribution_mode=hard": 1}
    assert set(names([origin("easy"), origin("hard")])) == {
        "played distribution_mode=easy", "played distribution_mode=hard"
    }  # fmt: skip
    assert set(names([origin("easy", lr=1), origin("hard", lr=1), thing("x", lr=1)])) == {
        *expected, "x"
    }  # fmt: skip
    # Agents of two difficulties, each evaluated on its own.
    key = "env_config.distribution_mode"
    assert set(names([origin(mode, **{key: mode}) for mode in ("easy", "hard")])) == {
        "distribution_mode=easy", "distribution_mode=hard"
    }  # fmt: skip


def test_runs_without_configuration_are_groups_by_themselves():
    files = [Thing(Origin(Path(f"/{k}/progress.csv"), "same")) for k in "ab"]
    assert names(files) == {"same": 1, "same (2)": 1}


def test_other_ways_to_group():
    things = [
        thing("a-s1", seed=1, lr=0.1),
        thing("a-s2", seed=2, lr=0.1),
        thing("b", seed=1, lr=0.1),
    ]
    assert names(things, "run") == {"a-s1": 1, "a-s2": 1, "b": 1}
    assert names(things, "experiment") == {"a-s1": 1, "a-s2": 1, "b": 1}
    assert names(things, "lr") == {"lr=0.1": 3}
    assert names([thing("a", seed=1), thing("a", seed=2)], "run") == {"a seed 1": 1, "a seed 2": 1}


def test_labels_come_first_and_take_what_their_pattern_matches():
    things = [thing("new-1", lr=1), thing("new-2", lr=2), thing("old", lr=3)]
    assert names(things, "auto", "New=r/new-?", "Rest=*") == {"New": 2, "Rest": 1}
    assert names(things, "auto", "Old=old") == {"Old": 1, "new-1": 1, "new-2": 1}


def test_a_label_looks_at_paths_only_with_a_slash():
    run = Thing(Origin(Path("/home/ppg/results/old/PPG_procgen_1/progress.csv"), "old"))
    assert names([run], "auto", "X=results/old") == {"X": 1}
    for pattern in ("ppg", "PPG"):
        with pytest.raises(UserError, match="matches no run"):
            names([run], "auto", f"X={pattern}")


def test_published_curves_are_never_mixed_with_runs():
    published = Thing(Origin(Path("r.csv"), "ppg", label="ppg (reference)", reference=True))
    for way in ("auto", "experiment", "run", "lr"):
        assert list(names([thing("ppg", lr=1), published], way))[-1] == "ppg (reference)"
    assert names([thing("ppg", lr=1), published], "auto", "X=*") == {"X": 1, "ppg (reference)": 1}


def test_a_bad_label_or_key_is_refused():
    with pytest.raises(UserError, match="matches no run; there are: a"):
        names([thing("a", lr=1)], "auto", "X=nothing")
    with pytest.raises(UserError, match='Did you mean "gamma"'):
        names([thing("a", gamma=1)], "gama")
    for text in ("a", "=a", "a="):
        with pytest.raises(UserError, match="NAME=PATTERN"):
            parse_labels([text])
