"""Reward transforms of a user's own are tried once, before a run has rewards."""

from typing import Any

import pytest

from rllib_ppg.app.checks import check_ppg
from rllib_ppg.core.reward_norm import RewardTransform
from rllib_ppg.core.reward_trial import try_reward_transform
from rllib_ppg.errors import UserError


class Own(RewardTransform):
    def __init__(self, num_envs: int, *, gamma: float, wrong: Any = "") -> None:
        super().__init__(num_envs, gamma=gamma)
        self.wrong, self.seen = wrong, 0
        if wrong == "constructor":
            raise KeyError("constructor")

    def __call__(self, rewards: Any, firsts: Any, envs: Any) -> Any:
        assert rewards.shape == firsts.shape == (3, 4) and envs.tolist() == [0, 1, 2, 3]
        assert set(rewards.ravel()) == {0.0, 1.0}, "as games give them"
        if self.wrong == "call":
            raise TypeError("no rewards")
        return rewards.T if self.wrong == "shape" else rewards

    @property
    def scale(self) -> Any:
        return "large" if self.wrong == "scale" else 1.0

    def get_state(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def set_state(self, state: dict[str, Any]) -> None:
        self.seen = state["sen" if self.wrong == "state" else "seen"]


def tried(wrong: str) -> None:
    try_reward_transform({"type": f"{__name__}.Own", "wrong": wrong}, 4, 3, gamma=0.9)


def test_a_sound_transform_passes():
    tried("")
    try_reward_transform("rollout", 4, 3, gamma=0.9)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("constructor", r"\.Own: cannot be made: KeyError: 'constructor'"),
        ("call", r"\.Own fails: TypeError: no rewards\."),
        ("shape", r"\.Own makes \(4, 3\) of rewards \(3, 4\); it must give an array \(T, N\)"),
        ("scale", r"\.Own fails: ValueError: could not convert string to float"),
        ("state", r"\.Own fails: KeyError: 'sen'"),
    ],
)
def test_a_transform_that_would_fail_is_one_sentence(wrong: str, message: str):
    with pytest.raises(UserError, match=message) as error:
        tried(wrong)
    assert str(error.value).startswith("reward_transform ") and "\n" not in str(error.value)


def test_it_is_tried_before_a_run():
    setting = {"type": f"{__name__}.Own", "wrong": "call"}
    variant = {"env": "CartPole-v1", "reward_transform": setting, "num_envs": 4}
    variant |= {"rollout_fragment_length": 3, "nminibatch": 1, "aux_mbsize": 1}
    with pytest.raises(UserError, match="fails: TypeError: no rewards"):
        check_ppg({**variant, "normalize_rewards": True})
    check_ppg({**variant, "normalize_rewards": False})
