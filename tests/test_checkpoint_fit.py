"""Whether a checkpoint fits a configuration: what is refused, what begins anew, what goes on."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from torch import nn

from rllib_ppg import PPGConfig, UserError
from rllib_ppg._ray_compat import ModelCatalog
from rllib_ppg.algorithm.checkpoint_fit import Fit, check_fit, describe
from rllib_ppg.algorithm.model import MLPModel
from rllib_ppg.algorithm.policy import PPGTorchPolicy

IMAGES = Box(0, 255, (64, 64, 3), np.uint8)
SIZES = {
    "num_envs": 8, "num_env_runners": 2, "rollout_fragment_length": 16, "nminibatch": 4,
    "n_pi": 2, "n_aux_epochs": 1, "aux_mbsize": 8,
}  # fmt: skip
SMALL = {"widths": [4], "hidden_size": 8, "blocks": 1}
FOLDER = Path("/some/checkpoint")


def described(
    observations: gym.Space = IMAGES,
    actions: gym.Space | None = None,
    env: Any = "procgen",
    frame_stack: int = 1,
    **changes: Any,
) -> dict[str, Any]:
    """Return the description of a configuration, as it comes back from a manifest."""
    network = {**(SMALL if env == "procgen" else {}), **changes.pop("network", {})}
    model = {"custom_model_config": network, **changes.pop("model", {})}
    config = PPGConfig().environment(env).update_from_dict({**SIZES, "model": model, **changes})
    config.validate()
    policy = PPGTorchPolicy(observations, actions or Discrete(15), config.to_dict())
    return json.loads(json.dumps(describe(config, policy, frame_stack)))


def fit(there: dict[str, Any], here: dict[str, Any], segments: int = 8) -> Fit:
    return check_fit(FOLDER, {**there, "stored_segments": segments}, here)


def refusal(there: dict[str, Any], here: dict[str, Any]) -> str:
    with pytest.raises(UserError) as caught:
        fit(there, here)
    message = str(caught.value)
    assert message.startswith(f"The checkpoint {FOLDER} does not fit: ") and "\n" not in message
    return message


def test_the_same_configuration_goes_on_with_everything():
    assert fit(described(), described()) == Fit(True, True, [])


@pytest.mark.parametrize(
    "changes",
    [
        {"lr": 1e-3, "n_epoch_pi": 2, "n_epoch_vf": 2, "seed": 5, "nminibatch": 2},
        {"num_gpus": 0, "checkpoint_store": False, "network": {"normed_init": False}},
        {"model": {"custom_model": "ppg_impala"}},
    ],
)
def test_what_no_state_depends_on_may_change(changes: dict):
    assert fit(described(), described(**changes)) == Fit(True, True, [])


REFUSED = {
    "widths": ({"network": {"widths": [8]}}, "custom_model_config.widths was [4] and is [8]"),
    "hidden": ({"network": {"hidden_size": 4}}, "custom_model_config.hidden_size was 8 and is 4"),
    "blocks": ({"network": {"blocks": 2}}, "custom_model_config.blocks was 1 and is 2"),
    "arch": ({"network": {"arch": "shared"}}, "custom_model_config.arch was dual and is shared"),
    "envs": ({"num_envs": 16}, "num_envs was 8 and is 16"),
    "epochs": ({"n_epoch_vf": 2}, "n_epoch_pi and n_epoch_vf were equal (one optimiser) and are"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_setting_that_state_depends_on_is_named_with_both_values(name: str):
    changes, expected = REFUSED[name]
    message = refusal(described(), described(**changes))
    assert expected in message and ";" not in message


def test_several_settings_are_named_at_once():
    changes = {"network": {"arch": "detach"}, "num_envs": 16, "n_epoch_vf": 2}
    message = refusal(described(), described(**changes))
    assert all(word in message for word in ("arch", "num_envs", "n_epoch_vf"))


VECTORS = Box(-1, 1, (3,), np.float32)


@pytest.mark.parametrize(
    ("there", "here", "word"),
    [
        (Discrete(15), Discrete(2), "actions are Discrete(15)"),
        (Discrete(4), MultiDiscrete([2, 2]), "MultiDiscrete([2, 2]) here"),
        (MultiDiscrete([2, 3]), MultiDiscrete([3, 2]), "MultiDiscrete([2, 3])"),
        (Box(-1, 1, (2,)), Box(-1, 1, (4,)), "actions are Box(2,)"),
        (Box(-1, 1, (2,)), Discrete(4), "and Discrete(4) here"),
    ],
)
def test_other_actions_are_refused(there: gym.Space, here: gym.Space, word: str):
    pair = [described(VECTORS, actions, "Some-v1") for actions in (there, here)]
    message = refusal(*pair)
    assert word in message and "Some-v1" in message


@pytest.mark.parametrize(
    ("there", "here", "word"),
    [
        (VECTORS, Box(-1, 1, (4,), np.float32), "float32 (4,) here"),
        (VECTORS, Box(0, 9, (3,), np.int64), "int64 (3,) here"),
        (Discrete(4), Discrete(5), "Discrete(5, start=0) here"),
        (Discrete(4), Discrete(4, start=1), "Discrete(4, start=1) here"),
        (VECTORS, IMAGES, "uint8 (64, 64, 3) here"),
    ],
)
def test_other_observations_are_refused(there: gym.Space, here: gym.Space, word: str):
    message = refusal(
        *(described(observations, Discrete(2), "Some-v1") for observations in (there, here))
    )
    assert "observations are" in message and word in message and "parameter" not in message


@pytest.mark.parametrize(
    ("there", "here"),
    [
        (VECTORS, Box(-5, np.inf, (3,), np.float32)),
        (VECTORS, Box(-1, 1, (3,), np.float64)),  # is kept as float32
    ],
)
def test_bounds_are_no_other_observations(there: gym.Space, here: gym.Space):
    pair = [described(observations, Discrete(2), "Some-v1") for observations in (there, here)]
    assert fit(*pair) == Fit(True, True, [])


class Users(MLPModel):
    """A model of a user's own, with a layer whose size its own key gives."""

    def __init__(self, *args: Any, units: int = 3, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.network.more = nn.Linear(units, 1)


def test_of_another_model_the_first_parameter_that_differs_is_named():
    ModelCatalog.register_custom_model("users", Users)
    one, other = (
        described(
            VECTORS,
            Discrete(2),
            "Some-v1",
            model={"custom_model": "users", "custom_model_config": {"units": units}},
        )
        for units in (3, 5)
    )
    assert "the shape of the parameter more.weight was (1, 3) and is (1, 5)" in refusal(one, other)
    ours = described(VECTORS, Discrete(2), "Some-v1")
    assert "model.custom_model was users and is ppg_mlp" in refusal(one, ours)
    assert "more.weight was (1, 3) and is missing" in refusal(
        one, {**one, "parameters": ours["parameters"]}
    )


PHASE = {
    "n_pi": ({"n_pi": 4}, "n_pi was 2 and is 4"),
    "steps": ({"rollout_fragment_length": 8}, "rollout_fragment_length was 16 and is 8"),
    "epochs": ({"n_aux_epochs": 2}, "n_aux_epochs was 1 and is 2"),
    "no phases": ({"max_aux_phases": 0}, "n_aux_epochs was 1 and is 0"),
    "minibatch": ({"aux_mbsize": 4}, "aux_mbsize was 8 and is 4"),
    "unit": ({"minibatch_unit": "step"}, "minibatch_unit was segment and is step"),
    "stack": ({"frame_stack": 2}, "frame_stack was 1 and is 2"),
}


@pytest.mark.parametrize("name", PHASE)
def test_where_the_phase_is_another_it_begins_anew_and_that_is_said(name: str):
    changes, expected = PHASE[name]
    found = fit(described(), described(**changes))
    assert (found.phase, found.environments) == (False, True)
    assert found.notes == [f"The current phase begins anew: {expected}."]


def test_between_two_phases_there_is_nothing_to_say():
    assert fit(described(), described(n_pi=4), segments=0) == Fit(False, True, [])


def test_a_checkpoint_without_frames_says_so():
    found = fit(described(checkpoint_store=False), described())
    assert not found.phase and "checkpoint_store: false" in found.notes[0]


def test_another_number_of_workers_keeps_the_phase():
    found = fit(described(), described(num_env_runners=4))
    assert (found.phase, found.environments) == (True, False)
    assert found.notes == ["All environments begin new episodes: num_env_runners was 2 and is 4."]


def test_another_game_of_the_same_spaces_is_transfer():
    found = fit(described(), described(env_config={"env_name": "bigfish"}))
    assert (found.phase, found.environments) == (False, False)
    assert all("env_config.env_name was coinrun and is bigfish" in note for note in found.notes)
    pair = [described(VECTORS, Discrete(2), env) for env in ("One-v1", "Other-v1")]
    assert "env was One-v1 and is Other-v1" in fit(*pair).notes[0]


def test_a_default_that_is_written_out_is_no_difference():
    assert fit(described(), described(env_config={"env_name": "coinrun"})).notes == []


SAYS = """
import json, sys
sys.path[:0] = sys.argv[1:]
from test_checkpoint_fit import described, options_with_objects
print(json.dumps(described(env_config=options_with_objects(), env="Some-v1")))
"""


class Thing:
    """Has Python's own text, with an address."""


def options_with_objects() -> dict[str, Any]:
    return {"thing": Thing(), "names": {"a", "b", "c", "d"}, "array": np.arange(3)}


def test_options_that_are_no_json_are_the_same_in_another_process():
    words = [sys.executable, "-c", SAYS, str(Path(__file__).parent)]
    run = subprocess.run(words, capture_output=True, text=True, check=True)
    there = json.loads(run.stdout.splitlines()[-1])
    here = described(env_config=options_with_objects(), env="Some-v1")
    assert fit(there, here) == Fit(True, True, [])


def test_a_manifest_that_does_not_describe_is_another_versions():
    with pytest.raises(UserError, match=r"another version .* does not say .*parameters"):
        check_fit(FOLDER, {"env": "procgen"}, described())
