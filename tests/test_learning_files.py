"""The files of the learning runs in BENCHMARKS.md: alike but for the method that each trains."""

import re
from pathlib import Path
from typing import Any

import pytest

from rllib_ppg.algorithm.config import PPGConfig
from rllib_ppg.algorithm.model_settings import ImpalaSettings
from rllib_ppg.algorithm.settings import DEFAULTS
from rllib_ppg.app import cluster
from rllib_ppg.app.challenge import train_flags
from rllib_ppg.app.challenge_file import Challenge, load_challenge
from rllib_ppg.app.challenge_flags import ChallengeFlags
from rllib_ppg.app.challenge_trials import Sized, size, track_config
from rllib_ppg.app.checks import check, check_ppg
from rllib_ppg.app.experiment_files import load_experiments
from rllib_ppg.app.flags import TrainFlags
from rllib_ppg.envs.procgen_options import parse_options

ROOT = Path(__file__).resolve().parents[1]
# The experiments that they make small.
FILES = {
    "ppg": "ppg_procgen",
    "ppo": "ppo_procgen",
    "winner_generalization": "winner_generalization",
    "winner_sample_efficiency": "winner_sample_efficiency",
}
QUICK = {"widths": [8, 16, 16], "hidden_size": 128, "blocks": 1}

# Keys of sizes, and of where it runs.
SIZES = {
    "num_envs", "rollout_fragment_length", "mbsize_rows", "num_accumulates", "aux_mbsize_rows",
    "aux_num_accumulates", "best_weights_min_env_steps", "num_env_runners", "num_gpus",
    "aux_precision", "widths", "hidden_size", "blocks", "micro_batch_size",
    # What the protocol and each run's length decide.
    "env_name", "num_levels", "budget_env_steps", "budget_s", "budget_margin_s", "aux_slice_s",
    "return_max", "seed", "train_batch_size", "num_envs_per_env_runner",
}  # fmt: skip
# What else differs, with its value here.
CHANGED: dict[str, dict[str, Any]] = {
    "ppg": {"arch": "detach"},  # one network, as the others
    "winner_sample_efficiency": {
        "reward_transform": {"type": "fragment", "alpha": 0.005, "groups": 1}
    },
}


def made(name: str) -> tuple[Challenge, Sized]:
    flags = ChallengeFlags(file=str(ROOT / "benchmarks" / "learning" / f"{name}.yaml"))
    challenge = load_challenge(flags)
    return challenge, size(challenge, cluster.ray_settings(train_flags(flags)))


def test_each_method_has_a_file():
    found = {path.stem for path in (ROOT / "benchmarks" / "learning").glob("*.yaml")}
    assert found == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_valid_with_the_same_protocol_steps_and_network_as_the_others(name: str):
    challenge, sized = made(name)
    other, other_sized = made("ppg")
    assert challenge.protocol == other.protocol
    assert len(challenge.protocol.games) == 2 and len(challenge.protocol.seeds) == 3
    assert (sized.rows, sized.steps) == (other_sized.rows, other_sized.steps) == (512, 40_960)
    network = sized.config["model"]["custom_model_config"]
    assert {key: network[key] for key in QUICK} == QUICK
    assert challenge.name == f"learning-{name.replace('_', '-')}"


@pytest.mark.parametrize("name", FILES)
def test_two_auxiliary_phases_run_where_the_method_has_any(name: str):
    _, sized = made(name)
    assert sized.aux_phases == (0 if name == "ppo" else 2)


@pytest.mark.parametrize("name", FILES)
def test_a_method_keeps_its_settings_but_for_sizes(name: str):
    challenge, sized = made(name)
    small = resolved(check_ppg(track_config(sized.config, challenge.protocol.track, "starpilot")))
    (experiment,) = load_experiments(
        TrainFlags(files=[str(ROOT / "experiments" / f"{FILES[name]}.yaml")])
    )
    (config,) = check(experiment).configs
    large = {**resolved(config), **CHANGED.get(name, {})}
    problems: list[tuple[str, Any, Any]] = []
    for key in large.keys() - SIZES:
        if key.endswith("_schedule") and large[key]:
            assert [value for _, value in small[key]] == [value for _, value in large[key]]
            assert [small[key][-1][0], large[key][-1][0]] == [40_960, 8_000_000]
        else:
            problems += [(key, small[key], large[key])] * (small[key] != large[key])
    assert not problems


@pytest.mark.parametrize("name", FILES)
def test_a_size_stands_in_a_whole_number_of_updates(name: str):
    """As many policy updates an iteration as in the large one."""
    _, sized = made(name)
    rows = sized.config.get("mbsize_rows")
    updates = sized.config.get("nminibatch") if rows is None else sized.rows / rows
    assert updates == 8


def test_the_page_names_their_steps_and_the_files():
    text = (ROOT / "BENCHMARKS.md").read_text(encoding="utf-8")
    section = text[text.index("## Learning") : text.index("## Ablation")]
    assert "40,960 environment steps" in section and "benchmarks/learning/ppg.yaml" in section
    for name in set(FILES) - {"ppg"}:
        assert re.search(rf"\b{name}\b", section), name


def resolved(config: PPGConfig) -> dict[str, Any]:
    """All settings of a configuration, those of environment and network beside the others."""
    keys = {key: getattr(config, key) for key in DEFAULTS}
    network = ImpalaSettings(**config.model["custom_model_config"]).model_dump()
    return {**keys, **parse_options(config.env_config).model_dump(), **network}
