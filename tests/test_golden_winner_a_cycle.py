"""Whole runs of `PPG` as the generalization winner against its numbers: the order of all steps."""

from collections.abc import Iterator, Sequence
from itertools import combinations, count
from typing import Any

import golden_files
import numpy as np
import pytest
import winner_a
import winner_files
import winner_models
import winner_replay
from golden_files import Golden, case_id
from winner_replay import Recording

from rllib_ppg import PPG
from rllib_ppg.algorithm.rollout import Rollout
from rllib_ppg.core.aux_phase import AuxPhase, AuxStep
from rllib_ppg.core.learner import PolicyBatch, PolicyStep
from rllib_ppg.core.reward_norm import StepTransform
from rllib_ppg.core.segments import SegmentStore, segment_rows

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
EXACT = {"rtol": 1e-9, "atol": 0}

# Switches of the original that a file may have the other way round.
SWITCHES = (
    "hp/single_optimizer",
    "hp/same_lr_everywhere",
    "hp/standardize_rewards",
    "hp/reset_returns",
    "hp/adaptive_gamma",
    "hp/entropy_schedule",
    "hp/flattened_buffer",
)

# What the files' own hyper-parameters say, or switch off.
_SAID_BY_THE_FILE = (
    "lr_schedule",
    "aux_lr_schedule",
    "value_lr_schedule",
    "aux_mbsize",
    "aux_precision",
    "aux_augmentation",
    "reward_clip",
    "reward_transform",
)


def options(golden: Golden) -> dict[str, Any]:
    """The keys of the winner's experiment file, with a golden file's values where it has some."""
    hp = golden.below("hp")
    _, envs, steps = golden["batch/action"].shape
    total = hp.count("total_steps")
    file = winner_replay.experiment_options("winner_generalization", _SAID_BY_THE_FILE)
    found = {
        **winner_a.policy_options(hp, envs * steps),
        **winner_a.reward_options(hp, hp.number("return_max")),
        **winner_a.aux_options(hp, steps),
        **winner_a.rate_options(hp, total),
        **winner_a.entropy_options(hp, total),
        "n_pi": hp.count("n_pi"),
        "aux_skips": hp.count("skips"),
        "max_aux_phases": hp.count("num_retunes"),
        "adaptive_gamma": bool(hp["adaptive_gamma"]),
        # The original ends no run before the guard of its best weights lets it.
        "budget_env_steps": max(total, file["best_weights_min_env_steps"]),
        "model": file["model"]
        | {
            "custom_model_config": file["model"]["custom_model_config"]
            | winner_models.sizes_a(golden)
        },
    }
    return {**file, **found}


def permutations(golden: Golden) -> Iterator[np.ndarray]:
    """All that are drawn, in order."""
    _, envs, steps = golden["batch/action"].shape
    store = SegmentStore(golden.count("hp/n_pi") * envs, steps, (1,))
    for _ in range(golden.count("hp/n_pi")):
        store.append(np.arange(envs))
    phases = count()
    for i, drawn in enumerate(golden["pol/perm"]):
        yield from drawn
        if golden["aux_phase"][i]:
            yield from aux_permutations(golden.below(f"aux{next(phases)}"), store)


def aux_permutations(own: Golden, store: SegmentStore) -> Iterator[np.ndarray]:
    envs = len(np.unique(store.env[: store.count]))
    flat, units = "mb" in own, winner_a.aux_units(own)
    order = segment_rows(store.pairs(), store.num_steps) if flat else store.pairs()
    for epoch in range(own["epoch"].max() + 1):
        of_epoch = [u for u, e in zip(units, own["epoch"], strict=True) if e == epoch]
        drawn = np.concatenate(of_epoch)
        rows = drawn if flat else drawn[:, 1] * envs + drawn[:, 0]
        yield winner_a.store_order(rows, order)


def per_iteration(golden: Golden, i: int) -> Golden:
    """The batch of one iteration, without the lists of episodes."""
    batch = golden.below("batch").arrays
    return Golden({k: v[i] for k, v in batch.items() if not k.startswith("ep_")})


class Comparison:
    """Compares all that PPG makes, when it makes it.

    Args:
        golden: The run.
        algorithm: PPG, which has not begun yet.
    """

    def __init__(self, golden: Golden, algorithm: PPG) -> None:
        self.golden, self.algorithm = golden, algorithm
        self.learner = algorithm._learner
        self.iteration, self.phase = -1, -1
        self.phases: list[tuple[AuxPhase, winner_a.AuxComparison]] = []
        self.note_episodes, algorithm._note_episodes = algorithm._note_episodes, self.episodes
        winner_replay.watch(algorithm, self.policy_phase, self.aux_phase)

    def episodes(self, rollouts: Sequence[Rollout], *acting: Any) -> None:
        """Compare the episodes of the iteration that begins to be learned from."""
        (rollout,) = rollouts
        batch = self.golden.below("batch")
        mine = batch["ep_iter"] == self.iteration + 1
        own = Golden({k: v[mine] for k, v in batch.arrays.items() if k.startswith("ep_")})
        dones = rollout.batch["terminateds"] | rollout.batch["truncateds"]
        winner_a.assert_episodes(rollout.ended_returns, rollout.ended_lengths, dones, own)
        self.note_episodes(rollouts, *acting)

    def policy_phase(self, batch: PolicyBatch, steps: Iterator[PolicyStep]) -> Iterator[PolicyStep]:
        self.iteration += 1
        i, golden = self.iteration, self.golden
        self.assert_used(i)
        data = per_iteration(golden, i)
        np.testing.assert_array_equal(batch.actions, data["action"])
        np.testing.assert_allclose(batch.vf_preds, data["value"], **winner_a.OUTPUT)
        np.testing.assert_allclose(batch.logp, data["logp"], **winner_a.OUTPUT)
        self.assert_rewards(i)
        np.testing.assert_allclose(batch.value_targets, golden["ret"][i], **winner_a.OUTPUT)
        advantages = batch.value_targets - batch.vf_preds
        np.testing.assert_allclose(advantages, golden["adv"][i], **winner_a.OUTPUT)
        expected = golden["adv_std"][i].reshape(batch.advantages.shape)
        np.testing.assert_allclose(batch.advantages, expected, **winner_a.OUTPUT)
        own = golden.below("pol").at(i)
        yield from winner_a.compared_policy_steps(self.learner, batch, steps, own)

    def assert_used(self, i: int) -> None:
        """Compare rates and coefficients of this moment with those that iteration i used."""
        golden, learner = self.golden, self.learner
        found = {
            "lr_policy": learner.lr,
            "lr_aux": learner.aux_lr,
            "lr_value": learner.value_lr,
            "ent_coef": learner.entropy_coeff,
            "gamma": self.algorithm.gamma,
        }
        if learner.policy_settings.optimizers == "one":  # which the policy's rate moves
            del found["lr_aux"], found["lr_value"]
        for name, value in found.items():
            np.testing.assert_allclose(value, golden[name][i], **EXACT, err_msg=name)

    def assert_rewards(self, i: int) -> None:
        golden, algorithm = self.golden, self.algorithm
        np.testing.assert_allclose(algorithm._rewards.last.T, golden["reward"][i], **CLOSE)
        store, envs = algorithm._store, algorithm.config.num_envs
        if store.returns is not None:  # kept for an auxiliary phase only
            stored = store.returns.bootstrap[store.count - envs : store.count]
            np.testing.assert_allclose(stored, golden["bootstrap"][i], **winner_a.OUTPUT)
        transform = algorithm._rewards.transform
        if not isinstance(transform, StepTransform):
            assert not golden["hp/standardize_rewards"]
            return
        np.testing.assert_allclose(transform.moments.mean, golden["rn/ret_mean"][i], **CLOSE)
        np.testing.assert_allclose(transform.moments.var, golden["rn/ret_var"][i], **CLOSE)
        np.testing.assert_allclose(transform.moments.count, golden["rn/ret_count"][i], **CLOSE)
        np.testing.assert_allclose(transform.returns, golden["rn/ret"][i], **CLOSE)

    def aux_phase(self, phase: AuxPhase) -> Any:
        self.phase += 1
        own = self.golden.below(f"aux{self.phase}")
        p, config = self.phase, self.algorithm.config

        def after_first() -> None:
            recorded = winner_files.named(own, "param_step1")
            if p == 0:
                winner_a.overwrite_policy_head(self.learner, recorded)
            if recorded:
                winner_files.assert_parameters(self.learner.network, recorded, 2e-5)

        compare = winner_a.AuxComparison(
            own, config.num_envs, config.rollout_fragment_length, after_first
        )
        self.phases.append((phase, compare))

        def after(step: AuxStep) -> None:
            self.assert_used(self.iteration)  # an auxiliary phase keeps its iteration's
            compare(step)

        return after

    def end_iteration(self, i: int) -> None:
        """Compare what an iteration, and the auxiliary phase after it, leave."""
        golden, algorithm = self.golden, self.algorithm
        assert self.iteration == i
        assert algorithm._env_steps == golden["steps_total"][i]
        np.testing.assert_allclose(algorithm._budget.best_return, golden["best_reward"][i], **EXACT)
        assert algorithm._budget.best_steps == golden["best_steps"][i]
        if golden["best_steps"][i] == golden["steps_total"][i]:
            self.assert_kept(i)
        assert len(self.phases) == golden["aux_phase"][: i + 1].sum()
        if golden["aux_phase"][i]:
            self.end_aux_phase()
        after = {k: v[i] for k, v in winner_files.named(golden, "param_after").items()}
        winner_files.assert_parameters(self.learner.network, after, 2e-5)

    def assert_kept(self, i: int) -> None:
        """Compare the best weights: those that acted in iteration i, before it was learned from."""
        golden, kept = self.golden, self.algorithm._budget.weights
        name = "param_after" if i else "param0"
        for key, expected in winner_files.named(golden, name).items():
            expected = expected[i - 1] if i else expected
            np.testing.assert_allclose(
                kept[f"network.{key}"], expected, rtol=0, atol=2e-5, err_msg=key
            )

    def end_aux_phase(self) -> None:
        phase, compare = self.phases[-1]
        compare.finish()
        own = self.golden.below(f"aux{self.phase}")
        old = phase.old_inputs.numpy().reshape(own["old_logits"].shape)
        np.testing.assert_allclose(old, own["old_logits"], **winner_a.OUTPUT)
        values = phase.old_values.numpy().reshape(own["old_value"].shape)
        np.testing.assert_allclose(values, own["old_value"], **winner_a.OUTPUT)
        store = self.algorithm._store  # cleared, but nothing was written to it since
        targets = store.value_targets.reshape(own["target"].shape)
        np.testing.assert_allclose(targets, own["target"], **winner_a.OUTPUT)


@pytest.mark.parametrize("switched", [(), *combinations(SWITCHES, 1), *combinations(SWITCHES, 2)])
@pytest.mark.parametrize("path", winner_files.paths("a_cycle"), ids=case_id)
def test_other_switches_of_such_a_file_make_a_configuration_too(path, switched):
    golden = golden_files.load(path)
    other = {name: np.asarray(not golden[name]) for name in switched}
    golden = Golden({**golden.arrays, **other})
    _, envs, steps = golden["batch/action"].shape
    winner_files.make_config(
        envs,
        steps,
        whole=winner_a.is_whole(golden.below("hp"), golden.count("hp/n_pi") * envs),
        **{name: value for name, value in options(golden).items() if name != "model"},
    )


@pytest.mark.parametrize("path", winner_files.paths("a_cycle"), ids=case_id)
def test_whole_run_of_policy_and_auxiliary_phases(path, ray_local):
    golden = golden_files.load(path)
    data, hp = golden.below("batch"), golden.below("hp")
    iterations, envs, _ = data["action"].shape
    recording = Recording(
        data["obs"], data["final_ob"], data["action"], data["reward_raw"], data["done"]
    )
    algorithm = winner_replay.build(
        options(golden),
        recording,
        golden.count("cfg/nact"),
        winner_files.named(golden, "param0"),
        permutations=permutations(golden),
        whole=winner_a.is_whole(hp, hp.count("n_pi") * envs),
    )
    comparison = Comparison(golden, algorithm)
    for i in range(iterations):
        results = winner_replay.train_iteration(algorithm)
        assert not any(result["done"] for result in results)
        comparison.end_iteration(i)
    winner_a.assert_optimizers(comparison.learner, golden.below("opt"))
    algorithm.stop()
