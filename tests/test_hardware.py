"""The learner on this machine: threads side by side, several devices, compiled passes."""

import threading
from typing import Any

import pytest
import torch

from rllib_ppg import PPG, PPGConfig
from rllib_ppg.algorithm import hardware, resources
from rllib_ppg.algorithm.hardware import LearnerThreads, check_gpus, learner_threads
from rllib_ppg.errors import UserError

SIZES = {
    "num_envs": 4, "rollout_fragment_length": 8, "n_pi": 2, "nminibatch": 2, "aux_mbsize": 2,
    "n_aux_epochs": 1, "seed": 3, "lr": 1e-3,
}  # fmt: skip
VECTOR = {"model": {"custom_model_config": {"hiddens": [8]}}}
IMAGE = {"model": {"custom_model_config": {"widths": [4], "hidden_size": 8, "blocks": 1}}}


def build(env: Any = "CartPole-v1", **changes: Any) -> PPG:
    images = env == "procgen"
    config = PPGConfig().environment(env, env_config={"rand_seed": 1} if images else {})
    return config.update_from_dict(
        {**SIZES, **(IMAGE if images else VECTOR), **changes}
    ).build_algo()


def flat(network: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in network.parameters()]).clone()


def train_one_phase(algorithm: PPG) -> torch.Tensor:
    while not algorithm._totals["aux_phases"]:
        algorithm.train()
    return flat(algorithm.get_policy().network)


def close(one: torch.Tensor, other: torch.Tensor) -> bool:
    # Adam moves a weight by about lr whatever the size of its gradient, so rounding may show.
    return bool((one - other).abs().max() < 2e-4)


# ---- several devices


@pytest.mark.parametrize("gpus", [2, 4])
@pytest.mark.parametrize("env", ["CartPole-v1", "procgen"])
def test_several_devices_make_the_update_of_one(ray_local, env: Any, gpus: int):
    single = train_one_phase(build(env, learner_threads=1))
    algorithm = build(env, num_gpus=gpus, _fake_gpus=True)
    begin = flat(algorithm.get_policy().network)
    assert close(train_one_phase(algorithm), single) and not close(begin, single)
    towers = [flat(tower.network) for tower in algorithm.get_policy().model_gpu_towers]
    assert len(towers) == gpus and all(torch.equal(tower, towers[0]) for tower in towers)


def test_each_device_takes_its_share_of_a_minibatch(ray_local):
    algorithm = build(num_gpus=4, _fake_gpus=True, n_aux_epochs=0)
    rows: list[list[int]] = []
    for tower in algorithm.get_policy().model_gpu_towers:
        seen: list[int] = []
        tower.network.value_head.register_forward_hook(
            lambda module, inputs, output, seen=seen: (
                seen.append(len(output)) if torch.is_grad_enabled() else None
            )
        )
        rows.append(seen)
    algorithm.train()
    assert rows == [[4, 4]] * 4  # two minibatches of 2 x 8 rows


def test_new_memory_is_not_filled_while_the_learner_works():
    assert torch.utils.deterministic.fill_uninitialized_memory
    with pytest.raises(ValueError), LearnerThreads(1):
        assert not torch.utils.deterministic.fill_uninitialized_memory
        raise ValueError
    assert torch.utils.deterministic.fill_uninitialized_memory


@pytest.mark.parametrize(
    ("found", "asked", "says"),
    [
        (0, 1, "torch finds no GPU here; use num_gpus: auto"),
        (2, 4, "torch finds 2 here; use 1 to 2, or auto"),
        (1, 2, "torch finds 1 here; use 1, or auto"),
    ],
)
def test_more_gpus_than_there_are_are_refused_with_what_fits(monkeypatch, found, asked, says):
    monkeypatch.setattr(resources, "machine_gpus", lambda: found)
    config = PPGConfig().training(num_gpus=asked)
    with pytest.raises(UserError, match=says):
        check_gpus(config)
    for fits in (0, found, 0.5 if found else 0):
        check_gpus(PPGConfig().training(num_gpus=fits))
    config._fake_gpus = True
    check_gpus(config)


# ---- threads


def test_threads_share_the_rows_of_images_and_change_rounding_only(ray_local):
    one = train_one_phase(build("procgen", learner_threads=1))
    three = build("procgen", learner_threads=3)
    assert len(three._learner._updater.replicas) == 3
    assert close(train_one_phase(three), one)
    assert len(build(learner_threads=3)._learner._updater.replicas) == 1, "vectors need no threads"


def test_learning_threads_leave_the_main_threads_alone(ray_local):
    before = torch.get_num_threads()
    algorithm = build("procgen", learner_threads=2)
    learning: set[tuple[bool, int]] = set()
    acting: set[tuple[bool, int]] = set()

    def note(*_: Any) -> None:
        main = threading.current_thread() is threading.main_thread()
        seen = acting if torch.is_inference_mode_enabled() else learning
        seen.add((main, torch.get_num_threads()))

    algorithm.get_policy().network.policy_head.register_forward_hook(note)
    train_one_phase(algorithm)
    algorithm.train()  # samples after the threads were made
    assert learning == {(False, 1)}, "one thread inside each operation, off the main thread"
    assert acting == {(True, before)} and torch.get_num_threads() == before


def test_learner_threads_are_given_back_even_after_an_error():
    before = torch.get_num_threads()
    with pytest.raises(KeyError), LearnerThreads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise KeyError
    assert torch.get_num_threads() == before


def test_auto_threads_are_the_reserved_cpus(monkeypatch):
    monkeypatch.setattr(resources, "machine_cpus", lambda: 8)
    config = PPGConfig().environment("CartPole-v1").env_runners(num_envs=8, num_env_runners=2)
    config.validate()
    assert learner_threads(config) == 3
    monkeypatch.setattr(resources, "machine_cpus", lambda: 2)
    assert learner_threads(config) == 2
    assert learner_threads(config.copy().training(learner_threads=5)) == 5


# ---- compiled passes


@pytest.fixture
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def test_compiled_passes_make_the_same_update(ray_local, fresh_compiler, monkeypatch):
    compiled: list[str] = []
    real = torch.compile

    def watched(function: Any, **options: Any) -> Any:
        compiled.append(options["backend"])
        return real(function, **options)

    monkeypatch.setattr(torch, "compile", watched)
    plain = train_one_phase(build("procgen", learner_threads=1))
    assert not compiled
    algorithm = build(
        "procgen",
        torch_compile_learner=True,
        torch_compile_learner_dynamo_backend="aot_eager",
        learner_threads=2,
    )
    assert close(train_one_phase(algorithm), plain)
    assert compiled and set(compiled) == {"aot_eager"}
    assert len(algorithm._learner._updater.replicas) == 1


@pytest.mark.slow
def test_torchs_own_compiler_trains_on_images(ray_local, fresh_compiler):
    plain = train_one_phase(build("procgen", learner_threads=1))
    compiled = train_one_phase(build("procgen", torch_compile_learner=True))
    assert close(compiled, plain)


def test_an_unknown_backend_is_refused_at_the_start(ray_local, fresh_compiler):
    with pytest.raises(UserError, match="'nonsense': torch knows no such backend"):
        build(torch_compile_learner=True, torch_compile_learner_dynamo_backend="nonsense")


def test_a_missing_compiler_is_found_at_the_start(ray_local, fresh_compiler, monkeypatch):
    import torch._inductor.config as inductor

    monkeypatch.setattr(inductor.cpp, "cxx", ("no-such-compiler",))
    with pytest.raises(UserError, match=r"does not work here: .*Install a C\+\+ compiler, or"):
        build(torch_compile_learner=True)


def test_nothing_is_compiled_unless_asked():
    assert hardware.compiler(PPGConfig(), torch.device("cpu")) is None


FLOAT16 = {"aux_precision": "float16", "policy_precision": "float16"}


@pytest.mark.parametrize(
    ("keys", "names"),
    [
        ({}, ["policy_precision", "aux_precision"]),
        ({"n_aux_epochs": 0}, ["policy_precision"]),
        ({"aux_precision": "bfloat16", "policy_precision": "float32"}, []),
        ({"num_gpus": 1}, []),
    ],
)
def test_a_line_says_that_float16_is_slow_without_a_gpu(keys, names):
    with resources.assume(4, 1):
        config = PPGConfig().environment("CartPole-v1").update_from_dict({**FLOAT16, **keys})
        config.validate()
        notes = hardware.slow_notes(config)
    assert [note.split(":")[0] for note in notes] == names
    assert all("float32" in note for note in notes)
