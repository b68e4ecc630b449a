"""The trials of a track: what the protocol makes of an experiment."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from challenge_files import EXPERIMENT, challenge_file

from rllib_ppg import PPGConfig
from rllib_ppg.algorithm import resources
from rllib_ppg.app.challenge_file import Challenge, load_challenge
from rllib_ppg.app.challenge_flags import ChallengeFlags
from rllib_ppg.app.challenge_trials import size, track_experiment
from rllib_ppg.app.checks import check
from rllib_ppg.app.cluster import RaySettings
from rllib_ppg.app.run_length import best_weights_notes, run_length
from rllib_ppg.app.variants import variants
from rllib_ppg.errors import UserError

HERE = RaySettings(num_cpus=2, num_gpus=0)


def made(folder: Path, experiment: Any = None, **protocol: Any) -> Challenge:
    path = challenge_file(folder, experiment, **protocol)
    return load_challenge(ChallengeFlags(str(path), storage_path=str(folder / "out")))


def test_there_is_one_trial_a_game_and_seed(tmp_path: Path):
    challenge = made(tmp_path, games=["maze", "ninja"], seeds=[4, 5, 6])
    sized = size(challenge, HERE)
    for track, levels in (("sample_efficiency", 0), ("generalization", 200)):
        experiment = track_experiment(challenge, sized, track)
        found = variants(experiment.config)
        games = {(each["env_config"]["env_name"], each["seed"]) for each in found}
        assert len(games) == len(found) == 6
        for each in found:
            options = each["env_config"]
            assert (options["num_levels"], options["start_level"]) == (levels, 0)
            assert options["distribution_mode"] == "easy"
        assert experiment.keys.stop == {"timesteps_total": 768}
        assert experiment.keys.storage_path == str(tmp_path / "out" / "tiny")
        assert experiment.name == track


def test_a_trial_never_has_more_steps_than_the_budget(tmp_path: Path):
    for budget, steps in ((128, 128), (255, 128), (256, 256)):
        assert size(made(tmp_path, budget_steps=budget), HERE).steps == steps
    with pytest.raises(UserError, match="less than the 128 environment steps of one iteration"):
        size(made(tmp_path, budget_steps=127), HERE)


def test_auxiliary_phases_are_counted_and_cut_to_the_margin(tmp_path: Path):
    sized = size(made(tmp_path), HERE)
    assert (sized.rows, sized.aux_phases) == (128, 2)
    assert sized.config["aux_slice_s"] == 3  # half of a twentieth of 120 seconds


def test_the_rehearsal_goes_through_two_auxiliary_phases():
    path = Path(__file__).parents[1] / "experiments" / "challenge_rehearsal.yaml"
    sized = size(load_challenge(ChallengeFlags(str(path))), HERE)
    assert (sized.steps, sized.aux_phases) == (12_288, 2)


def test_options_of_the_environment_are_kept(tmp_path: Path):
    config = {**EXPERIMENT["config"], "env_config": {"frame_stack": 2}}
    challenge = made(tmp_path, {**EXPERIMENT, "config": config})
    experiment = track_experiment(challenge, size(challenge, HERE), "generalization")
    assert experiment.config["env_config"]["frame_stack"] == 2


def test_a_scale_shrinks_the_experiment(tmp_path: Path):
    sized = size(made(tmp_path, budget_steps=100_000, budget_scale=0.01), HERE)
    assert (sized.config["num_envs"], sized.config["n_pi"]) == (4, 2)
    assert sized.steps <= 1000 and sized.aux_phases >= 2


WINNER = Path(__file__).parents[1] / "experiments" / "winner_generalization.yaml"


def winner(folder: Path, **protocol: Any) -> Challenge:
    given = {"budget_steps": 8_000_000, "budget_seconds": 7200, **protocol}
    return made(folder, str(WINNER), **given)


def test_the_budget_is_the_algorithms_own_so_that_it_ends_its_runs_itself(tmp_path: Path):
    challenge = winner(tmp_path)
    with resources.assume(8, 0):
        sized = size(challenge, HERE)
    # 279 iterations: with the experiment's own 8,000,000 the stop key would come first.
    assert sized.steps == sized.config["budget_env_steps"] == 279 * 28_672
    assert (sized.config["budget_s"], sized.config["budget_margin_s"]) == (7200, 20)
    assert sized.aux_phases == 8
    (note,) = challenge.notes
    assert "stop, config.budget_env_steps, config.budget_s, config.budget_margin_s" in note
    experiment = track_experiment(challenge, sized, "generalization")
    with resources.assume(8, 0):
        (config, *_) = check(experiment).configs
    assert not list(best_weights_notes(config, experiment.keys.stop))
    assert run_length(config, experiment.keys.stop) == run_length(config, {})


def test_a_scaled_challenge_of_the_winner_ends_with_best_weights_too(tmp_path: Path):
    sized = size(winner(tmp_path, budget_scale=0.001), HERE)
    assert sized.config["best_weights_min_env_steps"] == 1000 < sized.config["budget_env_steps"]


def test_a_trial_hands_in_its_best_weights(tmp_path: Path, ray_local: None):
    config = {**EXPERIMENT["config"], "best_weights": True, "best_weights_min_env_steps": 0}
    challenge = made(tmp_path, {**EXPERIMENT, "config": config}, games=["maze"], seeds=[1])
    sized = size(challenge, HERE)
    (found,) = variants(track_experiment(challenge, sized, "generalization").config)
    algorithm = PPGConfig().update_from_dict(found).build_algo()
    algorithm.train()
    algorithm._budget.note([1e3], 128, algorithm._weights)  # a return that no later one reaches
    best = algorithm._weights()
    result: dict[str, Any] = {}
    while not result.get("done"):
        result = algorithm.train()
    assert result["timesteps_total"] == sized.steps
    handed_in = algorithm.get_policy().get_weights()
    assert all(np.array_equal(handed_in[name], best[name]) for name in best)
    algorithm.stop()


def test_evaluations_on_test_levels_play_all_where_a_track_trains_on_all(tmp_path: Path):
    folder = Path(__file__).parents[1] / "experiments"
    experiment = str(folder / "ppg_procgen_generalization.yaml")
    challenge = made(tmp_path, experiment, budget_steps=1_000_000)
    sized = size(challenge, HERE)
    levels = {
        track: track_experiment(challenge, sized, track).config["evaluation_levels"]
        for track in ("sample_efficiency", "generalization")
    }
    assert levels == {"sample_efficiency": ["all"], "generalization": ["train", "test"]}
    (note,) = sized.notes
    assert "Track sample_efficiency trains on all levels" in note
    only = made(tmp_path, experiment, budget_steps=1_000_000, track="generalization")
    assert size(only, HERE).notes == []


@pytest.mark.parametrize("track", ["sample_efficiency", "generalization", "both"])
@pytest.mark.parametrize("levels", ["tset", ["test", "tset"]])
def test_levels_that_no_track_has_are_refused_on_each(tmp_path: Path, track: str, levels: Any):
    config = {**EXPERIMENT["config"], "evaluation_levels": levels}
    with pytest.raises(UserError, match="evaluation_levels"):
        size(made(tmp_path, {**EXPERIMENT, "config": config}, track=track), HERE)


def test_a_wrong_configuration_names_its_line(tmp_path: Path):
    config = {**EXPERIMENT["config"], "gama": 1}
    with pytest.raises(UserError, match=r'tiny.yaml:\d+.*Did you mean "gamma"'):
        size(made(tmp_path, {**EXPERIMENT, "config": config}), HERE)
