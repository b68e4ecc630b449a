"""Parts that a configuration chooses: what contradicts what, and whole runs with many of them."""

from typing import Any

import numpy as np
import pytest
from toy_envs import CodedEnv

from rllib_ppg import PPGConfig
from rllib_ppg._ray_compat import ModelCatalog
from rllib_ppg.algorithm.model import MLPModel
from rllib_ppg.algorithm.parts import return_max
from rllib_ppg.errors import UserError

SIZES = {
    "num_envs": 4, "rollout_fragment_length": 8, "nminibatch": 2, "aux_mbsize": 2, "n_pi": 2,
    "n_aux_epochs": 2,
}  # fmt: skip


def make_config(**changes: Any) -> PPGConfig:
    config = PPGConfig().environment(CodedEnv, env_config={"truncate": True})
    return config.update_from_dict({**SIZES, "seed": 3, **changes})


SHARED = {"model": {"custom_model_config": {"arch": "shared"}}}


def own(**arch: str) -> dict[str, Any]:
    """An encoder of the user's own, with an architecture or the default one."""
    settings = {"encoder": "torch.nn.Identity", **arch}
    return {"model": {"custom_model": "ppg_encoder", "custom_model_config": settings}}


CONTRADICTIONS: list[tuple[dict[str, Any], str]] = [
    ({"optimizers": "heads", **SHARED}, "set arch to detach or dual"),
    ({"optimizers": "heads", **own(arch="shared")}, "set arch to detach or dual"),
    (
        {"optimizers": "heads", "model": {"custom_model": "ppg_random"}},
        "ppg_random has no other, so leave optimizers out",
    ),
    ({"detach_value_head": True, **own(arch="detach")}, "no effect with arch: detach"),
    ({"detach_value_head": True, **own()}, "no effect with arch: dual"),
    ({"lr_decay": 0.9, "lr_schedule": [[0, 1e-3]]}, "lr_decay=0.9 contradicts lr_schedule"),
    ({"detach_value_head": True}, "detach_value_head=True has no effect with arch: dual"),
    ({"mbsize_rows": 4, "nminibatch": 8}, "needs minibatch_unit: step"),
    ({"mbsize_rows": 33, "nminibatch": 8, "minibatch_unit": "step"}, "more than the 32 rows"),
    ({"aux_mbsize_rows": 4, "aux_mbsize": 4}, "needs aux_minibatch_unit: step"),
    ({"num_accumulates": 3}, "num_accumulates=3 does not divide the 2 minibatches"),
    ({"aux_num_accumulates": 3}, "aux_num_accumulates=3 does not divide the 4 minibatches"),
    ({"reward_clip": "return_max"}, "set return_max to a number"),
    ({"adaptive_gamma": True}, "adaptive_gamma needs the largest return"),
    ({"best_weights": True}, "set budget_env_steps or budget_s"),
    ({"budget_s": 10}, "budget_margin_s=20 leaves nothing of budget_s=10"),
    ({"drac_weight": 0.1}, "drac_weight=0.1 needs drac_augmentation"),
    ({"grad_clip_adaptive": {"size": 3}}, "grad_clip_adaptive: unknown size"),
    ({"grad_clip_adaptive": {"min": 3, "max": 2}}, "must be above 0 and at most max"),
    ({"reward_transform": "steps"}, 'Did you mean "step"'),
    ({"reward_transform": {"type": "step", "reset": "always"}}, "reset='always' must be one of"),
    ({"reward_transform": {"type": "fragment", "groups": 3}}, "groups=3 does not divide"),
    ({"reward_transform": {"type": "fragment", "alfa": 3}}, "its options: alpha, groups"),
]


@pytest.mark.parametrize(("changes", "words"), CONTRADICTIONS)
def test_a_contradiction_is_said_in_one_sentence(changes: dict[str, Any], words: str):
    with pytest.raises(UserError) as error:
        make_config(**changes).validate()
    message = str(error.value)
    assert words in message and "\n" not in message


def test_ones_own_model_is_asked_when_it_is_made(ray_local):
    class Shared(MLPModel):
        def __init__(self, *args: Any, **settings: Any) -> None:
            super().__init__(*args, arch="shared", **settings)

    ModelCatalog.register_custom_model("own_shared", Shared)
    with pytest.raises(UserError, match=r"set arch to detach or dual\.$"):
        make_config(optimizers="heads", model={"custom_model": "own_shared"}).build_algo()


def test_more_entropy_where_frames_repeat_needs_counted_frames(ray_local):
    config = PPGConfig().environment("procgen").training(alternate_entropy_coeff=0.02)
    with pytest.raises(UserError, match=r"set env_config.count_states: true") as error:
        config.validate()
    assert "\n" not in str(error.value)
    config.environment(env_config={"count_states": True}).validate()
    for workers in (0, 1):  # other environments are asked when the first one is made
        with pytest.raises(UserError, match=r"count num_unique_states, and .*CodedEnv.* does not"):
            make_config(alternate_entropy_coeff=0.02, num_env_runners=workers).build_algo()


@pytest.mark.parametrize(
    ("changes", "rows"),
    [({"mbsize_rows": 2, "drac_weight": 0.1}, 2), ({"mbsize_rows": 4, "aux_mbsize_rows": 2}, 2)],
)
def test_a_minibatch_has_a_row_for_each_chunk(changes, rows):
    key = "drac_augmentation" if "drac_weight" in changes else "aux_augmentation"
    members = ["random_translate", "random_cutout", "random_channel_drop"]
    changes = {**changes, "minibatch_unit": "step", "nminibatch": 8, "aux_mbsize": 4}

    def config_of(count):
        chunks = {"type": "one_per_chunk", "members": members[:count]}
        return make_config(**changes, **{key: chunks})

    config_of(rows).validate()
    with pytest.raises(UserError) as error:
        config_of(rows + 1).validate()
    words = f"{key}: one_per_chunk cuts each minibatch into 3 chunks, and it has 2 rows; give fewer"
    assert words in str(error.value) and "\n" not in str(error.value)


def test_the_games_own_largest_return_is_taken():
    game = {"env_name": "starpilot", "distribution_mode": "easy"}
    config = PPGConfig().environment("procgen", env_config=game)
    assert return_max(config) == 64
    assert return_max(config.training(return_max=7)) == 7


@pytest.mark.parametrize("key", [{"reward_clip": "return_max"}, {"adaptive_gamma": True}])
@pytest.mark.parametrize(
    ("game", "words"),
    [
        (
            {"env_name": "starpilot", "distribution_mode": "hard"},
            "holds for distribution_mode easy, not hard; set return_max to a number, such as 35 of "
            "the table hard.",
        ),
        ({"env_name": "heist", "distribution_mode": "memory"}, "set return_max to a number."),
        ({"return_max": -1}, "env_config.return_max=-1: "),
    ],
)
def test_the_easy_games_largest_return_is_not_taken_in_another_mode(key, game, words: str):
    config = PPGConfig().environment("procgen", env_config=game).training(**key)
    with pytest.raises(UserError) as error:
        config.validate()
    assert words in str(error.value) and "\n" not in str(error.value)
    PPGConfig().environment("procgen", env_config=game).training(**key, return_max=7).validate()
    given = {**game, "return_max": 7}
    PPGConfig().environment("procgen", env_config=given).training(**key).validate()


# Heads with optimisers of their own, and all that carries a state from iteration to iteration.
MANY = {
    "optimizers": "heads", "minibatch_unit": "step", "nminibatch": 8, "mbsize_rows": 6,
    "num_accumulates": 3, "n_epoch_pi": 1, "n_epoch_vf": 1, "aux_mbsize": 4, "aux_mbsize_rows": 16,
     "aux_num_accumulates": 2,
    "aux_value_targets": "recomputed", "aux_skips": 1, "reward_transform": "step",
    "reward_clip": "return_max", "return_max": 2.0, "adaptive_gamma": True, "gamma": 0.9,
    "lr_decay": 0.9, "best_weights": True, "budget_env_steps": 10_000,
    "grad_clip_elementwise": 0.1, "grad_clip_adaptive": {"buffer_size": 4},
}  # fmt: skip


def weights_of(algorithm: Any) -> np.ndarray:
    weights = algorithm.get_policy().get_weights()
    return np.concatenate([np.ravel(value) for value in weights.values()])


def make_run() -> Any:
    """Games, for they save their states; a reward of 0 solves an episode."""
    config = PPGConfig().environment("procgen", env_config={"env_name": "bigfish"})
    network = {"widths": [2], "hidden_size": 4, "blocks": 1, "arch": "detach"}
    settings = {**SIZES, **MANY, "seed": 3, "model": {"custom_model_config": network}}
    algorithm = config.update_from_dict(settings).build_algo()
    assert algorithm._gamma_rule is not None
    algorithm._gamma_rule.return_max = 0.0
    algorithm._gamma_rule.lengths.extend(range(10, 110))
    return algorithm


# Before 3 is the first auxiliary phase, with epochs 0 to 2.
@pytest.mark.parametrize("before", [2, 4, 6])
def test_a_run_with_many_parts_goes_on_bit_for_bit(ray_local, tmp_path, before: int):
    whole, cut = make_run(), make_run()
    for _ in range(before):
        cut.train()
    cut.save(str(tmp_path / "checkpoint"))
    cut.stop()
    resumed = make_run()
    resumed._gamma_rule.lengths.clear()
    resumed.restore(str(tmp_path / "checkpoint"))
    total = 14
    for _ in range(total):
        whole.train()
    for _ in range(total - before):
        resumed.train()
    assert whole._totals["aux_phases"] >= 2
    assert whole._totals == resumed._totals
    assert whole._budget.best_return == resumed._budget.best_return
    assert whole._gamma_rule.get_state() == resumed._gamma_rule.get_state()
    assert whole.gamma != 0.9
    assert whole._rewards.get_state()["moments"] == resumed._rewards.get_state()["moments"]
    np.testing.assert_array_equal(weights_of(whole), weights_of(resumed))


def test_the_run_ends_at_its_budget_with_the_best_weights(ray_local):
    algorithm = make_config(
        n_aux_epochs=0, best_weights=True, budget_env_steps=97, best_weights_min_env_steps=0
    ).build_algo()
    acted, results = [], []
    while not results or not results[-1].get("done"):
        acted.append(weights_of(algorithm))
        results.append(algorithm.train())
    assert len(results) == 4, "the fourth iteration of 32 steps goes beyond 97"
    best = algorithm._budget.best_steps // 32
    np.testing.assert_array_equal(weights_of(algorithm), acted[best - 1])
    assert algorithm._totals["policy_iterations"] == 3
    assert any("budget is used up" in note for note in results[-1]["notices"])


def test_no_more_auxiliary_phases_than_asked_for(ray_local):
    algorithm = make_config(max_aux_phases=1, aux_skips=1).build_algo()
    places = []
    for _ in range(10):
        result = algorithm.train()["info"]["learner"]["default_policy"]["learner_stats"]
        places.append(int(result["phase"]["in_aux_phase"]))
    # One skipped, two stored, epochs 0 to 2, then policy iterations only.
    assert places == [0, 0, 0, 1, 1, 1, 0, 0, 0, 0]
    assert algorithm._store.count == 0
