import re
from collections import defaultdict
from pathlib import Path
from typing import Any, ClassVar

import pytest
from ray.rllib.algorithms.ppo import PPOConfig
from ray.tune.utils.util import flatten_dict
from toy_envs import CodedEnv, reward_of

from rllib_ppg import PPGConfig
from rllib_ppg._ray_compat import RLlibCallback

STEPS = 14


class Recorder(RLlibCallback):
    """Writes down what it is called with, by environment."""

    calls: ClassVar[dict[int, list[Any]]] = defaultdict(list)

    def note(self, name: str, episode: Any, env_index: int, **extra: Any) -> None:
        reward = round(episode.total_reward, 4)
        info = (episode.last_info_for() or {}).get("count")
        self.calls[env_index].append((name, episode.length, reward, info))
        # What callbacks of RLlib's documentation do must work.
        assert extra["worker"].policy_map is extra["policies"]
        assert len(extra["base_env"].get_sub_environments()) == 3
        assert episode.env_id == env_index

    def on_episode_created(self, **kwargs: Any) -> None:
        self.note("created", **kwargs)

    def on_episode_start(self, *, episode: Any, **kwargs: Any) -> None:
        self.note("start", episode, **kwargs)
        episode.user_data["steps"] = 0

    def on_episode_step(self, *, episode: Any, **kwargs: Any) -> None:
        self.note("step", episode, **kwargs)
        episode.user_data["steps"] += 1
        episode.hist_data.setdefault("lengths", []).append(float(episode.length))

    def on_episode_end(self, *, episode: Any, **kwargs: Any) -> None:
        self.note("end", episode, **kwargs)
        assert episode.user_data["steps"] == episode.length == episode.total_env_steps
        episode.custom_metrics["twice_the_length"] = 2 * episode.length


class OnlyEnds(RLlibCallback):
    def on_episode_end(self, *, episode: Any, **kwargs: Any) -> None:
        episode.custom_metrics["return"] = episode.total_reward
        episode.media["clip"] = "pixels"


def build(callbacks: Any = RLlibCallback, **env_config: Any) -> Any:
    config = PPGConfig().environment(CodedEnv, env_config=env_config).callbacks(callbacks)
    return config.update_from_dict(
        {"num_envs": 3, "rollout_fragment_length": STEPS, "nminibatch": 1, "aux_mbsize": 1}
    ).build_algo()


def expected_episodes() -> list[tuple[int, float]]:
    """Length and return of the episodes that end within STEPS steps, in the order of their ends."""
    ends = []
    for env in range(3):
        length = 4 + env
        for episode in range(STEPS // length):
            total = sum(float(reward_of([env, episode, step])) for step in range(length))
            ends.append(((episode + 1) * length, env, length, total))
    return [(length, total) for _, _, length, total in sorted(ends)]


@pytest.mark.parametrize("callbacks", [RLlibCallback, OnlyEnds, Recorder])
@pytest.mark.parametrize("truncate", [False, True])
def test_returns_and_lengths_are_the_environments_own(ray_local, callbacks, truncate: bool):
    worker = build(callbacks, truncate=truncate).env_runner
    worker.sample()
    metrics = worker.get_metrics()
    assert [m.episode_length for m in metrics] == [length for length, _ in expected_episodes()]
    assert [m.episode_reward for m in metrics] == pytest.approx([r for _, r in expected_episodes()])
    assert worker.get_metrics() == []


def test_an_episode_goes_on_from_rollout_to_rollout(ray_local):
    worker = build(length=STEPS + 3).env_runner
    worker.sample()
    assert worker.get_metrics() == []
    worker.sample()
    assert [m.episode_length for m in worker.get_metrics()] == [17, 18, 19]


def test_results_hold_raw_returns_and_lengths(ray_local):
    results = build().train()["env_runners"]
    lengths, returns = zip(*expected_episodes(), strict=True)
    assert results["episodes_this_iter"] == len(lengths)
    assert results["episode_len_mean"] == pytest.approx(sum(lengths) / len(lengths))
    assert results["episode_return_mean"] == pytest.approx(sum(returns) / len(returns))
    assert results["episode_return_max"] == pytest.approx(max(returns))


class Longest(RLlibCallback):
    def on_episode_end(self, *, episode: Any, **kwargs: Any) -> None:
        episode.custom_metrics["NAME"] = episode.length


def test_results_hold_the_starter_kits_metrics_as_they_are_documented(ray_local):
    text = (Path(__file__).parents[1] / "docs" / "metrics.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"(?<=\| Starter kit \| Here \|\n\| --- \| --- \|\n)(?:\|.*\n)+", text)
    cells = [line.split("|")[2].split(";")[0] for line in table.splitlines()]
    names = [name for cell in cells for name in re.findall(r"`(\w[\w/]+)`", cell) if name[0] != "_"]
    result = build(Longest).train()
    lengths, returns = zip(*expected_episodes(), strict=True)
    expected = {
        "episode_reward_mean": sum(returns) / len(returns),
        "episode_reward_min": min(returns),
        "episode_reward_max": max(returns),
        "episode_len_mean": sum(lengths) / len(lengths),
        "episodes_this_iter": len(lengths),
        "hist_stats/episode_reward": list(returns),
        "hist_stats/episode_lengths": list(lengths),
        "custom_metrics/NAME_mean": sum(lengths) / len(lengths),
    }
    own = {"timesteps_total": 3 * STEPS, "training_iteration": 1}
    expected = {**{f"env_runners/{name}": each for name, each in expected.items()}, **own}
    assert set(names) == {*expected, "time_total_s"}
    found = flatten_dict(result)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value), name
    assert found["time_total_s"] > 0 and found["env_runners/num_episodes"] == len(lengths)
    customs = [found[f"env_runners/custom_metrics/NAME_{end}"] for end in ("min", "max")]
    assert customs == [min(lengths), max(lengths)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_callbacks_are_called_as_rllibs_sampler_calls_them(ray_local):
    Recorder.calls.clear()
    build(Recorder).env_runner.sample()
    ours = {env: list(calls) for env, calls in Recorder.calls.items()}
    Recorder.calls.clear()
    config = (
        PPOConfig()
        .api_stack(enable_rl_module_and_learner=False, enable_env_runner_and_connector_v2=False)
        .environment(CodedEnv)
        .callbacks(Recorder)
        .env_runners(num_env_runners=0, num_envs_per_env_runner=3, rollout_fragment_length=STEPS)
        .training(train_batch_size=3 * STEPS, minibatch_size=3 * STEPS)
    )
    config.build_algo().env_runner.sample()
    assert set(ours) == {0, 1, 2}
    for env, calls in ours.items():
        theirs = Recorder.calls[env]
        assert sum(name == "step" for name, *_ in calls) == STEPS
        assert calls == theirs[: len(calls)], f"environment {env}"


def test_custom_metrics_and_histograms_reach_the_result(ray_local):
    Recorder.calls.clear()
    results = build(Recorder).train()["env_runners"]
    lengths = [length for length, _ in expected_episodes()]
    assert results["custom_metrics"]["twice_the_length_mean"] == pytest.approx(
        2 * sum(lengths) / len(lengths)
    )
    assert results["custom_metrics"]["twice_the_length_max"] == 12
    counted = [step + 1.0 for length in lengths for step in range(length)]
    assert results["hist_stats"]["lengths"] == counted


def test_one_callback_alone_works_and_media_reach_the_result(ray_local):
    results = build(OnlyEnds).train()["env_runners"]
    assert results["custom_metrics"]["return_mean"] == results["episode_return_mean"]
    assert "pixels" in str(results["episode_media"])


def test_callbacks_of_an_inherited_class_count(ray_local):
    class Inherited(OnlyEnds):
        pass

    assert "return_mean" in build(Inherited).train()["env_runners"]["custom_metrics"]
