"""Choice of transforms and adaptive clipping of the sample-efficiency winner."""

import golden_files
import numpy as np
import pytest
import torch
import winner_files
from golden_files import case_id
from small_learner import make_learner
from torch import nn

from rllib_ppg.core.clipping import GradientClip
from rllib_ppg.core.learner import PhasicLearner
from rllib_ppg.core.transform_choice import ChoiceSettings, TransformChoice

CLOSE = {"rtol": 1e-5, "atol": 1e-6}
NAME = "b_ucb_clip"


@pytest.mark.parametrize("path, case", winner_files.cases(NAME, "eligibility"), ids=case_id)
def test_transforms_chosen_by_upper_confidence_bounds(path, case):
    golden = golden_files.load(path).below(case)
    hp = golden.below("hp")
    config = winner_files.make_config(
        4,
        4,
        nminibatch=1,
        aux_mbsize=1,
        drac_weight=0.1,
        drac_augmentation={"type": "one_per_chunk", "members": golden["labels"].tolist()},
        drac_ucb={
            "c": hp.number("ucb_c"),
            "q_alpha": hp.number("q_alpha"),
            "trace_decay": hp.number("lmbda"),
            "reward": str(hp["internal_reward_mode"]),
            "mean_alpha": hp.number("mean_reward_alpha"),
        },
    )
    choice = TransformChoice(len(golden["labels"]), ChoiceSettings(**config.drac_ucb))
    period, update, begin = hp.count("num_steps_per_update"), 0, 0
    for call, expected in enumerate(golden["choice"]):
        if (call + 1) % period == 0:
            reward = float(golden["reward"][begin : call + 1].mean(dtype=np.float64))
            before = choice.mean_reward
            choice.update(reward)
            credit = reward - before if choice.settings.reward == "advantage" else reward
            np.testing.assert_allclose(credit, golden["internal_reward"][update], **CLOSE)
            np.testing.assert_allclose(choice.q, golden["q"][update], **CLOSE)
            np.testing.assert_allclose(choice.scores, golden["score"][update], **CLOSE)
            np.testing.assert_allclose(choice.traces, golden["eligibility"][update], **CLOSE)
            assert choice.chosen.tolist() == golden["count"][update].tolist()
            if np.isfinite(golden["mean_reward"][update]):
                mean = golden["mean_reward"][update]
                np.testing.assert_allclose(choice.mean_reward, mean, **CLOSE)
            update, begin = update + 1, call + 1
        assert (-1 if choice.choice is None else choice.choice) == expected
    assert update == len(golden["q"])


@pytest.mark.parametrize("path, case", winner_files.cases(NAME, "threshold"), ids=case_id)
def test_gradients_clipped_element_by_element_and_by_their_norm(path, case):
    golden = golden_files.load(path).below(case)
    hp = golden.below("hp")
    adaptive = None
    if str(hp["mode"]) == "adaptive":
        adaptive = {
            "percentile": hp.number("adaptive_percentile"),
            "buffer_size": hp.count("adaptive_buffer_size"),
            "min": hp.number("adaptive_min"),
            "max": hp.number("adaptive_max"),
        }
    config = winner_files.make_config(
        4,
        4,
        nminibatch=1,
        aux_mbsize=1,
        grad_clip=hp.number("grad_clip"),
        grad_clip_elementwise=hp.number("grad_clip_elementwise") or None,  # 0 is off
        grad_clip_adaptive=adaptive,
    )
    clip = make_clip(config.policy_phase_settings())
    names = sorted(key.removeprefix("grad_") for key in golden.arrays if key.startswith("grad_"))
    parameters = [nn.Parameter(torch.zeros(golden[f"grad_{n}"].shape[1:])) for n in names]
    for i, threshold in enumerate(golden["threshold"]):
        for parameter, name in zip(parameters, names, strict=True):
            parameter.grad = torch.from_numpy(golden[f"grad_{name}"][i].copy())
        norm = clip(parameters, config.grad_clip)
        np.testing.assert_allclose(norm, golden["norm_raw"][i], **CLOSE)
        limit = clip.limit if clip.limit.isfinite() else config.grad_clip  # without a part: torch's
        np.testing.assert_allclose(limit, threshold, **CLOSE)
        for parameter, name in zip(parameters, names, strict=True):
            np.testing.assert_allclose(parameter.grad, golden[f"out_{name}"][i], **CLOSE)
        if adaptive is not None:
            held = np.asarray(clip.get_state()["norms"])[i % len(clip.get_state()["norms"])]
            np.testing.assert_allclose(held, golden["norm_elem"][i], **CLOSE)
        assert bool(golden["adapted"][i]) == (adaptive is not None and i >= adaptive["buffer_size"])


def make_clip(settings) -> GradientClip:
    """The clip that a learner makes of these settings."""
    learner: PhasicLearner = make_learner(
        {
            "grad_clip_elementwise": settings.grad_clip_elementwise,
            "grad_clip_adaptive": settings.grad_clip_adaptive,
        }
    )
    return learner._clip
