"""Whole runs of `PPG` as the sample-efficiency winner against its numbers."""

from collections.abc import Callable, Iterator
from typing import Any

import golden_files
import numpy as np
import pytest
import torch
import winner_b
import winner_files
import winner_models
import winner_replay
from golden_files import Golden, case_id
from winner_replay import Recording

from rllib_ppg import PPG
from rllib_ppg.core.aux_phase import AuxPhase, AuxStep
from rllib_ppg.core.frames import Rows
from rllib_ppg.core.learner import PolicyBatch, PolicyStep
from rllib_ppg.core.reward_norm import FragmentTransform
from rllib_ppg.core.segments import segment_rows
from rllib_ppg.envs.procgen_options import parse_options
from rllib_ppg.envs.state_counts import EPISODE_STEP, NUM_UNIQUE_STATES, Counts

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def permutations(golden: Golden) -> Iterator[np.ndarray]:
    """All that are drawn, in order."""
    stored = golden.count("hp/aux_every")
    _, envs, steps = golden["seg/action"].shape
    zeros = np.zeros((stored, envs, steps))
    store = winner_b.fill_store(golden["seg/ob"][:stored], zeros, zeros)
    order, phase = segment_rows(store.pairs(), steps), 0
    for i, fired in enumerate(golden["aux_fired"]):
        yield from winner_b.permutations(winner_b.filled(golden["pol/mb_row"][i]), envs * steps)
        if fired:
            minibatches = winner_b.filled(golden["aux/mb_row"][phase])
            yield from winner_b.permutations(minibatches, stored * envs * steps, order)
            phase += 1


def shifts(golden: Golden) -> Callable[..., Any]:
    """All shifts that are drawn, in order."""
    recorded = iter(golden["aux/shift"].reshape(-1, *golden["aux/shift"].shape[2:]))
    return lambda shape: {"augment/shift": next(recorded)[: shape[0]]}


def options(golden: Golden) -> dict[str, Any]:
    """The keys of the winner's experiment file, with a golden file's values where it has some."""
    hp = golden.below("hp")
    file = winner_replay.experiment_options("winner_sample_efficiency")
    found = {
        **winner_b.options(hp),
        "n_epoch_pi": hp.count("epochs"),
        "n_epoch_vf": hp.count("epochs"),
        "mbsize_rows": hp.count("minibatch"),
        "aux_mbsize_rows": hp.count("minibatch"),
        "n_aux_epochs": hp.count("aux_epochs"),
        "n_pi": hp.count("aux_every"),
        # One worker made the numbers.
        "reward_transform": file["reward_transform"] | {"alpha": hp.number("alpha"), "groups": 1},
        "model": file["model"]
        | {
            "custom_model_config": file["model"]["custom_model_config"]
            | winner_models.sizes_b(golden)
        },
    }
    return {**file, **found}


def recording(golden: Golden) -> Recording:
    """The run's games, counted and shaped as the experiment file's options say."""
    seg, hp = golden.below("seg"), golden.below("hp")
    bare = Recording(seg["ob"], seg["ob_last"], seg["action"], seg["reward_raw"], seg["done"])
    shown, dones = bare.shown(), bare.by_step(seg["done"])
    same = (shown[1:] == shown[:-1])[..., -bare.frame_size :].all(axis=(2, 3, 4))
    matches = np.where(dones, bare.by_step(seg["matches_previous_obs"]), same)
    episode_step = np.zeros_like(dones, np.int64)
    for i in range(1, len(dones)):
        episode_step[i] = np.where(dones[i - 1], 0, episode_step[i - 1] + 1)
    unique = bare.by_step(seg["num_unique_states"])
    penalties = parse_options(
        {
            "noop_reward": hp.number("noop_reward"),
            "noop_min_timestep": hp.count("noop_min_timestep"),
        }
    ).penalties
    shaping = np.zeros(dones.shape, np.float32)
    if penalties is not None:
        shaping = penalties(Counts(np.ones_like(unique), unique, matches, episode_step), dones)

    def by_iteration(array: np.ndarray) -> np.ndarray:
        iterations, envs, steps = seg["action"].shape
        return array.reshape(iterations, steps, envs).swapaxes(1, 2)

    columns = {
        NUM_UNIQUE_STATES: seg["num_unique_states"],
        EPISODE_STEP: by_iteration(episode_step),
    }
    return Recording(
        bare.obs,
        bare.final_obs,
        bare.actions,
        bare.rewards,
        bare.dones,
        shaping=by_iteration(shaping),
        columns=columns,
    )


class Comparison:
    """Compares all that PPG makes, when it makes it.

    Args:
        golden: The run.
        algorithm: PPG, which has not begun yet.
    """

    def __init__(self, golden: Golden, algorithm: PPG) -> None:
        self.golden, self.algorithm = golden, algorithm
        self.learner = algorithm._learner
        self.names = golden["param_names"].tolist()
        self.iteration, self.made = -1, [0] * int(golden["aux_fired"].sum())
        self.phases: list[AuxPhase] = []
        winner_b.note_clipping(self.learner)
        winner_replay.watch(algorithm, self.policy_phase, self.aux_phase)

    def policy_phase(self, batch: PolicyBatch, steps: Iterator[PolicyStep]) -> Iterator[PolicyStep]:
        self.iteration += 1
        i = self.iteration
        seg, own = self.golden.below("seg").at(i), self.golden.below("pol")
        self.assert_batch(batch, seg)
        self.assert_rewards(i)
        for k, rows in enumerate(winner_b.filled(own["mb_row"][i])):
            step = next(steps)
            assert step.units.tolist() == rows.tolist()
            winner_b.assert_policy_step(self.learner, step.stats, own.at(i), k)
            self.assert_after(own, (i, k))
            yield step
        assert next(steps, None) is None

    def assert_batch(self, batch: PolicyBatch, seg: Golden) -> None:
        found = {
            "action": batch.actions,
            "t": batch.episode_step,
            "num_unique_states": batch.num_unique_states,
        }
        for name, array in found.items():
            np.testing.assert_array_equal(array, seg[name], err_msg=name)
        rows = torch.arange(batch.logp.size)
        inputs = batch.obs.inputs(Rows(rows, rows), self.learner.device)
        before = inputs.prev_actions.numpy().reshape(seg["prev_action"].shape)
        np.testing.assert_array_equal(before, seg["prev_action"])
        with torch.no_grad():
            logits = self.learner.network(*inputs).logits.numpy()
        close = {
            "logits": logits.reshape(seg["logits"].shape),
            "value": batch.vf_preds,
            "logp": batch.logp,
            "vtarg": batch.value_targets,
            "adv_raw": batch.value_targets - batch.vf_preds,
            "adv": batch.advantages,
        }
        for name, array in close.items():
            np.testing.assert_allclose(array, seg[name], **winner_b.OUTPUT, err_msg=name)

    def assert_rewards(self, i: int) -> None:
        golden, rewards = self.golden, self.algorithm._rewards
        np.testing.assert_allclose(rewards.last.T, golden["seg/reward"][i], **CLOSE)
        transform = rewards.transform
        assert isinstance(transform, FragmentTransform)
        np.testing.assert_allclose(transform.mean, golden["rnorm/stat_mean"][i], **CLOSE)
        np.testing.assert_allclose(transform.var, golden["rnorm/stat_var"][i], **CLOSE)
        assert transform.count.tolist() == [golden["rnorm/stat_n"][i]]

    def assert_after(self, own: Golden, at: tuple[int, ...]) -> None:
        """Compare the weights that are recorded after every step, and all norms."""
        recorded = {
            winner_files.rename(name.removeprefix("after_")): torch.from_numpy(np.array(v[at]))
            for name, v in own.arrays.items()
            if name.startswith("after_")
        }
        winner_files.assert_parameters(self.learner.network, recorded, winner_b.WEIGHTS)
        weights = self.learner.network.state_dict()
        norms = [float(weights[winner_files.rename(name)].norm()) for name in self.names]
        np.testing.assert_allclose(norms, own["param_norm"][at], **winner_b.NORM)

    def aux_phase(self, phase: AuxPhase) -> Callable[[AuxStep], None]:
        p, own = len(self.phases), self.golden.below("aux")
        self.phases.append(phase)
        winner_b.assert_weights(self.learner, self.golden, f"param_before_aux{p}")
        minibatches = winner_b.filled(own["mb_row"][p])

        def after(step: AuxStep) -> None:
            k = self.made[p]
            assert step.units.tolist() == minibatches[k].tolist()
            winner_b.assert_aux_step(self.learner, step.stats, own.at(p), k)
            self.assert_after(own, (p, k))
            self.made[p] += 1

        return after

    def end_iteration(self, i: int) -> None:
        """Compare what an iteration, and the auxiliary phase after it, leave."""
        golden = self.golden
        assert self.iteration == i
        assert len(self.phases) == golden["aux_fired"][: i + 1].sum()
        winner_b.assert_weights(self.learner, golden, f"param_after_iter{i}")
        if golden["aux_fired"][i]:
            p = len(self.phases) - 1
            assert self.made[p] == len(golden["aux/mb_row"][p])
            expected = golden["aux/old_logits"][p]
            found = self.phases[p].old_inputs.numpy().reshape(expected.shape)
            np.testing.assert_allclose(found, expected, **winner_b.OUTPUT)


@pytest.mark.parametrize("path", winner_files.paths("b_cycle"), ids=case_id)
def test_whole_run_of_policy_and_auxiliary_phases(path, ray_local):
    golden = golden_files.load(path)
    algorithm = winner_replay.build(
        options(golden),
        recording(golden),
        golden.count("cfg/nact"),
        winner_files.named(golden, "param0"),
        permutations=permutations(golden),
        draw=shifts(golden),
    )
    assert algorithm._store.frame_stack == recording(golden).frame_stack == 2
    comparison = Comparison(golden, algorithm)
    for i in range(len(golden["aux_fired"])):
        winner_replay.train_iteration(algorithm)
        comparison.end_iteration(i)
    algorithm.stop()
