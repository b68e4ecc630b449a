"""The winners' rules, by hand, as their experiment files set them; sizes are small."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import winner_models
import winner_replay

from rllib_ppg import PPG, PPGConfig
from rllib_ppg.algorithm.parts import reward_pipeline
from rllib_ppg.app.experiment_files import load_experiments
from rllib_ppg.app.flags import TrainFlags
from rllib_ppg.app.run_length import aux_updates, policy_updates, run_length
from rllib_ppg.core.augment_setting import make_augmentation
from rllib_ppg.core.distributions import ActionSpec
from rllib_ppg.core.learner import PhasicLearner, PolicyBatch
from rllib_ppg.core.optimizers import Optimizers
from rllib_ppg.core.segments import SegmentStore
from rllib_ppg.envs.procgen_options import parse_options
from rllib_ppg.envs.state_counts import Counts

A, OLDER_A, B = "winner_generalization", "winner_generalization_19f6ab2", "winner_sample_efficiency"
ENVS, STEPS, N_PI = 4, 8, 2
# As many updates as at real size, of fewer rows; two auxiliary phases fit a short run.
SIZES: dict[str, dict[str, Any]] = {
    A: {"mbsize_rows": 1, "aux_mbsize": 1, "max_aux_phases": 2},
    OLDER_A: {"mbsize_rows": 1, "aux_mbsize": 1, "max_aux_phases": 2, "aux_skips": 1},
    B: {
        "mbsize_rows": 4,
        "aux_mbsize_rows": 8,
        "reward_transform": {"type": "fragment", "alpha": 0.005, "groups": 2},
    },
}


def env_config(name: str) -> dict[str, Any]:
    file = str(winner_replay.EXPERIMENTS / f"{name}.yaml")
    (experiment,) = load_experiments(TrainFlags(files=[file]))
    return dict(experiment.config["env_config"])


def small_config(name: str, **changes: Any) -> PPGConfig:
    """An experiment file's configuration in small."""
    file = winner_replay.experiment_options(name)
    small = {"widths": [2, 3, 4], "hidden_size": 8}
    model = {**file["model"], "custom_model_config": file["model"]["custom_model_config"] | small}
    sizes = {"num_envs": ENVS, "rollout_fragment_length": STEPS, "n_pi": N_PI, **SIZES[name]}
    config = PPGConfig().environment("procgen", env_config=env_config(name))
    config.update_from_dict({**file, **sizes, "model": model, "aux_precision": "float32"})
    config.update_from_dict(changes)
    config.validate()
    return config


def make_learner(config: PPGConfig, seed: int = 0) -> PhasicLearner:
    torch.manual_seed(seed)
    settings = config.model["custom_model_config"]
    return PhasicLearner(
        winner_models.make_network((16, 16, 6), 15, settings),
        ActionSpec("categorical", (15,)),
        config.policy_phase_settings(),
        config.aux_phase_settings(),
        generator=np.random.default_rng(seed),
    )


def make_batch(advantages: float = 1.0) -> PolicyBatch:
    rng, shape = np.random.default_rng(1), (ENVS, STEPS)

    def normal() -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    return PolicyBatch(
        obs=rng.integers(0, 256, (*shape, 16, 16, 6), np.uint8),
        actions=rng.integers(0, 15, shape),
        logp=np.full(shape, -math.log(15), np.float32),
        advantages=advantages * normal(),
        value_targets=normal(),
        vf_preds=np.zeros(shape, np.float32),
        prev_actions=rng.integers(0, 15, shape),
    )


def make_store() -> SegmentStore:
    batch = make_batch()
    store = SegmentStore(ENVS * N_PI, STEPS, (16, 16, 6), with_prev_actions=True)
    for _ in range(N_PI):
        rows = store.append(np.arange(ENVS))
        store.obs[rows], store.prev_actions[rows] = batch.obs, batch.prev_actions
        store.value_targets[rows] = batch.value_targets
    return store


def encoder_gradient(learner: PhasicLearner) -> torch.Tensor:
    parameters = learner.network.policy_encoder.parameters()
    return torch.cat([(p.grad if p.grad is not None else 0 * p).flatten() for p in parameters])


# ---- optimisers


def held(learner: PhasicLearner) -> dict[str, set[str]]:
    """Names of the parameters that each Adam holds."""
    names = {id(p): name for name, p in learner.network.named_parameters()}
    optimizers: Optimizers = learner._optimizers
    found = {}
    for key, adam in optimizers._adams.items():
        (group,) = adam.param_groups
        assert (*group["betas"], group["eps"], group["weight_decay"]) == (0.9, 0.999, 1e-8, 0)
        found[key] = {names[id(p)] for p in group["params"]}
    return found


ENCODER = {
    f"policy_encoder.{module}.{kind}"
    for module in (
        "dense",
        *(f"stages.{s}.conv" for s in range(3)),
        *(f"stages.{s}.blocks.{b}.conv{c}" for s in range(3) for b in (0, 1) for c in (0, 1)),
    )
    for kind in ("weight", "bias")
}
POLICY = {"policy_head.weight", "policy_head.bias"}
VALUE = {"value_head.weight", "value_head.bias"}
AUX = {"aux_value_head.weight", "aux_value_head.bias"}


@pytest.mark.parametrize("name", [A, OLDER_A])
def test_three_adams_of_the_generalisation_winner_hold_these_parameters(name: str):
    assert held(make_learner(small_config(name))) == {
        "policy": ENCODER | POLICY,
        "aux": ENCODER | POLICY | AUX,
        "value": VALUE,
    }


def test_one_adam_of_the_sample_efficiency_winner_holds_everything():
    assert held(make_learner(small_config(B))) == {"one": ENCODER | POLICY | VALUE}


# ---- schedules


@pytest.mark.parametrize("name", [A, OLDER_A])
def test_all_rates_of_the_generalisation_winner_fall_linearly(name: str):
    config = small_config(name)
    for step, rate in ((0, 5e-4), (4_000_000, 2.75e-4), (8_000_000, 5e-5)):
        assert config.rates(step, 1) == pytest.approx((rate, rate, rate), rel=1e-12)
        assert config.scheduled("entropy_coeff", step) == 0.01


def test_the_entropy_schedule_that_the_winner_left_off():
    config = small_config(A, entropy_coeff_schedule=[[0, 0.01], [8_000_000, 0.002]])
    found = [config.scheduled("entropy_coeff", s) for s in (0, 4_000_000, 8_000_000)]
    assert found == pytest.approx([0.01, 0.006, 0.002], rel=1e-12)


def test_the_rate_of_the_sample_efficiency_winner_is_constant():
    config = small_config(B)
    for step in (0, 4_000_000, 8_000_000):
        assert config.rates(step, 1) == (5e-4, 5e-4, 5e-4)


# ---- gradient flow


@pytest.mark.parametrize(("name", "reached"), [(A, False), (OLDER_A, False), (B, True)])
def test_the_policy_phases_value_loss_reaches_the_encoder(name: str, reached: bool):
    changes = {"entropy_coeff": 0.0} | ({"alternate_entropy_coeff": 0.0} if name == B else {})
    learner = make_learner(small_config(name, **changes))
    batch = replace(make_batch(advantages=0.0), value_targets=make_batch().value_targets + 3)
    for _ in learner.policy_steps(batch):
        assert encoder_gradient(learner).any() == reached
        assert learner.network.value_head.weight.grad.any()


@pytest.mark.parametrize(("name", "reached"), [(A, False), (OLDER_A, False), (B, True)])
def test_the_auxiliary_phases_value_loss_reaches_the_encoder(name: str, reached: bool):
    """Without it every gradient of the encoder stays the same, to the last bit, or changes."""
    gradients = {}
    for weight in (0.0, 1.0):
        config = small_config(name, vf_true_weight=weight, grad_clip=None)
        learner = make_learner(config)
        phase = learner.begin_aux_phase(make_store())
        gradients[weight] = []
        while not phase.done:
            if phase.step() is not None:
                gradients[weight].append(encoder_gradient(learner))
    pairs = zip(gradients[0.0], gradients[1.0], strict=True)
    assert {torch.equal(without, whole) for without, whole in pairs} == {not reached}


# ---- augmentations


def drawn(name: str, count: int = 60_000) -> dict[str, np.ndarray]:
    augmentation = make_augmentation(small_config(name).aux_augmentation)
    return augmentation.draw((count, 64, 64, 6), np.random.default_rng(0))


def assert_shares(values: np.ndarray, shares: dict[int, float]) -> None:
    """Within five standard errors."""
    assert sorted(set(values.tolist())) == sorted(shares)
    for value, share in shares.items():
        error = math.sqrt(share * (1 - share) / len(values))
        assert abs((values == value).mean() - share) < 5 * error, value


@pytest.mark.parametrize("name", [A, OLDER_A])
def test_a_third_is_shifted_by_10_to_9_pixels_and_a_third_gets_a_box(name: str):
    draws = drawn(name)
    choice = draws["choice"]
    assert_shares(choice, dict.fromkeys(range(3), 1 / 3))
    for axis in ("0/row", "0/col"):
        shift = 10 - draws[axis][choice == 0]  # down or right, of what is seen
        assert_shares(shift, dict.fromkeys(range(-9, 11), 1 / 20))
    for size in ("1/height", "1/width"):
        assert_shares(draws[size][choice == 1], dict.fromkeys(range(10, 30), 1 / 20))
    assert draws["1/fill"].shape[1] == 6
    assert (draws["1/fill"].min(), draws["1/fill"].max()) == (0, 254)


def test_every_sample_is_shifted_by_up_to_5_pixels_either_way():
    draws = drawn(B)
    assert set(draws) == {"shift"}
    shares = {0: 1 / 6} | {sign * size: 1 / 12 for size in range(1, 6) for sign in (-1, 1)}
    for axis in range(2):
        assert_shares(draws["shift"][:, axis], shares)


# ---- rewards


def rewards_of(config: PPGConfig, steps: list[tuple[list[float], list[bool]]]) -> Any:
    """Rewards (T, N) after each step, and the transform; a step says where episodes begin."""
    pipeline = reward_pipeline(config)
    rewards = np.array([rewards for rewards, _ in steps], np.float32)
    firsts = np.array([first for _, first in steps])
    return pipeline(rewards, firsts, np.arange(ENVS)), pipeline.transform


@pytest.mark.parametrize("name", [A, OLDER_A])
def test_sums_of_rewards_outlive_episodes_and_the_games_best_return_clips(name: str):
    begin, on = [True] * ENVS, [False] * ENVS
    steps = [([1.0] * 4, begin), ([0.0] * 4, begin), ([0.0, 0.0, 0.0, 8.0], on)]
    found, transform = rewards_of(small_config(name), steps)
    # Sums of all equal size have hardly any variance: 1 / 0.007, clipped at coinrun's 10.
    assert found[0].tolist() == [10] * 4
    assert found[1].tolist() == [0] * 4
    sums = [1.0] * 4 + [0.99] * 4 + [0.9801] * 3 + [8.9801]  # nothing was emptied in between
    assert transform.returns.tolist() == pytest.approx(sums[-4:])
    assert found[2].tolist() == pytest.approx([0, 0, 0, 8 / np.std(sums)], rel=1e-3)


def test_fragments_of_the_sample_efficiency_winner_are_divided_by_their_own_groups_deviation():
    # Environments 0 and 1 are a group, 2 and 3 another one; 1 begins anew in the second step.
    steps = [
        ([2.0, 1.0, 0.0, 0.0], [True] * 4),
        ([2.0, 3.0, 0.0, 9.0], [False, True, False, False]),
    ]
    found, transform = rewards_of(small_config(B), steps)
    # In order of arrival: 1 (of environment 1), then 4 and 3; the first one leaves the variance.
    mean, var, alpha, after = 1.0, 1.0, 0.005, [1.0]
    for total in (4.0, 3.0):
        away = total - mean
        mean, var = mean + alpha * away, (1 - alpha) * (var + alpha * away**2)
        after.append(math.sqrt(var))
    assert transform.mean[0] == pytest.approx(mean) and transform.var[0] == pytest.approx(var)
    assert found[:, 0].tolist() == pytest.approx([2 / after[1], 2 / after[1]])
    assert found[:, 1].tolist() == pytest.approx([1, 3 / after[2]])
    # The other group's first sum is 0, its second 9.
    other = math.sqrt((1 - alpha) * (1 + alpha * 81))
    assert found[:, 3].tolist() == pytest.approx([0, 9 / other])


def test_a_step_without_change_costs_a_tenth_after_the_eleventh_of_an_episode():
    penalties = parse_options(env_config(B)).penalties
    assert penalties is not None
    step = np.array([10, 11, 11, 500, 500])
    same = np.array([True, True, False, True, True])
    dones = np.array([False, False, False, False, True])
    counts = Counts(np.full(5, 7), np.ones(5, np.int64), same, step)
    assert penalties(counts, dones).tolist() == pytest.approx([0, -0.1, 0, -0.1, 0])


# ---- update arithmetic


def steps_of(algorithm: PPG) -> dict[str, int]:
    """Steps that each Adam has made."""
    state = algorithm._learner.get_state()["optimizers"]
    return {key: max(int(entry["step"]) for entry in adam.values()) for key, adam in state.items()}


def run(algorithm: PPG, env_steps: int) -> dict[str, float]:
    """Train until the budget or this many environment steps end the run; add up the metrics."""
    found = {"policy_phase": 0.0, "aux_phase": 0.0}
    sampled = 0
    while True:
        result = algorithm.train()
        stats = result["info"]["learner"]["default_policy"]["learner_stats"]
        for phase in found:
            count = stats[phase]["minibatches"]
            found[phase] += 0 if math.isnan(count) else count
        sampled = result["num_env_steps_sampled_lifetime"]
        if result["done"] or sampled >= env_steps:
            return {**found, "sampled": sampled}


@pytest.mark.parametrize("name", [A, pytest.param(OLDER_A, marks=pytest.mark.slow), B])
def test_a_run_makes_the_optimiser_steps_that_were_counted_in_advance(name: str, ray_local):
    rows = ENVS * STEPS
    end = 7 * rows + 5
    budget = {} if name == B else {"budget_env_steps": end, "best_weights_min_env_steps": 0}
    place = {"num_env_runners": 0, "num_gpus": 0}
    config = small_config(name, **budget, **place)
    length = run_length(config, {"timesteps_total": end})
    assert length is not None and length.aux_phases == (3 if name == B else 2)
    counted = {
        "policy": length.learned * policy_updates(config),
        "aux": length.aux_phases * aux_updates(config),
    }
    algorithm = config.build_algo()
    found = run(algorithm, end)
    assert found["sampled"] == length.sampled * rows
    assert found["policy_phase"] == counted["policy"]
    assert found["aux_phase"] == counted["aux"]
    both = counted["policy"] + counted["aux"]
    expected = {"one": both} if name == B else {**counted, "value": both}
    assert steps_of(algorithm) == expected
    # 7 iterations of 8 updates are learned from where a budget ends the run, else all 8.
    assert counted["policy"] == (64 if name == B else 56)
    algorithm.stop()
