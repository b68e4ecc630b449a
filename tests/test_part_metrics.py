"""Statistics of optional parts: what each says, and that it says nothing where its part is off."""

import copy
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy_envs import CodedEnv, EchoEnv

from rllib_ppg import PPG, PPGConfig
from rllib_ppg._ray_compat import SampleBatch
from rllib_ppg.algorithm.metrics import METRICS, OF_PARTS
from rllib_ppg.algorithm.rollout import Rollout
from rllib_ppg.core.augment import Augmentation, Draws

N, T = 4, 8
SIZES = {
    "num_envs": N, "rollout_fragment_length": T, "n_pi": 2, "nminibatch": 2, "aux_mbsize": 2,
    "n_aux_epochs": 0, "seed": 3, "model": {"custom_model_config": {"hiddens": [8]}},
}  # fmt: skip
DETACHED = {"model": {"custom_model_config": {"hiddens": [8], "arch": "detach"}}}
IMAGES = {"model": {"custom_model_config": {"widths": [2], "hidden_size": 4, "blocks": 1}}}
# Nothing moves in a maze but who plays, so frames repeat, and no episode ends within 8 steps.
MAZE = {"env_name": "maze", "rand_seed": 1}
PENALTIES = {"noop_reward": -0.1, "noop_min_timestep": 3, "revisit_reward": -0.01}


def build(env: Any = CodedEnv, env_config: dict[str, Any] | None = None, **changes: Any) -> PPG:
    config = PPGConfig().environment(env, env_config=env_config or {})
    return config.update_from_dict({**SIZES, **changes}).build_algo()


def train(algorithm: PPG) -> dict[str, float]:
    """One iteration's statistics, by their names in METRICS."""

    def flat(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
        for name, value in tree.items():
            if isinstance(value, dict):
                yield from flat(value, f"{prefix}{name}/")
            else:
                yield prefix + name, value

    return dict(flat(algorithm.train()["info"]["learner"]["default_policy"]["learner_stats"]))


def made(stats: dict[str, float]) -> dict[str, float]:
    """Those of parts that are not NaN."""
    return {name: stats[name] for name in OF_PARTS if not math.isnan(stats[name])}


def test_parts_are_named_once_and_each_names_the_key_that_switches_it_on():
    assert set(OF_PARTS) <= set(METRICS)
    keys = set(PPGConfig().to_dict()) | {"count_states", "penalties"}
    silent = [name for name, text in OF_PARTS.items() if not any(key in text for key in keys)]
    assert silent == ["best_env_steps"], "its line stands below best_return's"


# ---- what the environments count and add


def recorded(algorithm: PPG) -> list[Rollout]:
    """A list that is filled with the rollouts that the algorithm collects."""
    collect, kept = algorithm._sampler.collect, []

    def keep() -> list[Rollout]:
        kept.extend(rollouts := collect())
        return rollouts

    algorithm._sampler.collect = keep
    return kept


def counted(rollouts: list[Rollout]) -> tuple[float, float]:
    """Mean share of new frames and mean shaping of first rollouts, by a plain count of frames."""
    shares, shaping = [], []
    for rollout in rollouts:
        frames = rollout.batch[SampleBatch.OBS].reshape(rollout.num_envs, T, -1)
        assert not rollout.batch[SampleBatch.TERMINATEDS].any()
        for shown, last in zip(frames, rollout.final_obs, strict=True):
            seen = [frame.tobytes() for frame in shown] + [last.tobytes()]
            for t in range(T):
                visited = seen[: t + 2]
                shares.append(len(set(visited)) / (t + 2))
                unchanged = seen[t + 1] == seen[t] and t > 3
                shaping.append(-0.01 * (visited.count(seen[t + 1]) - 1) - 0.1 * unchanged)
    assert len(shares) == N * T
    return float(np.mean(shares)), float(np.mean(shaping))


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_new_states_and_shaping_are_those_of_a_plain_count_in_every_worker(ray_local, workers):
    options = {**MAZE, **PENALTIES, "count_states": True}
    algorithm = build("procgen", options, num_env_runners=workers, **IMAGES)
    rollouts = recorded(algorithm)
    found = made(train(algorithm))
    algorithm.stop()
    assert len(rollouts) == max(workers, 1)
    share, shaping = counted(rollouts)
    assert share < 0.9 and shaping < -0.01, "frames repeat"
    assert set(found) == {"policy_phase/new_states", "policy_phase/shaping"}
    assert found["policy_phase/new_states"] == pytest.approx(share, rel=1e-6)
    assert found["policy_phase/shaping"] == pytest.approx(shaping, rel=1e-5)


@pytest.mark.parametrize(
    ("options", "name"),
    [({"count_states": True}, "policy_phase/new_states"), (PENALTIES, "policy_phase/shaping")],
)
def test_counting_adds_nothing_and_penalties_count_nothing_for_the_batch(ray_local, options, name):
    assert set(made(train(build("procgen", {**MAZE, **options}, **IMAGES)))) == {name}


# ---- what the learner decides in the policy phase


@pytest.mark.parametrize(("threshold", "weight"), [(1.0, 0.5), (0.01, 0.125)])
def test_the_entropys_weight_is_the_alternate_one_below_the_threshold(
    ray_local, threshold: float, weight: float
):
    keys = {"entropy_coeff": 0.125, "alternate_entropy_coeff": 0.5, "unique_threshold": threshold}
    stats = train(build("procgen", {**MAZE, "count_states": True}, **keys, **IMAGES))
    assert stats["policy_phase/entropy_weight"] == weight and stats["entropy_coeff"] == 0.125


def test_the_gradients_limit_follows_the_norms_once_enough_are_known(ray_local):
    # Two steps an iteration: the fourth is the first with three norms before it.
    adaptive = {"buffer_size": 3, "min": 0.25, "max": 0.25}
    algorithm = build(grad_clip=0.5, grad_clip_adaptive=adaptive)
    limits = [made(train(algorithm)) for _ in range(2)]
    assert limits == [{"policy_phase/grad_limit": 0.5}, {"policy_phase/grad_limit": 0.25}]


class Negative(Augmentation):
    """Every byte, from the other end; nothing is random."""

    def draw(self, shape, generator) -> Draws:
        return {"row": np.arange(shape[0])}

    def apply(self, frames, draws):
        return 255 - frames


@pytest.mark.parametrize("weight", [0.1, 7.0])
def test_dracs_terms_are_unweighted_and_of_the_changed_against_the_clean_frames(
    ray_local, weight: float
):
    drac = {
        "drac_weight": weight, "drac_value_weight": 3.0, "drac_policy_weight": 5.0,
        "drac_augmentation": f"{__name__}.Negative",
    }  # fmt: skip
    one_step = {"nminibatch": 1, "n_epoch_pi": 1, "n_epoch_vf": 1}
    algorithm = build("procgen", MAZE, **drac, **one_step, **IMAGES)
    rollouts = recorded(algorithm)
    with torch.no_grad():  # a new network hardly knows frames apart
        for parameter in algorithm.get_policy().network.parameters():
            parameter.mul_(3)
    network = copy.deepcopy(algorithm.get_policy().network)
    found = made(train(algorithm))
    (rollout,) = rollouts
    frames = torch.from_numpy(rollout.batch[SampleBatch.OBS])
    with torch.no_grad():
        clean, changed = network(frames), network(255 - frames)
    value = 0.5 * (changed.vf - clean.vf).double().square().mean()
    of_changed, of_clean = (torch.log_softmax(o.logits.double(), -1) for o in (changed, clean))
    policy = (of_changed.exp() * (of_changed - of_clean)).sum(-1).mean()
    assert set(found) == {"policy_phase/drac_value", "policy_phase/drac_policy"}
    assert value > 1e-4 and policy > 1e-5
    assert found["policy_phase/drac_value"] == pytest.approx(float(value), rel=1e-3)
    assert found["policy_phase/drac_policy"] == pytest.approx(float(policy), rel=1e-2)


def test_every_iteration_tells_its_own_choice_among_the_transforms(ray_local):
    drac = {
        "drac_weight": 0.1, "drac_ucb": {"c": 10.0},
        "drac_augmentation": {"type": "one_of", "members": ["random_translate", "random_cutout"]},
    }  # fmt: skip
    algorithm = build("procgen", MAZE, **drac, **IMAGES)
    # The first one, then the one that was not tried.
    assert [train(algorithm)["policy_phase/drac_choice"] for _ in range(2)] == [0, 1]


# ---- the auxiliary phase


def test_the_targets_change_is_told_once_by_the_slice_that_ends_the_old_policys_pass(ray_local):
    keys = {"aux_value_targets": "recomputed", "n_aux_epochs": 1, "lr": 0.01, "aux_slice_s": 1e-9}
    algorithm = build(**keys)
    for _ in range(2):
        assert made(train(algorithm)) == {}
    before = algorithm._store.value_targets.astype(np.float64)
    # Two slices of an epoch have no change to tell; the fourth of four minibatches ends it.
    changes = [made(train(algorithm)) for _ in range(4)]
    after = algorithm._store.value_targets.astype(np.float64)
    expected = math.sqrt(np.mean((after - before) ** 2))
    assert expected > 1e-4
    assert changes[:3] == [{}, {}, {}]
    assert changes[3] == {"aux_phase/target_change": pytest.approx(expected, rel=1e-4)}
    assert made(train(algorithm)) == {}, "epoch 1"


def test_collected_targets_have_no_change_to_tell(ray_local):
    algorithm = build(n_aux_epochs=1)
    stats = [train(algorithm) for _ in range(3)]
    assert stats[-1]["phase/in_aux_phase"] == 1 and not any(made(s) for s in stats)


# ---- the run


def test_the_values_own_rate_follows_its_schedule_and_stands_in_every_iteration(ray_local):
    keys = {"optimizers": "heads", "value_lr_schedule": [[0, 4e-3], [64, 2e-3]], "n_pi": 1}
    algorithm = build(**keys, **DETACHED, n_aux_epochs=1, lr=1e-3)
    # A policy iteration, two slices of the auxiliary phase at its rates, the next one after 32.
    stats = [train(algorithm) for _ in range(4)]
    assert [s["phase/in_aux_phase"] for s in stats] == [0, 1, 1, 0]
    assert [s["value_lr"] for s in stats] == pytest.approx([4e-3, 4e-3, 4e-3, 3e-3])
    assert {s["lr"] for s in stats} == {1e-3}


BEST = {"best_weights": True, "best_weights_min_env_steps": 0, "budget_env_steps": 10_000}


def test_the_best_return_stands_from_its_iteration_on_also_after_a_resume(
    ray_local, tmp_path: Path
):
    # Episodes of 12 steps: none ends in the first 8 of an environment, then one of 12, then of 0.
    fading = {"length": 12, "rewards": [1.0] * 12 + [0.0] * 1000}
    algorithm = build(EchoEnv, fading, **BEST)
    assert made(train(algorithm)) == {}, "no episode has ended"
    best = {"best_return": 12.0, "best_env_steps": 2 * N * T}
    assert [made(train(algorithm)) for _ in range(3)] == [best] * 3
    algorithm.save(str(tmp_path))
    kept, off = build(EchoEnv, fading, **BEST), build(EchoEnv, fading)
    for other in (kept, off):
        other.restore(str(tmp_path))
    assert made(train(kept)) == best
    assert made(train(off)) == {}, "best_weights is off, whatever the checkpoint holds"
