"""A challenge's file: an experiment inside or beside it, and what the protocol keeps to itself."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from challenge_files import EXPERIMENT, challenge_file

from rllib_ppg.app.challenge_file import OWN_KEYS, load_challenge
from rllib_ppg.app.challenge_flags import ChallengeFlags
from rllib_ppg.errors import UserError

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


def loaded(path: Path, **flags: Any):
    return load_challenge(ChallengeFlags(str(path), **flags))


def test_an_experiment_may_stand_in_the_file(tmp_path: Path):
    found = loaded(challenge_file(tmp_path), storage_path=str(tmp_path / "out"))
    assert found.name == "tiny" and found.folder == tmp_path / "out" / "tiny"
    assert found.experiment.config["num_envs"] == 8 and found.experiment.config["env"] == "procgen"
    assert found.protocol.seeds == [1, 2] and found.notes == []


def test_an_experiment_may_stand_in_a_file_beside_it(tmp_path: Path):
    config = {**EXPERIMENT["config"], "seed": 7, "env_config": {"env_name": "maze"}}
    other = {**EXPERIMENT, "config": config, "stop": {"timesteps_total": 10}}
    (tmp_path / "e.yaml").write_text(yaml.safe_dump({"other": other}))
    found = loaded(challenge_file(tmp_path, "e.yaml"))
    assert found.name == "tiny" and found.experiment.keys.stop == {}
    assert "seed" not in found.experiment.config
    assert found.notes == [
        "The protocol takes the place of stop, config.seed, config.env_config.env_name of the "
        "experiment."
    ]


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("challenge_*.yaml")), ids=lambda p: p.stem)
def test_the_projects_challenges_are_valid(path: Path):
    found = loaded(path)
    assert found.name == path.stem.replace("_", "-")
    if found.name != "challenge-rehearsal":
        protocol = found.protocol
        assert found.name == f"challenge-{protocol.track.replace('_', '-')}"
        assert (protocol.steps, protocol.seconds, len(protocol.games)) == (8_000_000, 7200, 16)


def test_the_rehearsal_is_as_small_as_its_name_says():
    protocol = loaded(EXPERIMENTS / "challenge_rehearsal.yaml").protocol
    assert len(protocol.tracks) == 2 and len(protocol.games) == 3 and len(protocol.seeds) == 2
    assert protocol.seconds <= 90 and 12 * protocol.seconds <= 20 * 60


def test_flags_override_the_file(tmp_path: Path):
    flags = {"track": "generalization", "games": "maze,ninja", "seeds": "5", "episodes": 9}
    flags |= {"table": "easy_paper", "threshold": 0.1, "budget_steps": "1e4"}
    flags |= {"budget_seconds": "50", "settings": ["lr=1e-3", "max_failures=2"]}
    found = loaded(challenge_file(tmp_path), experiment_name="other", **flags)
    protocol = found.protocol
    assert (protocol.track, protocol.games, protocol.seeds) == (
        "generalization",
        ["maze", "ninja"],
        [5],
    )
    assert (protocol.episodes, protocol.score_table, protocol.threshold) == (9, "easy_paper", 0.1)
    assert (protocol.steps, protocol.seconds, found.name) == (10_000, 50, "other")
    assert found.experiment.config["lr"] == 1e-3 and found.experiment.keys.max_failures == 2


OWN_VALUES = {
    ("stop",): {"training_iteration": 1},
    ("config", "seed"): 1,
    ("config", "budget_env_steps"): 1000,
    ("config", "budget_s"): 100,
    ("config", "budget_margin_s"): 5,
    ("config", "env_config", "env_name"): "maze",
    ("config", "env_config", "num_levels"): 10,
    ("config", "env_config", "start_level"): 5,
    ("config", "env_config", "distribution_mode"): "hard",
}


@pytest.mark.parametrize("path", OWN_KEYS, ids=".".join)
def test_what_the_protocol_sets_cannot_be_set_otherwise(tmp_path: Path, path: tuple[str, ...]):
    value = OWN_VALUES[path]
    for name in reversed(path[1:]):
        value = {name: value}
    inner = {**EXPERIMENT[path[0]], **value} if path[0] == "config" else value
    with pytest.raises(UserError, match=r"tiny.yaml.*is set by the protocol"):
        loaded(challenge_file(tmp_path, {**EXPERIMENT, path[0]: inner}))
    text = ".".join(path[1:] or ("stop", "training_iteration"))
    leaf = OWN_VALUES[path] if path[1:] else 1
    with pytest.raises(UserError, match="is set by the protocol"):
        loaded(challenge_file(tmp_path), settings=[f"{text}={leaf}"])


def test_easy_may_be_said_twice(tmp_path: Path):
    config = {**EXPERIMENT["config"], "env_config": {"distribution_mode": "easy"}}
    assert loaded(challenge_file(tmp_path, {**EXPERIMENT, "config": config})).notes == []


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("run=PPO", "only PPG can be evaluated"),
        ("env=CartPole-v1", "played on procgen"),
        ("num_samples=2", "give seeds"),
        ("restore=/x", "every trial begins anew"),
        ("scheduler=asha", "same budget"),
        ("time_budget_s=3", "budget_seconds"),
        ("checkpoint_config.checkpoint_at_end=false", "last checkpoint is what is scored"),
        ("lr={grid_search: [1e-3, 1e-4]}", "one configuration plays all games"),
        ("env_config.use_sequential_levels=true", "beyond the levels"),
        ("storage_path=s3://a/b", "needs a folder"),
    ],
)
def test_what_has_no_place_in_a_challenge_is_refused(tmp_path: Path, setting: str, message: str):
    with pytest.raises(UserError, match=message):
        loaded(challenge_file(tmp_path), settings=[setting])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x: {run: PPG, env: procgen}", "is an experiment, not a challenge"),
        ("x: {tracks: 1}", "is no challenge"),
        ("x: {protocol: 1}", "protocol takes keys"),
        ("x: {protocol: {}}", "experiment takes the name of an experiment file"),
        ("x: {protocol: {}, experiment: none.yaml}", "There is no file"),
        ("x: {protocol: {}, expriment: {}}", 'Did you mean "experiment"?'),
        ("x: {protocol: {}, experiment: {env: procgen}}", '"run" is missing'),
        ("x: {protocol: {}}\ny: {protocol: {}}", "several challenges"),
        ("", "the file is empty"),
    ],
)
def test_a_file_of_another_shape_is_refused(tmp_path: Path, text: str, message: str):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as refused:
        loaded(path)
    assert message in str(refused.value)


def test_a_scale_and_a_budget_contradict_each_other(tmp_path: Path):
    with pytest.raises(UserError, match="one or the other"):
        loaded(challenge_file(tmp_path), budget_scale=0.1, budget_seconds="10")
