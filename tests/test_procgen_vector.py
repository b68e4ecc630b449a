import gymnasium
import numpy as np
import pytest
from procgen_play import SHORT, level_seeds, played_levels, random_actions

from rllib_ppg.envs.procgen_library import game_names, import_procgen
from rllib_ppg.envs.procgen_vector import ProcgenVectorEnv, derive_rand_seed
from rllib_ppg.errors import UserError

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


@pytest.mark.parametrize(
    "options",
    [{}, {"frame_stack": 2}, {"frame_stack": 2, "stale_frame_stack": True},
     {"count_states": True, "noop_reward": -0.1}],
    ids=str,
)  # fmt: skip
def test_games_that_reuse_their_arrays_show_the_same_and_make_no_new_ones(options):
    fresh, reusing = (
        ProcgenVectorEnv({**SHORT, **options}, 3, rand_seed=6, reuse_arrays=reuse)
        for reuse in (False, True)
    )
    np.testing.assert_array_equal(fresh.reset(), reusing.reset())
    first, ended = reusing.observe(), 0
    for action in random_actions(120, 3):
        one, two = fresh.step(action), reusing.step(action)
        for name in ("obs", "rewards", "terminateds", "shaping"):
            np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
        ended += one.terminateds.sum()
    assert ended and np.shares_memory(first, two.obs)
    assert not np.shares_memory(first, one.obs)


@pytest.mark.parametrize("k", [2, 3])
def test_stacks_that_are_read_seldom_are_those_that_are_read_always(k):
    options = {**SHORT, "frame_stack": k}
    always = ProcgenVectorEnv(options, 3, rand_seed=6)
    seldom = ProcgenVectorEnv(options, 3, rand_seed=6, reuse_arrays=True)
    always.reset(), seldom.reset()
    rng, unread, ended_unread = np.random.default_rng(0), 0, 0
    for t, action in enumerate(random_actions(300, 3)):
        one, two = always.step(action), seldom.step(action)
        np.testing.assert_array_equal(two.newest_frames, one.obs[..., -3:])
        if t == 200:
            seldom.set_state(seldom.get_state())
        if rng.random() < 0.3:
            np.testing.assert_array_equal(two.obs, one.obs)
        else:
            unread += 1
            ended_unread += one.terminateds.any()
    assert unread > 150 and ended_unread > 3
    np.testing.assert_array_equal(seldom.observe(), always.observe())


def test_a_stacked_transition_is_unpacked_and_replaced_like_any():
    env = ProcgenVectorEnv({**SHORT, "frame_stack": 2}, 3, rand_seed=6, reuse_arrays=True)
    transition = env.step(np.zeros(3, int))
    assert transition._replace(rewards=np.ones(3)).newest_frames is transition.newest_frames
    obs, rewards, *_ = transition
    assert obs is transition.obs and rewards is transition.rewards
    assert transition[0] is obs and transition[1] is rewards and transition[:2][0] is obs
    replaced = transition._replace(obs=255 - transition.obs)
    np.testing.assert_array_equal(replaced.obs, 255 - env.observe())
    assert replaced.newest_frames is None


def test_rllibs_own_sampler_may_keep_what_reusing_games_show_it():
    env = ProcgenVectorEnv(SHORT, 2, rand_seed=0, reuse_arrays=True)
    shown = [env.vector_reset()[0]]
    for action in random_actions(40, 2):
        shown.append(env.vector_step(action)[0])
    env = ProcgenVectorEnv(SHORT, 2, rand_seed=0)
    expected = [env.vector_reset()[0]]
    for action in random_actions(40, 2):
        expected.append(env.vector_step(action)[0])
    np.testing.assert_array_equal(shown, expected)


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
    large = ProcgenVectorEnv({}, 2, rand_seed=0, render=True)
    picture = large.render(0)
    assert picture.dtype == np.uint8
    assert picture.shape == (512, 512, 3)
    large.step(np.array([7, 7]))
    assert not np.array_equal(picture, large.render(0))
    assert not np.array_equal(large.render(0), large.render(1))
    assert "rgb" not in large.infos()[0]


# --- lists, as RLlib's own sampler wants them ---


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


def test_a_new_seed_plays_other_levels():
    env = ProcgenVectorEnv({"env_name": "coinrun"}, 3, rand_seed=1)
    first = env.observe().copy()
    shown = []
    for seed in (5, 5, 2**62):
        env.step(np.zeros(3, np.int64))
        env.reseed(seed)
        shown.append(env.reset().copy())
    assert np.array_equal(shown[0], shown[1])
    assert not np.array_equal(shown[0], first) and not np.array_equal(shown[0], shown[2])
    env.close()


def test_vector_reset_with_seeds_starts_anew():
    env = ProcgenVectorEnv({}, 2, rand_seed=6)
    env.vector_reset(seeds=[1, 2])
    first = played_levels(env)
    env.vector_reset(seeds=[1, 3])
    assert played_levels(env) != first
    env.vector_reset(seeds=[1, 2])
    assert played_levels(env) == first
