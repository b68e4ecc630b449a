"""Replicas of a network: the same update as one network, whoever shares the work."""

import copy
import threading
import time

import numpy as np
import pytest
import torch
from golden_phases import recorded
from small_learner import (
    assert_close_weights,
    make_batch,
    make_learner,
    make_store,
    weights,
)

from rllib_ppg.core.clipping import GradientClip
from rllib_ppg.core.encoders import MLPEncoder
from rllib_ppg.core.learner import PhasicLearner
from rllib_ppg.core.networks import PhasicNetwork
from rllib_ppg.core.precision import MixedPrecision
from rllib_ppg.core.replicas import Replica, Replicas
from rllib_ppg.core.updates import Updater

SHARED = [{"threads": 2}, {"threads": 3}, {"threads": 64}, {"copies": 1}, {"copies": 3}]


def make_network(arch: str = "dual") -> PhasicNetwork:
    torch.manual_seed(0)
    return PhasicNetwork(lambda: MLPEncoder(3, hiddens=(8,)), 4, arch=arch)


def make_alone(arch: str = "dual", policy: dict | None = None, **options) -> PhasicLearner:
    """A learner of small steps: Adam turns rounding of tiny gradients into steps of size lr."""
    return make_learner({"lr": 1e-4} | (policy or {}), {"aux_lr": 1e-4}, arch=arch, **options)


def make_shared(arch: str, policy: dict, *, threads: int = 1, copies: int = 0) -> PhasicLearner:
    """The same with threads, or with copies that start from other weights."""
    others = [copy.deepcopy(make_learner(arch=arch).network) for _ in range(copies)]
    for other in others:
        torch.nn.init.normal_(other.policy_head.weight)
    return make_alone(arch, policy, threads=threads, copies=others)


def run_phases(learner: PhasicLearner) -> list[dict[str, np.ndarray]]:
    """Both phases; the old policy is another, or the KL's gradient would be rounding only."""
    made = [dict(learner.policy_phase(make_batch()))]
    store = make_store()
    old = np.random.default_rng(5).standard_normal((store.count * store.num_steps, 4))
    phase = learner.begin_aux_phase(store, recorded(old))
    while not phase.done:
        made.append(dict(phase.run()))
    return made


@pytest.mark.parametrize("arch", ["dual", "detach", "shared"])
@pytest.mark.parametrize("policy", [{}, {"n_epoch_vf": 3, "grad_clip": 0.1}])
@pytest.mark.parametrize("sharing", SHARED, ids=str)
def test_both_phases_make_the_update_of_one_network(arch, policy, sharing):
    alone, shared = make_alone(arch, policy), make_shared(arch, policy, **sharing)
    expected, found = run_phases(alone), run_phases(shared)
    assert_close_weights(shared, alone)
    for theirs, ours in zip(expected, found, strict=True):
        assert theirs.keys() == ours.keys()
        for name, values in theirs.items():
            np.testing.assert_allclose(ours[name], values, rtol=2e-4, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("sharing", SHARED, ids=str)
def test_one_steps_gradient_is_that_of_one_network(sharing):
    once = {"n_epoch_pi": 1, "n_epoch_vf": 1, "nminibatch": 1}
    alone, shared = make_alone("dual", once), make_shared("dual", once, **sharing)
    alone.policy_phase(make_batch())
    shared.policy_phase(make_batch())
    ours = shared.get_state()["optimizers"]["joint"]
    for name, entry in alone.get_state()["optimizers"]["joint"].items():
        np.testing.assert_allclose(
            ours[name]["exp_avg"], entry["exp_avg"], rtol=1e-4, atol=1e-7, err_msg=name
        )


@pytest.mark.parametrize("sharing", SHARED, ids=str)
def test_values_are_those_of_one_network_in_order(sharing):
    obs = np.random.default_rng(0).integers(0, 256, (17, 3), np.uint8)
    shared = make_shared("dual", {}, **sharing)
    np.testing.assert_allclose(shared.values(obs), make_learner().values(obs), rtol=1e-5)


def test_copies_end_a_phase_with_the_networks_weights():
    others = [copy.deepcopy(make_learner().network) for _ in range(2)]
    learner = make_learner(copies=others)
    before = weights(learner)
    run_phases(learner)
    expected = weights(learner)
    assert not np.array_equal(expected["policy_head.weight"], before["policy_head.weight"])
    for other in others:
        for name, parameter in other.named_parameters():
            assert np.array_equal(parameter.detach().numpy(), expected[name]), name


def test_threads_share_weights_and_have_gradients_of_their_own():
    network = make_network()
    first, second = Replicas([network], threads=2)
    for ours, theirs in zip(first.parameters, second.parameters, strict=True):
        assert ours is not theirs
        assert ours.data_ptr() == theirs.data_ptr()
    other = {name: value + 1 for name, value in network.state_dict().items()}
    network.load_state_dict(other)
    for name, value in second.network.state_dict().items():
        assert torch.equal(value, other[name])
    second.value(torch.rand(2, 3)).sum().backward()
    assert all(parameter.grad is None for parameter in first.parameters)


def test_gradients_add_up_in_the_first_and_missing_ones_stay_missing():
    replicas = Replicas([make_network("dual")], threads=3)
    for replica in list(replicas)[1:]:
        replica.value(torch.ones(1, 3)).sum().backward()
    one = [None if p.grad is None else p.grad.clone() for p in replicas[1].parameters]
    replicas.reduce_gradients()
    for parameter, gradient in zip(replicas[0].parameters, one, strict=True):
        if gradient is None:
            assert parameter.grad is None
        else:
            torch.testing.assert_close(parameter.grad, 2 * gradient)
    assert any(gradient is None for gradient in one)
    replicas.zero_grad()
    assert all(p.grad is None for replica in replicas for p in replica.parameters)


def test_parts_run_at_once_each_on_one_thread_and_come_back_in_order():
    replicas = Replicas([make_network()], threads=3)
    before = torch.get_num_threads()
    all_there = threading.Barrier(3, timeout=20)

    def work(replica: Replica, part: int):
        all_there.wait()
        time.sleep(0.02 * (3 - part))
        return part, torch.get_num_threads(), id(replica)

    made = replicas.run(work, [0, 1, 2])
    assert [part for part, _, _ in made] == [0, 1, 2]
    assert {threads for _, threads, _ in made} == {1}
    assert [replica for _, _, replica in made] == [id(replica) for replica in replicas]
    assert torch.get_num_threads() == before


def test_a_single_part_runs_in_the_callers_thread():
    replicas = Replicas([make_network()], threads=3)
    (found,) = replicas.run(lambda replica, part: threading.current_thread(), [0])
    assert found is threading.current_thread()


def test_an_error_is_raised_after_the_others_have_finished():
    replicas = Replicas([make_network()], threads=2)
    finished = []

    def work(replica: Replica, part: int) -> None:
        if part == 0:
            raise RuntimeError("broken part")
        time.sleep(0.1)
        finished.append(part)

    with pytest.raises(RuntimeError, match="broken part"):
        replicas.run(work, [0, 1])
    assert finished == [1]


def test_a_compiled_function_makes_the_passes():
    called = []

    def compile(function):
        def compiled(*args):
            called.append(function.__name__)
            return function(*args)

        return compiled

    run_phases(make_learner({"n_epoch_vf": 3}, compile=compile))
    assert set(called) == {"forward", "policy", "value"}


def test_nothing_to_work_with_is_refused():
    with pytest.raises(ValueError, match="0 networks"):
        Replicas([])
    with pytest.raises(ValueError, match="threads=0"):
        Replicas([make_network()], threads=0)


class Noisy(torch.nn.Module):
    """An encoder that behaves otherwise in training, with a buffer."""

    output_size = 3

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shift", torch.zeros(3))
        self.modes: list[bool] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.modes.append(self.training)
        return x.float() / 255 + self.shift


def test_every_replica_trains_in_training_mode_and_evaluates_in_the_other():
    network = PhasicNetwork(Noisy, 4, arch="shared")
    replicas = Replicas([network], threads=2)
    network.eval()  # as acting leaves it
    updater = Updater(replicas, None)
    precision = MixedPrecision("float32", torch.device("cpu"))
    obs = torch.rand(4, 3)
    minibatches = updater.minibatches([np.arange(4)], 1)
    adam = torch.optim.Adam(network.parameters(), fused=True)
    updater.update(
        [adam],
        minibatches,
        lambda r, rows: (r.value(obs[rows.host]).sum(), {}),
        GradientClip(torch.device("cpu")),
        None,
        precision,
    )
    updater.map(lambda r, rows: r.value(obs[rows.host]), 0, 4, precision)
    assert [r.network.policy_encoder.modes for r in replicas] == [[True, False]] * 2


def test_copies_take_the_networks_buffers():
    network, other = (PhasicNetwork(Noisy, 4, arch="shared") for _ in range(2))
    network.policy_encoder.shift.fill_(5.0)
    Replicas([network, other]).broadcast()
    assert (other.policy_encoder.shift == 5.0).all()


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_network_that_cannot_be_copied_is_named():
    network = make_network()
    torch.nn.utils.weight_norm(network.value_head)
    assert len(Replicas([network])) == 1
    with pytest.raises(ValueError, match="cannot be copied for a second thread"):
        Replicas([network], threads=2)
