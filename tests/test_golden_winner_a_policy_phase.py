"""The generalization winner's policy phase against its numbers, from raw rewards to weights."""

from types import SimpleNamespace

import golden_files
import numpy as np
import pytest
import winner_a
import winner_files
from golden_files import case_id
from winner_files import firsts_of

from rllib_ppg._ray_compat import RLlibCallback
from rllib_ppg.algorithm.episodes import EpisodeTracker
from rllib_ppg.algorithm.parts import reward_pipeline
from rllib_ppg.core.learner import PolicyBatch
from rllib_ppg.core.returns import compute_gae, standardize

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.mark.parametrize("path", winner_files.paths("a_policy_phase"), ids=case_id)
def test_the_episodes_of_the_batch(path):
    data = golden_files.load(path).below("batch")
    tracker = EpisodeTracker(SimpleNamespace(callbacks=RLlibCallback()), len(data["done"]))
    for rewards, dones in zip(data["reward_raw"].T, data["done"].T, strict=True):
        tracker.step(rewards, dones, None)
    winner_a.assert_episodes(*tracker.pop_ended(), data["done"], data)


@pytest.mark.parametrize("path, case", winner_files.cases("a_policy_phase", "adv_std"), ids=case_id)
def test_returns_losses_gradients_and_weights_of_every_step(path, case):
    golden = golden_files.load(path)
    own, data = golden.below(case), golden.below("batch")
    hp = own.below("hp")
    envs, steps = data["action"].shape
    config = winner_files.make_config(
        envs,
        steps,
        aux_mbsize=1,
        **winner_a.policy_options(hp, envs * steps),
        **winner_a.reward_options(hp, golden.number("return_max")),
    )
    learner = winner_a.make_learner(config, golden, "param0", iter(own["perm"]))
    rewards = reward_pipeline(config)(
        data["reward_raw"].T, firsts_of(data["done"]).T, np.arange(envs)
    )
    np.testing.assert_allclose(rewards.T, own["reward"], **CLOSE)
    bootstrap = learner.values(data["final_ob"])
    np.testing.assert_allclose(bootstrap, own["bootstrap"], **winner_a.OUTPUT)
    advantages, targets = compute_gae(
        rewards,
        data["value"].T,
        bootstrap,
        data["done"].T,
        gamma=config.gamma,
        lambda_=config.lambda_,
    )
    np.testing.assert_allclose(advantages.T, own["adv"], **winner_a.OUTPUT)
    np.testing.assert_allclose(targets.T, own["ret"], **winner_a.OUTPUT)
    standard = standardize(advantages, std_min=config.advantage_std_min).T
    np.testing.assert_allclose(standard, own["adv_std"].reshape(envs, steps), **winner_a.OUTPUT)
    batch = PolicyBatch(
        data["obs"],
        data["action"],
        data["logp"],
        np.ascontiguousarray(standard),
        np.ascontiguousarray(targets.T),
        data["value"],
    )

    def after_first() -> None:
        gradients = winner_files.named(own, "grad0")
        if gradients:
            found = winner_files.gradients_of(learner.network)
            winner_files.assert_gradients(found, gradients)
        expected = winner_files.named(own, "param_step1")
        winner_files.assert_parameters(learner.network, expected, 2e-5)

    steps = learner.policy_steps(batch)
    made = list(winner_a.compared_policy_steps(learner, batch, steps, own, after_first))
    assert len(made) == own["n_steps"][0]
    assert learner.lr == own["lr_policy"][0]
    if learner.policy_settings.optimizers == "heads":
        assert learner.value_lr == own["lr_value"][0]
    winner_files.assert_parameters(learner.network, winner_files.named(own, "param1"), 2e-5)
    winner_a.assert_optimizers(learner, own.below("opt"))
