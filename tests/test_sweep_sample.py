"""The trials of a sweep before it runs, how many at once, and what they cost."""

from pathlib import Path

import pytest
from app_helpers import experiments
from ray.tune.experiment import Experiment
from ray.tune.search.basic_variant import BasicVariantGenerator

from rllib_ppg.algorithm.registration import register
from rllib_ppg.app.sweep import read_sweep
from rllib_ppg.app.sweep_sample import sample, share_trained, sweep_lines
from rllib_ppg.app.tune_spaces import for_tune

TEXT = """
x:
  run: PPG
  env: CartPole-v1
  num_samples: 5
  stop: {timesteps_total: 1600}
  search: {type: random, seed: 3}
  config:
    lr: {loguniform: [1e-4, 1e-2]}
    gamma: {grid_search: [0.9, 0.99]}
"""


def test_with_a_seed_the_trials_are_those_that_tune_makes(tmp_path: Path):
    (experiment,) = experiments(TEXT, tmp_path)
    sweep = read_sweep(experiment)
    found = sample(sweep, experiment.config, 100)
    assert len(found) == 10 == sweep.trials(experiment.config)

    generator = BasicVariantGenerator(random_state=3)
    spec = {"run": "PPG", "config": for_tune(experiment.config), "num_samples": 5}
    register()
    made = Experiment("x", **{**spec, "storage_path": str(tmp_path)})
    generator.add_configurations([made])
    trials = [generator.next_trial() for _ in range(10)]
    assert [(f["lr"], f["gamma"]) for f in found] == [
        (trial.config["lr"], trial.config["gamma"]) for trial in trials
    ]


def test_optunas_trials_are_shown_with_their_games(tmp_path: Path):
    text = """
x:
  run: PPG
  env: procgen
  num_samples: 2
  average_over: {env_config.env_name: [coinrun, starpilot]}
  search: {type: optuna}
  stop: {timesteps_total: 9}
  config: {lr: {loguniform: [1e-4, 1e-2]}}
"""
    (experiment,) = experiments(text, tmp_path)
    found = sample(read_sweep(experiment), experiment.config, 9)
    assert [values["env_name"] for values in found] == ["coinrun", "starpilot"] * 2
    assert found[0]["lr"] == found[1]["lr"] != found[2]["lr"]


def test_the_lines_tell_of_searcher_scheduler_and_trials(tmp_path: Path):
    text = TEXT.replace("  search:", "  scheduler: {type: asha}\n  search:")
    (experiment,) = experiments(text, tmp_path)
    lines = "\n".join(sweep_lines(read_sweep(experiment), experiment.config, 2))
    assert "10, 2 at once; they are" in lines and "asha (time_attr timesteps_total" in lines
    assert "gamma 0.99" in lines
    unseeded = experiments(TEXT.replace(", seed: 3", ""), tmp_path)[0]
    assert "others will be sampled" in "\n".join(
        sweep_lines(read_sweep(unseeded), unseeded.config, 2)
    )


def test_asha_trains_a_part_of_all_steps(tmp_path: Path):
    scheduler = "  scheduler: {type: asha, reduction_factor: 2, grace_period: 400}\n"
    (experiment,) = experiments(TEXT.replace("  search:", scheduler + "  search:"), tmp_path)
    # 400 steps by all, 400 by half of them, 800 by a quarter, of 1600.
    assert share_trained(read_sweep(experiment)) == pytest.approx((400 + 200 + 200) / 1600)
    assert share_trained(read_sweep(experiments(TEXT, tmp_path)[0])) == 1
