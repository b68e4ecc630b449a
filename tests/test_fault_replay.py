"""A dump holds all that its fault takes to come again, and a replay says why it came."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_learner import (
    AUX,
    CATEGORICAL,
    NUM_ENVS,
    NUM_STEPS,
    OBS_SIZE,
    POLICY,
    make_batch,
    make_learner,
    make_store,
)
from torch import Tensor

from rllib_ppg.core.fault_files import DESCRIPTION, TENSORS, Dump, read_dump, write_dump
from rllib_ppg.core.fault_replay import Diagnosis, diagnose
from rllib_ppg.core.learner import PhasicLearner, PolicyBatch
from rllib_ppg.core.numeric_fault import BrokenStep, Evidence
from rllib_ppg.core.policy_meta import EnvActions, NetworkSpec, Observations, PolicyMeta
from rllib_ppg.errors import UserError

IN_ORDER = {"permutation": lambda n: np.arange(n)}


MLP = NetworkSpec("mlp", "dual", {"hiddens": [8], "activation": "tanh"})
IMAGE = (8, 8, 3)
IMPALA = NetworkSpec(
    "impala", "shared", {"widths": [4], "hidden_size": 8, "blocks": 1, "dropout": 0.5}
)


def dump_of(
    error: BrokenStep,
    learner: PhasicLearner,
    network: NetworkSpec = MLP,
    shape: tuple[int, ...] = (OBS_SIZE,),
) -> Dump:
    """Make the dump of a small learner."""
    meta = PolicyMeta(
        network=network,
        observations=Observations(shape, "uint8"),
        action=CATEGORICAL,
        env_actions=EnvActions((), "int64", (0,)),
        env="toy",
        env_options={},
        frame_stack=1,
        env_steps=7,
        version="1",
    )
    tensors = {f"minibatch/{k}": v for k, v in error.evidence.tensors.items()}
    tensors |= {f"network/{k}": v for k, v in learner.network.state_dict().items()}
    facts = {**error.evidence.facts, "action": {"kind": "categorical", "sizes": [4]}}
    return Dump("minibatch", str(error), 7, {"torch": "x"}, meta, facts, tensors)


def policy_fault(field: str = "advantages", value: float = np.nan, **settings) -> Dump:
    """The dump of a policy phase whose fourth environment is broken in a column."""
    learner, batch = make_learner(settings, **IN_ORDER), make_batch()
    getattr(batch, field)[3, 1] = value
    with pytest.raises(BrokenStep) as error:
        learner.policy_phase(batch)
    return dump_of(error.value, learner)


def aux_fault() -> Dump:
    store = make_store()
    store.value_targets[store.pairs()[7], 2] = np.inf
    learner = make_learner(**IN_ORDER)
    phase = learner.begin_aux_phase(store)
    phase.run()
    with pytest.raises(BrokenStep) as error:
        phase.run()
    return dump_of(error.value, learner)


def replayed(dump: Dump, folder: Path) -> Diagnosis:
    """Write a dump, read it, and compute it again."""
    return diagnose(read_dump(write_dump(folder / "fault", dump)), folder / "fault")


def entry(found: Diagnosis, name: str):
    return next(each for each in found.inputs if each.name == name)


@pytest.mark.parametrize("unit", ["segment", "step"])
@pytest.mark.parametrize("settings", [{}, {"n_epoch_vf": 1}])
def test_a_policy_phases_fault_comes_again(tmp_path: Path, unit: str, settings: dict):
    found = replayed(policy_fault(minibatch_unit=unit, **settings), tmp_path)
    assert found.repeats
    assert np.isnan(found.losses["loss_pi"]) and np.isnan(found.losses["grad_norm"])
    assert np.isfinite(found.losses["entropy"])
    assert entry(found, "advantages").broken == 1 and entry(found, "obs").broken == 0
    assert found.module is None
    assert "left the range of float32" in found.advice[0]


def test_the_loss_of_a_replay_is_the_broken_steps_own(tmp_path: Path):
    batch = make_batch()
    batch.value_targets[3, 1] = np.inf
    learner = make_learner(**IN_ORDER)
    steps = [step.stats for step in learner.policy_steps(batch)]
    found = replayed(policy_fault("value_targets", np.inf), tmp_path)
    for name in ("loss_pi", "entropy", "approx_kl", "loss_vf"):
        assert found.losses[name] == pytest.approx(float(steps[1][name]), rel=1e-6), name


def stats_of(learner: PhasicLearner, batch: PolicyBatch, number: int) -> dict[str, float]:
    steps = list(learner.policy_steps(batch))
    return {name: float(value) for name, value in steps[number].stats.items()}


def assert_replays(found: Diagnosis, expected: dict[str, float]) -> None:
    """The replay's loss is the step's, term by term; the gradient's norm is broken in both."""
    assert found.repeats and found.losses.keys() == expected.keys()
    for name in expected.keys() - {"grad_norm"}:
        assert found.losses[name] == pytest.approx(expected[name], rel=1e-5, nan_ok=True), name


def test_the_entropys_weight_is_that_of_the_broken_step(tmp_path: Path):
    settings = {"n_epoch_pi": 1, "n_epoch_vf": 1, "alternate_entropy_coeff": 0.5}
    counts = np.ones((NUM_ENVS, NUM_STEPS))
    repeats = counts.copy()
    repeats[2:4] = 9  # the second of three minibatches; the last one takes the usual weight
    batch = replace(make_batch(), num_unique_states=counts + 1, episode_step=repeats)
    batch.value_targets[3, 1] = np.inf
    learner = make_learner(settings, **IN_ORDER)
    with pytest.raises(BrokenStep) as error:
        learner.policy_phase(batch)
    dump = dump_of(error.value, learner)
    assert dump.facts["entropy_coeff"] == 0.5
    found = replayed(dump, tmp_path)
    assert_replays(found, stats_of(make_learner(settings, **IN_ORDER), batch, 1))


def image_learner() -> PhasicLearner:
    """A learner with DrAC, whose transform is chosen anew before the last minibatch."""
    torch.manual_seed(1)
    members = [{"type": "random_translate", "max_shift": 3}, "random_flip_up_down"]
    settings = replace(
        POLICY, n_epoch_pi=1, n_epoch_vf=1, drac_weight=0.7, drac_value_weight=0.3,
        drac_policy_weight=2.0, drac_ucb={},
        drac_augmentation={"type": "one_of", "members": members, "num_choices": 3},
    )  # fmt: skip
    network = IMPALA.build(Observations(IMAGE, "uint8"), CATEGORICAL.num_inputs)
    rng = np.random.default_rng(2)
    return PhasicLearner(network, CATEGORICAL, settings, AUX, generator=rng, **IN_ORDER)


@pytest.mark.parametrize("step", [0, 2])  # before and after the choice of a transform
def test_the_loss_of_a_replay_has_dracs_terms(tmp_path: Path, step: int):
    rng = np.random.default_rng(5)
    obs = rng.integers(0, 256, (NUM_ENVS, NUM_STEPS, *IMAGE), dtype=np.uint8)
    batch = replace(make_batch(), obs=obs, rewards=np.ones((NUM_ENVS, NUM_STEPS)))
    batch.value_targets[2 * step, 1] = np.inf
    learner = image_learner()
    with pytest.raises(BrokenStep) as error:
        learner.policy_phase(batch)
    found = replayed(dump_of(error.value, learner, IMPALA, IMAGE), tmp_path)
    expected = stats_of(image_learner(), batch, step)
    assert expected["drac_value"] > 0 and expected["drac_policy"] > 0
    assert_replays(found, expected)


def test_an_auxiliary_phases_fault_comes_again(tmp_path: Path):
    found = replayed(aux_fault(), tmp_path)
    assert found.repeats and found.losses["vf_aux"] == np.inf
    assert np.isfinite(found.losses["pol_distance"])
    assert entry(found, "value_targets").broken == 1


def test_micro_batches_are_replayed_as_they_were(tmp_path: Path):
    learner, batch = make_learner(micro_batch_size=4, **IN_ORDER), make_batch()
    batch.advantages[3, 1] = np.nan
    with pytest.raises(BrokenStep) as error:
        learner.policy_phase(batch)
    assert error.value.evidence.facts["micro_batch_size"] == 4
    assert replayed(dump_of(error.value, learner), tmp_path).repeats


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_half_precision_fault_is_tried_in_float32_too(tmp_path: Path, precision: str):
    found = replayed(policy_fault(precision=precision), tmp_path)
    assert found.repeats and found.in_float32


def test_a_fault_of_float16_alone_is_told(tmp_path: Path):
    learner = make_learner({"precision": "float16"}, arch="dual", **IN_ORDER)
    with torch.no_grad():  # beyond 65504, what float16 holds; a float32 pass is finite
        learner.network.value_head.weight.fill_(1e5)
    with pytest.raises(BrokenStep) as error:
        learner.policy_phase(make_batch())
    found = replayed(dump_of(error.value, learner), tmp_path)
    assert found.repeats and found.in_float32 is False
    assert "policy_precision" in found.advice[0]
    assert found.module.name == "value_head" and found.module.inputs_finite


def test_the_first_broken_module_is_found(tmp_path: Path):
    learner = make_learner(**IN_ORDER)
    with torch.no_grad():
        learner.network.value_encoder.layers[0].weight[2, 1] = np.nan
    with pytest.raises(BrokenStep) as error:
        learner.policy_phase(make_batch())
    found = replayed(dump_of(error.value, learner), tmp_path)
    assert found.repeats
    assert found.module.name == "value_encoder.layers.0" and found.module.kind == "Linear"
    assert found.module.inputs_finite and not found.module.weights_finite
    broken = [layer.name for layer in found.layers if layer.broken]
    assert broken == ["value_encoder.layers.0.weight"]
    assert "earlier checkpoint" in found.advice[0]


def test_a_fault_from_outside_does_not_come_again(tmp_path: Path):
    learner = make_learner(**IN_ORDER)
    learner.network.policy_head.weight.register_hook(lambda gradient: gradient / 0)
    with pytest.raises(BrokenStep) as error:
        learner.policy_phase(make_batch())
    found = replayed(dump_of(error.value, learner), tmp_path)
    assert found.repeats is False and np.isfinite(list(found.losses.values())).all()
    assert "does not repeat" in found.advice[0]


def test_a_policy_that_moved_too_far_is_told(tmp_path: Path):
    found = replayed(policy_fault("logp", -500.0), tmp_path)
    assert found.repeats and entry(found, "log_ratio").extreme
    assert "lower lr" in found.advice[0] and "moved too far" in found.advice[0]


def test_a_network_of_the_users_own_shows_its_inputs(tmp_path: Path):
    found = replayed(replace(policy_fault(), policy=None), tmp_path)
    assert found.repeats is None and entry(found, "advantages").broken == 1
    assert not found.losses and found.advice


def test_what_an_environment_gave_is_described(tmp_path: Path):
    rows: dict[str, Tensor] = {"sample/obs": torch.tensor([[0.0, 1.0], [np.nan, 2e6]])}
    evidence = Evidence("sample", {"what": "observation"})
    dump = Dump(evidence.kind, "broken", 7, {}, None, evidence.facts, rows)
    found = replayed(dump, tmp_path)
    assert found.repeats is None
    assert entry(found, "obs") == ("obs", (2, 2), 0.0, 2e6, 1, True)
    assert "observations that are not finite" in found.advice[0]


# ---- the files


def test_a_dump_comes_back_as_it_was_written(tmp_path: Path):
    dump = policy_fault()
    copy = read_dump(write_dump(tmp_path / "fault", dump))
    assert copy.facts == json.loads(json.dumps(dict(dump.facts))) and copy.policy == dump.policy
    assert copy.tensors.keys() == dump.tensors.keys()
    for name, tensor in dump.tensors.items():
        assert torch.equal(copy.tensors[name].nan_to_num(7), tensor.nan_to_num(7)), name
        assert copy.tensors[name].dtype == tensor.dtype
    assert [path.name for path in tmp_path.iterdir()] == ["fault"]


def test_an_older_dump_is_replaced_whole(tmp_path: Path):
    (tmp_path / "fault").mkdir()
    (tmp_path / "fault" / "old").write_bytes(b"x")
    write_dump(tmp_path / "fault", policy_fault())
    assert {path.name for path in (tmp_path / "fault").iterdir()} == {DESCRIPTION, TENSORS}


def change(folder: Path, **values) -> None:
    path = folder / DESCRIPTION
    content = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps({k: v for k, v in content.items() if v != "absent"}))


DAMAGES = {
    "no JSON": (lambda f: (f / DESCRIPTION).write_text("{"), "is no JSON"),
    "another format": (lambda f: change(f, format="x"), "describes no numeric fault"),
    "newer": (lambda f: change(f, format_version=9), "upgrade it"),
    "odd version": (lambda f: change(f, format_version="1"), "format_version is '1'"),
    "no facts": (lambda f: change(f, facts="absent"), "KeyError: 'facts'"),
    "odd kind": (lambda f: change(f, kind="x"), "kind 'x' is unknown"),
    "no settings": (lambda f: change(f, facts={}), "describes no fault"),
    "cut short": (lambda f: (f / TENSORS).write_bytes(b"xx"), "damaged, or belongs to another"),
    "no tensors": (lambda f: (f / TENSORS).unlink(), f"has no {TENSORS}"),
    "no description": (lambda f: (f / DESCRIPTION).unlink(), f"has no {DESCRIPTION}"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_dump_is_refused_with_what_is_wrong(tmp_path: Path, damage: str):
    folder = write_dump(tmp_path / "fault", policy_fault())
    harm, words = DAMAGES[damage]
    harm(folder)
    with pytest.raises(UserError) as error:
        diagnose(read_dump(folder), folder)
    assert words in str(error.value) and str(folder) in str(error.value)


def test_weights_of_another_network_are_refused(tmp_path: Path):
    dump = policy_fault()
    tensors = {**dump.tensors, "network/policy_head.bias": torch.zeros(9)}
    with pytest.raises(UserError, match="is damaged"):
        replayed(replace(dump, tensors=tensors), tmp_path)
