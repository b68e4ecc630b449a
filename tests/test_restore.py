"""What goes on from a checkpoint that fits, and what is said before it is loaded."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from app_helpers import SMALL, command, experiment, experiments

from rllib_ppg import PPG, PPGConfig, UserError
from rllib_ppg.algorithm.checkpoint_files import write_manifest
from rllib_ppg.app.checks import Checked, check

NETWORK = {"widths": [4], "hidden_size": 8, "blocks": 1}


def built(**changes: Any) -> PPG:
    """Return an algorithm on Procgen with `num_envs: 8`, `n_pi: 2` and no remote worker."""
    settings = {**SMALL, "model": {"custom_model_config": NETWORK}, "seed": 1, **changes}
    return PPGConfig().environment("procgen").update_from_dict(settings).build_algo()


@pytest.fixture(scope="module")
def folder(ray_local: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkpoint after the first of two iterations of a phase."""
    algorithm = built()
    algorithm.train()
    path = tmp_path_factory.mktemp("saved") / "checkpoint_000000"
    algorithm.save(str(path))
    algorithm.stop()
    return path


@contextmanager
def restored(folder: Path, **changes: Any) -> Iterator[PPG]:
    algorithm = built(**changes)
    algorithm.restore(str(folder))
    yield algorithm
    algorithm.stop()


def test_other_workers_keep_the_phase_and_begin_new_episodes(folder: Path):
    with restored(folder, num_env_runners=1, num_cpus_per_env_runner=0.25) as algorithm:
        assert algorithm._plan.stored == 1 and algorithm._store.count == 8
        said = algorithm.train()["notices"]
        assert said == ["All environments begin new episodes: num_env_runners was 0 and is 1."]
        goes_on_through_an_auxiliary_phase(algorithm)


@pytest.mark.parametrize(
    ("changes", "was"),
    [
        ({"n_pi": 3}, "n_pi was 2 and is 3"),
        ({"rollout_fragment_length": 8}, "rollout_fragment_length was 16 and is 8"),
    ],
)
def test_another_phase_begins_anew_and_the_environments_go_on(
    folder: Path, changes: dict, was: str
):
    with restored(folder, **changes) as algorithm:
        assert algorithm._plan.stored == 0 and algorithm._store.count == 0
        assert algorithm.train()["notices"] == [f"The current phase begins anew: {was}."]
        goes_on_through_an_auxiliary_phase(algorithm)


def test_another_game_takes_weights_and_statistics(folder: Path):
    game = {"env_name": "bigfish"}
    with restored(folder, env_config=game) as algorithm, restored(folder) as same:
        weights = [each.get_policy().get_weights() for each in (algorithm, same)]
        assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[1])
        moments = [each._rewards.get_state()["moments"] for each in (algorithm, same)]
        assert moments[0] == moments[1]
        assert (algorithm._plan.stored, same._plan.stored) == (0, 1)
        notices = algorithm.train()["notices"]
        assert len(notices) == 2 and all("was coinrun and is bigfish" in n for n in notices)
        assert same.train()["notices"] == []
        goes_on_through_an_auxiliary_phase(algorithm)


def test_environments_that_begin_anew_do_not_begin_as_the_run_did(folder: Path):
    levels = {"env_name": "coinrun", "num_levels": 100}
    fresh = built(env_config=levels)
    begun = [fresh._sampler.collect()[0].batch]
    fresh.stop()
    for _ in range(2):
        with restored(folder, env_config=levels) as algorithm:
            begun.append(algorithm._sampler.collect()[0].batch)
    first, one, again = ([batch[name] for name in ("obs", "actions")] for batch in begun)
    for rows, others in zip(one, first, strict=True):
        assert not np.array_equal(rows[:16], others[:16])
    assert all(np.array_equal(rows, others) for rows, others in zip(one, again, strict=True))


def goes_on_through_an_auxiliary_phase(algorithm: PPG) -> None:
    for _ in range(12):
        algorithm.train()
        if algorithm._totals["aux_phases"]:
            return
    pytest.fail("no auxiliary phase came")


# ---- before a run is started


def checked(place: Path, config: str = "{}", **changes: Any) -> Checked:
    settings = {**SMALL, "model": {"custom_model_config": NETWORK}, **changes}
    text = f"x:\n  run: PPG\n  env: procgen\n  restore: {place}\n  config: {json.dumps(settings)}\n"
    return check(experiments(text, place.parent)[0])


def test_that_it_is_unpickled_is_said_first(folder: Path):
    found = checked(folder)
    (line,) = found.notes
    assert str(folder) in line and "unpickles" in line and "sources that you trust" in line
    assert found.experiment.keys.restore == str(folder)


def test_what_begins_anew_is_said_once_for_all_variants(folder: Path):
    grid = {"grid_search": [1e-3, 1e-4]}
    _, phase, episodes = checked(folder, lr=grid, n_pi=3, num_env_runners=1).notes
    assert phase == "x: The current phase begins anew: n_pi was 2 and is 3."
    assert episodes == "x: All environments begin new episodes: num_env_runners was 0 and is 1."


def test_one_variant_that_does_not_fit_is_enough(folder: Path):
    network = {**NETWORK, "hidden_size": {"grid_search": [8, 16]}}
    with pytest.raises(UserError, match=r"e\.yaml:4: .*hidden_size was 8 and is 16"):
        checked(folder, model={"custom_model_config": network})


def test_the_home_folder_and_a_last_slash_are_understood(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("HOME", str(folder.parent))
    settings = {**SMALL, "model": {"custom_model_config": NETWORK}}
    given = experiment(tmp_path, json.dumps(settings), "procgen", restore=f"~/{folder.name}/")
    assert check(given).experiment.keys.restore == str(folder)


def test_a_remote_checkpoint_is_left_to_the_trial(tmp_path: Path):
    found = check(experiment(tmp_path, json.dumps(SMALL), restore="s3://bucket/checkpoint"))
    assert found.experiment.keys.restore == "s3://bucket/checkpoint"
    assert "checked by the trial" in found.notes[0] and "unpickles" in found.notes[0]


def test_the_dry_run_says_it_too(folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    settings = json.dumps({**SMALL, "n_pi": 3, "model": {"custom_model_config": NETWORK}})
    words = ["train", "--run", "PPG", "--env", "procgen", "--config", settings, "--dry-run"]
    run = command(capsys, *words, "--restore", str(folder), "--storage-path", str(tmp_path))
    assert run.code == 0 and "unpickles" in run.out and "n_pi was 2 and is 3" in run.out


@pytest.mark.parametrize("name", ["algorithm_state.pkl", "rllib_checkpoint.json"])
def test_another_algorithm_takes_what_may_be_its_own(tmp_path: Path, name: str):
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / name).write_bytes(b"{}")
    text = f"x:\n  run: DQN\n  env: CartPole-v1\n  restore: {tmp_path}/checkpoint\n"
    found = check(experiments(text, tmp_path)[0])
    assert "unpickles" in found.notes[0]


def test_another_algorithm_is_not_given_ours_or_nothing(tmp_path: Path):
    text = f"x:\n  run: PPO\n  env: CartPole-v1\n  restore: {tmp_path}/checkpoint\n"
    with pytest.raises(UserError, match="no checkpoint folder"):
        check(experiments(text, tmp_path)[0])
    (tmp_path / "checkpoint").mkdir()
    write_manifest(tmp_path / "checkpoint", {})
    with pytest.raises(UserError, match="checkpoint of PPG, not of PPO"):
        check(experiments(text, tmp_path)[0])


def test_help_says_that_it_unpickles(capsys: pytest.CaptureFixture[str]):
    text = " ".join(command(capsys, "train", "--help").out.replace("│", " ").split())
    for flag in ("--restore", "--resume"):
        assert "sources that you trust" in text.split(f" {flag}")[1][:400], flag
