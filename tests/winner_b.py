"""The sample-efficiency winner's hyper-parameters as our options, and its phases step by step."""

from collections.abc import Callable, Iterator
from typing import Any

import golden_files
import numpy as np
import torch
import winner_files
import winner_models
from golden_files import Golden

from rllib_ppg import PPGConfig
from rllib_ppg.core.clipping import GradientClip
from rllib_ppg.core.distributions import ActionSpec
from rllib_ppg.core.learner import AuxPhase, PhasicLearner, PolicyBatch
from rllib_ppg.core.segments import SegmentStore

LOSS = {"rtol": 2e-5, "atol": 5e-5}
ENTROPY = {"rtol": 1e-5, "atol": 1e-6}
NORM = {"rtol": 1e-4, "atol": 0}
OUTPUT = {"rtol": 0, "atol": 6e-5}
WEIGHTS = 1e-5


def options(hp: Golden) -> dict[str, Any]:
    """Options that the files name, of whichever phase."""
    names = {
        "lr": "lr",
        "vf_loss_coeff": "vf_loss_coeff",
        "clip_param": "clip_param",
        "vf_clip_param": "value_clip_param",
        "entropy_coeff": "entropy_coeff",
        "alternate_entropy_coeff": "alternate_entropy_coeff",
        "unique_threshold": "unique_threshold",
        "gamma": "gamma",
        "lambda": "lambda_",
        "grad_clip": "grad_clip",
        "drac_weight": "drac_weight",
        "drac_value_weight": "drac_value_weight",
        "drac_policy_weight": "drac_policy_weight",
    }
    found: dict[str, Any] = {ours: hp.number(k) for k, ours in names.items() if k in hp}
    found = {name: value for name, value in found.items() if not np.isnan(value)}  # not used
    if "alternate_entropy_coeff" not in found:
        found.pop("unique_threshold", None)
    if hp.number("grad_clip_elementwise"):
        found["grad_clip_elementwise"] = hp.number("grad_clip_elementwise")
    if "detach_value_head" in hp:
        found["detach_value_head"] = bool(hp["detach_value_head"])
    return {
        **found,
        "optimizers": "one",
        "minibatch_unit": "step",
        "shuffle_minibatches": True,
        "advantage_std_min": 1e-4,
        "reward_clip": None,
    }


def make_config(golden: Golden, num_envs: int, num_steps: int, **more: Any) -> PPGConfig:
    """A checked configuration; the network's settings stand in it, too."""
    model = {
        "custom_model": "ppg_impala",
        "custom_model_config": winner_models.settings_b(
            Golden({"cfg/dropout": np.float64(0), **golden.arrays})
        ),
    }
    if "model" in more:
        model["custom_model_config"] |= more.pop("model")
    config = PPGConfig().environment("procgen", env_config=winner_files.env_config(more))
    sizes = {"num_envs": num_envs, "rollout_fragment_length": num_steps, "model": model}
    config.update_from_dict({**sizes, **more})
    config.validate()
    return config


class NotedClip(GradientClip):
    """Keeps the newest gradient as it was before each part of clipping.

    Attributes:
        raw: Before.
        elementwise_clipped: After it was clipped element by element.
    """

    raw: list[torch.Tensor]
    elementwise_clipped: list[torch.Tensor]

    def __call__(self, parameters: Any, grad_clip: float | None) -> torch.Tensor:
        assert self.adaptive is None, "clipping twice would count twice"
        own = [p for p in parameters if p.grad is not None]
        self.raw = [p.grad.clone() for p in own]
        super().__call__(parameters, None)
        self.elementwise_clipped = [p.grad.clone() for p in own]
        for parameter, gradient in zip(own, self.raw, strict=True):
            parameter.grad.copy_(gradient)
        return super().__call__(parameters, grad_clip)


def gradients(learner: PhasicLearner, part: str) -> dict[str, torch.Tensor]:
    """The newest gradient by parameter: "raw", "elem" or "final", as the files call it."""
    found = winner_files.gradients_of(learner.network)
    if part == "final":
        return found
    clip = learner._clip
    noted = clip.raw if part == "raw" else clip.elementwise_clipped
    return dict(zip(found, noted, strict=True))


def make_learner(
    config: PPGConfig,
    golden: Golden,
    prefix: str,
    permutations: Iterator[np.ndarray],
    draw: Callable[..., Any] | None = None,
) -> PhasicLearner:
    settings = config.model["custom_model_config"]
    learner = PhasicLearner(
        winner_models.loaded_network(golden, prefix, settings),
        ActionSpec("categorical", (golden.count("cfg/nact"),)),
        config.policy_phase_settings(),
        config.aux_phase_settings(),
        generator=np.random.default_rng(0),
        permutation=golden_files.replay(permutations),
        draw_noise=draw,
    )
    note_clipping(learner)
    return learner


def note_clipping(learner: PhasicLearner) -> None:
    """Let `gradients` tell of the learner's steps."""
    learner._clip.__class__ = NotedClip


def epochs_of(minibatches: list[np.ndarray], rows: int) -> list[list[np.ndarray]]:
    """Minibatches by epoch; each epoch has all rows."""
    epochs: list[list[np.ndarray]] = [[]]
    for minibatch in minibatches:
        if sum(map(len, epochs[-1])) == rows:
            epochs.append([])
        epochs[-1].append(minibatch)
    return epochs


def permutations(
    minibatches: list[np.ndarray], rows: int, order: np.ndarray | None = None
) -> Iterator[np.ndarray]:
    """The permutations of rows and of minibatches that give these ones, epoch by epoch.

    Args:
        minibatches: Rows of each, a shorter one maybe in the middle of an epoch.
        rows: Rows of an epoch.
        order: What is permuted, where it is not 0 .. rows - 1.
    """
    for epoch in epochs_of(minibatches, rows):
        by_size = sorted(range(len(epoch)), key=lambda i: -len(epoch[i]))  # stable
        drawn = np.concatenate([epoch[i] for i in by_size])
        if order is not None:
            place = np.empty(rows, np.int64)
            place[order] = np.arange(rows)
            drawn = place[drawn]
        yield drawn
        yield np.argsort(by_size)


def filled(rows: np.ndarray) -> list[np.ndarray]:
    """Minibatches without the -1 that fill short ones."""
    return [row[row >= 0] for row in rows]


def flat(batch: PolicyBatch, name: str, rows: np.ndarray) -> torch.Tensor:
    array = np.asarray(getattr(batch, name))
    return torch.from_numpy(np.ascontiguousarray(array.reshape(-1, *array.shape[2:])[rows]))


def kl_from(learner: PhasicLearner, batch: PolicyBatch, old: np.ndarray, rows: np.ndarray) -> float:
    """Mean KL(old, new) of some rows, which the original only reports."""
    with torch.no_grad():
        logits, _ = learner.network.policy(
            flat(batch, "obs", rows), flat(batch, "prev_actions", rows)
        )
    spec = learner.action_spec
    old_logits = torch.from_numpy(old.reshape(-1, old.shape[-1])[rows])
    return float(spec.distribution(old_logits).kl(spec.distribution(logits)).mean())


def assert_step_gradients(learner: PhasicLearner, golden: Golden, k: int) -> None:
    """Compare the norms of step k's gradient before, between and after both clips."""
    for part in ("raw", "elem", "final"):
        found = list(gradients(learner, part).values())
        if f"grad_norm_{part}" in golden:
            norm = float(torch.nn.utils.get_total_norm(found))
            np.testing.assert_allclose(norm, golden[f"grad_norm_{part}"][k], **NORM, err_msg=part)
        if f"grad_absmax_{part}" in golden:
            largest = max(float(gradient.abs().max()) for gradient in found)
            np.testing.assert_allclose(largest, golden[f"grad_absmax_{part}"][k], **NORM)


def assert_gradients(learner: PhasicLearner, golden: Golden) -> None:
    """Compare all gradients of the newest step that are recorded; the others must have none."""
    for part in ("raw", "elem", "final"):
        expected = winner_files.named(golden, f"grad_{part}")
        if expected:
            found = gradients(learner, part)
            winner_files.assert_gradients(found, expected)
            assert set(found) == set(expected)


def adam_steps(learner: PhasicLearner) -> int:
    """Steps of the one Adam, the same for every parameter."""
    state = learner.get_state()["optimizers"]["one"]
    assert set(state) == {name for name, _ in learner.network.named_parameters()}
    (steps,) = {int(entry["step"]) for entry in state.values()}
    return steps


def assert_policy_step(
    learner: PhasicLearner, stats: dict[str, torch.Tensor], golden: Golden, k: int
) -> None:
    """Compare what step k minimised, its entropy coefficient, and its norms."""
    found = {name: float(value) for name, value in stats.items()}
    np.testing.assert_allclose(found["loss_total"], golden["loss_total"][k], **LOSS)
    np.testing.assert_allclose(found["policy_gradient_loss"], golden["pg"][k], **LOSS)
    coefficient = learner.policy_settings.vf_loss_coeff
    np.testing.assert_allclose(found["loss_vf"] / coefficient, golden["vf"][k], **LOSS)
    np.testing.assert_allclose(found["entropy"], golden["entropy"][k], **LOSS)
    unique = learner._entropy.fraction_unique
    np.testing.assert_allclose(unique, golden["fraction_unique"][k], **ENTROPY)
    used = learner._entropy.current
    np.testing.assert_allclose(used, golden["entropy_coeff"][k], **ENTROPY)
    np.testing.assert_allclose(found["negent"], -used * found["entropy"], rtol=1e-5)
    np.testing.assert_allclose(found["grad_norm"], golden["grad_norm_raw"][k], **NORM)
    assert_step_gradients(learner, golden, k)
    assert adam_steps(learner) == golden["adam_step"][k]


def assert_aux_step(
    learner: PhasicLearner, stats: dict[str, torch.Tensor], golden: Golden, k: int
) -> None:
    found = {name: float(value) for name, value in stats.items()}
    np.testing.assert_allclose(found["pol_distance"], golden["bc"][k], **LOSS)
    np.testing.assert_allclose(found["vf_true"], golden["value"][k], **LOSS)
    np.testing.assert_allclose(found["loss_total"], golden["loss_total"][k], **LOSS)
    assert "vf_aux" not in found
    np.testing.assert_allclose(found["grad_norm"], golden["grad_norm_raw"][k], **NORM)
    assert_step_gradients(learner, golden, k)
    assert adam_steps(learner) == golden["adam_step"][k]


def fill_store(obs: np.ndarray, prev_actions: np.ndarray, targets: np.ndarray) -> SegmentStore:
    """Store segments (I, N, T, ...), one iteration after the other."""
    iterations, envs, steps = obs.shape[:3]
    store = SegmentStore(iterations * envs, steps, obs.shape[3:], with_prev_actions=True)
    for i in range(iterations):
        rows = store.append(np.arange(envs))
        store.obs[rows] = obs[i]
        store.prev_actions[rows] = prev_actions[i]
        store.value_targets[rows] = targets[i]
    return store


def record(phase: AuxPhase, expected: np.ndarray) -> None:
    """Run epoch 0 and compare the old logits."""
    while phase.epoch == 0:
        assert phase.step() is None
    found = phase.old_inputs.numpy().reshape(expected.shape)
    np.testing.assert_allclose(found, expected, **OUTPUT)


def masks(golden: Golden) -> dict[str, str]:
    """Our names of the dropout masks that are recorded, by theirs."""
    found = [name for name in golden.arrays if name.startswith("mask_")]
    return {name: name.removeprefix("mask_").replace("fc", "dense") for name in found}


def recorded_noise(golden: Golden) -> Callable[..., Any]:
    """Give the recorded shifts and dropout masks, minibatch by minibatch."""
    names = masks(golden)
    calls = iter(range(len(golden["mb_row"])))

    def draw(shape: Any) -> dict[str, np.ndarray]:
        k = next(calls)
        count = shape[0]
        draws = {"augment/shift": golden["shift"][k][:count]}
        for theirs, ours in names.items():
            draws[f"kept/{ours}"] = golden[theirs][k][:count] > 0
        return draws

    return draw


def assert_weights(learner: PhasicLearner, golden: Golden, prefix: str) -> None:
    expected = winner_files.named(golden, prefix)
    winner_files.assert_parameters(learner.network, expected, WEIGHTS)
