"""Evaluations while PPG trains: when, with what resources, and that training does not notice."""

import os
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import test_video_callback
from app_helpers import SMALL
from ray import cloudpickle
from test_video_callback import Dicing

from rllib_ppg import PPGConfig, UserError
from rllib_ppg._ray_compat import RLlibCallback
from rllib_ppg.algorithm import evaluate_workers
from rllib_ppg.algorithm.ppg import PPG

# Workers do not find the folder of the tests, so these classes travel whole.
cloudpickle.register_pickle_by_value(test_video_callback)
cloudpickle.register_pickle_by_value(sys.modules[__name__])

TINY = {"custom_model_config": {"widths": [4], "hidden_size": 8, "blocks": 1}}
GAME = {"env_name": "starpilot", "distribution_mode": "easy", "num_levels": 3}
EVERY = {"evaluation_interval": 1, "evaluation_duration": 3}


def procgen(**keys: Any) -> PPGConfig:
    config = PPGConfig().environment("procgen", env_config=GAME).training(model=TINY)
    return config.update_from_dict({**SMALL, "seed": 2, **keys})


def dicing(**keys: Any) -> PPGConfig:
    return PPGConfig().environment(Dicing).update_from_dict({**SMALL, "seed": 2, **keys})


def train(config: PPGConfig, iterations: int) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Return the results and the weights at the end."""
    algorithm = config.build_algo()
    try:
        results = [algorithm.train() for _ in range(iterations)]
        return results, algorithm.get_policy().get_weights()
    finally:
        algorithm.stop()


def numbers(result: dict[str, Any]) -> dict[str, Any]:
    """An evaluation's numbers, without its time; comparable by =, NaN as text."""
    found = {name: value for name, value in result["evaluation"].items() if name != "time_s"}
    return {name: str(value) for name, value in found.items()}


def made(results: list[dict[str, Any]]) -> list[int]:
    """The training iterations that ended in an evaluation."""
    return [
        result["training_iteration"]
        for result in results
        if result["evaluation"]["env_runners"]["num_episodes"] > 0
    ]


def due(results: list[dict[str, Any]], interval: int) -> list[int]:
    """The training iterations that were a policy iteration with a number due."""
    found = []
    for result in results:
        phase = result["info"]["learner"]["default_policy"]["learner_stats"]["phase"]
        if not phase["in_aux_phase"] and phase["policy_iterations_total"] % interval == 0:
            found.append(result["training_iteration"])
    return found


@pytest.mark.parametrize("make", [procgen, dicing])
def test_training_is_bit_equal_with_and_without(ray_local: None, make):
    np.random.seed(0)
    _, plain = train(make(), 4)
    np.random.seed(0)
    results, evaluated = train(make(**EVERY), 4)
    assert made(results) == due(results, 1) and 3 not in made(results)
    assert plain.keys() == evaluated.keys()
    assert all(np.array_equal(plain[name], evaluated[name]) for name in plain)


def test_policy_iterations_count_and_slices_of_an_auxiliary_phase_do_not(ray_local: None):
    results, _ = train(dicing(evaluation_interval=3, evaluation_duration=2), 10)
    assert made(results) == due(results, 3) and len(made(results)) == 2
    assert {tuple(result["evaluation"]) for result in results} == {tuple(results[0]["evaluation"])}


def test_without_an_interval_there_is_nothing_about_evaluation(ray_local: None):
    results, _ = train(dicing(evaluation_duration=2), 2)
    assert not any("evaluation" in result for result in results)


def test_a_resumed_run_evaluates_at_the_same_iterations_with_the_same_numbers(
    ray_local: None, tmp_path: Path
):
    config = procgen(evaluation_interval=2, evaluation_duration=3)
    whole, _ = train(config, 8)
    first = config.build_algo()
    begun = [first.train() for _ in range(4)]
    first.save(str(tmp_path))
    first.stop()
    second = config.build_algo()
    second.restore(str(tmp_path))
    resumed = [second.train() for _ in range(4)]
    second.stop()
    assert made(whole) == made(begun + resumed) == due(whole, 2) and len(made(resumed)) == 1
    assert [numbers(r) for r in whole] == [numbers(r) for r in begun + resumed]


def test_workers_play_the_same_episodes_as_the_learners_process(ray_local: None):
    here, _ = train(procgen(**EVERY), 2)
    there, _ = train(procgen(**EVERY, evaluation_num_env_runners=1), 2)
    assert [numbers(r) for r in here] == [numbers(r) for r in there]


def test_evaluate_may_be_called_at_any_time(ray_local: None):
    config = procgen(evaluation_duration=3)
    algorithm = config.build_algo()
    try:
        algorithm.train()
        first, second = (algorithm.evaluate() for _ in range(2))
        algorithm.train()
        third = algorithm.evaluate()
    finally:
        algorithm.stop()
    of = [numbers({"evaluation": found}) for found in (first, second, third)]
    assert of[0] == of[1] != of[2]
    assert first["env_runners"]["num_episodes"] == 3


class Watching(RLlibCallback):
    """Adds to the evaluation, as RLlib's users do."""

    def on_evaluate_start(self, *, algorithm: Any, **kwargs: Any) -> None:
        algorithm.started = True

    def on_evaluate_end(
        self, *, algorithm: Any, evaluation_metrics: dict[str, Any], **kwargs: Any
    ) -> None:
        evaluation_metrics["mine"] = algorithm.started


def test_rllibs_callbacks_are_called(ray_local: None):
    results, _ = train(dicing(**EVERY).callbacks(Watching), 1)
    assert results[0]["evaluation"]["mine"] is True


class Breaking(Dicing):
    """Raises at its second episode in an evaluation."""

    def reset(self, *, seed: int | None = None, options: Any = None):
        self.episodes = getattr(self, "episodes", 0) + 1
        if self.broken and self.episodes > 1:
            raise OSError("the game\ncrashed")
        return super().reset(seed=seed, options=options)

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        self.broken = (config or {}).get("broken", False)


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_an_evaluation_that_fails_ends_no_training(ray_local: None, workers: int):
    config = PPGConfig().environment(Breaking, env_config={"broken": False})
    config.update_from_dict({**SMALL, **EVERY, "evaluation_num_env_runners": workers})
    config.evaluation(evaluation_config={"env_config": {"broken": True}})
    results, _ = train(config, 2)
    assert made(results) == []
    for result in results:
        assert result["notices"] == [
            "This evaluation failed, training goes on. OSError: the game crashed"
        ]


class Mortal(gymnasium.Wrapper):
    """A CartPole whose process ends at the first step of an evaluation, once."""

    def __init__(self, config: Any) -> None:
        super().__init__(gymnasium.make("CartPole-v1"))
        self.mark = config.get("mark")

    def step(self, action: Any) -> Any:
        if self.mark:
            try:
                Path(self.mark).touch(exist_ok=False)
                os._exit(1)
            except FileExistsError:
                pass
        return super().step(action)


def mortal(mark: Path, **keys: Any) -> PPGConfig:
    config = PPGConfig().environment(Mortal, env_config={"mark": None})
    config.update_from_dict({**SMALL, "seed": 1, "evaluation_interval": 1, **keys})
    return config.evaluation(evaluation_config={"env_config": {"mark": str(mark)}})


@pytest.mark.slow
def test_a_lost_worker_costs_nothing_but_a_notice(ray_local: None, tmp_path: Path):
    (tmp_path / "dead").touch()
    expected, _ = train(mortal(tmp_path / "dead"), 1)
    found, _ = train(mortal(tmp_path / "alive", evaluation_num_env_runners=1), 1)
    assert numbers(found[0]) == numbers(expected[0])
    (notice,) = found[0]["notices"]
    assert notice.startswith("An evaluation worker was lost: its process died")


@pytest.mark.slow
def test_workers_that_keep_dying_cost_an_evaluation_and_no_training(
    ray_local: None, tmp_path: Path, monkeypatch
):
    monkeypatch.setattr(evaluate_workers, "MAX_LOST_WORKERS", 0)
    found, _ = train(mortal(tmp_path / "alive", evaluation_num_env_runners=1), 2)
    assert made(found) == [2]  # the next evaluation has new workers
    assert "No evaluation worker is left" in found[0]["notices"][1]


def test_what_cannot_be_played_is_refused_before_anything_is_trained(ray_local: None):
    config = procgen(**EVERY, evaluation_config={"env_config": {"frame_stack": 3}})
    with pytest.raises(UserError, match="was trained with"):
        config.build_algo()


@pytest.mark.parametrize(
    ("keys", "cpus"),
    [
        ({}, [1, 1, 1]),
        ({"evaluation_num_env_runners": 2}, [1, 1, 1]),  # without interval: for evaluate()
        ({**EVERY, "evaluation_num_env_runners": 2}, [1, 1, 1, 1, 1]),
        (
            {
                **EVERY,
                "evaluation_num_env_runners": 2,
                "evaluation_config": {"num_cpus_per_env_runner": 0},
            },
            [1, 1, 1],
        ),
    ],
)
def test_a_trial_reserves_cpus_for_evaluation_workers(keys: dict[str, Any], cpus: list[int]):
    config = {"env": "procgen", "env_config": GAME, **SMALL, "num_env_runners": 2, **keys}
    bundles = PPG.default_resource_request(config).bundles
    expected = cpus if keys.get("evaluation_interval") or not keys else [1, 1, 1, 1, 1]
    assert [bundle["CPU"] for bundle in bundles] == expected


def test_rollout_workers_leave_room_for_evaluation_workers():
    from rllib_ppg.algorithm import resources

    keys = {"num_env_runners": "auto", "num_envs": 64, "nminibatch": 8, "aux_mbsize": 4}
    found = []
    for more in ({}, {"evaluation_num_env_runners": 2}):
        with resources.assume(5, 0):
            config = procgen(**keys, **more)
            config.validate()
        found.append(config.num_env_runners)
    assert found == [4, 2]
