"""Optimiser steps in micro-batches, and the statistics of a phase."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from rllib_ppg.core.clipping import GradientClip
from rllib_ppg.core.optimizers import make_adam
from rllib_ppg.core.precision import MixedPrecision
from rllib_ppg.core.replicas import Replica, Replicas
from rllib_ppg.core.updates import PhaseStats, Rows, Updater, collect_stats

CPU = torch.device("cpu")
FLOAT32 = MixedPrecision("float32", CPU)
CLIP = GradientClip(CPU)


class Line(nn.Module):
    """y = a x, with a parameter that nothing uses."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(1.0))
        self.unused = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.a * x

    policy = value = forward


X = torch.arange(7.0)


def make_updater(line: nn.Module, micro_batch_size: int | None = None, threads: int = 1) -> Updater:
    return Updater(Replicas([line], threads=threads), micro_batch_size)


def one_step(
    micro_batch_size: int | None,
    grad_clip: float | None = None,
    garbage: bool = False,
    threads: int = 1,
):
    line = Line()
    updater = make_updater(line, micro_batch_size, threads)
    if garbage:
        line.a.grad = torch.tensor(1e6)
        line.unused.grad = torch.tensor(1e6)

    def loss(replica: Replica, rows: Rows):
        squares = (replica.forward(X[rows.host]) - 1).square().mean()
        return squares, {"squares": squares.detach()}

    minibatches = updater.minibatches([np.arange(7)], 1)
    optimizer = torch.optim.SGD(line.parameters(), lr=0.01)
    return line, updater.update([optimizer], minibatches, loss, CLIP, grad_clip, FLOAT32)


def test_a_step_follows_the_gradient_of_the_mean():
    line, stats = one_step(None)
    # d/da mean (a x - 1)^2 = 2 mean x (a x - 1) at a = 1
    gradient = 2 * (X * (X - 1)).mean()
    assert stats["squares"] == (X - 1).square().mean()
    assert stats["grad_norm"] == gradient
    torch.testing.assert_close(line.a.detach(), 1 - 0.01 * gradient)


@pytest.mark.parametrize("size", [1, 2, 3, 6, 7, 100])
def test_micro_batches_of_any_size_make_the_same_step(size):
    line, stats = one_step(size)
    whole, expected = one_step(None)
    torch.testing.assert_close(line.a, whole.a)
    for name in expected:
        torch.testing.assert_close(stats[name], expected[name])


def test_leftovers_in_grad_do_not_enter():
    line, stats = one_step(None, garbage=True)
    clean, expected = one_step(None)
    assert line.a == clean.a
    assert line.unused == 1.0
    assert stats["grad_norm"] == expected["grad_norm"]


def test_gradient_clip_bounds_the_step_but_not_the_statistic():
    line, stats = one_step(None, grad_clip=0.5)
    torch.testing.assert_close(line.a.detach(), torch.tensor(1 - 0.01 * 0.5), rtol=1e-4, atol=0)
    assert stats["grad_norm"] == one_step(None)[1]["grad_norm"] > 0.5


def test_minibatches_expand_segments_to_rows():
    minibatches = make_updater(Line()).minibatches([np.array([2, 0]), np.array([1])], 2)
    assert [[r.host.tolist() for r in shares] for shares in minibatches] == [
        [[4, 5, 0, 1]],
        [[2, 3]],
    ]
    assert all(torch.equal(r.host, r.device) for shares in minibatches for r in shares)


def test_micro_batch_size_must_be_positive():
    with pytest.raises(ValueError, match="micro_batch_size=0"):
        make_updater(Line(), 0)


def test_means_leave_missing_statistics_out():
    stats = PhaseStats(a=np.array([1.0, math.nan, 3.0]), b=np.array([math.nan] * 3), c=np.empty(0))
    means = stats.means()
    assert means["a"] == 2.0
    assert math.isnan(means["b"])
    assert math.isnan(means["c"])


def test_statistics_that_a_step_did_not_make_are_nan():
    steps = [
        {"grad_norm": torch.tensor(1.0), "loss": torch.tensor(2.0)},
        {"grad_norm": torch.tensor(3.0)},
    ]
    stats = collect_stats(("loss", "grad_norm"), steps, str)
    np.testing.assert_array_equal(stats["loss"], np.array([2.0, np.nan], np.float32))
    assert stats["grad_norm"].tolist() == [1.0, 3.0]


def test_no_steps_make_empty_statistics():
    stats = collect_stats(("loss", "grad_norm"), [], str)
    assert {name: len(values) for name, values in stats.items()} == {"loss": 0, "grad_norm": 0}


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_the_first_broken_step_and_its_terms_are_named(value):
    good = {"grad_norm": torch.tensor(1.0), "loss": torch.tensor(2.0)}
    bad = {"grad_norm": torch.tensor(1.0), "loss": torch.tensor(float(value))}
    worse = {"grad_norm": torch.tensor(math.nan), "loss": torch.tensor(math.nan)}
    with pytest.raises(FloatingPointError, match=f"^loss became {value} at step 1"):
        collect_stats(("loss", "grad_norm"), [good, bad, worse], lambda i: f"step {i}")


def test_a_step_whose_gradient_is_not_finite_changes_nothing():
    line = Line()
    updater = make_updater(line)
    optimizer = make_adam(list(line.parameters()), 0.1)

    def step(factor: float) -> float:
        def loss(replica: Replica, rows: Rows):
            return (replica.forward(X[rows.host]) * factor).sum(), {}

        minibatches = updater.minibatches([np.arange(7)], 1)
        stats = updater.update([optimizer], minibatches, loss, CLIP, None, FLOAT32)
        return float(stats["grad_norm"])

    assert step(1.0) == X.sum()
    before = line.a.item()
    state = {name: value.clone() for name, value in optimizer.state[line.a].items()}
    assert not math.isfinite(step(math.nan)) and not math.isfinite(step(math.inf))
    assert line.a.item() == before == pytest.approx(0.9)
    assert all(torch.equal(optimizer.state[line.a][name], value) for name, value in state.items())
    step(1.0)
    assert line.a.item() == pytest.approx(0.8)
