import pickle
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from ray import cloudpickle
from toy_envs import CodedEnv, EchoEnv, RecordedProcgen, StackedEnv, reward_of

from rllib_ppg import PPGConfig
from rllib_ppg._ray_compat import RLlibCallback, SampleBatch
from rllib_ppg.algorithm.rollout import EPISODE_STARTS, Rollout, as_array_env
from rllib_ppg.core.frames import Rows
from rllib_ppg.envs.array_wrapper import ArrayWrapper
from rllib_ppg.errors import UserError

ENVS, STEPS = 3, 10


def build(env: Any = CodedEnv, env_config: Any = None, **changes: Any) -> Any:
    sizes = {"num_envs": ENVS, "rollout_fragment_length": STEPS, "nminibatch": 1, "aux_mbsize": 1}
    config = PPGConfig().environment(env, env_config=env_config or {})
    return config.update_from_dict({**sizes, "seed": 5, **changes}).build_algo()


def columns(rollout: Rollout) -> dict[str, np.ndarray]:
    """The batch as arrays (N, T, ...)."""
    batch = rollout.batch
    shape = (rollout.num_envs, len(batch) // rollout.num_envs)
    return {name: batch[name].reshape(*shape, *batch[name].shape[1:]) for name in batch}


def copied(rollout: Rollout) -> dict[str, np.ndarray]:
    return {name: np.array(column) for name, column in columns(rollout).items()}


# ---- rows


def play(env: int, steps: int) -> list[tuple[int, int, int]]:
    """What `CodedEnv` number `env` shows in `steps` steps: (environment, episode, step)."""
    length = 4 + env
    return [(env, t // length, t % length) for t in range(steps)]


@pytest.mark.parametrize("truncate", [False, True])
def test_rows_are_environment_major_and_every_column_belongs_to_its_step(ray_local, truncate):
    worker = build(env_config={"truncate": truncate}).env_runner
    rollouts = [copied(worker.sample()) for _ in range(2)]
    for env in range(ENVS):
        expected = np.array(play(env, 2 * STEPS + 1), np.float32)
        for number, got in enumerate(rollouts):
            now = slice(number * STEPS, (number + 1) * STEPS)
            assert np.array_equal(got[SampleBatch.OBS][env], expected[now])
            np.testing.assert_allclose(
                got[SampleBatch.REWARDS][env], reward_of(expected[now]), rtol=1e-6
            )
            last = expected[now, 2] == 4 + env - 1
            ends, others = SampleBatch.TERMINATEDS, SampleBatch.TRUNCATEDS
            if truncate:
                ends, others = others, ends
            assert np.array_equal(got[ends][env], last) and not got[others].any()
            assert np.array_equal(got[EPISODE_STARTS][env], expected[now, 2] == 0)


def test_the_observation_after_the_last_step_is_kept(ray_local):
    worker = build().env_runner
    for number in (1, 2):
        rollout = worker.sample()
        expected = [play(env, number * STEPS + 1)[-1] for env in range(ENVS)]
        assert np.array_equal(rollout.final_obs, np.array(expected, np.float32))


def test_the_last_observation_is_the_true_one_at_time_limits(ray_local):
    rollout = build(env_config={"truncate": True}).env_runner.sample()
    seen = {}
    for row, obs in zip(rollout.truncated_rows, rollout.truncated_obs, strict=True):
        env, t = divmod(int(row), STEPS)
        seen[env, t] = tuple(obs)
    expected = {
        (env, t): (env, t // (4 + env), 4 + env)
        for env in range(ENVS)
        for t in range(STEPS)
        if (t + 1) % (4 + env) == 0
    }
    assert seen == expected
    assert set(zip(*np.nonzero(columns(rollout)[SampleBatch.TRUNCATEDS]), strict=True)) == set(seen)


def test_without_time_limits_there_are_no_such_observations(ray_local):
    rollout = build().env_runner.sample()
    assert rollout.truncated_rows.shape == (0,) and rollout.truncated_obs.shape == (0, 3)


def test_a_rollout_says_whose_it_is_and_where_its_time_went(ray_local):
    rollout = build().env_runner.sample()
    assert rollout.worker_index == 0 and rollout.num_envs == ENVS
    assert len(rollout.batch) == rollout.batch.count == ENVS * STEPS
    seconds = rollout.seconds
    assert set(seconds) == {"env", "network", "total"}
    assert min(seconds.values()) > 0 and seconds["env"] + seconds["network"] < seconds["total"]


# ---- acting


@pytest.mark.parametrize(
    "space",
    [Discrete(3), Discrete(3, start=4), MultiDiscrete([2, 3]), Box(-2, 5, (2,), np.float32)],
    ids=str,
)
@pytest.mark.parametrize("arch", ["dual", "shared"])
def test_log_probabilities_are_those_of_the_stored_observations_and_actions(ray_local, space, arch):
    model = {"custom_model_config": {"arch": arch, "normed_init": False}}
    observations = Box(-1, 1, (3,), np.float32)
    algorithm = build(
        EchoEnv, {"action_space": space, "observation_space": observations}, model=model
    )
    policy, batch = algorithm.get_policy(), algorithm.env_runner.sample().batch
    with torch.no_grad():
        output = policy.network(torch.from_numpy(batch[SampleBatch.OBS]))
    dist = policy.action_spec.distribution(output.logits)
    expected = dist.logp(torch.from_numpy(batch[SampleBatch.ACTIONS])).numpy()
    np.testing.assert_allclose(batch[SampleBatch.ACTION_LOGP], expected, rtol=1e-4, atol=1e-6)
    inputs = batch[SampleBatch.ACTION_DIST_INPUTS]
    np.testing.assert_allclose(inputs, output.logits.numpy(), rtol=1e-4, atol=1e-6)
    assert len(np.unique(batch[SampleBatch.ACTIONS], axis=0)) > 1
    if arch == "shared":
        np.testing.assert_allclose(batch[SampleBatch.VF_PREDS], output.vf.numpy(), rtol=1e-4)
    else:
        assert SampleBatch.VF_PREDS not in batch


def test_without_exploration_the_most_likely_action_is_taken(ray_local):
    model = {"custom_model_config": {"normed_init": False}}
    for space in (Discrete(3), Box(-1, 1, (2,), np.float32)):
        algorithm = build(EchoEnv, {"action_space": space}, model=model, explore=False)
        batch = algorithm.env_runner.sample().batch
        inputs = torch.from_numpy(batch[SampleBatch.ACTION_DIST_INPUTS])
        mode = algorithm.get_policy().action_spec.distribution(inputs).mode().numpy()
        assert np.array_equal(batch[SampleBatch.ACTIONS], mode)


def test_the_same_seed_gives_the_same_rollouts_and_another_seed_others(ray_local):
    def two_rollouts(**changes: Any) -> list[np.ndarray]:
        worker = build("CartPole-v1", **changes).env_runner
        return [copied(worker.sample())[SampleBatch.OBS] for _ in range(2)]

    first, again, other = two_rollouts(), two_rollouts(), two_rollouts(seed=6)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])
    assert not np.array_equal(first[0], first[1])
    unseeded = [two_rollouts(seed=None)[0] for _ in range(2)]
    assert not np.array_equal(*unseeded)


def test_environments_of_one_worker_are_seeded_differently(ray_local):
    first = columns(build("CartPole-v1").env_runner.sample())[SampleBatch.OBS][:, 0]
    assert len(np.unique(first, axis=0)) == ENVS


def sent_actions(worker: Any) -> np.ndarray:
    """The actions that `EchoEnv`s were given, (N, T, ...)."""
    return np.array([env.actions for env in worker.array_env.envs])


def test_normalised_actions_are_stretched_to_the_spaces_bounds(ray_local):
    space = Box(np.array([-2, 10], np.float32), np.array([6, 11], np.float32))
    worker = build(EchoEnv, {"action_space": space}).env_runner
    actions = columns(worker.sample())[SampleBatch.ACTIONS]
    sent = sent_actions(worker)
    middle, half = np.array([2, 10.5]), np.array([4, 0.5])
    expected = np.clip(middle + actions * half, space.low, space.high)
    np.testing.assert_allclose(sent, expected, rtol=1e-5)
    assert sent.dtype == np.float32 and np.abs(actions).max() > 1, "no action needed clipping"


def test_actions_may_be_clipped_or_left_alone_instead(ray_local):
    space = Box(-0.5, 0.5, (2,), np.float32)
    for clip in (False, True):
        worker = build(
            EchoEnv, {"action_space": space}, normalize_actions=False, clip_actions=clip
        ).env_runner
        actions = columns(worker.sample())[SampleBatch.ACTIONS]
        expected = np.clip(actions, -0.5, 0.5) if clip else actions
        np.testing.assert_array_equal(sent_actions(worker), expected)


def test_actions_of_a_shaped_space_keep_their_shape(ray_local):
    worker = build(EchoEnv, {"action_space": Box(-1, 1, (2, 3), np.float32)}).env_runner
    actions = columns(worker.sample())[SampleBatch.ACTIONS]
    assert actions.shape == (ENVS, STEPS, 6) and sent_actions(worker).shape == (ENVS, STEPS, 2, 3)


@pytest.mark.parametrize(
    ("space", "first"),
    [(Discrete(3, start=4), 4), (MultiDiscrete([2, 3], start=[1, -5]), np.array([1, -5]))],
)
def test_actions_are_stored_from_zero_and_sent_from_the_spaces_start(ray_local, space, first):
    worker = build(EchoEnv, {"action_space": space}).env_runner
    actions = columns(worker.sample())[SampleBatch.ACTIONS]
    sent = sent_actions(worker)
    assert np.array_equal(sent, actions + first) and actions.min() == 0
    assert all(space.contains(action) for env in sent for action in env)


def test_discrete_observations_are_stored_as_numbers(ray_local):
    batch = build("FrozenLake-v1").env_runner.sample().batch
    assert batch[SampleBatch.OBS].shape == (ENVS * STEPS,)
    assert batch[SampleBatch.OBS].dtype == np.int64


# ---- Procgen


def test_procgens_games_fill_the_rows_with_their_bytes(ray_local):
    def rollout(seed: int) -> dict[str, np.ndarray]:
        model = {"custom_model_config": {"widths": [4], "hidden_size": 8, "blocks": 1}}
        algorithm = build("procgen", {"env_name": "coinrun"}, model=model, seed=seed)
        return copied(algorithm.env_runner.sample())

    one, again, other = rollout(1), rollout(1), rollout(2)
    frames = one[SampleBatch.OBS]
    assert frames.shape == (ENVS, STEPS, 64, 64, 3) and frames.dtype == np.uint8
    assert all(np.array_equal(one[name], again[name]) for name in one)
    assert not np.array_equal(frames[:, 0], other[SampleBatch.OBS][:, 0]), "the same levels"
    assert len({frame.tobytes() for frame in frames[:, 0]}) == ENVS
    assert one[EPISODE_STARTS][:, 0].all() and not one[SampleBatch.TRUNCATEDS].any()


def test_an_array_environment_is_taken_as_it_is(ray_local):
    worker = build("procgen", {"env_name": "coinrun"}).env_runner
    assert worker.array_env is worker.env and worker.env.num_envs == ENVS
    assert as_array_env(worker.env, None) is worker.env


# ---- beginning anew


def test_games_without_a_state_begin_other_levels_than_the_run_did(ray_local):
    model = {"custom_model_config": {"widths": [4], "hidden_size": 8, "blocks": 1}}
    algorithm = build("procgen", {"env_name": "coinrun", "rand_seed": 4}, model=model)
    worker = algorithm.env_runner
    assert worker.set_sampling_state(None, 0), "as the run begins"
    begin = worker._generator.get_state()
    first = copied(worker.sample())

    def anew(steps: int) -> dict[str, np.ndarray]:
        assert not worker.set_sampling_state(None, steps)
        assert not torch.equal(worker._generator.get_state(), begin), "the same actions"
        return copied(worker.sample())

    one, same, other = anew(30), anew(30), anew(60)
    assert all(np.array_equal(one[name], same[name]) for name in one), "it is decided by the seed"
    assert one[EPISODE_STARTS][:, 0].all()
    seen = [rollout[SampleBatch.OBS][:, 0].tobytes() for rollout in (first, one, other)]
    assert len(set(seen)) == 3, "the same levels"


def test_an_array_environment_that_can_be_seeded_is(ray_local):
    class Seeded(StackedEnv):
        seeds: list[int] = []  # noqa: RUF012

        def reseed(self, seed: int) -> None:
            self.seeds.append(seed)

    worker = build(Seeded, {"frame_stack": 1}).env_runner
    worker.sample()
    assert not worker.set_sampling_state(worker.get_sampling_state(), ENVS * STEPS)
    assert not worker.set_sampling_state(None, ENVS * STEPS)
    worker.set_sampling_state(None, 0)
    assert len(set(worker.array_env.seeds)) == 2


# ---- callbacks


class Doubled(RLlibCallback):
    def on_sample_end(self, *, worker: Any, samples: SampleBatch, **kwargs: Any) -> None:
        assert worker.config.num_envs == ENVS and isinstance(samples, SampleBatch)
        samples[SampleBatch.REWARDS] = samples[SampleBatch.REWARDS] * 2


class InPlace(RLlibCallback):
    def on_sample_end(self, *, samples: SampleBatch, **kwargs: Any) -> None:
        samples[SampleBatch.REWARDS][:] = 0


def value_targets(callbacks: Any) -> np.ndarray:
    config = PPGConfig().environment(CodedEnv).callbacks(callbacks)
    config.update_from_dict({"num_envs": ENVS, "rollout_fragment_length": STEPS, "seed": 5})
    config.update_from_dict({"nminibatch": 1, "aux_mbsize": 1, "normalize_rewards": False})
    algorithm = config.update_from_dict({"gamma": 0.0}).build_algo()
    algorithm.train()
    return algorithm._store.value_targets[:ENVS]


def test_the_learner_sees_what_on_sample_end_made_of_the_rewards(ray_local):
    plain = value_targets(RLlibCallback)
    assert plain.max() > 0.5
    np.testing.assert_allclose(value_targets(Doubled), 2 * plain, rtol=1e-5)
    np.testing.assert_allclose(value_targets(InPlace), 0, atol=1e-6)


# ---- remote workers


@pytest.fixture(scope="module")
def remote(ray_local):
    algorithm = build(
        num_envs=4, num_env_runners=2, n_pi=1, n_aux_epochs=1, env_config={"length": 20}
    )
    yield algorithm
    algorithm.stop()


def test_remote_workers_have_different_environments(remote):
    rollouts = remote._sampler.collect()
    assert [rollout.worker_index for rollout in rollouts] == [1, 2]
    numbers = [columns(rollout)[SampleBatch.OBS][:, 0, 0].tolist() for rollout in rollouts]
    assert numbers == [[10.0, 11.0], [20.0, 21.0]]


def test_remote_workers_draw_different_actions(remote):
    one, other = remote._sampler.collect()
    assert not np.array_equal(one.batch[SampleBatch.ACTIONS], other.batch[SampleBatch.ACTIONS])


def test_weights_reach_the_workers_after_both_phases(remote):
    def weights() -> list[np.ndarray]:
        def flat(worker: Any) -> np.ndarray:
            values = worker.get_policy().network.state_dict().values()
            return np.concatenate([value.numpy().ravel() for value in values])

        return remote.env_runner_group.foreach_env_runner(flat)

    seen = [weights()[0]]
    for _ in range(2):  # a policy iteration, then the pass that records the old policy
        remote.train()
        local, *others = weights()
        assert len(others) == 2 and all(np.array_equal(local, other) for other in others)
        seen.append(local)
    remote.train()  # the only epoch of the auxiliary phase
    local, *others = weights()
    assert remote._totals["aux_phases"] == 1
    assert all(np.array_equal(local, other) for other in others)
    assert not np.array_equal(seen[0], seen[1]) and not np.array_equal(seen[1], local)


# ---- stacked frames

IMAGE = {"custom_model_config": {"widths": [4], "hidden_size": 8, "blocks": 1}}
PHASE = {"num_envs": 4, "n_pi": 3, "n_aux_epochs": 1, "num_cpus_per_env_runner": 0.25}


def stacks_of_the_store(algorithm: Any) -> np.ndarray:
    """What the learner reads back of a phase, iterations in order (N, iterations * T, ...)."""
    store = algorithm._store
    frames = store.frames()
    rows = torch.arange(len(frames))
    read = frames.read(Rows(rows, rows), torch.device("cpu")).numpy()
    segments = read.reshape(store.count, store.num_steps, *read.shape[1:])
    order = np.lexsort((store.iteration[: store.count], store.env[: store.count]))
    envs = len(np.unique(store.env[: store.count]))
    return segments[order].reshape(envs, -1, *read.shape[1:])


def shown(algorithm: Any, steps: int) -> np.ndarray:
    """The observations that the environments handed out before each step (N, steps, ...)."""
    workers = algorithm.env_runner_group.foreach_env_runner(
        lambda worker: [np.array(obs) for obs in worker.array_env.shown[:steps]],
        local_env_runner=not algorithm.config.num_env_runners,
    )
    return np.concatenate([np.stack(worker, axis=1) for worker in workers])


def check_stacks(env: Any, env_config: dict[str, Any], num_frames: int, **changes: Any) -> None:
    algorithm = build(env, env_config, **{**PHASE, **changes})
    steps = algorithm.config.rollout_fragment_length
    for _ in range(3):
        algorithm.train()
    expected, stored = shown(algorithm, 3 * steps), stacks_of_the_store(algorithm)
    if num_frames > 1:
        assert algorithm._store._oldest.max() >= num_frames, "no episode began inside a rollout"
    assert stored.dtype == expected.dtype and np.array_equal(stored, expected)
    frame = expected.shape[-1] // num_frames
    assert algorithm._store.obs.shape[-1] == frame
    assert algorithm._store.obs.shape[1] == steps + num_frames - 1
    assert algorithm._store.nbytes == algorithm.config.store_bytes(
        expected.shape[2:], expected.dtype, num_frames
    )
    algorithm.stop()


@pytest.mark.parametrize(
    ("num_frames", "workers"), [(2, 0), (4, 0), pytest.param(4, 2, marks=pytest.mark.slow)]
)
def test_the_store_gives_procgens_stacks_back_as_they_were(ray_local, num_frames, workers):
    env_config = {"env_name": "dodgeball", "distribution_mode": "easy", "frame_stack": num_frames}
    changes = {"num_env_runners": workers, "rollout_fragment_length": 40, "model": IMAGE}
    check_stacks(RecordedProcgen, env_config, num_frames, **changes)


@pytest.mark.parametrize("truncate", [False, True])
@pytest.mark.parametrize(("num_frames", "workers"), [(1, 0), (2, 0), (4, 0)])
def test_the_store_gives_stacks_back_over_many_episode_starts(
    ray_local, num_frames, workers, truncate
):
    env_config = {"frame_stack": num_frames, "truncate": truncate}
    check_stacks(StackedEnv, env_config, num_frames, num_env_runners=workers)


class Negatives(ArrayWrapper):
    """Shows the pictures of a game as negatives."""

    def __init__(self, context: Any) -> None:
        super().__init__(RecordedProcgen(context))

    def reset(self) -> np.ndarray:
        return 255 - self.env.reset()

    def observe(self) -> np.ndarray:
        return 255 - self.env.observe()

    def step(self, actions: np.ndarray) -> Any:
        transition = self.env.step(actions)
        return transition._replace(obs=255 - transition.obs)


class Masked(ArrayWrapper):
    """Blackens a part of every frame, in the very arrays that it gets."""

    def __init__(self, context: Any) -> None:
        super().__init__(RecordedProcgen(context))

    def reset(self) -> np.ndarray:
        return self._masked(self.env.reset())

    def step(self, actions: np.ndarray) -> Any:
        transition = self.env.step(actions)
        self._masked(transition.obs)
        return transition

    def _masked(self, obs: np.ndarray) -> np.ndarray:
        obs[:, :32] = 0
        return obs


class Whole(ArrayWrapper):
    """Has its stacks stored as they are."""

    def __init__(self, context: Any) -> None:
        super().__init__(RecordedProcgen(context))
        self.frame_stack = 1


@pytest.mark.parametrize(("wrapper", "first_row", "channels"), [(Masked, 32, 3), (Whole, 0, 6)])
def test_frames_are_stored_as_they_are_acted_on(ray_local, wrapper, first_row, channels):
    worker = build(wrapper, {"env_name": "dodgeball", "frame_stack": 2}, model=IMAGE).env_runner
    stored = columns(worker.sample())[SampleBatch.OBS]
    expected = np.stack(worker.array_env.env.shown[:STEPS], axis=1)[..., -channels:].copy()
    expected[:, :, :first_row] = 0
    assert np.array_equal(stored, expected) and expected.any()


def test_frames_of_stacks_are_stored_as_a_wrapper_shows_them(ray_local):
    worker = build(Negatives, {"env_name": "dodgeball", "frame_stack": 2}, model=IMAGE).env_runner
    rollout = worker.sample()
    shown = np.stack(worker.array_env.env.shown, axis=1)
    assert np.array_equal(columns(rollout)[SampleBatch.OBS], 255 - shown[:, :STEPS, ..., 3:])
    assert np.array_equal(rollout.final_obs, 255 - shown[:, STEPS])


def test_only_the_newest_frame_of_a_stack_travels(ray_local):
    worker = build(StackedEnv, {"frame_stack": 3, "truncate": True}).env_runner
    for number in range(2):
        rollout = worker.sample()
        stacks = np.stack(worker.array_env.shown[number * STEPS : (number + 1) * STEPS + 1], axis=1)
        rows = columns(rollout)[SampleBatch.OBS]
        assert rows.shape == (ENVS, STEPS, 3) and np.array_equal(rows, stacks[:, :-1, -3:])
        first = stacks[:, 0].reshape(ENVS, 3, 3)
        assert np.array_equal(rollout.history, first[:, :2])
        # Whole stacks, as the value network needs them.
        assert np.array_equal(rollout.final_obs, stacks[:, -1])
        assert rollout.truncated_obs.shape == (len(rollout.truncated_rows), 9)
        for row, last in zip(rollout.truncated_rows, rollout.truncated_obs, strict=True):
            env, t = divmod(int(row), STEPS)
            before = stacks[env, t].reshape(3, 3)
            assert np.array_equal(last.reshape(3, 3)[:2], before[1:]), "the frames before the last"
            assert last[-1] == before[-1, 2] + 1


def test_the_policy_acts_on_whole_stacks(ray_local):
    algorithm = build(StackedEnv, {"frame_stack": 3})
    rollout = algorithm.env_runner.sample()
    stacks = np.stack(algorithm.env_runner.array_env.shown[:STEPS], axis=1)
    with torch.no_grad():
        logits, _ = algorithm.get_policy().network.policy(torch.from_numpy(stacks.reshape(-1, 9)))
    inputs = rollout.batch[SampleBatch.ACTION_DIST_INPUTS]
    np.testing.assert_allclose(inputs, logits.numpy(), rtol=1e-4, atol=1e-6)


def test_a_stack_that_does_not_divide_the_observations_is_refused(ray_local):
    class Wrong(StackedEnv):
        def __init__(self, context: Any) -> None:
            super().__init__(context)
            self.frame_stack = 4

    with pytest.raises(UserError, match=r"Wrong.frame_stack=4 does not divide the last axis"):
        build(Wrong, {"frame_stack": 3})


# ---- transfers


def test_a_rollout_is_pickled_without_copying_its_frames(ray_local):
    model = {"custom_model_config": {"widths": [4], "hidden_size": 8, "blocks": 1}}
    rollout = build("procgen", {"env_name": "coinrun"}, model=model).env_runner.sample()
    buffers: list[pickle.PickleBuffer] = []
    data = cloudpickle.dumps(rollout, protocol=5, buffer_callback=buffers.append)
    assert len(data) < 20_000
    frames = rollout.batch[SampleBatch.OBS]
    outside = [np.frombuffer(buffer, np.uint8) for buffer in buffers]
    assert any(np.shares_memory(part, frames) and part.size == frames.nbytes for part in outside)
    again = pickle.loads(data, buffers=buffers)
    assert np.shares_memory(again.batch[SampleBatch.OBS], frames)
    assert type(again.batch) is SampleBatch and len(again.batch) == ENVS * STEPS


@pytest.mark.parametrize("arch", ["dual", "detach", "shared"])
def test_a_worker_makes_one_pass_a_step_through_the_policy_encoder(ray_local, arch: str):
    algorithm = build(model={"custom_model_config": {"arch": arch}})
    network, calls = algorithm.get_policy().network, []
    if network.separate_value_encoder:
        network.value_encoder.register_forward_hook(lambda *_: calls.append("value"))
    network.policy_encoder.register_forward_hook(lambda *_: calls.append("policy"))
    rollout = algorithm.env_runner.sample()
    assert calls == ["policy"] * STEPS
    assert (SampleBatch.VF_PREDS in rollout.batch) is (arch != "dual")
