"""A run ends at its budget by itself, with the weights that it is to hand in."""

from pathlib import Path
from typing import Any

import pytest
import torch
from ray.rllib.algorithms.algorithm import Algorithm
from toy_envs import EchoEnv

from rllib_ppg import PPG, PPGConfig, evaluate
from rllib_ppg.core.run_clock import RunClock

ROWS = 32
# Episodes of 8 steps; those of the first iteration have a return of 8, the others of 0.
FADING = {"rewards": [1.0] * 8 + [0.0] * 10_000}
SIZES = {
    "num_envs": 4, "rollout_fragment_length": 8, "n_pi": 2, "nminibatch": 2, "aux_mbsize": 2,
    "n_aux_epochs": 1, "seed": 3, "model": {"custom_model_config": {"hiddens": [8]}},
}  # fmt: skip
BEST = {"best_weights": True, "best_weights_min_env_steps": 0}


class Clock:
    """Time that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def build(**changes: Any) -> PPG:
    config = PPGConfig().environment(EchoEnv, env_config=FADING)
    return config.update_from_dict({**SIZES, **changes}).build_algo()


def weights(algorithm: PPG) -> torch.Tensor:
    parameters = algorithm.get_policy().network.parameters()
    return torch.cat([parameter.detach().flatten() for parameter in parameters]).clone()


def stats_of(result: dict[str, Any]) -> dict[str, Any]:
    return result["info"]["learner"]["default_policy"]["learner_stats"]


def run(algorithm: PPG) -> list[dict[str, Any]]:
    """Train to the end."""
    results = [algorithm.train()]
    while not results[-1].get("done"):
        results.append(algorithm.train())
    return results


def steps_of(result: dict[str, Any]) -> int:
    return int(result["num_env_steps_sampled_lifetime"])


@pytest.mark.parametrize(
    ("budget", "steps", "learned"),
    [(3 * ROWS, 3, 3), (3 * ROWS + 1, 4, 3), (4 * ROWS - 1, 4, 3)],
)
def test_a_run_ends_with_the_iteration_that_uses_its_steps_up(
    ray_local: None, budget: int, steps: int, learned: int
):
    algorithm = build(budget_env_steps=budget)
    results = run(algorithm)
    last = results[-1]
    assert steps_of(last) == steps * ROWS
    assert stats_of(last)["phase"]["policy_iterations_total"] == learned
    (notice,) = last["notices"]
    assert notice == "The budget is used up: the run ends here. Its weights are the last ones."
    before = weights(algorithm)
    again = algorithm.train()
    assert again["done"] and steps_of(again) == steps * ROWS
    assert torch.equal(weights(algorithm), before)


@pytest.mark.parametrize("budget", [3 * ROWS, 3 * ROWS + 1])
def test_it_hands_in_the_best_weights_also_where_an_iteration_ends_on_the_budget(
    ray_local: None, budget: int
):
    algorithm = build(budget_env_steps=budget, **BEST)
    initial = weights(algorithm)
    results = run(algorithm)
    assert torch.equal(weights(algorithm), initial)
    assert "of the best mean return, 8, at 32 environment steps" in results[-1]["notices"][0]


def test_no_auxiliary_phase_follows_the_last_iteration(ray_local: None):
    results = run(build(budget_env_steps=2 * ROWS))
    assert [stats_of(r)["phase"]["in_aux_phase"] for r in results] == [0, 0]


@pytest.mark.parametrize(
    ("budget", "reason"),
    [
        ({"budget_env_steps": 3 * ROWS}, "it had no more than 96 environment steps"),
        ({"budget_s": 1e-9, "budget_margin_s": 0}, "no episode has ended"),
    ],
)
def test_before_its_least_steps_it_ends_all_the_same_with_the_last_weights(
    ray_local: None, budget: dict[str, Any], reason: str
):
    least = {"best_weights": True, "best_weights_min_env_steps": 3 * ROWS}
    algorithm = build(**budget, **least)
    initial = weights(algorithm)
    (notice,) = run(algorithm)[-1]["notices"]
    assert f"the last ones, for {reason}" in notice
    assert torch.equal(weights(algorithm), initial) == ("budget_s" in budget)


def test_what_lies_between_iterations_counts_and_the_next_one_has_to_fit(ray_local: None):
    algorithm = build(budget_s=100, budget_margin_s=10, n_aux_epochs=0, **BEST)
    clock = Clock()
    algorithm._clock = RunClock(clock)
    initial = weights(algorithm)
    seconds = []
    for _ in range(100):
        result = algorithm.train()
        seconds.append(clock.now)
        if result["done"]:
            break
        clock.now += 10.0  # a checkpoint, say
    # Another one before the next iteration and another one at the end would take 1.1 x 20 s.
    assert seconds[-1] == 70.0
    assert stats_of(result)["time"]["run_s"] == 70.0
    assert torch.equal(weights(algorithm), initial)


def test_time_that_is_up_in_an_auxiliary_phase_ends_it_there(ray_local: None):
    algorithm = build(budget_s=1000, aux_slice_s=1e-9, **BEST)
    clock = Clock()
    algorithm._clock = RunClock(clock)
    for _ in range(4):
        result = algorithm.train()
    assert not result["done"] and algorithm._aux_phase is not None
    clock.now += 990.0
    result = algorithm.train()
    phase = stats_of(result)["phase"]
    assert result["done"] and phase["in_aux_phase"] == 1 and 0 < phase["aux_progress"] < 1
    assert "best mean return" in result["notices"][0]


def test_seconds_count_on_in_another_process(ray_local: None, tmp_path: Path):
    algorithm = build(budget_s=9000)
    clock = Clock()
    algorithm._clock = RunClock(clock)
    algorithm.train()
    clock.now += 5000.0
    algorithm.save(str(tmp_path))
    restored = Algorithm.from_checkpoint(str(tmp_path))
    assert stats_of(restored.train())["time"]["run_s"] >= 5000
    restored._clock.go_on(8999.0)
    assert restored.train()["done"]


def test_a_run_that_had_ended_ends_at_once_or_goes_on_with_a_larger_budget(
    ray_local: None, tmp_path: Path
):
    algorithm = build(budget_env_steps=3 * ROWS, **BEST)
    run(algorithm)
    algorithm.save(str(tmp_path))
    same, larger = build(budget_env_steps=3 * ROWS, **BEST), build(budget_env_steps=5 * ROWS)
    for other in (same, larger):
        other.restore(str(tmp_path))
        assert torch.equal(weights(other), weights(algorithm))
    (last,) = run(same)
    assert steps_of(last) == 3 * ROWS and torch.equal(weights(same), weights(algorithm))
    assert steps_of(run(larger)[-1]) == 5 * ROWS


def test_the_last_checkpoint_has_no_frames_and_a_later_one_has_them(
    ray_local: None, tmp_path: Path
):
    algorithm = build(budget_env_steps=3 * ROWS)
    algorithm.train()
    algorithm.save(str(tmp_path / "before"))
    run(algorithm)
    algorithm.save(str(tmp_path / "last"))
    held = {
        place: {path.name for path in (tmp_path / place).iterdir()} for place in ("before", "last")
    }
    assert held["before"] - held["last"] == {"frames", "phase.pkl"}
    longer = build(budget_env_steps=6 * ROWS)
    longer.restore(str(tmp_path / "last"))
    results = run(longer)
    assert results[0]["notices"][0] == (
        "The current phase begins anew: its run had reached its budget, and kept no frames."
    )
    phases = [stats_of(result)["phase"] for result in results]
    assert [phase["policy_iterations_total"] for phase in phases if not phase["in_aux_phase"]] == [
        4, 5, 6,
    ]  # fmt: skip
    assert phases[-1]["aux_phases"] == 2 and phases[0]["policy_iterations"] == 1


def test_what_is_evaluated_are_the_weights_handed_in_also_after_a_resume(
    ray_local: None, tmp_path: Path
):
    def cartpole(**changes: Any) -> PPG:
        config = PPGConfig().environment("CartPole-v1")
        sizes = {**SIZES, "budget_env_steps": 5 * ROWS, "lr": 0.05}
        return config.update_from_dict({**sizes, **changes}).build_algo()

    def returns(player: PPG | str) -> list[float]:
        return list(evaluate(player, episodes=8, num_envs=4, seed=5).returns)

    algorithm, last = cartpole(**BEST), cartpole()
    run(last)
    algorithm.train()
    algorithm._budget.note([1e6] * 100, ROWS, algorithm._weights)  # no later mean is above that
    best = weights(algorithm)
    expected = returns(algorithm)
    assert returns(last) != expected
    # Interrupted here; another process goes on from the checkpoint, and again after its end.
    algorithm.save(str(tmp_path / "midway"))
    resumed = cartpole(**BEST)
    resumed.restore(str(tmp_path / "midway"))
    run(resumed)
    ended = resumed.save(str(tmp_path / "end")).checkpoint.path
    assert returns(ended) == expected
    again = cartpole(**BEST)
    again.restore(ended)
    run(again)
    once_more = again.save(str(tmp_path / "again")).checkpoint.path
    assert returns(once_more) == expected and torch.equal(weights(again), best)
