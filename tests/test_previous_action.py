"""The previous action as an input: the same from the sampler to the exported policy."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from test_policy_export import exported, policy_of

from rllib_ppg import PPGConfig
from rllib_ppg._ray_compat import SampleBatch
from rllib_ppg.algorithm.batch import column, compute_targets, store_observations
from rllib_ppg.algorithm.evaluate_agents import TrainedAgent
from rllib_ppg.algorithm.evaluate_blocks import Block, BlockPlayer
from rllib_ppg.algorithm.rollout import EPISODE_STARTS
from rllib_ppg.app.video_play import Cell, Player, play
from rllib_ppg.core.distributions import ActionSpec
from rllib_ppg.core.frames import Rows
from rllib_ppg.core.returns import compute_gae
from rllib_ppg.envs.arrays import GymnasiumArrayEnv
from rllib_ppg.errors import UserError

SIZE, ACTIONS, FIRST = (8, 8, 3), 5, 3
NETWORK = {"widths": [4], "hidden_size": 8, "blocks": 1, "previous_action": True, "arch": "shared",
           "normed_init": False}  # fmt: skip
ENVS, STEPS = 3, 7


class Pictures(gym.Env):
    """Noise to look at; episodes of 4 steps that keep their actions; actions count from 3."""

    observation_space = Box(0, 255, SIZE, np.uint8)
    action_space = Discrete(ACTIONS, start=FIRST)
    episodes: list[list[int]]

    def __init__(self, config: Any = None) -> None:
        self.episodes, self.rng = [], np.random.default_rng(0)
        self.truncate = bool(config and config.get("truncate"))
        self.render_mode = "rgb_array"

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        self.episodes.append([])
        return self.render(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict]:
        self.episodes[-1].append(int(action))
        over = len(self.episodes[-1]) == 4
        return self.render(), 1.0, over and not self.truncate, over and self.truncate, {}

    def render(self) -> Any:
        return self.rng.integers(0, 256, SIZE, np.uint8)


def build(**changes: Any) -> Any:
    env_config = changes.pop("env_config", {})
    settings = {
        "num_envs": ENVS, "rollout_fragment_length": STEPS, "nminibatch": 1, "aux_mbsize": ENVS,
        "n_pi": 1, "n_aux_epochs": 1, "seed": 1, "model": {"custom_model_config": NETWORK},
    }  # fmt: skip
    config = PPGConfig().environment(Pictures, env_config=env_config)
    return config.update_from_dict({**settings, **changes}).build_algo()


def test_the_sampler_gives_records_and_remembers_the_action_before(ray_local):
    algorithm = build()
    network, before = algorithm.get_policy().network, np.zeros(ENVS, np.int64)
    for _ in range(2):
        rollout = algorithm.env_runner.sample()
        batch = {name: column([rollout], name) for name in rollout.batch}
        for t in range(STEPS):
            expected = np.where(batch[EPISODE_STARTS][:, t], 0, before)
            np.testing.assert_array_equal(batch[SampleBatch.PREV_ACTIONS][:, t], expected)
            before = batch[SampleBatch.ACTIONS][:, t].copy()  # the worker uses its arrays again
        np.testing.assert_array_equal(rollout.final_actions, before)
        rows = [rollout.batch[n] for n in (SampleBatch.OBS, SampleBatch.PREV_ACTIONS)]
        with torch.no_grad():
            logits, values = network.policy(*map(torch.from_numpy, rows))
        for name, expected in (("action_dist_inputs", logits), ("vf_preds", values)):
            np.testing.assert_allclose(rollout.batch[name], expected, rtol=1e-4, atol=1e-5)
    algorithm.stop()


@pytest.mark.parametrize("truncate", [False, True])
def test_values_at_the_cut_are_those_after_the_last_action(ray_local, truncate):
    algorithm = build(env_config={"truncate": truncate})
    rollout, learner = algorithm.env_runner.sample(), algorithm._learner
    values = column([rollout], SampleBatch.VF_PREDS)
    config = algorithm.config
    found = compute_targets(
        [rollout], values, learner, algorithm._rewards, config, gamma=config.gamma
    )
    network = algorithm.get_policy().network
    final_values = None
    with torch.no_grad():
        bootstrap = network.value(
            *map(torch.from_numpy, (rollout.final_obs, rollout.final_actions))
        )
        other = network.value(torch.from_numpy(rollout.final_obs), torch.zeros(ENVS).long())
        if truncate:
            actions = rollout.batch[SampleBatch.ACTIONS][rollout.truncated_rows]
            cut = network.value(torch.from_numpy(rollout.truncated_obs), torch.from_numpy(actions))
            final_values = np.zeros(ENVS * STEPS, np.float32)
            final_values[rollout.truncated_rows] = cut.numpy()
            final_values = final_values.reshape(ENVS, STEPS).T
    assert not torch.allclose(bootstrap, other), "the action before must matter"
    ends = column([rollout], SampleBatch.TERMINATEDS) | column([rollout], SampleBatch.TRUNCATEDS)
    rewards = column([rollout], SampleBatch.REWARDS) / algorithm._rewards.scale
    _, expected = compute_gae(
        rewards.T.astype(np.float32), values.T, bootstrap.numpy(), ends.T, gamma=config.gamma,
        lambda_=config.lambda_, final_values=final_values,
    )  # fmt: skip
    np.testing.assert_allclose(found.value_targets, expected.T, rtol=1e-4, atol=1e-4)
    algorithm.stop()


def test_the_store_keeps_it_for_the_auxiliary_phase_and_for_checkpoints(ray_local):
    algorithm = build(n_pi=2)
    rollout, store = algorithm.env_runner.sample(), algorithm._store
    rows = store_observations([rollout], store)
    store.value_targets[rows] = 0
    expected = column([rollout], SampleBatch.PREV_ACTIONS)
    np.testing.assert_array_equal(store.prev_actions[rows], expected)
    everything = torch.arange(ENVS * STEPS)
    inputs = store.frames().inputs(Rows(everything, everything), torch.device("cpu"))
    np.testing.assert_array_equal(inputs.prev_actions, expected.ravel())
    assert store.nbytes == algorithm.config.store_bytes(SIZE, np.uint8)
    state = store.get_state()
    store.prev_actions[:] = -1
    store.set_state(state)
    np.testing.assert_array_equal(store.prev_actions[rows], expected)
    phase = algorithm._learner.begin_aux_phase(store)
    phase.run(None)
    recorded = rollout.batch[SampleBatch.ACTION_DIST_INPUTS]
    np.testing.assert_allclose(phase.old_inputs.numpy(), recorded, rtol=1e-4, atol=1e-5)
    algorithm.stop()


class Successor(torch.nn.Module):
    """Takes the action after the one before, and starts over after the last."""

    takes_prev_actions = True

    def __init__(self) -> None:
        super().__init__()
        self.nothing = torch.nn.Parameter(torch.zeros(1))

    def policy(self, obs, before):
        logits = torch.nn.functional.one_hot((before + 1) % ACTIONS, ACTIONS) * 100.0
        return logits, torch.zeros(len(obs))


SPEC = ActionSpec("categorical", (ACTIONS,))
MAPPING = {"normalize_actions": True, "clip_actions": False}


def test_evaluation_begins_every_episode_with_action_0():
    agent = TrainedAgent(Successor(), SPEC, MAPPING, 1.0)
    player = BlockPlayer(Block(Pictures, {}, (3, 1), 0, 1, 2), agent)
    player.play()
    envs = player.env.envs
    finished = [episode for env in envs for episode in env.episodes if len(episode) == 4]
    assert len(envs[0].episodes) >= 3 and all(e == [4, 5, 6, 7] for e in finished[:3])
    player.close()


def test_a_video_begins_every_episode_with_action_0():
    env, policy = Pictures(), policy_of(Pictures.observation_space, Pictures.action_space,
                                        network=NETWORK)  # fmt: skip
    player = Player(policy, 1.0, with_values=True)
    player._network = Successor()
    cell = Cell(GymnasiumArrayEnv([env]), "pictures", 2, torch.Generator(), pause=2)
    assert len(list(play([cell], player, SPEC, 100))) > 8
    assert env.episodes[:2] == [[4, 5, 6, 7]] * 2


def test_an_exported_policy_takes_it_and_refuses_to_guess(tmp_path: Path):
    policy = policy_of(Pictures.observation_space, Pictures.action_space, network=NETWORK)
    loaded = exported(tmp_path, policy)
    obs = np.random.default_rng(0).integers(0, 256, (4, *SIZE), np.uint8)
    before = np.array([3, 7, 5, 3])
    with torch.no_grad():
        logits, _ = policy.network.policy(torch.from_numpy(obs), torch.from_numpy(before - FIRST))
    expected = logits.softmax(-1).numpy()
    np.testing.assert_allclose(loaded.probabilities(obs, before), expected, rtol=1e-5)
    assert not np.allclose(loaded.probabilities(obs, np.full(4, 3)), expected)
    assert set(loaded.act(obs, before).tolist()) <= set(range(3, 8))
    for wrong in (None, before[:3], before + 5, before - 1, before + 0.5):
        with pytest.raises(UserError, match=r"takes the previous actions .* 3 to 7, .* 3 where"):
            loaded.act(obs, wrong)


def test_a_policy_without_it_refuses_it(tmp_path: Path):
    network = {**NETWORK, "previous_action": False}
    loaded = exported(tmp_path, policy_of(Pictures.observation_space, Discrete(2), network=network))
    with pytest.raises(UserError, match="takes no previous actions"):
        loaded.act(np.zeros((1, *SIZE), np.uint8), np.zeros(1, int))


def test_rllibs_own_calls_give_the_previous_action_too():
    policy = policy_of(Pictures.observation_space, Pictures.action_space, network=NETWORK)
    obs = np.random.default_rng(0).integers(0, 256, (2, *SIZE), np.uint8)
    with torch.no_grad():
        own = [policy.network.policy(torch.from_numpy(obs), torch.tensor(before))[0].numpy()
               for before in ([0, 0], [2, 4])]  # fmt: skip
    _, _, first = policy.compute_actions(obs)
    _, _, later = policy.compute_actions(obs, prev_action_batch=np.array([5, 7]))
    np.testing.assert_allclose(first[SampleBatch.ACTION_DIST_INPUTS], own[0], rtol=1e-5)
    np.testing.assert_allclose(later[SampleBatch.ACTION_DIST_INPUTS], own[1], rtol=1e-5)


def test_other_actions_than_categories_are_refused():
    with pytest.raises(UserError, match=r"previous_action=True takes Discrete actions, not Box"):
        policy_of(Pictures.observation_space, Box(-1, 1, (2,)), network=NETWORK)
