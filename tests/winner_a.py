"""The generalization winner's hyper-parameters as our options, and its phases step by step."""

from collections.abc import Callable, Iterator
from math import ceil
from typing import Any

import golden_files
import numpy as np
import torch
import winner_files
import winner_models
from golden_files import Golden

from rllib_ppg import PPGConfig
from rllib_ppg.core.aux_phase import AuxStep
from rllib_ppg.core.distributions import ActionSpec
from rllib_ppg.core.frames import Frames, Rows
from rllib_ppg.core.learner import PhasicLearner, PolicyBatch, PolicyStep
from rllib_ppg.core.losses import policy_loss, value_loss

LOSS = {"rtol": 2e-5, "atol": 2e-5}
OUTPUT = {"rtol": 0, "atol": 3e-5}
EXPONENTIAL = 0.997  # per iteration, in their code


def micro_batches(rows: int, updates: int, largest: int) -> dict[str, int]:
    """Their cut of a batch: rows of a micro-batch, and how many make an update."""
    update = rows // updates
    accumulates = ceil(update / largest)
    return {"mbsize_rows": update // accumulates, "num_accumulates": accumulates}


def policy_options(hp: Golden, rows: int) -> dict[str, Any]:
    """Options of the policy phase, and of both phases' optimisers."""
    same = bool(hp["same_lr_everywhere"])
    layout = "one" if hp["single_optimizer"] else "heads"
    rates: dict[str, Any] = {"lr": hp.number("lr")}
    if layout == "heads" and not same:
        rates |= {"aux_lr": hp.number("aux_lr"), "value_lr": hp.number("value_lr")}
    if layout == "heads" and same:
        rates |= {"aux_lr": hp.number("lr")}
    return {
        **micro_batches(rows, hp.count("updates_per_batch"), hp.count("max_minibatch_size")),
        **rates,
        "optimizers": layout,
        "minibatch_unit": "step",
        "n_epoch_pi": hp.count("num_sgd_iter"),
        "n_epoch_vf": hp.count("num_sgd_iter"),
        "gamma": hp.number("gamma"),
        "lambda_": hp.number("lambda"),
        "clip_param": hp.number("clip_param"),
        "entropy_coeff": hp.number("entropy_coeff"),
        "vf_loss_coeff": hp.number("vf_loss_coeff") / 2,
    }


def reward_options(hp: Golden, return_max: float) -> dict[str, Any]:
    options: dict[str, Any] = {"reward_scale": hp.number("scale_reward")}
    adaptive = "adaptive_gamma" in hp and bool(hp["adaptive_gamma"])
    if hp["standardize_rewards"] or adaptive:  # a largest return that nothing uses is refused
        options["return_max"] = return_max
    if not hp["standardize_rewards"]:
        return {**options, "normalize_rewards": False}
    reset = "late" if hp["reset_returns"] else "never"
    return {
        **options,
        "reward_transform": {"type": "step", "reset": reset},
        "reward_clip": "return_max",
    }


def aux_options(hp: Golden, num_steps: int) -> dict[str, Any]:
    size = {"aux_mbsize": hp.count("aux_mbsize")}
    if hp["flattened_buffer"]:  # in rows, so that the last minibatch may be shorter
        size = {"aux_mbsize_rows": hp.count("aux_mbsize") * num_steps}
    return {
        **size,
        "n_aux_epochs": hp.count("retune_epochs"),
        "aux_num_accumulates": hp.count("aux_num_accumulates"),
        "aux_minibatch_unit": "step" if hp["flattened_buffer"] else "segment",
        "aux_value_targets": "recomputed",
    }


def assert_episodes(
    returns: np.ndarray, lengths: np.ndarray, dones: np.ndarray, golden: Golden
) -> None:
    """Compare the episodes that ended in a batch, in order of its rows.

    Args:
        returns: Their raw returns (K,).
        lengths: Their lengths (K,).
        dones: Where they ended (N, T).
        golden: The batch, with one iteration's episodes.
    """
    np.testing.assert_allclose(returns, golden["ep_return"], rtol=1e-9, atol=0)
    np.testing.assert_array_equal(lengths, golden["ep_length"])
    np.testing.assert_array_equal(np.flatnonzero(dones), golden["ep_row"])


def is_whole(hp: Golden, segments: int) -> bool:
    """Whether auxiliary minibatches of segments, if it has such, are all of the same size."""
    return bool(hp["flattened_buffer"]) or segments % hp.count("aux_mbsize") == 0


def make_learner(
    config: PPGConfig, golden: Golden, prefix: str, permutations: Iterator[np.ndarray]
) -> PhasicLearner:
    settings = winner_models.settings_a(golden)
    return PhasicLearner(
        winner_models.loaded_network(golden, prefix, settings),
        ActionSpec("categorical", (golden.count("cfg/nact"),)),
        config.policy_phase_settings(),
        config.aux_phase_settings(),
        generator=np.random.default_rng(0),
        permutation=golden_files.replay(permutations),
    )


def minibatch_losses(learner: PhasicLearner, batch: PolicyBatch, rows: np.ndarray) -> list[float]:
    """Policy loss, value loss and entropy of some rows, with the weights of this moment."""
    chosen = torch.from_numpy(rows)

    def flat(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array.reshape(-1)[rows]))

    settings = learner.policy_settings
    obs = batch.obs
    if not isinstance(obs, Frames):
        obs = Frames.of(obs.reshape(-1, *obs.shape[2:]))
    with torch.no_grad():
        output = learner.network(*obs.inputs(Rows(chosen, chosen), learner.device))
        loss, stats = policy_loss(
            learner.action_spec.distribution(output.logits),
            flat(batch.actions),
            flat(batch.logp),
            flat(batch.advantages),
            clip_param=settings.clip_param,
            kl_penalty=settings.kl_penalty,
            entropy_coeff=learner.entropy_coeff,
        )
        value, _ = value_loss(output.vf, flat(batch.value_targets), coeff=settings.vf_loss_coeff)
    return [float(loss), float(value), float(stats.entropy)]


def by_update(golden: Golden) -> list[slice]:
    """The micro-batches of each optimiser step."""
    ends = (np.flatnonzero(golden["apply"]) + 1).tolist()
    assert ends[-1:] == [len(golden["apply"])], "the last minibatches make no step"
    return [slice(begin, end) for begin, end in zip([0, *ends], ends, strict=False)]


def compared_policy_steps(
    learner: PhasicLearner,
    batch: PolicyBatch,
    steps: Iterator[PolicyStep],
    golden: Golden,
    after_first: Callable[[], None] = lambda: None,
) -> Iterator[PolicyStep]:
    """Give all steps of a policy phase, each compared: its minibatches, and their losses."""
    for count, micro in enumerate(by_update(golden)):
        parts = [row[row >= 0] for row in golden["mb"][micro]]
        assert [len(part) for part in parts] == golden["mb_size"][micro].tolist()
        found = [minibatch_losses(learner, batch, part) for part in parts]
        for column, name in enumerate(("loss_pi", "loss_vf", "entropy")):
            np.testing.assert_allclose([row[column] for row in found], golden[name][micro], **LOSS)
        step = next(steps)
        assert step.units.tolist() == np.concatenate(parts).tolist()
        assert step.epoch == golden["epoch"][micro][-1]
        mean = np.mean(golden["loss_pi"][micro] + golden["loss_vf"][micro])
        np.testing.assert_allclose(float(step.stats["loss_total"]), mean, **LOSS)
        if count == 0:
            after_first()
        yield step
    assert next(steps, None) is None, "more steps than the original made"


def aux_units(golden: Golden) -> list[np.ndarray]:
    """The units of each minibatch: rows of [S, N, T], or (environment, segment) pairs."""
    if "mb" in golden:
        return [row[row >= 0] for row in golden["mb"]]
    return [pairs[pairs[:, 0] >= 0] for pairs in golden["mb_envseg"]]


class AuxComparison:
    """Compares the steps of an auxiliary phase as they are made: their minibatches and losses.

    Args:
        golden: The phase.
        num_envs: N.
        num_steps: T.
        after_first: Called after the first step.
    """

    def __init__(
        self, golden: Golden, num_envs: int, num_steps: int, after_first: Callable[[], None]
    ) -> None:
        self._golden, self._num_envs, self._num_steps = golden, num_envs, num_steps
        self._after_first = after_first
        self._updates = by_update(golden)
        self.made = 0

    def __call__(self, step: AuxStep) -> None:
        golden, micro = self._golden, self._updates[self.made]
        assert step.epoch == golden["epoch"][micro][-1] + 1
        units = aux_units(golden)[micro]
        sizes = [len(part) * (self._num_steps if part.ndim == 2 else 1) for part in units]
        assert sizes == golden["mb_size"][micro].tolist()
        expected = np.concatenate(units)
        if expected.ndim == 2:
            expected = expected[:, 1] * self._num_envs + expected[:, 0]
        assert step.units.tolist() == expected.tolist()
        stats = {name: float(value) for name, value in step.stats.items()}
        means = {
            name: float(np.mean(golden[name][micro], dtype=np.float64))
            for name in ("kl", "loss_aux_total", "loss_vf")
        }
        np.testing.assert_allclose(stats["pol_distance"], means["kl"], **LOSS)
        np.testing.assert_allclose(
            stats["pol_distance"] + stats["vf_aux"], means["loss_aux_total"], **LOSS
        )
        np.testing.assert_allclose(stats["vf_true"], means["loss_vf"], **LOSS)
        if self.made == 0:
            self._after_first()
        self.made += 1

    def finish(self) -> None:
        """Refuse fewer steps than the original made."""
        assert self.made == len(self._updates), "the original made another number of steps"


def overwrite_policy_head(learner: PhasicLearner, recorded: dict[str, torch.Tensor]) -> None:
    """Take the original's policy head after a step that is rounding noise times Adam."""
    head = {name: value for name, value in recorded.items() if name.startswith("policy_head.")}
    for parameter in learner.network.policy_head.parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() < 1e-6
    learner.network.load_state_dict(head, strict=False)


def store_order(permutation_of_rows: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The permutation of the store's own order that gives these rows."""
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return place[permutation_of_rows]


def assert_optimizers(learner: PhasicLearner, golden: Golden) -> None:
    """Compare which optimiser holds which parameters, and its steps."""
    state = learner.get_state()["optimizers"]
    one = set(state) == {"one"}
    for theirs in ("policy", "aux", "value"):
        own = golden.below(theirs)
        if one and theirs != "policy":
            assert not own["step"].any() and not own["moments"].any()
            continue
        ours = "one" if one else theirs
        names = [winner_files.rename(name) for name in own["names"].tolist()]
        adam = learner._optimizers._adams[ours]
        held = {id(p) for group in adam.param_groups for p in group["params"]}
        parameters = dict(learner.network.named_parameters())
        assert held == {id(parameters[name]) for name in names}
        steps = {n: int(state[ours][n]["step"]) if n in state[ours] else 0 for n in names}
        assert steps == dict(zip(names, own["step"].tolist(), strict=True))
        for name, moments, numel in zip(names, own["moments"], own["numel"], strict=True):
            assert parameters[name].numel() == numel
            assert moments == (2 * numel if name in state[ours] else 0)
        group = adam.param_groups[0]
        found = [*group["betas"], group["eps"], group["weight_decay"]]
        assert found == own["betas_eps_wd"].tolist()


def entropy_options(hp: Golden, total: int) -> dict[str, Any]:
    coefficient = hp.number("entropy_coeff")
    options: dict[str, Any] = {"entropy_coeff": coefficient}
    if hp["entropy_schedule"]:
        line = [[0, coefficient], [total, hp.number("final_entropy_coeff")]]
        options["entropy_coeff_schedule"] = line
    return options


def rate_options(hp: Golden, total: int) -> dict[str, Any]:
    """Their learning rates, with their decay, as our options."""
    lr, same = hp.number("lr"), bool(hp["same_lr_everywhere"])
    kind = str(hp["lr_schedule"])
    one = "single_optimizer" in hp and bool(hp["single_optimizer"])
    options: dict[str, Any] = {
        "optimizers": "one" if one else "heads",
        "lr": lr,
    }
    if not one:
        options["aux_lr"] = lr if same else hp.number("aux_lr")
    if not (same or one):
        options["value_lr"] = hp.number("value_lr")
    if kind == "linear":
        line = [[0, lr], [total, hp.number("final_lr")]]
        options |= {"lr_schedule": line, **({"aux_lr_schedule": line} if same else {})}
    if kind == "exponential":
        assert same
        options["lr_decay"] = EXPONENTIAL
    return options
