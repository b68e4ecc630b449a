"""The winners' networks against the numbers of their own code."""

import golden_files
import numpy as np
import pytest
import torch
import winner_models
from golden_files import Golden, case_id
from winner_files import named, rename
from winner_models import loaded_network, make_network, settings_a, settings_b

from rllib_ppg.core.distributions import ActionSpec
from rllib_ppg.core.networks import PhasicNetwork
from rllib_ppg.core.temperature import tempered

FILES_A = winner_models.files("cfg/depths", "param_names", "code")
FILES_B = winner_models.files("cfg/filters", "param_names", "head_in")


def assert_close(actual: torch.Tensor, golden: Golden, key: str, atol: float) -> None:
    expected = golden[key]
    np.testing.assert_allclose(
        actual.detach().numpy().reshape(expected.shape), expected, rtol=0, atol=atol, err_msg=key
    )


def assert_gradients(
    network: PhasicNetwork, golden: Golden, output: str, total: torch.Tensor, rtol: float
) -> None:
    """Compare the gradient's norm for each parameter; -1 is no gradient at all."""
    total.backward()
    parameters = dict(network.named_parameters())
    names = [rename(name) for name in golden["param_names"].tolist()]
    assert set(names) == set(parameters)
    for name, expected in zip(names, golden[f"gradnorm/{output}"].tolist(), strict=True):
        gradient = parameters[name].grad
        if expected == -1:
            assert gradient is None, f"{name} must not be connected to {output}"
            continue
        assert gradient is not None, f"{name} must be connected to {output}"
        if expected == 0:
            assert not gradient.any(), name
        np.testing.assert_allclose(gradient.norm(), expected, rtol=rtol, err_msg=name)
    for name, gradient in named(golden, f"grad_{output}").items():
        atol = 1e-4 * gradient.abs().max().item()
        torch.testing.assert_close(parameters[name].grad, gradient, rtol=0, atol=atol)


def last_stage(network: PhasicNetwork, seen: list) -> None:
    stage = network.policy_encoder.stages[-1]
    stage.register_forward_hook(lambda *call: seen.append(call[2]))


# Generalisation winner.


@pytest.mark.parametrize("path", FILES_A, ids=case_id)
def test_a_heads_code_and_last_stage(path):
    golden = golden_files.load(path)
    network = loaded_network(golden, "param", settings_a(golden))
    obs, seen = torch.from_numpy(golden["ob"]), []
    last_stage(network, seen)
    with torch.no_grad():
        output = network(obs)
        code = network.policy_encoder(obs)
    for actual, key in (
        (output.logits, "logits"),
        (output.vf, "value"),
        (output.aux_vf, "value_aux"),
        (code, "code"),
        (seen[0], "conv"),
    ):
        assert_close(actual, golden, key, 3e-5)


@pytest.mark.parametrize("output", ["logits", "value", "value_aux"])
@pytest.mark.parametrize("path", FILES_A, ids=case_id)
def test_a_which_gradient_reaches_which_parameter(path, output):
    golden = golden_files.load(path)
    network = loaded_network(golden, "param", settings_a(golden))
    result = network(torch.from_numpy(golden["ob"]))
    weighted = (result.logits * torch.from_numpy(golden["gradnorm_weight"])).sum()
    total = {"logits": weighted, "value": result.vf.sum(), "value_aux": result.aux_vf.sum()}
    assert_gradients(network, golden, output, total[output], 2e-4)


@pytest.mark.parametrize("path", FILES_A, ids=case_id)
def test_a_probabilities_at_an_evaluations_temperature(path):
    golden = golden_files.load(path)
    network = loaded_network(golden, "param", settings_a(golden))
    spec = ActionSpec("categorical", (golden.count("cfg/nact"),))
    with torch.no_grad():
        logits = network.policy(torch.from_numpy(golden["ob"]))[0]
    temperatures = list(golden.below("eval_probs").arrays)
    assert temperatures
    for temperature in temperatures:
        probs = tempered(spec, logits, float(temperature)).softmax(dim=-1)
        assert_close(probs, golden, f"eval_probs/{temperature}", 3e-5)


@pytest.mark.parametrize("path", FILES_A, ids=case_id)
def test_a_initial_weights_and_size_of_the_real_network(path):
    golden = golden_files.load(path)
    norms = golden.below("init_norm").arrays
    stages = sum(name.count(".conv.weight") for name in norms)
    widths = [len(norms[f"conv_seqs.{i}.conv.weight"]) for i in range(stages)]
    real = settings_a(golden, widths=widths, hidden_size=len(norms["hidden_fc.weight"]))
    network = make_network((64, 64, 6), len(norms["pi_fc.weight"]), real)
    parameters = dict(network.named_parameters())
    assert sum(p.numel() for p in parameters.values()) == golden.count("init/total")
    for name, norm in norms.items():
        rows = parameters[rename(name)].detach().flatten(1)
        np.testing.assert_allclose(rows.norm(dim=1), norm, rtol=2e-5, err_msg=name)
    biases = [p for name, p in parameters.items() if name.endswith(".bias")]
    assert biases and not any(bias.any() for bias in biases)


# Sample-efficiency winner.


def flat(golden: Golden, key: str) -> torch.Tensor:
    return torch.from_numpy(golden[key]).flatten(0, 1)


def inner_values(network: PhasicNetwork) -> dict[str, torch.Tensor]:
    """What the encoder's dense layer and the heads are given, filled by the next pass."""
    seen: dict[str, torch.Tensor] = {}

    def note(name: str):
        return lambda module, given: seen.__setitem__(name, given[0])

    network.policy_encoder.dense.register_forward_pre_hook(note("fc_in"))
    network.policy_head.register_forward_pre_hook(note("head_in"))
    return seen


@pytest.mark.parametrize("path", FILES_B, ids=case_id)
def test_b_heads_and_inner_values_with_the_previous_action(path):
    golden = golden_files.load(path)
    network = loaded_network(golden, "param", settings_b(golden))
    seen, stages = inner_values(network), []
    last_stage(network, stages)
    with torch.no_grad():
        output = network(flat(golden, "ob"), flat(golden, "prev_action"))
        value = network.value(flat(golden, "ob"), flat(golden, "prev_action"))
    assert output.aux_vf is None
    dist = ActionSpec("categorical", (golden.count("cfg/nact"),)).distribution(output.logits)
    for actual, key in (
        (output.logits, "logits"),
        (output.vf, "value"),
        (value, "value"),
        (dist.logp(flat(golden, "action")), "logp"),
        (dist.entropy(), "entropy"),
        (stages[0], "conv"),
        (seen["fc_in"], "fc_in"),
        (seen["head_in"], "head_in"),
    ):
        assert_close(actual, golden, key, 6e-5)


@pytest.mark.parametrize("output", ["logits", "value", "value_detached"])
@pytest.mark.parametrize("path", FILES_B, ids=case_id)
def test_b_which_gradient_reaches_which_parameter(path, output):
    golden = golden_files.load(path)
    network = loaded_network(golden, "param", settings_b(golden))
    detach = output == "value_detached"
    result = network(flat(golden, "ob"), flat(golden, "prev_action"), detach_value=detach)
    total = result.vf.sum()
    if output == "logits":
        total = (result.logits * flat(golden, "gradnorm_weight")).sum()
    assert_gradients(network, golden, output, total, 1e-4)


@pytest.mark.parametrize("path", FILES_B, ids=case_id)
def test_b_dropout_at_recorded_masks(path):
    golden = golden_files.load(path)
    network = loaded_network(golden, "param", settings_b(golden))
    stages = len(golden["cfg/filters"])
    kept = {f"stage{i}": flat(golden, f"drop/mask_stage{i}") > 0 for i in range(stages)}
    kept["dense"] = flat(golden, "drop/mask_fc") > 0
    inputs = (flat(golden, "ob"), flat(golden, "prev_action"))
    with torch.no_grad():
        output, clean = network(*inputs, kept), network(*inputs)
    assert_close(output.logits, golden, "drop/logits", 6e-5)
    assert_close(output.vf, golden, "drop/value", 6e-5)
    assert_close(clean.logits, golden, "logits", 6e-5)


@pytest.mark.parametrize("path", FILES_B, ids=case_id)
def test_b_dropout_keeps_the_share_that_theirs_keeps(path):
    golden = golden_files.load(path)
    network = loaded_network(golden, "param", settings_b(golden))
    kept = network.draw_kept(4000, np.random.default_rng(0))
    theirs = {f"stage{i}": f"stage{i}" for i in range(len(golden["cfg/filters"]))}
    theirs["dense"] = "fc"
    assert set(kept) == set(theirs)
    for name, values in kept.items():
        recorded = golden.number(f"drop/kept_{theirs[name]}")
        assert values.mean() == pytest.approx(recorded, abs=0.02)


@pytest.mark.parametrize("path", FILES_B, ids=case_id)
def test_b_initial_weights_and_size_of_the_real_network(path):
    golden = golden_files.load(path)
    real = golden.below("real")
    sizes = {"widths": real["filters"].tolist(), "hidden_size": real.count("fc")}
    network = make_network((64, 64, 6), golden.count("cfg/nact"), settings_b(golden, **sizes))
    parameters = dict(network.named_parameters())
    names = real["param_names"].tolist()
    assert {rename(name) for name in names} == set(parameters)
    assert sum(p.numel() for p in parameters.values()) == real.count("total")
    for i, name in enumerate(names):
        values = parameters[rename(name)].detach()
        assert list(values.shape) == [n for n in real["param_shape"][i].tolist() if n > 0], name
        # Random: the same bound, and with many draws nearly the same largest one and deviation.
        if values.numel() > 100:
            assert values.abs().max() == pytest.approx(real["absmax"][i], rel=0.1), name
            assert values.std() == pytest.approx(real["std"][i], rel=0.2), name
