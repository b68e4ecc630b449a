"""What makes a sweep of an experiment, checked as a whole with file, line and path."""

from pathlib import Path

import pytest
from app_helpers import experiments

from rllib_ppg.app.checks import check
from rllib_ppg.app.experiment import Experiment
from rllib_ppg.app.sweep import Sweep, read_sweep
from rllib_ppg.errors import UserError

PBT = (
    "{type: pbt, perturbation_interval: 9, hyperparam_mutations: {lr: {loguniform: [1e-4, 1e-2]}}}"
)
GAMES = "average_over: {env_config.env_name: [coinrun, starpilot], seed: [1, 2, 3]}"


def made(folder: Path, *lines: str, env: str = "CartPole-v1") -> Experiment:
    text = "".join(f"  {line}\n" for line in lines)
    return experiments(f"x:\n  run: PPG\n  env: {env}\n{text}", folder)[0]


def sweep(folder: Path, *lines: str, env: str = "CartPole-v1") -> Sweep:
    return read_sweep(made(folder, *lines, env=env))


def test_a_plain_experiment_is_one_trial_compared_by_its_return(tmp_path: Path):
    found = sweep(tmp_path, "config: {lr: 1e-3}")
    assert (found.metric, found.mode) == ("env_runners/episode_return_mean", "max")
    assert found.trials({"lr": 1e-3}) == 1 and not found.is_pbt and found.members == 1


def test_games_and_seeds_are_trials_of_each_configuration(tmp_path: Path):
    lines = ("num_samples: 4", GAMES, "config: {env_config: {distribution_mode: easy}}")
    found = sweep(tmp_path, *lines, env="procgen")
    assert found.members == 6 and found.trials({}) == 24 and found.objective.over_games
    expanded = found.expanded({"env_config": {"distribution_mode": "easy"}, "lr": 1})
    assert expanded == {
        "env_config": {
            "distribution_mode": "easy", "env_name": {"grid_search": ["coinrun", "starpilot"]},
        },
        "lr": 1, "seed": {"grid_search": [1, 2, 3]},
    }  # fmt: skip


def test_spaces_of_pbt_give_the_first_values_where_none_are_given(tmp_path: Path):
    found = sweep(tmp_path, f"scheduler: {PBT}", "num_samples: 4")
    space = {"loguniform": [1e-4, 1e-2]}
    assert found.expanded({"gamma": 0.9}) == {"gamma": 0.9, "lr": space}
    assert found.expanded({"lr": 1e-3}) == {"lr": 1e-3}


CASES = {
    "metric": (["metric: retrn"], 4, "metric: unknown result key"),
    "metric without evaluation": (["metric: evaluation/test_score"], 4, "set evaluation_interval"),
    "mode": (["mode: maxx"], 4, "mode='maxx': must be 'max' or 'min'"),
    "scheduler": (["scheduler: {type: asha}"], 4, "scheduler.max_t: is missing"),
    "scheduler list": (["scheduler: [asha]"], 4, "scheduler=['asha']"),
    "search": (["search: {type: optuna}"], 4, "search.type: optuna has nothing to search"),
    "search line": (["search:", "  type: optuna", "  sed: 2"], 6, "search.sed: optuna takes no"),
    "old name": (["search_alg: optuna"], 4, "use search: {type: NAME, ...}"),
    "conditional": (
        ["config: {lr: {conditional: {on: gama, cases: {1: 2}}}}"], 4,
        "config.lr: conditional: on=gama: config has no such key",
    ),
    "case": (
        ["config: {clip_param: {choice: [0, 1]}, lr: {conditional: {on: clip_param, "
         "cases: {0: 1e-3}}}}"], 4, "config.lr: conditional: cases has none for clip_param = 1",
    ),
    "condition on a range": (
        ["config: {gamma: {uniform: [0.9, 1]}, lr: {conditional: {on: gamma, cases: {1: 1}}}}"],
        4, "on=gamma must be a choice, a grid or a value",
    ),
    "space in a choice": (
        ["config: {lr: {choice: [1e-3, {uniform: [0, 1]}]}}"], 4, "values hold no spaces",
    ),
    "value of a space": (["config: {lr: {uniform: [0.5, 2]}}"], 4, "lr=2.0: must be"),
    "values together": (["config: {nminibatch: {randint: [7, 9]}}"], 4, "nminibatch=7 does not"),
    "pbt alone": ([f"scheduler: {PBT}"], 0, "num_samples: pbt needs at least 2 trials"),
    "pbt keeps": (
        [f"scheduler: {PBT}", "num_samples: 4", "checkpoint_config: {num_to_keep: 2}"], 6,
        "checkpoint_config.num_to_keep: pbt copies",
    ),
    "pbt and optuna": (
        [f"scheduler: {PBT}", "num_samples: 4", "search: optuna",
         "config: {gamma: {uniform: [0.9, 1]}}"], 6, "search.type: pbt changes values itself",
    ),
    "pbt on sizes": (
        [f"scheduler: {PBT.replace('lr:', 'num_envs:').replace('1e-4, 1e-2', '1, 9')}"
         .replace("loguniform", "randint"), "num_samples: 4", "config: {minibatch_unit: step}"],
        4, "num_envs was 1 and is 2",
    ),
    "pbt on a key that is none": (
        [f"scheduler: {PBT.replace('lr:', 'lrr:')}", "num_samples: 4"], 0,
        'Unknown config key "lrr"',
    ),
    "average and asha": (
        ["average_over: {seed: [1, 2]}", "scheduler: {type: asha, max_t: 9, grace_period: 1}"], 5,
        "scheduler.type: asha compares trials one by one",
    ),
    "average value": (["average_over: {seed: 3}"], 4, "average_over.seed: write [value"),
    "average twice": (["average_over: {seed: [1, 1]}"], 4, "names a value twice"),
    "average space": (
        ["average_over: {seed: [1, 2]}", "config: {seed: {choice: [1, 2]}}"], 4,
        "average_over.seed: config.seed is a space",
    ),
    "average key": (["average_over: {sed: [1, 2]}"], 0, 'Unknown config key "sed"'),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_is_one_line_with_its_place(tmp_path: Path, name: str):
    lines, number, reason = CASES[name]
    with pytest.raises(UserError) as error:
        experiment = made(tmp_path, *lines)
        check(experiment, read_sweep(experiment))
    first = str(error.value).splitlines()[0]
    assert reason in first, first
    assert not number or first.startswith(f"{tmp_path}/e.yaml:{number}: "), first


@pytest.mark.parametrize(
    ("metric", "config", "reason"),
    [
        ("time_total_s", "{}", "time_total_s cannot be averaged over games"),
        ("null", "{env_config: {distribution_mode: memory}}", "no score table has caveflyer in"),
    ],
)
def test_games_are_averaged_by_what_has_one_scale(tmp_path, metric: str, config: str, reason: str):
    over = "average_over: {env_config.env_name: [caveflyer]}"
    with pytest.raises(UserError, match=reason):
        experiment = made(tmp_path, f"metric: {metric}", over, f"config: {config}", env="procgen")
        check(experiment, read_sweep(experiment))


def test_several_mistakes_are_told_together(tmp_path: Path):
    lines = ("metric: retrn", "scheduler: ahsa", "search: optun", "average_over: {seed: 3}")
    with pytest.raises(UserError) as error:
        sweep(tmp_path, *lines)
    assert len(str(error.value).splitlines()) == 4
