"""Tune's schedulers out of an experiment's keys, and PBT's values within their spaces."""

from pathlib import Path

import pytest
from app_helpers import experiments
from ray import cloudpickle
from ray.tune.schedulers import (
    AsyncHyperBandScheduler,
    FIFOScheduler,
    HyperBandScheduler,
    MedianStoppingRule,
    PopulationBasedTraining,
)
from ray.tune.schedulers.pbt import _explore

from rllib_ppg.app.sweep import Sweep, read_sweep
from rllib_ppg.app.tune_schedulers import WithinSpaces, make_scheduler

SPACES = {
    "gamma": {"uniform": [0.9, 0.999]},
    "n_aux_epochs": {"randint": [1, 7]},
    "entropy_coeff": {"choice": [0, 0.01, 0.02]},
    "model": {"custom_model_config": {"x": {"quniform": [0, 1, 0.25]}}},
}


def sweep(folder: Path, scheduler: str) -> Sweep:
    text = "x: {run: PPG, env: CartPole-v1, num_samples: 4, metric: evaluation/test_return, "
    text += f"mode: min, stop: {{timesteps_total: 900}}, scheduler: {scheduler}}}"
    return read_sweep(experiments(text, folder)[0])


@pytest.mark.parametrize(
    ("scheduler", "kind"),
    [
        ("fifo", FIFOScheduler),
        ("{type: asha, brackets: 2}", AsyncHyperBandScheduler),
        ("{type: hyperband, max_t: 9}", HyperBandScheduler),
        ("{type: median_stopping, grace_period: 10}", MedianStoppingRule),
        (
            "{type: pbt, perturbation_interval: 9, hyperparam_mutations: "
            "{lr: {loguniform: [1e-4, 1e-2]}}}",
            PopulationBasedTraining,
        ),
    ],
)
def test_each_type_is_tunes_and_looks_at_the_objective(tmp_path: Path, scheduler: str, kind: type):
    made = make_scheduler(sweep(tmp_path, scheduler))
    assert type(made) is kind
    if kind is not FIFOScheduler:
        assert made.metric == "evaluation/test_return" and made._mode == "min"
        times = {HyperBandScheduler: "training_iteration"}
        assert made._time_attr == times.get(kind, "timesteps_total")
    cloudpickle.loads(cloudpickle.dumps(made))


def test_pbt_keeps_values_within_their_spaces():
    within, config = WithinSpaces(SPACES), {
        "gamma": 0.99, "n_aux_epochs": 6, "entropy_coeff": 0.02, "lr": 1e-3,
        "model": {"custom_model_config": {"x": 1.0, "y": 2}},
    }  # fmt: skip
    from rllib_ppg.app.tune_schedulers import _mutations

    for _ in range(200):
        new, _ = _explore(config, _mutations(SPACES), 0.25, (1.2, 0.8), within)
        assert 0.9 <= new["gamma"] <= 0.999
        assert new["n_aux_epochs"] in range(1, 7) and isinstance(new["n_aux_epochs"], int)
        assert new["entropy_coeff"] in (0, 0.01, 0.02)
        assert new["model"]["custom_model_config"]["x"] in (0, 0.25, 0.5, 0.75, 1)
        assert new["lr"] == 1e-3 and new["model"]["custom_model_config"]["y"] == 2
        config = new
