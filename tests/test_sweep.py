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
    "metric of nothing": (['metric: ""'], 4, 'metric: unknown result key ""'),
    "metric without evaluation": (["metric: evaluation/test_score"], 4, "set evaluation_interval"),
    "mode": (["mode: maxx"], 4, "mode='maxx': must be 'max' or 'min'"),
    "scheduler": (["scheduler: {type: asha}"], 4, "scheduler.max_t: is missing"),
    "scheduler list": (["scheduler: [asha]"], 4, "scheduler=['asha']"),
    "search": (["search: {type: optuna}"], 4, "search.type: optuna has nothing to search"),
    "search line": (["search:", "  type: optuna", "  sed: 2"], 6, "search.sed: optuna takes no"),
    "old name": (["search_alg: optuna"], 4, "use search: {type: NAME, ...}"),
    "conditional with a misspelt case": (
        ["config: {optimizers: {choice: [phases, heads]}, value_lr: {conditional: {on: optimizers, "
         "cases: {haeds: 1e-3}, otherwise: null}}}"], 4,
        "config.value_lr: conditional: optimizers never is 'haeds'; its values are 'phases'",
    ),
    "conditional": (
        ["config: {lr: {conditional: {on: gama, cases: {1: 2}}}}"], 4,
        "config.lr: conditional: on=gama: config has no such key",
    ),
    "case": (
        ["config: {clip_param: {choice: [0, 1]}, lr: {conditional: {on: clip_param, "
         "cases: {0: 1e-3}}}}"], 4, "config.lr: conditional: cases has none for clip_param = 1",
    ),
    "case inside a grid": (
        ["config: {n_pi: 2, model: {grid_search: [{}, {custom_model_config: {hiddens: "
         "{conditional: {on: n_pi, cases: {3: [8]}}}}}]}}"], 4,
        "config.model.custom_model_config.hiddens: conditional: cases has none for n_pi = 2",
    ),
    "condition on a range": (
        ["config: {gamma: {uniform: [0.9, 1]}, lr: {conditional: {on: gamma, cases: {1: 1}}}}"],
        4, "on=gamma must be a choice, a grid or a value",
    ),
    "condition on what is averaged over": (
        ["average_over: {seed: [1, 2]}", "config: {lr: {conditional: {on: seed, cases: {1: 1e-3}, "
         "otherwise: 1e-4}}}"], 5, "on=seed: with average_over values are sampled before",
    ),
    "condition on a grid with constant samples": (
        ["search: {type: random, constant_grid_search: true}", "config: {n_pi: {grid_search: [1, "
         "2]}, lr: {conditional: {on: n_pi, cases: {1: 1e-3, 2: 1e-4}}}}"], 5,
        "on=n_pi: with constant_grid_search values are sampled before",
    ),
    "condition on auto": (
        ["config: {num_env_runners: {grid_search: [0, auto]}, lr: {conditional: {on: "
         "num_env_runners, cases: {0: 1e-3, auto: 1e-4}}}}"], 4,
        "on=num_env_runners: auto is a number by then",
    ),
    "space in a case": (
        ["config: {n_pi: 2, model: {conditional: {on: n_pi, cases: {2: {custom_model: ppg_mlp, "
         "custom_model_config: {hiddens: {choice: [[8], [16]]}}}}}}}"], 4,
        "config.model: conditional: a case's value holds no spaces",
    ),
    "space in a choice of a case": (
        ["config: {n_pi: 2, lr: {conditional: {on: n_pi, cases: {2: {choice: [{uniform: [0, 1]}]}"
         "}}}}"], 4, "config.lr: conditional: a case's value holds no spaces",
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
    "pbt on optimizers": (
        [f"scheduler: {PBT.replace('lr:', 'optimizers:').replace('1e-4, 1e-2', 'phases, heads')}"
         .replace("loguniform", "choice"), "num_samples: 4"],
        4, "optimizers was phases and is heads",
    ),
    "pbt on what rewards are divided by": (
        [f"scheduler: {PBT.replace('lr:', 'reward_transform:')}"
         .replace("loguniform: [1e-4, 1e-2]", "choice: [step, rollout]"), "num_samples: 4"],
        4, "reward_transform was {'type': 'step', 'groups': None} and is",
    ),
    "pbt on a key that is none": (
        [f"scheduler: {PBT.replace('lr:', 'lrr:')}", "num_samples: 4"], 4,
        'scheduler.hyperparam_mutations.lrr: Unknown config key "lrr"',
    ),
    "pbt on sizes that config has": (
        ["scheduler: {type: pbt, perturbation_interval: 9, hyperparam_mutations: {num_envs: "
         "{choice: [8, 16]}}}", "num_samples: 4", "config: {num_envs: 8}"],
        4, "num_envs was 8 and is 16",
    ),
    "pbt beyond what config may have": (
        [f"scheduler: {PBT.replace('1e-2', '4')}", "num_samples: 4", "config: {lr: 1e-3}"], 4,
        "scheduler.hyperparam_mutations.lr: lr=4.0: must be less",
    ),
    "pbt on what is reserved": (
        [f"scheduler: {PBT.replace('lr:', 'num_gpus:')}", "num_samples: 4"], 4,
        "scheduler.hyperparam_mutations.num_gpus: pbt changes the training's values",
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
