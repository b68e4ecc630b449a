"""Playing new episodes with a trained agent, and with a random policy on the same levels."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from app_helpers import SMALL
from evaluation import config_of
from ray import cloudpickle

import rllib_ppg
from rllib_ppg import PPGConfig, UserError, evaluate
from rllib_ppg.algorithm.checkpoint_files import POLICY_STATE, write_manifest


@pytest.fixture(scope="module")
def algorithm(ray_local: None):
    config = PPGConfig().environment("CartPole-v1").update_from_dict({**SMALL, "seed": 3})
    made = config.build_algo()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def checkpoint(algorithm, tmp_path_factory: pytest.TempPathFactory) -> str:
    return algorithm.save(str(tmp_path_factory.mktemp("checkpoint"))).checkpoint.path


def test_an_algorithm_and_its_checkpoint_play_the_same(algorithm, checkpoint: str):
    direct = evaluate(algorithm, episodes=6, num_envs=3, seed=5)
    loaded = evaluate(checkpoint, episodes=6, num_envs=3, seed=5)
    assert np.array_equal(direct.returns, loaded.returns) and len(direct.returns) == 6


def test_workers_play_the_same(algorithm):
    alone = evaluate(algorithm, episodes=20, seed=5)
    shared = evaluate(algorithm, episodes=20, seed=5, num_env_runners=1)
    assert np.array_equal(alone.returns, shared.returns)


def test_seed_and_temperature_matter(algorithm):
    plays = {
        (seed, t): tuple(evaluate(algorithm, episodes=4, seed=seed, temperature=t).returns)
        for seed in (0, 1)
        for t in (1.0, 0.0)
    }
    assert len(set(plays.values())) == 4
    assert plays[0, 1.0] == tuple(evaluate(algorithm, episodes=4).returns)


def test_evaluation_changes_nothing_of_the_algorithm(algorithm):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    before = {k: v.copy() for k, v in algorithm.get_policy().get_weights().items()}
    obs = algorithm.env_runner.array_env.observe().copy()
    threads = torch.get_num_threads()
    evaluate(algorithm, episodes=4)
    assert torch.equal(torch.rand(3), expected) and torch.get_num_threads() == threads
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


def test_procgen_plays_the_same_levels_whoever_plays(ray_local: None):
    player = config_of("procgen", {"distribution_mode": "easy", "num_levels": 5}, **SMALL)
    player = player.build_algo()
    agent = evaluate(player, episodes=6, num_envs=3, seed=1, levels="train")
    chance = evaluate(player, episodes=6, num_envs=3, seed=1, levels="train", policy="random")
    unseen = evaluate(player, episodes=3, seed=1, levels="test", policy="random")
    player.stop()
    assert agent.level_seeds.tolist() == chance.level_seeds.tolist()
    assert set(agent.level_seeds) <= {0, 1, 2, 3, 4} and min(unseen.level_seeds) > 4
    assert not np.array_equal(agent.lengths, chance.lengths)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"episodes": 0}, "at least 1"),
        ({"episodes": 3, "num_envs": 4}, "1 to 3"),
        ({"policy": "best"}, '"agent" or "random"'),
        ({"policy": "random", "temperature": 1.0}, "has none"),
        ({"temperature": -1.0}, "must be 0"),
        ({"levels": "test"}, "only Procgen has levels"),
        ({"num_env_runners": -1}, "or more"),
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
