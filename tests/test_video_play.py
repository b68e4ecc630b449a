"""Playing in cells: quotas, pauses, what is shown, and what the policy sees."""

import numpy as np
import pytest
import torch
from app_helpers import SMALL
from procgen_play import SHORT

from rllib_ppg import PPGConfig
from rllib_ppg.app.video_envs import game_options, make_env
from rllib_ppg.app.video_play import (
    Cell,
    Decision,
    Player,
    chosen_bars,
    play,
    probabilities,
)
from rllib_ppg.core.distributions import ActionSpec
from rllib_ppg.envs.arrays import Transition

SPEC = ActionSpec("categorical", (2,))
TINY = {"custom_model_config": {"widths": [4], "hidden_size": 8, "blocks": 1}}


class Clock:
    """Episodes of `length` steps, each worth 1; its picture shows the steps of the episode."""

    num_envs = 1

    def __init__(self, length: int) -> None:
        self.length = length
        self.count = np.zeros(1, np.int64)

    def reset(self) -> np.ndarray:
        return self.count

    def step(self, actions: np.ndarray) -> Transition:
        self.count = self.count + 1
        done = self.count >= self.length
        self.count = np.where(done, 0, self.count)
        return Transition(self.count, np.ones(1, np.float32), done, np.zeros(1, bool), {})

    def render(self, index: int) -> np.ndarray:
        return np.full((2, 2, 3), self.count[0], np.uint8)

    def close(self) -> None: ...


class Still:
    """Takes action 0 whatever it sees."""

    def decide(self, obs, generators, before):
        return [Decision(np.zeros(1, np.int64), None, None) for _ in generators]

    def env_action(self, action, env):
        return action


def watch(cells: list[Cell], max_steps: int = 100) -> list[list[tuple]]:
    """Return, for each frame and cell: picture, episode, return, over."""
    frames = play(cells, Still(), SPEC, max_steps)
    return [
        [(int(s.picture[0, 0, 0]), s.episode, s.total, s.over) for s in shots] for shots in frames
    ]


def cell(length: int, episodes: int, pause: int = 0) -> Cell:
    return Cell(Clock(length), "clock", episodes, torch.Generator(), pause)


def test_a_cell_that_is_over_stays_on_its_last_frame():
    seen = watch([cell(2, 1), cell(4, 1)])
    assert [frame[0] for frame in seen] == [
        (0, 1, 0, False), (1, 1, 1, False), (1, 1, 2, True), (1, 1, 2, True), (1, 1, 2, True),
    ]  # fmt: skip
    assert seen[-1][1] == (3, 1, 4, True)


def test_each_cell_plays_its_own_number_of_episodes():
    seen = watch([cell(2, 3), cell(3, 1)])
    assert [frame[0][:3] for frame in seen] == [
        (0, 1, 0), (1, 1, 1), (0, 2, 0), (1, 2, 1), (0, 3, 0), (1, 3, 1), (1, 3, 2),
    ]  # fmt: skip


def test_an_ended_episode_is_shown_with_its_return_before_the_next():
    seen = watch([cell(2, 2, pause=2)])
    assert [frame[0] for frame in seen] == [
        (0, 1, 0, False), (1, 1, 1, False), (1, 1, 2, False), (1, 1, 2, False),
        (0, 2, 0, False), (1, 2, 1, False), (1, 2, 2, True),
    ]  # fmt: skip


def test_it_ends_after_the_given_steps():
    assert len(watch([cell(50, 1)], max_steps=5)) == 6


def test_several_choices_have_their_bars_side_by_side():
    spec = ActionSpec("multi_categorical", (2, 3))
    probs = probabilities(spec, torch.tensor([0.0, 0.0, 0.0, 0.0, np.log(2.0)]))
    assert probs == pytest.approx([0.5, 0.5, 0.25, 0.25, 0.5])
    assert chosen_bars(spec, np.array([[1, 2]])) == (1, 4)


@pytest.fixture(scope="module")
def policy(ray_local: None):
    config = PPGConfig().environment("procgen", env_config=SHORT).update_from_dict(SMALL)
    algorithm = config.training(model=TINY).debugging(seed=0).build_algo()
    with torch.no_grad():  # a new policy is nearly uniform: then a mistake would hardly show
        algorithm.get_policy().network.policy_head.weight.mul_(100)
    yield algorithm.get_policy()
    algorithm.stop()


def actions(policy, *, render: bool, seed: int = 3, steps: int = 80, **options) -> list[list[int]]:
    """Return what two cells do, step by step."""
    cells = [
        Cell(make_env("procgen", SHORT, seed + index, render=render), "starpilot", 9,
             torch.Generator().manual_seed(seed + index))
        for index in range(2)
    ]  # fmt: skip
    player = Player(policy, options.pop("temperature", 1.0), **options)
    done = []
    for _ in play(cells, player, policy.action_spec, steps):
        done.append([int(one._decision.action[0]) for one in cells])
    for one in cells:
        one.env.close()
    return done


def test_the_policy_acts_as_if_nothing_were_rendered(policy):
    plain = actions(policy, render=False)
    assert actions(policy, render=True) == plain
    assert len({action for step in plain for action in step}) > 3


def test_values_and_probabilities_change_no_action(policy):
    plain = actions(policy, render=False)
    assert actions(policy, render=False, with_values=True, with_probs=True) == plain


def test_seed_and_temperature_matter(policy):
    plain = actions(policy, render=False)
    assert actions(policy, render=False, seed=4) != plain
    assert actions(policy, render=False, temperature=0.0) != plain
    greedy = actions(policy, render=False, temperature=0.0)
    assert greedy == actions(policy, render=False, temperature=0.0)


def test_pictures_are_procgens_large_ones(policy):
    env = make_env("procgen", SHORT, 0)
    assert env.render(0).shape == (512, 512, 3) and env.reset().shape == (1, 64, 64, 3)
    env.close()


def test_unseen_levels_are_played_on_request():
    trained_on = {**SHORT, "num_levels": 200, "start_level": 50}
    ((_, own),) = game_options("procgen", trained_on, [], None)
    assert (own["num_levels"], own["start_level"]) == (200, 50)
    ((name, unseen),) = game_options("procgen", trained_on, ["maze"], "test")
    env = make_env("procgen", unseen, 0, render=False)
    assert name == "maze" and all(info["level_seed"] >= 250 for info in env.infos())
    env.close()
