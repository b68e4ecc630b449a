"""Playing new episodes with a trained agent, and with a random policy on the same levels."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from app_helpers import SMALL
from ray import cloudpickle

import rllib_ppg
from rllib_ppg import PPGConfig, UserError, evaluate
from rllib_ppg.algorithm.checkpoint_files import POLICY_STATE, write_manifest
from rllib_ppg.app.evaluate import EpisodeStatistics, play, shares
from rllib_ppg.envs.arrays import Transition


class Clockwork:
    """Environment n has episodes of n + 1 steps, each worth 1."""

    def __init__(self, num_envs: int) -> None:
        self.num_envs = num_envs
        self.count = np.zeros(num_envs, np.int64)

    def reset(self) -> np.ndarray:
        return self.count

    def step(self, actions: np.ndarray) -> Transition:
        self.count = self.count + 1
        done = self.count > np.arange(self.num_envs)
        self.count[done] = 0
        rewards = np.ones(self.num_envs, np.float32)
        return Transition(self.count, rewards, done, np.zeros_like(done), {})


@pytest.fixture(scope="module")
def algorithm(ray_local: None):
    config = PPGConfig().environment("CartPole-v1").update_from_dict({**SMALL, "seed": 3})
    made = config.build_algo()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def checkpoint(algorithm, tmp_path_factory: pytest.TempPathFactory) -> str:
    return algorithm.save(str(tmp_path_factory.mktemp("checkpoint"))).checkpoint.path


def test_short_episodes_are_not_favoured():
    # Whoever counts the first 12 that finish gets mostly those of length 1.
    statistics = play(Clockwork(4), lambda obs: obs, shares(12, 4))
    assert statistics.lengths.tolist() == [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]
    assert statistics.returns.tolist() == statistics.lengths.tolist()


def test_episodes_are_shared_out_evenly():
    assert shares(10, 4).tolist() == [3, 3, 2, 2] and shares(3, 3).tolist() == [1, 1, 1]


def test_mean_and_standard_error():
    statistics = EpisodeStatistics(np.array([1.0, 2.0, 3.0, 6.0]), np.array([1, 1, 1, 1]))
    assert statistics.mean == 3.0
    assert statistics.stderr == pytest.approx(np.std([1, 2, 3, 6], ddof=1) / 2)
    assert str(statistics) == "return 3 +- 1.1 over 4 episodes, mean length 1"
    assert np.isnan(EpisodeStatistics(np.array([1.0]), np.array([1])).stderr)


def test_an_algorithm_and_its_checkpoint_play_the_same(algorithm, checkpoint: str):
    direct = evaluate(algorithm, episodes=6, num_envs=3, seed=5)
    loaded = evaluate(checkpoint, episodes=6, num_envs=3, seed=5)
    assert np.array_equal(direct.returns, loaded.returns) and len(direct.returns) == 6


def test_seed_and_exploration_matter(algorithm):
    plays = {
        (seed, explore): tuple(evaluate(algorithm, episodes=4, seed=seed, explore=explore).returns)
        for seed in (0, 1)
        for explore in (True, False)
    }
    assert len(set(plays.values())) == 4
    assert plays[0, True] == tuple(evaluate(algorithm, episodes=4).returns)


def test_evaluation_changes_nothing_of_the_algorithm(algorithm):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    before = {k: v.copy() for k, v in algorithm.get_policy().get_weights().items()}
    obs = algorithm.env_runner.array_env.observe().copy()
    evaluate(algorithm, episodes=4)
    assert torch.equal(torch.rand(3), expected)
    assert np.array_equal(algorithm.env_runner.array_env.observe(), obs)
    after = algorithm.get_policy().get_weights()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_a_checkpoint_of_a_run_on_a_gpu_loads_anywhere(checkpoint: str, tmp_path: Path):
    folder = tmp_path / "checkpoint"
    shutil.copytree(checkpoint, folder)
    state = cloudpickle.loads((folder / POLICY_STATE).read_bytes())
    state["policy_spec"]["config"] |= {"num_gpus": 1, "num_env_runners": 4}
    (folder / POLICY_STATE).write_bytes(cloudpickle.dumps(state))
    write_manifest(folder, {})
    assert len(evaluate(folder, episodes=2).returns) == 2


def test_a_broken_checkpoint_is_refused(checkpoint: str, tmp_path: Path):
    folder = tmp_path / "checkpoint"
    shutil.copytree(checkpoint, folder)
    (folder / POLICY_STATE).unlink()
    with pytest.raises(UserError, match="is missing"):
        evaluate(folder, episodes=2)


def test_procgen_plays_the_same_levels_whoever_plays(algorithm):
    config = PPGConfig().environment("procgen", env_config={"distribution_mode": "easy"})
    config = config.update_from_dict(SMALL).training(
        model={"custom_model_config": {"widths": [4], "hidden_size": 8, "blocks": 1}}
    )
    player = config.build_algo()
    agent = evaluate(player, episodes=3, seed=1, env_config={"num_levels": 5})
    chance = evaluate(player, episodes=3, seed=1, env_config={"num_levels": 5}, policy="random")
    player.stop()
    assert len(agent.returns) == len(chance.returns) == 3
    assert not np.array_equal(agent.lengths, chance.lengths)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"episodes": 0}, "at least 1"),
        ({"episodes": 3, "num_envs": 4}, "1 to 3"),
        ({"policy": "best"}, '"agent" or "random"'),
        ({"env_config": {"no_such_option": 1}}, "cannot be made"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(algorithm, options: dict, why: str):
    with pytest.raises(UserError, match=why):
        evaluate(algorithm, **options)


def test_a_folder_without_checkpoint_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="no checkpoint folder"):
        evaluate(tmp_path)


def test_it_is_the_packages():
    assert rllib_ppg.evaluate is evaluate
