"""Blocks on workers: the same episodes whatever their number, dead workers replaced."""

import os
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import ray
from evaluation import procgen_policy
from procgen_play import SHORT

from rllib_ppg import UserError
from rllib_ppg.algorithm import evaluate_workers
from rllib_ppg.algorithm.evaluate_agents import Act, RandomAgent, trained_agent
from rllib_ppg.algorithm.evaluate_blocks import Block, make_blocks
from rllib_ppg.algorithm.evaluate_episodes import join
from rllib_ppg.algorithm.evaluate_workers import Team, choose_workers, play_blocks


def blocks_of(num_envs: int, episodes: int) -> list[Block]:
    return make_blocks("procgen", SHORT, "starpilot", episodes=episodes, num_envs=num_envs, seed=0)


def test_the_episodes_do_not_depend_on_the_number_of_workers(ray_local: None):
    agent = trained_agent(procgen_policy())
    blocks = blocks_of(20, 22)
    lists = []
    for workers in (0, 2):
        played = join(play_blocks(agent, blocks, workers))
        columns = (played.returns, played.lengths, played.level_seeds, played.envs)
        lists.append([column.tolist() for column in columns])
    assert len(lists[0][0]) == 22 and len(set(lists[0][1])) > 10
    assert lists[0] == lists[1]


def test_progress_counts_episodes_and_steps_up_to_the_end():
    heard = []
    (played,) = play_blocks(RandomAgent(), blocks_of(4, 6), 0, lambda *news: heard.append(news))
    assert heard == sorted(heard) and heard[-1] == (6, played.env_steps)


def test_what_the_progress_raises_ends_the_workers(ray_local: None):
    def stop(episodes: int, env_steps: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        play_blocks(RandomAgent(), blocks_of(32, 3200), 2, stop)
    every = ray.cluster_resources()["CPU"]
    deadline = time.monotonic() + 120
    while ray.available_resources().get("CPU") != every and time.monotonic() < deadline:
        time.sleep(0.1)
    assert ray.available_resources()["CPU"] == every


class Dying:
    """Plays at random, but ends its process the first `times` times."""

    def __init__(self, marks: Path, times: int) -> None:
        self.marks, self.times = marks, times

    def begin(self, space, seed: int) -> Act:
        for number in range(self.times):
            try:
                (self.marks / str(number)).touch(exist_ok=False)
            except FileExistsError:
                continue
            os._exit(1)
        return RandomAgent().begin(space, seed)


class Hanging(Dying):
    """Plays at random, but hangs the first `times` times."""

    def begin(self, space, seed: int) -> Act:
        for number in range(self.times):
            try:
                (self.marks / str(number)).touch(exist_ok=False)
            except FileExistsError:
                continue
            time.sleep(10_000)
        return RandomAgent().begin(space, seed)


@pytest.mark.parametrize(
    ("kind", "silent_s", "cause"),
    [
        (Dying, None, "its process died"),
        pytest.param(Hanging, 20.0, "it said nothing for 20 s", marks=pytest.mark.slow),
    ],
)
def test_a_lost_worker_s_block_is_played_anew(
    ray_local: None, tmp_path: Path, kind, silent_s, cause
):
    ray.cloudpickle.register_pickle_by_value(__import__(__name__))
    blocks = blocks_of(4, 6)
    (expected,) = play_blocks(RandomAgent(), blocks, 0)
    told = []
    with closing(Team(1, silent_s=silent_s, tell=told.append)) as team:
        (played,) = play_blocks(kind(tmp_path, 1), blocks, team)
        assert np.array_equal(played.returns, expected.returns)
        assert len(list(tmp_path.iterdir())) == 1
        assert told == [f"An evaluation worker was lost: {cause}. Its episodes are played anew."]


def test_a_team_plays_one_evaluation_after_the_other_with_the_same_processes(
    ray_local: None, tmp_path: Path
):
    class Telling:
        def begin(self, space, seed: int) -> Act:
            (tmp_path / f"{os.getpid()}").touch()
            return RandomAgent().begin(space, seed)

    blocks = blocks_of(4, 4)
    with closing(Team(1)) as team:
        first, second = (join(play_blocks(Telling(), blocks, team)) for _ in range(2))
    assert len(list(tmp_path.iterdir())) == 1
    assert np.array_equal(first.returns, second.returns)


def test_workers_that_keep_dying_end_the_evaluation(ray_local: None, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(evaluate_workers, "MAX_LOST_WORKERS", 0)
    ray.cloudpickle.register_pickle_by_value(__import__(__name__))
    with pytest.raises(UserError, match="workers died"):
        play_blocks(Dying(tmp_path, 100), blocks_of(4, 6), 1)


@pytest.mark.parametrize(
    ("wanted", "blocks", "cpus", "workers"),
    [(None, 4, 2, 2), (None, 1, 8, 0), (None, 4, 1, 0), (0, 4, 8, 0), (4, 9, 2, 4), (9, 4, 2, 4)],
)
def test_workers_fit_the_machine_and_the_blocks(wanted, blocks, cpus, workers):
    assert choose_workers(wanted, blocks, cpus) == workers
