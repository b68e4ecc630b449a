"""The key `search`: searchers by name, with what each cannot do."""

import importlib.util
import re

import pytest

from rllib_ppg.app.searchers import OTHERS, check_installed, make_searcher, read_search
from rllib_ppg.app.typed import KeyProblems

CONFIG = {"lr": {"loguniform": [1e-5, 1e-3]}}
CONDITIONAL = {"conditional": {"on": "x", "cases": {"1": 2}}}


@pytest.mark.parametrize(
    ("given", "config", "path", "reason"),
    [
        ("optun", CONFIG, ("search", "type"), 'unknown search "optun". Did you mean "optuna"?'),
        ({"type": "optuna", "sed": 1}, CONFIG, ("search", "sed"), 'Did you mean "seed"?'),
        ({"type": "optuna", "seed": -1}, CONFIG, ("search", "seed"), "-1 must be"),
        ({"type": "random", "points": 1}, CONFIG, ("search", "points"), "random takes no"),
        ("optuna", {"lr": 1}, ("search", "type"), "nothing to search: config holds no space"),
        ("optuna", {"lr": {"grid_search": [1]}}, ("search", "type"), "config.lr is a grid"),
        ("optuna", {"x": [{"choice": [1]}]}, ("search", "type"), "config.x.0 is a part of one"),
        (
            "hyperopt",
            {**CONFIG, "a": CONDITIONAL},
            ("search", "type"),
            "does not know conditionals",
        ),
    ],
)
def test_a_wrong_entry_is_named_with_its_path(given, config, path: tuple, reason: str):
    with pytest.raises(KeyProblems) as error:
        read_search(given, config)
    found = dict(error.value.problems)
    assert path in found and re.search(re.escape(reason), found[path]), found
    assert found[path].startswith(".".join(path))


def test_random_search_takes_everything():
    config = {**CONFIG, "a": CONDITIONAL, "b": {"grid_search": [1]}, "c": [{"choice": [1]}]}
    assert read_search(None, config).type == "random"
    assert read_search({"type": "random", "seed": "3"}, config).seed == 3


@pytest.mark.parametrize("name", OTHERS)
def test_a_searcher_without_its_package_is_told_how_to_install_it(
    name: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    with pytest.raises(KeyProblems, match=f"search.type: {name} needs its package.*pip install"):
        check_installed(read_search(name, CONFIG))


def test_optuna_is_an_extra(monkeypatch: pytest.MonkeyPatch):
    keys = read_search("optuna", CONFIG)
    check_installed(keys)
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    with pytest.raises(KeyProblems, match=re.escape('pip install "rllib-ppg[optuna]"')):
        check_installed(keys)


def test_optuna_with_a_seed_suggests_the_same_again_and_learns():
    keys = read_search({"type": "optuna", "seed": 3, "n_startup_trials": 4}, CONFIG)

    def values(reward: bool) -> list[float]:
        searcher = make_searcher(keys, CONFIG, "score", "max")
        found = []
        for number in range(20):
            found.append(searcher.suggest(str(number))["lr"])
            score = found[-1] if reward else 0.0
            searcher.on_trial_complete(str(number), {"score": score})
        return found

    assert values(True) == values(True)
    learned = values(True)
    assert sum(learned[10:]) > 2 * sum(learned[:4])
