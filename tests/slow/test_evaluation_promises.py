"""What evaluation promises, on all games and numbers of workers; `test_evaluate_*` has a look."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from app_helpers import SMALL
from bare_play import bare_returns, random_returns, standard_errors_apart
from evaluation import config_of

from rllib_ppg.core.scores import PUBLIC_GAMES

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("game", PUBLIC_GAMES)
def test_a_random_policy_scores_what_it_scores_in_the_bare_library(game: str):
    ours, bare = random_returns(game, 320), bare_returns(game, 320, rand_seed=12345)
    assert abs(standard_errors_apart(ours, bare)) < 3


def test_the_command_gives_the_same_episodes_with_1_2_and_4_workers(ray_local, tmp_path: Path):
    options = {"env_name": "starpilot", "distribution_mode": "easy", "num_levels": 50}
    algorithm = config_of("procgen", options, **SMALL).build_algo()
    checkpoint = algorithm.save(str(tmp_path / "saved")).checkpoint.path
    algorithm.stop()
    lists = []
    for workers in ("1", "2", "4"):
        out = tmp_path / f"{workers}.json"
        words = [checkpoint, "--games", "starpilot,bossfight", "--num-env-runners", workers]
        command = [sys.executable, "-m", "rllib_ppg", "evaluate", *words, "--out", str(out)]
        subprocess.run(command, check=True, timeout=600)
        lists.append([game["episodes"] for game in json.loads(out.read_text())["games"]])
    assert lists[0] == lists[1] == lists[2]
    assert [len(game) for game in lists[0]] == [200, 200]
