"""Both phases of the sample-efficiency winner against its numbers."""

import golden_files
import numpy as np
import pytest
import torch
import winner_b
import winner_files
from golden_files import Golden, case_id

from rllib_ppg.core.augment import Augmentation
from rllib_ppg.core.entropy import EntropyCoefficient
from rllib_ppg.core.learner import PhasicLearner, PolicyBatch
from rllib_ppg.core.networks import PhasicOutput
from rllib_ppg.core.noise import AUGMENT
from rllib_ppg.core.returns import standardize
from rllib_ppg.core.segments import segment_rows


def policy_batch(data: Golden, infos: bool) -> PolicyBatch:
    return PolicyBatch(
        data["ob"],
        data["action"],
        data["old_logp"],
        data["adv"],
        data["vtarg"],
        data["old_value"],
        prev_actions=data["prev_action"],
        num_unique_states=data["num_unique_states"] if infos else None,
        episode_step=data["t"] if infos else None,
    )


@pytest.mark.parametrize("path, case", winner_files.cases("b_policy_phase", "mb_row"), ids=case_id)
def test_losses_clipping_and_weights_of_every_policy_step(path, case):
    golden = golden_files.load(path)
    own, data = golden.below(case), golden.below("batch")
    hp = own.below("hp")
    envs, steps = data["action"].shape
    config = winner_b.make_config(
        golden,
        envs,
        steps,
        n_epoch_pi=hp.count("epochs"),
        n_epoch_vf=hp.count("epochs"),
        mbsize_rows=hp.count("minibatch"),
        n_aux_epochs=0,
        **winner_b.options(hp),
    )
    standard = standardize(data["adv_raw"], std_min=config.advantage_std_min)
    np.testing.assert_allclose(standard, data["adv"], rtol=1e-5, atol=1e-5)
    minibatches = winner_b.filled(own["mb_row"])
    drawn = winner_b.permutations(minibatches, envs * steps)
    learner = winner_b.make_learner(config, golden, "param0", drawn)
    batch = policy_batch(data, bool(hp["use_infos"]))
    made = learner.policy_steps(batch)
    for k, rows in enumerate(minibatches):
        kl = winner_b.kl_from(learner, batch, data["old_logits"], rows)
        np.testing.assert_allclose(kl, own["kl"][k], **winner_b.LOSS)
        step = next(made)
        assert step.units.tolist() == rows.tolist()
        assert len(step.units) == own["mb_size"][k]
        winner_b.assert_policy_step(learner, step.stats, own, k)
        if k == 0:
            winner_b.assert_gradients(learner, own)
    assert next(made, None) is None
    winner_b.assert_weights(learner, own, "param_last")


@pytest.mark.parametrize(
    "path, case", winner_files.cases("b_policy_phase", "has_infos"), ids=case_id
)
def test_the_entropy_coefficient_over_a_sequence_of_minibatches(path, case):
    golden = golden_files.load(path).below(case)
    config = winner_files.make_config(
        4,
        4,
        nminibatch=1,
        aux_mbsize=1,
        entropy_coeff=golden.number("base_coeff"),
        alternate_entropy_coeff=golden.number("alternate_coeff"),
        unique_threshold=golden.number("threshold"),
    )
    settings = config.policy_phase_settings()
    rule = EntropyCoefficient(
        settings.entropy_coeff, settings.alternate_entropy_coeff, settings.unique_threshold
    )
    for i, has_infos in enumerate(golden["has_infos"]):
        unique = golden["num_unique_states"][i] if has_infos else None
        found = rule.observe(unique, golden["t"][i])
        np.testing.assert_allclose(found, golden["coeff"][i], **winner_b.ENTROPY)
        share = golden["fraction_unique"][i]
        np.testing.assert_allclose(rule.fraction_unique, share, **winner_b.ENTROPY)


def set_adam(learner: PhasicLearner, golden: Golden) -> None:
    """Give the one Adam a recorded state."""
    state = learner.get_state()
    moments = {
        ours: winner_files.named(golden, f"state/{theirs}")
        for theirs, ours in (("adam_m", "exp_avg"), ("adam_v", "exp_avg_sq"))
    }
    step = np.float32(golden.count("state/adam_step"))
    state["optimizers"]["one"] = {
        name: {"step": step, **{k: values[name].numpy() for k, values in moments.items()}}
        for name in moments["exp_avg"]
    }
    learner.set_state(state)


@pytest.mark.parametrize("path, case", winner_files.cases("b_aux_phase", "bc"), ids=case_id)
def test_losses_and_weights_of_every_auxiliary_step(path, case):
    golden = golden_files.load(path)
    own, memory = golden.below(case), golden.below("mem")
    common = golden.below("hp")
    iterations, envs, steps = memory["vtarg"].shape
    store = winner_b.fill_store(memory["ob"], memory["prev_action"], memory["vtarg"])
    config = winner_b.make_config(
        golden,
        envs,
        steps,
        model={"dropout": own.number("hp/dropout")},
        n_pi=iterations,
        nminibatch=1,
        n_aux_epochs=own.count("hp/epochs"),
        aux_mbsize_rows=common.count("minibatch"),
        aux_augmentation="random_translate",
        **winner_b.options(common),
    )
    minibatches = winner_b.filled(own["mb_row"])
    order = segment_rows(store.pairs(), steps)
    drawn = winner_b.permutations(minibatches, iterations * envs * steps, order)
    noise = winner_b.recorded_noise(own)
    learner = winner_b.make_learner(config, golden, "state/param", drawn, noise)
    set_adam(learner, golden)
    phase = learner.begin_aux_phase(store)
    before = store.obs.copy()
    winner_b.record(phase, golden["old_logits"])
    for k, rows in enumerate(minibatches):
        step = phase.step()
        assert step is not None and step.units.tolist() == rows.tolist()
        assert len(step.units) == own["mb_size"][k]
        winner_b.assert_aux_step(learner, step.stats, own, k)
        if k == 0:
            winner_b.assert_gradients(learner, own)
        if k == 0 and "param1" in {key.split("/")[0] for key in own.arrays}:
            winner_b.assert_weights(learner, own, "param1")
    assert phase.done
    np.testing.assert_array_equal(store.obs, before)
    winner_b.assert_weights(learner, own, "param_last")


class Recorded(Augmentation):
    """Frames and masks of the DrAC case under test, in the order of the batch's rows."""

    frames: np.ndarray
    mask: np.ndarray

    def draw(self, shape, generator):
        return {"row": np.arange(shape[0])}

    def apply(self, frames, draws):
        return torch.from_numpy(self.frames[draws["row"]])

    def policy_mask(self, draws):
        return self.mask[draws["row"]]


def drac_draws(own: Golden, rows: int) -> dict[str, np.ndarray]:
    """What the changed pass of all rows draws: the transform's, and dropout."""
    draws = {"augment/row": np.arange(rows)}
    if "shift" in own:
        draws = {"augment/shift": own["shift"].reshape(rows, 2)}
    for theirs, ours in winner_b.masks(own).items():
        draws[f"kept/{ours}"] = own[theirs].reshape(rows, -1) > 0
    return draws


def note_passes(learner: PhasicLearner) -> list[tuple[torch.Tensor, PhasicOutput]]:
    """Keep the observations and the outputs of all passes of all heads, from now on."""
    replica, passes = learner._updater.replicas[0], []
    forward = replica.forward

    def noted(obs, *inputs, **options):
        passes.append((obs, forward(obs, *inputs, **options)))
        return passes[-1][1]

    replica.forward = noted
    return passes


def assert_passes(passes: list[tuple[torch.Tensor, PhasicOutput]], own: Golden, data) -> None:
    """Compare the clean pass and the changed one: observations, logits and values."""
    for (seen, output), obs, name in zip(
        passes, (data["ob"], own["ob_aug"]), ("clean", "aug"), strict=True
    ):
        np.testing.assert_array_equal(seen.numpy().reshape(obs.shape), obs)
        for found, expected in (
            (output.logits, own[f"logits_{name}"]),
            (output.vf, own[f"value_{name}"]),
        ):
            outputs = found.detach().numpy().reshape(expected.shape)
            np.testing.assert_allclose(outputs, expected, **winner_b.OUTPUT)


def assert_drac_losses(config, stats: dict[str, torch.Tensor], own: Golden) -> None:
    found = {key: float(value) for key, value in stats.items()}
    ppo = found["loss_pi"] + found["loss_vf"]
    found |= {
        "ppo_loss": ppo,
        "data_aug_loss": (found["loss_total"] - ppo) / config.drac_weight,
        "vf": found["loss_vf"] / config.vf_loss_coeff,
    }
    for ours, theirs in (
        ("drac_value", "value_term"),
        ("drac_policy", "policy_term"),
        ("data_aug_loss", "data_aug_loss"),
        ("ppo_loss", "ppo_loss"),
        ("loss_total", "loss_total"),
        ("policy_gradient_loss", "pg"),
        ("vf", "vf"),
        ("entropy", "entropy"),
    ):
        expected = own.number(theirs)
        np.testing.assert_allclose(found[ours], expected, **winner_b.LOSS, err_msg=theirs)
    np.testing.assert_allclose(found["grad_norm"], own.number("grad_norm_raw"), **winner_b.NORM)


@pytest.mark.parametrize("path, case", winner_files.cases("b_drac", "policy_term"), ids=case_id)
def test_the_drac_loss_and_one_update(path, case):
    golden = golden_files.load(path)
    own, data = golden.below(case), golden.below("batch")
    hp = own.below("hp")
    envs, steps = data["action"].shape
    rows = envs * steps
    Recorded.frames = own["ob_aug"].reshape(rows, *own["ob_aug"].shape[2:])
    Recorded.mask = own["policy_mask"].reshape(rows).astype(np.float32)
    config = winner_b.make_config(
        golden,
        envs,
        steps,
        model={"dropout": hp.number("dropout")},
        nminibatch=1,
        n_aux_epochs=0,
        drac_augmentation="random_translate" if "shift" in own else f"{__name__}.Recorded",
        **winner_b.options(hp),
    )
    drawn = iter([np.arange(rows), np.zeros(1, np.int64)])
    draws = drac_draws(own, rows)
    learner = winner_b.make_learner(config, golden, "param0", drawn, lambda shape: draws)
    passes = note_passes(learner)
    of_transform = {k.removeprefix(AUGMENT): v for k, v in draws.items() if k.startswith(AUGMENT)}
    mask = learner._drac._augmentation.policy_mask(of_transform)
    np.testing.assert_array_equal(mask, own["policy_mask"].reshape(rows))
    (step,) = learner.policy_steps(policy_batch(data, infos=False))
    assert_passes(passes, own, data)
    assert_drac_losses(config, step.stats, own)
    at_once = Golden({k: v[None] for k, v in own.arrays.items() if k.startswith("grad_")})
    winner_b.assert_step_gradients(learner, at_once, 0)
    winner_b.assert_gradients(learner, own)
    winner_b.assert_weights(learner, own, "param1")
