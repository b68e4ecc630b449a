"""Exported policies: they act as their network does, load without Ray, and never half."""

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_ppg.core.distributions import ActionSpec
from rllib_ppg.core.exported import (
    DESCRIPTION,
    FILES,
    WEIGHTS,
    ExportedPolicy,
    load_policy,
    save_policy,
)
from rllib_ppg.core.networks import PhasicNetwork
from rllib_ppg.core.policy_meta import EnvActions, NetworkSpec, Observations, PolicyMeta
from rllib_ppg.errors import UserError

MLP = {"hiddens": [8, 8], "activation": "tanh"}
IMPALA = {"widths": [4, 4], "hidden_size": 8, "blocks": 1}


def meta(
    network: NetworkSpec, observations: Observations, action: ActionSpec, env_actions: EnvActions
) -> PolicyMeta:
    return PolicyMeta(
        network, observations, action, env_actions, "Some-v1", {"size": 3}, 1, 128, "0.0.0"
    )


METAS = {
    "images, one choice": meta(
        NetworkSpec("impala", "dual", IMPALA),
        Observations((16, 16, 3), "uint8"),
        ActionSpec("categorical", (5,)),
        EnvActions((), "int64", (0,)),
    ),
    "vectors, several choices": meta(
        NetworkSpec("mlp", "shared", MLP),
        Observations((4,), "float32"),
        ActionSpec("multi_categorical", (2, 3)),
        EnvActions((2,), "int64", (0, 5)),
    ),
    "categories, continuous": meta(
        NetworkSpec("mlp", "detach", {**MLP, "activation": "relu"}),
        Observations((), "int64", categories=6, start=2),
        ActionSpec("gaussian", (2,)),
        EnvActions((2, 1), "float64", (), "unsquash", (-2.0, 0.0), (2.0, 1.0)),
    ),
}
VECTORS = METAS["vectors, several choices"]


def made(policy: PolicyMeta, seed: int = 0) -> PhasicNetwork:
    """Return a network with random weights."""
    torch.manual_seed(seed)
    return policy.network.build(policy.observations, policy.action.num_inputs)


def observations_of(policy: PolicyMeta, rows: int = 6) -> np.ndarray:
    """Return random observations (N, ...) of the kind that the policy takes."""
    random, spec = np.random.default_rng(0), policy.observations
    shape = (rows, *spec.shape)
    if spec.categories is not None:
        return random.integers(spec.start, spec.start + spec.categories, shape)
    if spec.dtype == "uint8":
        return random.integers(0, 256, shape, np.uint8)
    return random.normal(size=shape).astype(spec.dtype)


def saved(folder: Path, policy: PolicyMeta = VECTORS, seed: int = 0, **options: Any) -> Path:
    return save_policy(folder, policy, made(policy, seed).state_dict(), **options)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return saved(tmp_path / "policy")


@pytest.mark.parametrize("kind", METAS)
def test_a_loaded_policy_acts_as_its_network(tmp_path: Path, kind: str):
    policy = METAS[kind]
    network, obs = made(policy), observations_of(policy)
    loaded = load_policy(save_policy(tmp_path / "policy", policy, network.state_dict()))
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], tensor)
    with torch.no_grad():
        inputs = network.policy(torch.from_numpy(obs - policy.observations.start))[0]
    distribution = policy.action.distribution(inputs)
    drawn = distribution.sample(torch.Generator().manual_seed(3)).numpy()
    found = loaded.act(obs, generator=torch.Generator().manual_seed(3))
    assert np.array_equal(found, policy.env_actions(drawn))
    greedy = loaded.act(obs, greedy=True)
    assert np.array_equal(greedy, policy.env_actions(distribution.mode().numpy()))
    assert found.shape == (6, *policy.env_actions.shape)


@pytest.mark.parametrize("kind", METAS)
def test_a_description_comes_back(tmp_path: Path, kind: str):
    policy = METAS[kind]
    loaded = load_policy(saved(tmp_path / "policy", policy)).meta
    assert replace(loaded, network=policy.network) == policy
    assert (loaded.network.kind, loaded.network.arch) == (policy.network.kind, policy.network.arch)


def test_probabilities_are_those_of_the_drawn_actions(folder: Path):
    policy, obs = load_policy(folder), np.zeros((20_000, 4), np.float32)
    parts = policy.probabilities(obs)
    actions = policy.act(obs, generator=torch.Generator().manual_seed(0)) - [0, 5]
    assert [part.shape for part in parts] == [(20_000, 2), (20_000, 3)]
    for k, part in enumerate(parts):
        shares = np.bincount(actions[:, k], minlength=part.shape[1]) / len(actions)
        assert np.allclose(part.sum(axis=1), 1, atol=1e-6)
        assert np.allclose(shares, part[0], atol=0.02)


def test_one_choice_has_one_array_of_probabilities(tmp_path: Path):
    policy = load_policy(saved(tmp_path / "policy", METAS["images, one choice"]))
    obs = observations_of(policy.meta)
    found = policy.probabilities(obs)
    assert found.shape == (6, 5)
    assert np.array_equal(found.argmax(axis=1), policy.act(obs, greedy=True))


def test_a_policy_acts_at_its_own_temperature_or_at_another(tmp_path: Path):
    kind = replace(METAS["images, one choice"], temperature=0.5)
    policy = load_policy(saved(tmp_path / "policy", kind))
    assert policy.meta.temperature == 0.5
    obs = np.repeat(observations_of(kind, 1), 2000, axis=0)
    plain = policy.probabilities(obs, temperature=1.0)
    sharp = plain**2 / (plain**2).sum(axis=1, keepdims=True)
    assert np.allclose(policy.probabilities(obs), sharp, atol=1e-6)
    assert not np.allclose(sharp, plain, atol=1e-3)

    def act(**how: Any) -> np.ndarray:
        return policy.act(obs, generator=torch.Generator().manual_seed(0), **how)

    assert np.array_equal(act(), act(temperature=0.5))
    assert not np.array_equal(act(), act(temperature=1.0))
    assert np.array_equal(act(temperature=0), act(greedy=True))
    only = policy.probabilities(obs, temperature=0)
    assert np.array_equal(only.argmax(axis=1), act(greedy=True)) and (only.max(axis=1) == 1).all()
    with pytest.raises(UserError, match="must be 0"):
        act(temperature=-1.0)


def test_an_older_description_has_temperature_1_and_a_bad_one_is_damaged(folder: Path):
    path = folder / DESCRIPTION
    content = json.loads(path.read_text())
    assert content.pop("temperature") == 1.0
    path.write_text(json.dumps(content))
    assert load_policy(folder).meta.temperature == 1.0
    for bad in (-1, "warm", None):
        path.write_text(json.dumps({**content, "temperature": bad}))
        with pytest.raises(UserError, match="damaged"):
            load_policy(folder)


def test_continuous_actions_have_no_probabilities(tmp_path: Path):
    policy = load_policy(saved(tmp_path / "policy", METAS["categories, continuous"]))
    with pytest.raises(UserError, match="continuous"):
        policy.probabilities(np.array([2, 3]))


@pytest.mark.parametrize(
    ("kind", "obs"),
    [
        ("vectors, several choices", np.zeros(4, np.float32)),
        ("vectors, several choices", np.zeros((2, 5), np.float32)),
        ("vectors, several choices", np.zeros((2, 4), "<U1")),
        # Floats would be taken for scaled bytes.
        ("images, one choice", np.zeros((2, 16, 16, 3), np.float32)),
        ("images, one choice", np.zeros((2, 3, 16, 16), np.uint8)),
        ("categories, continuous", np.zeros((2,), np.float32)),
    ],
)
def test_observations_that_would_be_misread_are_refused(tmp_path: Path, kind: str, obs: Any):
    policy = load_policy(saved(tmp_path / "policy", METAS[kind]))
    with pytest.raises(UserError, match=r"this policy takes \(N") as caught:
        policy.act(obs)
    assert str(obs.dtype) in str(caught.value) and str(obs.shape) in str(caught.value)


def test_float64_lists_and_read_only_observations_are_taken(folder: Path):
    policy = load_policy(folder)
    obs = np.full((2, 4), 0.5)
    frozen = obs.astype(np.float32)
    frozen.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = [policy.act(o, greedy=True).tolist() for o in (obs, obs.tolist(), frozen)]
    assert found[0] == found[1] == found[2]


def test_loading_leaves_torchs_random_numbers_alone(folder: Path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_policy(folder)
    assert torch.equal(torch.rand(3), expected)


ALONE = """
import sys
sys.addaudithook(lambda event, _: sys.exit("pickle") if event == "pickle.find_class" else None)
import numpy as np
from rllib_ppg.core.exported import load_policy
print(load_policy(sys.argv[1]).act(np.zeros((1, 4), np.float32), greedy=True).shape)
print(*{name.split(".")[0] for name in sys.modules})
"""


def test_it_loads_and_acts_without_ray_environments_or_pickle(folder: Path):
    run = subprocess.run(
        [sys.executable, "-c", ALONE, str(folder)], capture_output=True, text=True, check=True
    )
    shape, modules = run.stdout.splitlines()
    assert shape == "(1, 2)"
    unwanted = {"ray", "procgen", "gym", "gym3", "gymnasium", "pydantic", "typer", "cloudpickle"}
    assert set(modules.split()) & unwanted == set()


def refusal(folder: Path, name: str = "") -> str:
    """Return why a policy is refused: one line that names the folder."""
    with pytest.raises(UserError) as caught:
        load_policy(folder)
    message = str(caught.value)
    assert str(folder / name) in message and message.endswith(".") and "\n" not in message
    return message


def test_no_policy_there(tmp_path: Path):
    assert DESCRIPTION in refusal(tmp_path / "no")
    assert DESCRIPTION in refusal(tmp_path)


@pytest.mark.parametrize("name", [WEIGHTS, DESCRIPTION])
def test_a_missing_file_is_named(folder: Path, name: str):
    (folder / name).unlink()
    assert f"has no {name}" in refusal(folder)


def cuts(data: bytes) -> list[int]:
    return [0, 1, 7, 8, 9, len(data) // 2, len(data) - 2]


@pytest.mark.parametrize("name", [WEIGHTS, DESCRIPTION])
def test_a_truncated_file_is_named(folder: Path, name: str):
    whole = (folder / name).read_bytes()
    for size in cuts(whole):
        (folder / name).write_bytes(whole[:size])
        assert "damaged" in refusal(folder, name)


def test_a_changed_byte_of_the_weights_is_found(folder: Path):
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (folder / WEIGHTS).write_bytes(data)
    assert "damaged" in refusal(folder, WEIGHTS)


def test_weights_of_another_policy_are_refused(folder: Path, tmp_path: Path):
    other = saved(tmp_path / "other", seed=1)
    (folder / WEIGHTS).write_bytes((other / WEIGHTS).read_bytes())
    assert "another policy.json" in refusal(folder, WEIGHTS)


def change(folder: Path, **keys: Any) -> None:
    path = folder / DESCRIPTION
    path.write_text(json.dumps({**json.loads(path.read_text()), **keys}))


def test_weights_of_another_size_are_refused_by_name(folder: Path):
    change(folder, network={"kind": "mlp", "arch": "shared", "encoder": {"hiddens": [8, 9]}})
    assert "aux_value_head.weight is of shape (1, 8), not of shape (1, 9)" in refusal(folder)
    change(folder, network={"kind": "mlp", "arch": "dual", "encoder": {"hiddens": [8, 8]}})
    assert "value_encoder.layers.0.bias is absent" in refusal(folder)


def test_a_newer_format_says_who_wrote_it(folder: Path):
    change(folder, format_version=FILES.version + 1, version="7.8.9", network="new")
    message = refusal(folder, DESCRIPTION)
    assert "rllib_ppg 7.8.9" in message and "upgrade" in message


def test_anothers_json_is_no_policy(folder: Path):
    change(folder, format="something")
    assert "no policy" in refusal(folder, DESCRIPTION)
    (folder / DESCRIPTION).write_text("[1]")
    assert "no policy" in refusal(folder, DESCRIPTION)


def leaves(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of all values in a JSON document."""
    items = content.items() if isinstance(content, dict) else enumerate(content)
    nested = [leaves(v, (*path, k)) for k, v in items if isinstance(v, dict | list)]
    keys = content if isinstance(content, dict) else range(len(content))
    return [(*path, key) for key in keys] + [leaf for found in nested for leaf in found]


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 70), st.floats(-2, 2), st.text(max_size=3),
    st.lists(st.integers(-1, 3), max_size=2), st.just({}), st.just({"a": 1}),
)  # fmt: skip


@settings(max_examples=100)
@given(st.data())
def test_a_changed_description_loads_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
):
    policy = METAS[data.draw(st.sampled_from(sorted(METAS)))]
    folder = saved(tmp_path_factory.mktemp("policy") / "p", policy)
    content = json.loads((folder / DESCRIPTION).read_text())
    *parents, key = data.draw(st.sampled_from(leaves(content)))
    place = content
    for parent in parents:
        place = place[parent]
    place[key] = data.draw(VALUES)
    (folder / DESCRIPTION).write_text(json.dumps(content))
    try:
        loaded = load_policy(folder)
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert isinstance(loaded, ExportedPolicy)


def test_an_existing_folder_is_left_alone(folder: Path):
    before = (folder / WEIGHTS).read_bytes()
    with pytest.raises(UserError, match="exists already"):
        saved(folder, seed=1)
    assert (folder / WEIGHTS).read_bytes() == before
    saved(folder, seed=1, overwrite=True)
    assert (folder / WEIGHTS).read_bytes() != before
    assert [path.name for path in folder.parent.iterdir()] == ["policy"]


def with_notes(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")


def as_file(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    folder.write_text("mine")


def as_link(folder: Path) -> None:
    folder.rename(folder.with_name("target"))
    folder.symlink_to(folder.with_name("target"))


@pytest.mark.parametrize("spoil", [with_notes, as_file, as_link])
def test_only_a_policy_is_ever_replaced(folder: Path, spoil: Callable[[Path], None]):
    spoil(folder)
    with pytest.raises(UserError, match="not replaced"):
        saved(folder, overwrite=True)
    assert folder.exists()


def test_weights_that_are_not_the_networks_are_not_written(tmp_path: Path):
    weights = made(VECTORS).state_dict()
    del weights["policy_head.bias"]
    with pytest.raises(UserError, match=r"policy_head.bias is absent"):
        save_policy(tmp_path / "policy", VECTORS, weights)
    assert list(tmp_path.iterdir()) == []


FULL = """
import resource, signal, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from test_exported import saved
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
saved(Path(sys.argv[1]), seed=1, overwrite=True)
"""


@pytest.mark.parametrize("earlier", [True, False])
def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, earlier: bool):
    folder = tmp_path / "policy"
    before = (saved(folder) / WEIGHTS).read_bytes() if earlier else None
    run = subprocess.run(
        [sys.executable, "-c", FULL, str(folder), str(Path(__file__).parent)],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1 and "File too large" in run.stderr
    assert [path.name for path in tmp_path.iterdir()] == (["policy"] if earlier else [])
    assert not earlier or (folder / WEIGHTS).read_bytes() == before


def test_an_earlier_policy_comes_back_where_the_new_one_cannot_be_moved_in(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    before, rename = (folder / WEIGHTS).read_bytes(), Path.rename

    def fails_for_the_new_one(path: Path, target: Path) -> Path:
        if path.name == f".policy.{os.getpid()}":
            raise OSError("no")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fails_for_the_new_one)
    with pytest.raises(OSError, match="no"):
        saved(folder, seed=1, overwrite=True)
    assert (folder / WEIGHTS).read_bytes() == before
    assert [path.name for path in folder.parent.iterdir()] == ["policy"]
