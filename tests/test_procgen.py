import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.examples._old_api_stack.policy.random_policy import RandomPolicy

from rllib_ppg._ray_compat import EnvContext, RolloutWorker
from rllib_ppg.envs.arrays import ArrayEnv
from rllib_ppg.envs.procgen import (
    ProcgenEnv,
    ProcgenVectorEnv,
    derive_rand_seed,
    game_names,
    make_procgen,
)
from rllib_ppg.envs.procgen_library import import_procgen
from rllib_ppg.errors import UserError

# Random play ends episodes of this game within some tens of steps.
SHORT = {"env_name": "starpilot", "distribution_mode": "hard"}


def random_actions(steps, num_envs, seed=0):
    return np.random.default_rng(seed).integers(0, 15, (steps, num_envs))


def level_seeds(env):
    return [info["level_seed"] for info in env.infos()]


def context(env_config, worker_index=1, seed=3, num_envs=None, **kwargs):
    ctx = EnvContext(env_config, worker_index=worker_index, **kwargs)
    ctx.seed = seed
    if num_envs is not None:
        ctx.num_envs = num_envs
    return ctx


def played_levels(env, episodes=3):
    """The levels of the first episodes of each game, which are cut short to get to the next."""
    levels = [level_seeds(env)]
    for _ in range(episodes - 1):
        env.step(np.zeros(env.num_envs, int))
        env.reset()
        levels.append(level_seeds(env))
    return np.array(levels).T.tolist()


# --- the games, seen through the array interface ---


def test_steps_equal_those_of_the_bare_library():
    actions = random_actions(200, 3)
    env = ProcgenVectorEnv(SHORT, 3, rand_seed=11)
    bare = import_procgen().ProcgenGym3Env(num=3, rand_seed=11, num_threads=0, **SHORT)
    np.testing.assert_array_equal(env.reset(), bare.observe()[1]["rgb"])
    ended = 0
    for action in actions:
        transition = env.step(action)
        bare.act(action)
        rewards, obs, firsts = bare.observe()
        np.testing.assert_array_equal(transition.obs, obs["rgb"])
        np.testing.assert_array_equal(transition.rewards, rewards)
        np.testing.assert_array_equal(transition.terminateds, firsts)
        ended += firsts.sum()
    assert ended >= 3, "the run must pass through ends of episodes"
    assert transition.rewards.dtype == np.float32
    assert env.observation_space.contains(transition.obs[0])


def test_returns_and_lengths_of_episodes_are_the_raw_games():
    env = ProcgenVectorEnv({"env_name": "maze", "num_levels": 1, "distribution_mode": "easy"}, 2)
    noop = np.full(2, 4)
    for step in range(1, 501):
        transition = env.step(noop)
        assert transition.rewards.tolist() == [0, 0]
        assert transition.terminateds.all() == (step == 500), "maze times out after 500 steps"
    assert not transition.truncateds.any(), "a Procgen time-out counts as terminated"
    assert transition.final_obs == {}


def test_no_frame_of_an_earlier_episode_is_in_a_stack():
    k, actions = 4, random_actions(150, 4)
    plain = ProcgenVectorEnv(SHORT, 4, rand_seed=5)
    stacked = ProcgenVectorEnv({**SHORT, "frame_stack": k}, 4, rand_seed=5)
    assert stacked.observation_space.shape == (64, 64, 3 * k)
    episode = [[frame] for frame in plain.reset().copy()]  # frames since each episode's start
    ends, obs = 0, stacked.reset()
    for action in actions:
        for n in range(4):
            expected = ([episode[n][0]] * k + episode[n])[-k:] if len(episode[n]) < k else None
            expected = expected or episode[n][-k:]
            np.testing.assert_array_equal(obs[n], np.concatenate(expected, -1))
        single, transition = plain.step(action), stacked.step(action)
        obs = transition.obs
        for n in range(4):
            if transition.terminateds[n]:
                episode[n], ends = [], ends + 1
            episode[n].append(single.obs[n].copy())
    assert ends >= 4, "the run must pass through ends of episodes"


def test_arrays_of_an_earlier_step_stay_unchanged():
    env = ProcgenVectorEnv(SHORT, 2, rand_seed=0)
    first = env.step(np.array([7, 7]))
    kept = first.obs.copy()
    env.step(np.array([7, 7]))
    np.testing.assert_array_equal(first.obs, kept)


def test_threads_do_not_change_the_run():
    actions = random_actions(60, 4)

    def run(num_threads):
        env = ProcgenVectorEnv({**SHORT, "num_threads": num_threads}, 4, rand_seed=2)
        return np.array([env.step(action).obs for action in actions])

    serial = run(0)
    np.testing.assert_array_equal(serial, run(1))
    np.testing.assert_array_equal(serial, run(4))


def test_first_reset_plays_the_first_levels_and_a_later_one_the_next():
    env = ProcgenVectorEnv({**SHORT, "frame_stack": 2}, 3, rand_seed=1)
    begin = level_seeds(env)
    env.reset()
    assert level_seeds(env) == begin, "nothing was played yet"
    env.step(np.zeros(3, int))
    obs = env.reset()
    assert all(now != before for now, before in zip(level_seeds(env), begin, strict=True))
    np.testing.assert_array_equal(obs[..., :3], obs[..., 3:])
    np.testing.assert_array_equal(env.observe(), obs)


# --- levels and seeds ---


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


def test_rand_seeds_are_in_range_and_spread():
    seeds = {derive_rand_seed(seed, worker, 0, 0) for seed in range(30) for worker in range(30)}
    assert len(seeds) == 900
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert derive_rand_seed(-1, 0) != derive_rand_seed(1, 0)


def test_num_levels_and_start_level_limit_the_levels():
    env = ProcgenVectorEnv({"num_levels": 5, "start_level": 100}, 16, rand_seed=0)
    assert {level for levels in played_levels(env, 4) for level in levels} == set(range(100, 105))


# --- options ---


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("env_name", "ninja"),
        ("start_level", 8),
        ("paint_vel_info", True),
        ("use_generated_assets", True),
        ("center_agent", False),
        ("distribution_mode", "easy"),
        ("use_backgrounds", False),
        ("restrict_themes", True),
        ("use_monochrome_assets", True),
    ],
)
def test_option_is_visible_in_the_game(option, value):
    def frame(options):
        level = {"env_name": "coinrun", "num_levels": 1, "start_level": 7}
        env = ProcgenVectorEnv({**level, **options}, 1, rand_seed=0)
        for _ in range(5):
            env.step(np.array([7]))
        return env.observe()

    assert not np.array_equal(frame({}), frame({option: value}))


def test_sequential_levels_go_on_within_the_episode():
    def first_solved(sequential):
        options = {"distribution_mode": "easy", "use_sequential_levels": sequential}
        env, rng = ProcgenVectorEnv(options, 16, rand_seed=0), np.random.default_rng(0)
        for _ in range(200):
            before = level_seeds(env)
            transition = env.step(rng.choice([7, 8, 8, 8], 16))  # run right and jump
            for n, info in enumerate(env.infos()):
                if info["prev_level_complete"]:
                    return info["level_seed"] - before[n], bool(transition.terminateds[n])
        raise AssertionError("no level was solved")

    assert first_solved(True) == (997, False), "Procgen's next level in sequence"
    assert first_solved(False)[1] is True


@pytest.mark.parametrize("game", sorted(import_procgen().EXPLORATION_LEVEL_SEEDS))
def test_exploration_mode_plays_the_games_one_level(game):
    env = ProcgenVectorEnv({"env_name": game, "distribution_mode": "exploration"}, 2)
    assert set(level_seeds(env)) == {import_procgen().EXPLORATION_LEVEL_SEEDS[game]}


@pytest.mark.parametrize(("game", "mode"), [("chaser", "extreme"), ("miner", "memory")])
def test_rarer_modes_differ_from_hard(game, mode):
    frames = [
        ProcgenVectorEnv(
            {"env_name": game, "distribution_mode": name, "num_levels": 1}, 1, rand_seed=0
        ).step(np.array([4]))
        for name in (mode, "hard")
    ]
    assert not np.array_equal(frames[0].obs, frames[1].obs)


@pytest.mark.parametrize("game", game_names())
def test_every_installed_game_plays(game):
    env = ProcgenVectorEnv({"env_name": game, "distribution_mode": "easy"}, 2, rand_seed=0)
    first = env.reset().copy()
    assert env.action_space == gymnasium.spaces.Discrete(15)
    for action in random_actions(10, 2):
        transition = env.step(action)
    assert not np.array_equal(first, transition.obs)


def test_number_of_games_is_checked():
    for num_envs in (0, -4, 10**9):
        with pytest.raises(UserError, match=f"{num_envs} Procgen games"):
            ProcgenVectorEnv({}, num_envs)


# --- state ---


@pytest.mark.parametrize("frame_stack", [1, 3])
def test_restored_state_continues_identically_through_ends_of_episodes(frame_stack):
    options = {**SHORT, "frame_stack": frame_stack}
    original = ProcgenVectorEnv(options, 3, rand_seed=4)
    for action in random_actions(37, 3, seed=1):
        original.step(action)
    state = original.get_state()
    restored = ProcgenVectorEnv({**options, "num_threads": 2}, 3, rand_seed=99)
    restored.step(np.zeros(3, int))
    restored.set_state(state)
    np.testing.assert_array_equal(original.observe(), restored.observe())
    ended = 0
    for action in random_actions(200, 3, seed=2):
        a, b = original.step(action), restored.step(action)
        np.testing.assert_array_equal(a.obs, b.obs)
        np.testing.assert_array_equal(a.rewards, b.rewards)
        np.testing.assert_array_equal(a.terminateds, b.terminateds)
        ended += a.terminateds.sum()
    assert ended >= 3, "the run must pass through ends of episodes"
    assert original.infos() == restored.infos()


def test_state_is_a_snapshot():
    env = ProcgenVectorEnv({**SHORT, "frame_stack": 2}, 2, rand_seed=4)
    env.step(np.zeros(2, int))
    state, here = env.get_state(), env.observe().copy()
    for action in random_actions(50, 2):
        env.step(action)
    env.set_state(state)
    np.testing.assert_array_equal(env.observe(), here)
    env.set_state(None)
    np.testing.assert_array_equal(env.observe(), here)


def test_state_of_other_games_is_refused():
    state = ProcgenVectorEnv(SHORT, 2).get_state()
    for other in (
        ProcgenVectorEnv({"env_name": "coinrun"}, 2),
        ProcgenVectorEnv(SHORT, 3),
        ProcgenVectorEnv({**SHORT, "num_levels": 10}, 2),
        ProcgenVectorEnv({**SHORT, "frame_stack": 2}, 2),
    ):
        with pytest.raises(ValueError, match="saved state is of 2 games"):
            other.set_state(state)


# --- pictures ---


def test_render_shows_the_large_picture_when_asked_for_and_the_newest_frame_otherwise():
    plain = ProcgenVectorEnv({"frame_stack": 2}, 2, rand_seed=0)
    plain.step(np.array([7, 7]))
    np.testing.assert_array_equal(plain.render(1), plain.observe()[1, ..., 3:])
    ctx = context({}, num_envs=2)
    ctx.render = True
    large = make_procgen(ctx)
    picture = large.render(0)
    assert picture.dtype == np.uint8
    assert picture.shape == (512, 512, 3)
    large.step(np.array([7, 7]))
    assert not np.array_equal(picture, large.render(0))
    assert not np.array_equal(large.render(0), large.render(1))
    assert "rgb" not in large.infos()[0]


# --- RLlib's own ways to step environments ---


def test_context_with_num_envs_gives_one_object_and_without_a_single_game():
    vector = make_procgen(context({}, num_envs=5))
    assert isinstance(vector, ProcgenVectorEnv)
    assert isinstance(vector, ArrayEnv)
    assert vector.num_envs == 5
    assert isinstance(make_procgen(context({})), ProcgenEnv)


def test_vector_step_repeats_the_last_frame_at_the_end_and_reset_at_gives_the_next():
    env, arrays = (ProcgenVectorEnv(SHORT, 2, rand_seed=6) for _ in range(2))
    obs, infos = env.vector_reset()
    assert len(obs) == len(infos) == 2
    np.testing.assert_array_equal(obs, arrays.reset())
    ended = 0
    for action in random_actions(150, 2):
        previous, truth = obs, arrays.step(action)
        obs, rewards, terminateds, truncateds, infos = env.vector_step(list(action))
        assert rewards == truth.rewards.tolist()
        assert terminateds == truth.terminateds.tolist()
        assert truncateds == [False, False]
        assert infos == arrays.infos()
        for n in range(2):
            if terminateds[n]:
                np.testing.assert_array_equal(obs[n], previous[n])
                obs[n], _ = env.reset_at(n)
                ended += 1
            np.testing.assert_array_equal(obs[n], truth.obs[n])
    assert ended >= 2


def test_one_game_alone_cannot_be_restarted_in_the_middle_of_an_episode():
    env = ProcgenVectorEnv(SHORT, 2, rand_seed=6)
    env.step(np.zeros(2, int))
    with pytest.raises(ValueError, match="vector_reset"):
        env.reset_at(1)


def test_vector_reset_with_seeds_starts_anew():
    env = ProcgenVectorEnv({}, 2, rand_seed=6)
    env.vector_reset(seeds=[1, 2])
    first = played_levels(env)
    env.vector_reset(seeds=[1, 3])
    assert played_levels(env) != first
    env.vector_reset(seeds=[1, 2])
    assert played_levels(env) == first


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


# --- the library ---


def test_procgen_is_imported_late_and_quietly():
    code = (
        "import sys; from rllib_ppg.envs.procgen import game_names\n"
        "print('procgen' in sys.modules, len(game_names()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", str(len(game_names()))]
    assert "Gym has been unmaintained" not in done.stderr
