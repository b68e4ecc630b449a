"""Augmentation and dropout of the auxiliary phase: where they are, and where they are not."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_learner import AUX, POLICY, weights

from rllib_ppg.core.augment import Augmentation
from rllib_ppg.core.augment_setting import make_augmentation
from rllib_ppg.core.distributions import ActionSpec
from rllib_ppg.core.encoders import ImpalaEncoder
from rllib_ppg.core.frames import Frames, Inputs, Rows
from rllib_ppg.core.learner import PhasicLearner, PolicyBatch
from rllib_ppg.core.networks import PhasicNetwork
from rllib_ppg.core.noise import Noise, NoisyFrames
from rllib_ppg.core.segments import SegmentStore

SHAPE, STEPS, SEGMENTS, ACTIONS = (8, 8, 6), 4, 6, 5
SHIFT = {"type": "random_translate", "max_shift": 3}
CPU = torch.device("cpu")


class Reshaped(Augmentation):
    """Cuts a row off, which no network takes."""

    def draw(self, shape, generator):
        return {"nothing": np.zeros(shape[0])}

    def apply(self, frames, draws):
        return frames[:, 1:]


def make_network(dropout=0.2, **changes) -> PhasicNetwork:
    torch.manual_seed(1)
    options = {"frame_differences": True, "num_actions": ACTIONS, **changes}

    def make_encoder():
        return ImpalaEncoder(
            SHAPE, widths=(3, 4), hidden_size=6, blocks=1, dropout=dropout, **options
        )

    return PhasicNetwork(make_encoder, ACTIONS, arch="shared", normed_init=False)


def make_learner(augmentation=SHIFT, dropout=0.2, **options) -> PhasicLearner:
    return PhasicLearner(
        make_network(dropout),
        ActionSpec("categorical", (ACTIONS,)),
        POLICY,
        replace(AUX, aux_mbsize=2, augmentation=augmentation, minibatch_unit="step"),
        generator=np.random.default_rng(2),
        **options,
    )


def make_store() -> SegmentStore:
    rng = np.random.default_rng(4)
    store = SegmentStore(SEGMENTS, STEPS, SHAPE, np.uint8, with_prev_actions=True)
    rows = store.append(np.arange(SEGMENTS))
    store.obs[rows] = rng.integers(0, 256, store.obs[rows].shape)
    store.prev_actions[rows] = rng.integers(0, ACTIONS, (SEGMENTS, STEPS))
    store.value_targets[rows] = rng.standard_normal((SEGMENTS, STEPS))
    return store


def run(learner: PhasicLearner, store: SegmentStore) -> dict[str, np.ndarray]:
    phase = learner.begin_aux_phase(store)
    while not phase.done:
        phase.run(None)
    return weights(learner)


def assert_close(one, other, atol=2e-5):
    for name, value in one.items():
        np.testing.assert_allclose(value, other[name], rtol=0, atol=atol, err_msg=name)


@pytest.mark.parametrize("options", [{"micro_batch_size": 3}, {"threads": 3}])
def test_threads_and_micro_batches_draw_nothing_else(options):
    one, other = make_learner(), make_learner(**options)
    assert_close(run(one, make_store()), run(other, make_store()))
    state = [learner.get_state()["generator"] for learner in (one, other)]
    assert state[0] == state[1]


@pytest.mark.parametrize("without", [{"augmentation": None}, {"dropout": 0.0}])
def test_augmentation_and_dropout_each_change_the_update(without):
    whole, part = run(make_learner(), make_store()), run(make_learner(**without), make_store())
    assert any(not np.array_equal(whole[name], part[name]) for name in whole)


def test_stored_frames_targets_and_the_old_policy_stay_those_of_the_clean_frames():
    learner, store = make_learner(), make_store()
    obs, targets = store.obs.copy(), store.value_targets.copy()
    actions = torch.from_numpy(store.prev_actions).flatten()
    with torch.no_grad():
        clean = learner.network(torch.from_numpy(obs).flatten(0, 1), actions).logits
    phase = learner.begin_aux_phase(store)
    phase.run(None)
    torch.testing.assert_close(phase.old_inputs, clean)
    while not phase.done:
        phase.run(None)
    np.testing.assert_array_equal(store.obs, obs)
    np.testing.assert_array_equal(store.value_targets, targets)


def test_the_policy_phase_has_neither():
    store, rng, shape = make_store(), np.random.default_rng(0), (SEGMENTS, STEPS)
    batch = PolicyBatch(
        obs=store.frames(),
        actions=rng.integers(0, ACTIONS, shape),
        logp=np.full(shape, -1.6, np.float32),
        advantages=rng.standard_normal(shape).astype(np.float32),
        value_targets=store.value_targets,
        vf_preds=np.zeros(shape, np.float32),
    )
    one, other = make_learner(), make_learner(augmentation=None, dropout=0.0)
    one.policy_phase(batch)
    other.policy_phase(batch)
    assert_close(weights(one), weights(other), atol=0)


def test_a_phase_goes_on_from_a_checkpoint_with_the_noise_it_would_have_had():
    whole = make_learner()
    expected = run(whole, make_store())
    first, store = make_learner(), make_store()
    phase = first.begin_aux_phase(store)
    for _ in range(5):
        phase.step()
    second = make_learner()
    second.network.load_state_dict(first.network.state_dict())
    second.set_state(first.get_state())
    again = second.begin_aux_phase(store, phase.get_state())
    while not again.done:
        again.run(None)
    assert_close(weights(second), expected, atol=0)


def noisy(augmentation, dropout=0.2) -> tuple[NoisyFrames, torch.Tensor, torch.Tensor]:
    store = make_store()
    setting = None if augmentation is None else make_augmentation(augmentation)
    noise = Noise(setting, make_network(dropout), np.random.default_rng(5))
    frames = store.frames()
    rows = torch.arange(SEGMENTS * STEPS)
    return NoisyFrames(frames, noise, SHAPE), rows, frames.read(Rows(rows, rows), CPU)


def test_every_row_gets_its_own_draws_in_whatever_order_it_is_read():
    frames, _, clean = noisy(SHIFT)
    chosen = np.array([20, 3, 7, 11, 0, 19])
    frames.begin(chosen)
    at = torch.from_numpy(chosen)
    whole = frames.inputs(Rows(at, at), CPU)
    assert not torch.equal(whole.obs, clean[at]) and whole.obs.dtype == torch.uint8
    for i, row in enumerate(at):
        part = frames.inputs(Rows(row[None], row[None]), CPU)
        assert torch.equal(part.obs[0], whole.obs[i])
        assert torch.equal(part.prev_actions[0], whole.prev_actions[i])
        assert all(torch.equal(part.kept[name][0], whole.kept[name][i]) for name in whole.kept)


def test_a_minibatchs_noise_can_be_drawn_again_and_the_next_one_differs():
    frames, rows, _ = noisy(SHIFT)
    at, numbers = Rows(rows, rows), rows.numpy()
    state = frames.begin(numbers)
    first = frames.inputs(at, CPU)
    frames.begin(numbers)
    second = frames.inputs(at, CPU)
    assert not torch.equal(first.obs, second.obs)
    draws = frames.again(numbers, state)
    assert torch.equal(frames.inputs(at, CPU).obs, first.obs)
    assert {name.split("/")[0] for name in draws} == {"augment", "kept"}


def test_dropout_keeps_its_share_and_scales_what_it_keeps():
    network = make_network(0.25, num_actions=0)
    kept = network.draw_kept(4000, np.random.default_rng(0))
    assert {name: values.shape[1] for name, values in kept.items()} == {
        "stage0": 3, "stage1": 4, "dense": 6,
    }  # fmt: skip
    assert all(values.mean() == pytest.approx(0.75, abs=0.02) for values in kept.values())
    obs = torch.from_numpy(make_store().obs).flatten(0, 1)
    masks = {name: torch.ones(len(obs), v.shape[1], dtype=bool) for name, v in kept.items()}
    masks["dense"][:, 2] = False
    encoder = network.policy_encoder
    # Stages scaled alike: compare with factors of 1 / 0.75 in every place.
    with torch.no_grad():
        everything = encoder(obs, None, {**masks, "dense": torch.ones_like(masks["dense"])})
        found = encoder(obs, None, masks)
    expected = everything.clone()
    expected[:, 2] = 0
    torch.testing.assert_close(found, expected)


def test_the_difference_channels_are_those_of_the_changed_frames():
    network, obs = make_network(0.0), torch.from_numpy(make_store().obs).flatten(0, 1)
    shift = make_augmentation(SHIFT)
    draws = shift.draw(obs.shape, np.random.default_rng(0))
    seen = []
    network.policy_encoder.stages[0].conv.register_forward_hook(lambda *c: seen.append(c[1][0]))
    moved = shift.apply(obs, draws)
    network(moved, torch.zeros(len(obs)).long())
    older, newer, difference = (x.permute(0, 2, 3, 1) * 255 for x in seen[0].chunk(3, dim=1))
    torch.testing.assert_close(older, moved[..., :3].float())
    torch.testing.assert_close(newer, moved[..., 3:].float())
    torch.testing.assert_close(difference, moved[..., :3].float() - moved[..., 3:].float())


def test_an_augmentation_that_changes_the_shape_is_refused():
    noise = Noise(Reshaped(), make_network(0.0), np.random.default_rng(0))
    obs = torch.zeros(2, *SHAPE, dtype=torch.uint8)
    with pytest.raises(ValueError, match="it must keep both"):
        noise.apply(Inputs(obs), {"augment/nothing": np.zeros(2)})


def test_without_noise_nothing_is_drawn():
    network, generator = make_network(0.0), np.random.default_rng(0)
    before = generator.bit_generator.state
    clean = Frames.of(np.zeros((3, *SHAPE), np.uint8))
    frames = NoisyFrames(clean, Noise(None, network, generator), SHAPE)
    assert frames.begin(np.arange(3)) is None
    rows = torch.arange(3)
    assert frames.inputs(Rows(rows, rows), CPU).kept is None
    assert generator.bit_generator.state == before
