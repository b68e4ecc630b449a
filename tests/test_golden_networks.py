"""Forward passes, gradient paths and initial weights against the original's numbers."""

import golden_files
import numpy as np
import pytest
import torch
from golden_files import Golden, case_id

MODELS = golden_files.files("model")


def flat(golden: Golden, key: str) -> torch.Tensor:
    return torch.from_numpy(golden[key]).flatten(0, 1)


def assert_outputs(actual: torch.Tensor, golden: Golden, key: str) -> None:
    expected = golden[key]
    np.testing.assert_allclose(
        actual.detach().numpy().reshape(expected.shape), expected, rtol=0, atol=3e-5, err_msg=key
    )


@pytest.mark.parametrize("path", MODELS, ids=case_id)
def test_heads_and_distribution(path):
    golden = golden_files.load(path)
    network, spec = golden_files.loaded_network(golden, "param")
    obs = flat(golden, "ob")
    with torch.no_grad():
        output = network(obs)
        logits, vf = network.policy(obs)
        value = network.value(obs)
    dist = spec.distribution(output.logits)
    assert_outputs(output.logits, golden, "pi_head_out")
    assert_outputs(logits, golden, "pi_head_out")
    assert_outputs(dist.log_probs, golden, "logits")
    assert_outputs(output.vf, golden, "vpred")
    assert_outputs(value, golden, "vpred")
    if not network.separate_value_encoder:
        assert_outputs(vf, golden, "vpred")
    assert_outputs(output.aux_vf, golden, "vpredaux")
    assert_outputs(dist.logp(flat(golden, "ac")), golden, "logp")
    assert_outputs(dist.entropy(), golden, "entropy")


@pytest.mark.parametrize("path", MODELS, ids=case_id)
def test_codes_and_last_stage(path):
    golden = golden_files.load(path)
    network, _ = golden_files.loaded_network(golden, "param")
    encoders = {"pi": network.policy_encoder}
    if network.separate_value_encoder:
        encoders["vf"] = network.value_encoder
    for name, encoder in encoders.items():
        seen = []
        encoder.stages[-1].register_forward_hook(lambda *call, seen=seen: seen.append(call[2]))
        with torch.no_grad():
            code = encoder(flat(golden, "ob"))
        assert_outputs(code, golden, f"code_{name}")
        assert_outputs(seen[0], golden, f"conv_{name}")
    assert ("code_vf" in golden) == network.separate_value_encoder


@pytest.mark.parametrize("output", ["logits", "vpred", "vpredaux"])
@pytest.mark.parametrize("path", MODELS, ids=case_id)
def test_which_gradient_reaches_which_parameter(path, output):
    golden = golden_files.load(path)
    network, spec = golden_files.loaded_network(golden, "param")
    result = network(flat(golden, "ob"))
    log_probs = spec.distribution(result.logits).log_probs
    weighted = (log_probs * flat(golden, "gradnorm_weight")).sum()
    total = {"logits": weighted, "vpred": result.vf.sum(), "vpredaux": result.aux_vf.sum()}[output]
    total.backward()
    parameters = dict(network.named_parameters())
    names = [golden_files.rename(name) for name in golden["param_names"].tolist()]
    assert set(names) == set(parameters)
    for name, expected in zip(names, golden[f"gradnorm/{output}"].tolist(), strict=True):
        gradient = parameters[name].grad
        if expected == -1:
            assert gradient is None, f"{name} must not be connected to {output}"
            continue
        assert gradient is not None, f"{name} must be connected to {output}"
        if expected == 0:
            assert not gradient.any(), name
        np.testing.assert_allclose(gradient.norm(), expected, rtol=2e-4, err_msg=name)


@pytest.mark.parametrize(
    "path, group", golden_files.cases("init_norms", "param_numel"), ids=case_id
)
def test_initial_weights(path, group):
    golden = golden_files.load(path).below(group)
    parameters = dict(golden_files.build_network(golden.below("cfg")).named_parameters())
    theirs = golden["param_names"].tolist()
    assert {golden_files.rename(name) for name in theirs} == set(parameters)
    assert sum(p.numel() for p in parameters.values()) == golden.count("total")
    for i, name in enumerate(theirs):
        values = parameters[golden_files.rename(name)].detach()
        shape = [size for size in golden["param_shape"][i].tolist() if size != -1]
        assert list(values.shape) == shape, name
        assert values.numel() == golden["param_numel"][i], name
        if golden["bias_absmax"][i] != -1:
            assert values.abs().max() == golden["bias_absmax"][i], name
            continue
        rows = values.flatten(1)
        np.testing.assert_allclose(
            rows.norm(dim=1), golden[f"norm/{name}"], rtol=1e-5, err_msg=name
        )
        # Random, so only their size: the same family of distributions.
        ratio = rows.abs().amax(dim=1).mean() / golden[f"absmax/{name}"].mean()
        assert 0.5 < ratio < 2, name
