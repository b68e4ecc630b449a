"""The benchmark compares equal things: yardsticks give our numbers, the harness counts right."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import __main__ as entry
from benchmarks import estimate, measure, report, single_file
from benchmarks.bare import (
    BareRollout,
    FastestLoop,
    NaiveLoop,
    aux_phase_loss,
    policy_phase_loss,
    random_minibatch,
)
from benchmarks.phases import filled_store, make_learner, our_steps, policy_batch, recorded
from benchmarks.rollouts import config as rollout_config
from benchmarks.work import SMALL, Network, procgen_arguments
from rllib_ppg._ray_compat import SampleBatch
from rllib_ppg.core.distributions import Categorical
from rllib_ppg.core.losses import aux_loss, policy_loss, value_loss
from rllib_ppg.core.networks import PhasicNetwork
from rllib_ppg.core.returns import compute_gae
from rllib_ppg.envs.procgen_vector import derive_rand_seed
from rllib_ppg.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
SEGMENTS, STEPS = 3, 7
LOSSES = {"policy": policy_phase_loss, "aux": aux_phase_loss}


@pytest.fixture
def rows():
    return random_minibatch(SEGMENTS * STEPS)


def by_name(network: PhasicNetwork, gradients: list) -> dict[str, np.ndarray]:
    names = [name for name, _ in network.named_parameters()]
    return {n: g.numpy() for n, g in zip(names, gradients, strict=True) if g is not None}


def assert_close(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    assert set(ours) == set(theirs) and ours
    for name, gradient in ours.items():
        np.testing.assert_allclose(gradient, theirs[name], rtol=1e-3, atol=1e-6, err_msg=name)


# ---- yardsticks


@pytest.mark.parametrize("phase", LOSSES)
@pytest.mark.parametrize("arch", ["dual", "detach", "shared"])
def test_all_three_loops_compute_the_same_gradient(rows, arch, phase):
    fast = FastestLoop(SMALL.build(arch), threads=2, micro_batch=4)
    slow = NaiveLoop(SMALL.build(arch))
    expected = by_name(slow.network, slow.gradient(LOSSES[phase], rows))
    assert_close(by_name(fast.network, fast.gradient(LOSSES[phase], rows)), expected)
    fast.close()

    learner = make_learner(arch, SEGMENTS, SMALL)
    if phase == "policy":
        learner.policy_phase(policy_batch(rows, SEGMENTS))
    else:
        learner.begin_aux_phase(filled_store(rows, SEGMENTS), recorded(rows)).run()
    moments = learner.get_state()["optimizers"]["joint" if phase == "policy" else "aux"]
    # Adam's first moment after one step is a tenth of the gradient.
    assert_close({name: 10 * entry["exp_avg"] for name, entry in moments.items()}, expected)


@pytest.mark.parametrize("rows_in_all", [1, 5, 128, 129])
def test_the_threads_shares_hold_every_row_once(rows_in_all):
    loop = FastestLoop(SMALL.build("detach"), threads=3, micro_batch=16)
    parts = [part for share in loop.parts(rows_in_all) for part in share]
    loop.close()
    assert [part.start for part in parts] == [0, *(part.stop for part in parts[:-1])]
    assert parts[-1].stop == rows_in_all
    assert all(0 < part.stop - part.start <= 16 for part in parts)


def test_the_fastest_forward_pass_is_the_network_s(rows):
    network = SMALL.build("dual")
    loop = FastestLoop(network, threads=2, micro_batch=4)
    with torch.no_grad():
        expected = network.value(rows.obs)
    torch.testing.assert_close(loop.forward(network.value, rows.obs), expected)
    loop.close()


def test_our_timed_steps_make_one_optimiser_step_each(rows):
    steps = our_steps("detach", rows, SEGMENTS)
    assert len(steps["policy"]()["loss_total"]) == 1
    assert len(steps["aux"]()["loss_total"]) == 1


def test_the_bare_rollout_plays_the_same_game_as_our_worker(ray_local):
    settings = rollout_config("detach", 3, 12).update_from_dict({"explore": False})
    algorithm = settings.build_algo()
    bare = BareRollout(
        algorithm.get_policy().network,
        3,
        procgen_arguments(),
        rand_seed=derive_rand_seed(settings.seed, 0, 0, 0),
        greedy=True,
    )
    rewards = bare.play(12)
    rollout = algorithm.env_runner.sample()
    ours = rollout.batch[SampleBatch.REWARDS].reshape(3, 12)
    np.testing.assert_array_equal(ours, rewards.T)
    np.testing.assert_array_equal(rollout.final_obs, bare.frames)
    algorithm.stop()
    bare.close()


# ---- the single-file PPG


def copy_weights(network: PhasicNetwork, agent: single_file.Agent) -> None:
    with torch.no_grad():
        for ours, theirs in zip(network.parameters(), agent.parameters(), strict=True):
            assert ours.shape == theirs.shape
            ours.copy_(theirs)


def test_the_single_file_ppg_has_our_network_and_losses(rows):
    torch.manual_seed(0)
    agent, network = single_file.Agent(), Network().build("detach")
    for (_, before), (_, after) in zip(
        agent.named_parameters(), network.named_parameters(), strict=True
    ):
        norms = [
            weight.detach().flatten(1).norm(dim=1) for weight in (before, after) if weight.dim() > 1
        ]
        if norms:
            torch.testing.assert_close(*norms)
    copy_weights(network, agent)
    floats = rows.obs.float()
    old_values = torch.randn(len(rows.obs), generator=torch.Generator().manual_seed(1))
    output = network(rows.obs)
    ours, _ = policy_loss(
        Categorical(output.logits),
        rows.actions,
        rows.logp,
        rows.advantages,
        clip_param=single_file.CLIP,
        kl_penalty=0.0,
        entropy_coeff=single_file.ENTROPY,
    )
    value, _ = value_loss(
        output.vf,
        rows.targets,
        coeff=single_file.VALUE / 2,
        old_vf=old_values,
        change_clip=single_file.VALUE_CLIP,
    )
    theirs = single_file.policy_loss(
        agent, floats, rows.actions, rows.logp, old_values, rows.advantages, rows.targets
    )
    torch.testing.assert_close(ours + value, theirs, rtol=1e-4, atol=1e-5)
    joint, _ = aux_loss(
        Categorical(output.logits),
        Categorical(rows.old_logits),
        output.aux_vf,
        output.vf,
        rows.targets,
        beta_clone=1.0,
        vf_true_weight=1.0,
    )
    theirs = single_file.aux_loss(agent, floats, rows.old_logits, rows.targets)
    torch.testing.assert_close(joint, theirs, rtol=1e-4, atol=1e-5)
    joint.backward()
    theirs.backward()
    mine, other = (next(net.parameters()).grad for net in (network, agent))
    torch.testing.assert_close(mine, other.contiguous(), rtol=1e-3, atol=1e-5)


def test_the_single_file_ppg_computes_our_value_targets_and_trains():
    sizes = single_file.Sizes(2, 40, 2, 1, nminibatch=2, aux_mbsize=3)
    torch.manual_seed(0)
    script = single_file.SingleFilePPG(sizes, procgen_arguments())
    rollout = script.rollout()
    _, returns = script.estimate(rollout)
    with torch.no_grad():
        bootstrap = script.agent(script.frames)[1]
    dones = torch.cat([rollout.firsts[1:].bool(), script.firsts[None]])
    _, expected = compute_gae(
        rollout.rewards.numpy(),
        rollout.values.numpy(),
        bootstrap.numpy(),
        dones.numpy(),
        gamma=single_file.GAMMA,
        lambda_=single_file.LAMBDA,
    )
    np.testing.assert_allclose(returns.numpy(), expected, rtol=1e-4, atol=1e-5)

    before = [parameter.detach().clone() for parameter in script.agent.parameters()]
    script.cycle()
    assert script.old_logits().shape == (40, 4, 15)
    after = script.agent.parameters()
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    script.close()


# ---- harness


def quiet(text: str) -> None:
    pass


def test_variants_are_called_in_turns_and_timed_each_on_its_own():
    calls, now = [], [0.0]

    def variant(name: str, seconds: float) -> None:
        calls.append(name)
        now[0] += seconds

    seconds = measure.interleave(
        {"a": lambda: variant("a", 2.0), "b": lambda: variant("b", 5.0)},
        2,
        quiet,
        clock=lambda: now[0],
    )
    assert calls == ["a", "b"] * 3
    assert seconds == {"a": [2.0, 2.0], "b": [5.0, 5.0]}


def test_a_speed_ratio_is_the_median_of_the_rounds_ratios():
    seconds = {"ours": [1.0, 2.0, 4.0], "bare": [1.0, 1.0, 3.0]}
    row = measure.speed_row(
        "s", "w", seconds, ours="ours", against="bare", amount=8, unit="rows/s", target=0.7
    )
    assert (row.ours, row.yardstick) == (4.0, 8.0)
    assert (row.ratio, row.low, row.high) == (0.75, 0.5, 1.0)
    assert row.met is True and replace(row, target=0.8).met is False
    assert replace(row, target=None).met is None


def test_bytes_should_stay_below_their_target():
    row = measure.size_row("s", "w", 3e6, "frames", 2e6, target=1.5)
    assert (row.ours, row.yardstick, row.ratio, row.met) == (3.0, 2.0, 1.5, True)
    assert measure.size_row("s", "w", 4e6, "frames", 2e6, target=1.5).met is False


def test_the_peak_of_memory_stays_after_the_memory_is_gone():
    before = measure.peak_memory()
    block = np.ones(60_000_000, np.uint8)
    del block
    assert measure.peak_memory() >= before > 10e6


def test_a_file_is_read_as_it_was_written(tmp_path):
    rows = [measure.size_row("s", "w", 3e6, "frames", 2e6, target=1.5, note="n")]
    path = tmp_path / "bench.json"
    report.write_json(path, report.to_json(rows, {"cpu": "x"}, complete=True))
    assert report.read_json(path) == (rows, {"cpu": "x"})
    assert [p.name for p in tmp_path.iterdir()] == ["bench.json"]
    path.write_text("{}")
    with pytest.raises(UserError, match="no result of `make bench`"):
        report.read_json(path)


def test_tables_go_between_the_marks_and_nowhere_else(tmp_path):
    path = tmp_path / "BENCHMARKS.md"
    path.write_text("a\n<!-- results -->\nold\n<!-- end of results -->\nz\n")
    report.insert(path, "results", "new")
    assert path.read_text() == "a\n<!-- results -->\nnew\n<!-- end of results -->\nz\n"
    with pytest.raises(UserError, match="kernels"):
        report.insert(path, "kernels", "new")


def test_the_project_s_own_page_has_both_marks(tmp_path):
    page = tmp_path / "BENCHMARKS.md"
    page.write_text((ROOT / "BENCHMARKS.md").read_text(encoding="utf-8"), encoding="utf-8")
    for name in ("results", "kernels"):
        report.insert(page, name, "new")


def test_the_command_measures_and_writes_table_and_file(tmp_path):
    out, page = tmp_path / "bench.json", tmp_path / "page.md"
    page.write_text("<!-- results -->\n<!-- end of results -->\n")
    command = [sys.executable, "-m", "benchmarks", "--quick", "--only", "returns"]
    command += ["--out", str(out), "--markdown", str(page)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "reward normalisation" in run.stdout and "round 1 of" in run.stderr
    content = json.loads(out.read_text())
    assert content["complete"] is True and {"cpu", "torch", "ray", "commit"} <= set(
        content["machine"]
    )
    for row in content["rows"]:
        assert row["ratio"] > 0 and row["low"] <= row["ratio"] <= row["high"]
        assert row["what"] in page.read_text()


def test_an_unknown_section_is_refused_with_the_known_ones(capsys):
    assert entry.main(["--only", "rolouts"]) == 2
    assert "rolouts" in (error := capsys.readouterr().err) and "rollouts" in error


def test_what_was_measured_before_ctrl_c_is_kept(tmp_path, monkeypatch):
    out = tmp_path / "bench.json"
    monkeypatch.setitem(sys.modules, "benchmarks.kernels", Interrupting())
    arguments = ["--quick", "--only", "returns,kernels", "--out", str(out)]
    assert entry.main(arguments) == entry.INTERRUPTED
    content = json.loads(out.read_text())
    assert content["complete"] is False and len(content["rows"]) == 2


class Interrupting:
    """A section in which the user presses Ctrl-C."""

    @staticmethod
    def run(quick, progress):
        raise KeyboardInterrupt


# ---- the estimate


def test_the_estimate_counts_our_network_s_parameters_and_operations():
    encoder = Network().build("shared").policy_encoder
    expected = estimate.Encoder()
    assert expected.parameters == sum(p.numel() for p in encoder.parameters())
    frames = torch.zeros(1, 64, 64, 3)
    with FlopCounterMode(display=False) as forward:
        output = encoder(frames)
    assert forward.get_total_flops() == expected.forward_flops
    with FlopCounterMode(display=False) as backward:
        output.sum().backward()
    assert backward.get_total_flops() == expected.training_flops - expected.forward_flops


def test_the_estimate_s_winner_has_the_published_number_of_parameters():
    heads = (512 + 1) * (15 + 1 + 1)
    (winner,) = (s for s in estimate.SETTINGS if s.name == "winner A")
    assert winner.encoder.parameters + heads == 2_496_849


def test_a_pass_that_only_computes_takes_its_flops_over_the_reached_peak():
    gpu = replace(estimate.V100, bandwidth=math.inf)
    encoder = estimate.Encoder()
    seconds = estimate.pass_seconds(encoder, gpu, training=True)
    assert seconds == pytest.approx(encoder.training_flops / (gpu.flops * gpu.efficiency))


def test_each_option_makes_the_estimate_faster():
    settings = estimate.SETTINGS
    order = ["float32", "+ half precision in the auxiliary phase", "+ torch_compile_learner"]
    chain = [estimate.VARIANTS[name] for name in (*order, "+ overlap_aux")]
    for setting in settings:
        speeds = [estimate.budget(setting, estimate.V100, options).steps_per_s for options in chain]
        assert all(slow < fast for slow, fast in pairwise(speeds))


def test_the_estimates_in_the_documentation_are_those_of_the_code():
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    for name, text in estimate.tables().items():
        assert f"<!-- {name} -->\n{text}\n<!-- end of {name} -->" in page, (
            "run python -m benchmarks.estimate --markdown docs/performance.md"
        )
