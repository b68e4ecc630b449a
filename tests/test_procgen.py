import subprocess
import sys

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from procgen_play import SHORT, level_seeds, played_levels, random_actions
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.examples._old_api_stack.policy.random_policy import RandomPolicy

from rllib_ppg._ray_compat import EnvContext, RolloutWorker
from rllib_ppg.envs.arrays import ArrayEnv
from rllib_ppg.envs.procgen import ProcgenEnv, ProcgenVectorEnv, game_names, make_procgen
from rllib_ppg.envs.procgen_library import import_procgen
from rllib_ppg.errors import UserError


def context(env_config, worker_index=1, seed=3, num_envs=None, **kwargs):
    ctx = EnvContext(env_config, worker_index=worker_index, **kwargs)
    ctx.seed = seed
    if num_envs is not None:
        ctx.num_envs = num_envs
    return ctx


def test_environments_and_workers_play_different_level_sequences():
    one = played_levels(make_procgen(context({}, worker_index=1, num_envs=4)))
    two = played_levels(make_procgen(context({}, worker_index=2, num_envs=4)))
    sequences = {tuple(levels) for levels in one + two}
    assert len(sequences) == 8
    assert len({level for levels in sequences for level in levels}) == 24


def test_single_environments_of_one_worker_play_different_levels():
    levels = set()
    for index in range(4):
        env = make_procgen(context({}, vector_index=index))
        levels.add(env.reset()[1]["level_seed"])
    assert len(levels) == 4


def test_same_seed_repeats_the_run_and_another_seed_does_not():
    def run(**kwargs):
        env = make_procgen(context(SHORT, num_envs=3, **kwargs))
        return np.array([env.step(action).obs for action in random_actions(40, 3)])

    first = run(seed=3)
    np.testing.assert_array_equal(first, run(seed=3))
    assert not np.array_equal(first, run(seed=4))
    assert not np.array_equal(first, run(seed=3, recreated_worker=True))


def test_option_rand_seed_goes_before_the_seed_of_the_algorithm():
    def levels(seed, **options):
        return level_seeds(make_procgen(context(options, seed=seed, num_envs=3)))

    assert levels(1, rand_seed=9) == levels(2, rand_seed=9)
    assert levels(1, rand_seed=9) != levels(1, rand_seed=10)
    assert levels(1) != levels(2)


def test_without_any_seed_every_environment_is_new():
    first, second = (make_procgen(context({}, seed=None, num_envs=2)) for _ in range(2))
    assert level_seeds(first) != level_seeds(second)


def test_context_with_num_envs_gives_one_object_and_without_a_single_game():
    vector = make_procgen(context({}, num_envs=5))
    assert isinstance(vector, ProcgenVectorEnv)
    assert isinstance(vector, ArrayEnv)
    assert vector.num_envs == 5
    assert isinstance(make_procgen(context({})), ProcgenEnv)


def test_context_may_ask_for_large_pictures():
    for num_envs, picture in ((2, lambda env: env.render(0)), (None, lambda env: env.render())):
        ctx = context({}, num_envs=num_envs)
        ctx.render = True
        assert picture(make_procgen(ctx)).shape == (512, 512, 3)


def stock_worker(creator, num_envs, **env_runners):
    """RLlib's unchanged RolloutWorker with a random policy."""
    config = (
        PPOConfig()
        .api_stack(enable_rl_module_and_learner=False, enable_env_runner_and_connector_v2=False)
        .environment("procgen_under_test", env_config={**SHORT, "frame_stack": 2})
        .env_runners(num_envs_per_env_runner=num_envs, rollout_fragment_length=60, **env_runners)
        .debugging(seed=5)
    )
    config.enable_connectors = True
    return RolloutWorker(
        env_creator=creator,
        config=config,
        default_policy_class=RandomPolicy,
        worker_index=1,
        num_workers=1,
    )


@pytest.mark.parametrize("vectorised", [True, False])
def test_rllibs_stock_rollout_worker_samples_whole_episodes(vectorised):
    def creator(ctx):
        if vectorised:
            ctx.num_envs = 3
        return make_procgen(ctx)

    worker = stock_worker(creator, 3)
    try:
        batches = [worker.sample()["default_policy"] for _ in range(4)]
        metrics = worker.get_metrics()
    finally:
        worker.stop()
    rewards = sum(float(batch["rewards"].sum()) for batch in batches)
    ended = sum(int(batch["terminateds"].sum()) for batch in batches)
    assert sum(len(batch) for batch in batches) == 4 * 3 * 60
    assert len(metrics) == ended >= 3
    assert sum(m.episode_reward for m in metrics) <= rewards
    stack = batches[0]["obs"]
    assert stack.shape[1:] == (64, 64, 6)
    starts = batches[0]["t"] == 0
    assert len(np.unique(stack[starts], axis=0)) >= 3, "each environment plays its own levels"
    np.testing.assert_array_equal(stack[starts][..., :3], stack[starts][..., 3:])


def test_single_game_meets_gymnasiums_own_checks():
    check_env(ProcgenEnv({"env_name": "bigfish"}), skip_render_check=True)


def test_single_game_reset_honours_the_seed():
    env = ProcgenEnv(SHORT)
    obs, info = env.reset(seed=21)
    bare = import_procgen().ProcgenGym3Env(num=1, rand_seed=21, num_threads=0, **SHORT)
    assert info["level_seed"] == bare.get_info()[0]["level_seed"]
    np.testing.assert_array_equal(obs, bare.observe()[1]["rgb"][0])
    env.step(3)
    assert env.reset()[1]["level_seed"] != info["level_seed"], "no seed: the next level"
    assert env.reset(seed=21)[1]["level_seed"] == info["level_seed"]
    assert env.reset(seed=2**40)[1]["level_seed"] != info["level_seed"]


def test_single_game_returns_equal_those_of_the_library():
    env, bare = ProcgenEnv(SHORT, rand_seed=3), ProcgenVectorEnv(SHORT, 1, rand_seed=3)
    obs, _ = env.reset()
    for action in random_actions(120, 1):
        previous = obs
        obs, reward, terminated, truncated, _ = env.step(action[0])
        truth = bare.step(action)
        assert (reward, terminated, truncated) == (truth.rewards[0], truth.terminateds[0], False)
        if terminated:
            np.testing.assert_array_equal(obs, previous)
            obs, _ = env.reset()
        np.testing.assert_array_equal(obs, truth.obs[0])


def test_single_game_renders_only_in_its_render_mode():
    assert ProcgenEnv().render() is None
    env = ProcgenEnv(render_mode="rgb_array")
    env.reset(seed=0)
    assert env.render().shape == (512, 512, 3)
    with pytest.raises(UserError, match="rgb_array"):
        ProcgenEnv(render_mode="human")


def test_procgen_is_imported_late_and_quietly():
    code = (
        "import sys; from rllib_ppg.envs.procgen import game_names\n"
        "print('procgen' in sys.modules, len(game_names()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", str(len(game_names()))]
    assert "Gym has been unmaintained" not in done.stderr
