"""The budget of an ablation's trials: whose it is, and what of it does not count."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from ablation_files import ablation_file, flags

from rllib_ppg.app.ablation_file import Ablation, load_ablation
from rllib_ppg.app.ablation_flags import AblationFlags
from rllib_ppg.app.challenge_protocol import Protocol
from rllib_ppg.errors import UserError

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
SECOND = "whole-without-value_clip_param"


def loaded(
    folder: Path, *stops: Any, config: dict[str, Any] | None = None, **given: Any
) -> Ablation:
    """An ablation without flags of a budget; `stops` are those of its first experiments."""
    path = ablation_file(folder, **config or {})
    content = yaml.safe_load(path.read_text())
    for each, stop in zip(content.values(), stops, strict=False):
        each["stop"] = stop
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return load_ablation(flags(folder, **{"budget_steps": None, **given}))


def protocol_of(ablation: Ablation) -> Protocol:
    first, *others = [each.challenge.protocol for each in ablation.variants]
    assert all(each == first for each in others)
    return first


@pytest.mark.parametrize(
    ("stop", "config", "steps", "seconds"),
    [
        ({}, {}, 8_000_000, 7200),
        ({"timesteps_total": "1e6"}, {}, 1_000_000, 7200),
        ({"num_env_steps_sampled_lifetime": 1000, "timesteps_total": 2000}, {}, 1000, 7200),
        ({"time_total_s": 30}, {}, 8_000_000, 30),
        ({"timesteps_total": 9000}, {"budget_env_steps": 8000, "budget_s": 90}, 8000, 90),
        ({"timesteps_total": 7000, "time_total_s": 80}, {"budget_env_steps": 8000}, 7000, 80),
    ],
)
def test_it_is_the_first_experiments(
    tmp_path: Path, stop: dict[str, Any], config: dict[str, Any], steps: int, seconds: float
):
    found = protocol_of(loaded(tmp_path, stop, config=config))
    assert (found.steps, found.seconds) == (steps, seconds)


def test_flags_set_another(tmp_path: Path):
    stop = {"timesteps_total": 5000, "time_total_s": 500}
    found = protocol_of(loaded(tmp_path, stop, budget_steps="900"))
    assert (found.steps, found.seconds) == (900, 500)
    found = protocol_of(loaded(tmp_path, stop, budget_seconds="90"))
    assert (found.steps, found.seconds) == (5000, 90)


@pytest.mark.parametrize("seconds", [30, 60, 61, 7200])
def test_a_scale_is_of_its_steps_and_leaves_its_seconds(tmp_path: Path, seconds: int):
    stop = {"timesteps_total": 1_000_000, "time_total_s": seconds}
    found = protocol_of(loaded(tmp_path, stop, budget_scale=0.01))
    assert found.steps == 10_000 and found.seconds == pytest.approx(seconds)


@pytest.mark.parametrize("track", ["generalization", "sample_efficiency"])
def test_the_winners_have_the_challenges(track: str):
    file = str(EXPERIMENTS / f"ablation_{track}.yaml")
    ablation = load_ablation(AblationFlags(file=file))
    found = protocol_of(ablation)
    assert (found.steps, found.seconds, found.margin) == (8_000_000, 7200, 20)
    assert len(ablation.notes) == 1


def test_what_does_not_count_is_said(tmp_path: Path):
    stops = ({"timesteps_total": 800, "training_iteration": 3}, {"timesteps_total": 900})
    found = loaded(tmp_path, *stops)
    assert protocol_of(found).steps == 800
    assert found.notes[1:] == (
        "stop.training_iteration ends no trial here: a budget is environment steps and seconds.",
        f"{SECOND}: its own 900 environment steps do not count; all experiments have the budget of "
        "whole.",
    )
    assert "do not count" not in str(loaded(tmp_path, *stops, budget_steps="850").notes)
    assert "do not count" not in str(loaded(tmp_path, *stops, only="aux_augmentation").notes)


@pytest.mark.parametrize(
    ("stop", "config", "problem"),
    [
        ({"timesteps_total": "many"}, {}, "stop.timesteps_total='many' must be a number"),
        ({"time_total_s": 0}, {}, "stop.time_total_s=0 must be more than 0"),
        ({}, {"budget_s": [1]}, r"config.budget_s=\[1\] must be a number"),
        ({"timesteps_total": 0.5}, {}, "budget_steps=0.5 must be a whole number"),
    ],
)
def test_a_budget_that_is_none_is_refused_with_its_place(
    tmp_path: Path, stop: dict[str, Any], config: dict[str, Any], problem: str
):
    with pytest.raises(UserError, match=rf'my_parts.yaml:\d+: experiment "whole": {problem}'):
        loaded(tmp_path, stop, config=config)
