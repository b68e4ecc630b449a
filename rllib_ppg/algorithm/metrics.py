"""Algorithm: the statistics of a training iteration, each defined once.

`METRICS` stand in every result under `info/learner/default_policy/learner_stats/<name>`, those of
`EVALUATION` under `evaluation/<name>` where there are evaluations. The names are the same in every
result of a run; what an iteration did not make is NaN, never an older value.
"""

import math
from collections.abc import Mapping
from typing import Any

OF_PARTS: dict[str, str] = {
    "value_lr": "Learning rate of the value's own optimiser (optimizers: heads).",
    "policy_phase/entropy_weight": "Weight of the entropy bonus in the iteration's last minibatch "
    "(alternate_entropy_coeff).",
    "policy_phase/new_states": "Mean of num_unique_states / (episode_step + 2), 1 where no "
    "frame repeats (count_states).",
    "policy_phase/shaping": "Mean of what the environments add to a step's raw reward, such as "
    "penalties.",
    "policy_phase/drac_value": "1/2 squared difference of changed and clean values, unweighted "
    "(drac_weight).",
    "policy_phase/drac_policy": "KL(policy of changed, of clean observations), unweighted "
    "(drac_weight).",
    "policy_phase/drac_choice": "Place in the mixture, from 0, of the transform that the "
    "iteration chose (drac_ucb).",
    "policy_phase/grad_limit": "Limit of the gradient's norm in the iteration's last step "
    "(grad_clip_adaptive).",
    "aux_phase/target_change": "Root of the mean squared change of the value targets, in the pass "
    "that records the old policy (aux_value_targets: recomputed).",
    "best_return": "Best mean return of the run so far (best_weights).",
    "best_env_steps": "Environment steps at which it was reached.",
}
"""Statistics of parts that are off by default; NaN where the part is off."""


def _in_groups(metrics: Mapping[str, str]) -> dict[str, str]:
    """Move the names of a group together, as they stand in nested results."""
    groups = list(dict.fromkeys(name.split("/")[0] for name in metrics))
    return dict(sorted(metrics.items(), key=lambda item: groups.index(item[0].split("/")[0])))


_OF_ALL: dict[str, str] = {
    "policy_phase/loss_total": "What the policy phase minimised; mean over its minibatches.",
    "policy_phase/loss_pi": "Policy loss: policy gradient, entropy and KL-penalty terms.",
    "policy_phase/loss_vf": "Value loss: vf_loss_coeff times the squared error.",
    "policy_phase/policy_gradient_loss": "The clipped surrogate alone.",
    "policy_phase/kl_penalty_loss": "kl_penalty times 1/2 (log ratio)^2.",
    "policy_phase/entropy": "Entropy of the policy in nats.",
    "policy_phase/approx_kl": "1/2 (log ratio)^2 against the acting policy.",
    "policy_phase/clip_fraction": "Share of rows with |ratio - 1| > clip_param.",
    "policy_phase/grad_norm": "L2 norm of a step's whole (accumulated) gradient before clipping.",
    "policy_phase/explained_variance": "Of the value targets, by the values while acting.",
    "policy_phase/minibatches": "Optimiser steps of the policy phase.",
    "aux_phase/loss_total": "What the auxiliary phase minimised; mean over its minibatches.",
    "aux_phase/pol_distance": "KL(old policy, policy), unweighted.",
    "aux_phase/vf_aux": "1/2 squared error of the auxiliary value head.",
    "aux_phase/vf_true": "1/2 squared error of the true value head, unweighted.",
    "aux_phase/grad_norm": "L2 norm of a step's whole (accumulated) gradient before clipping.",
    "aux_phase/minibatches": "Optimiser steps of the slice.",
    "phase/policy_iterations": "Policy iterations of the current phase, 0 to n_pi.",
    "phase/n_pi": "Policy iterations of a whole phase.",
    "phase/in_aux_phase": "1 if this iteration was a slice of an auxiliary phase, else 0.",
    "phase/aux_epoch": "Epoch of the auxiliary phase; 0 is the pass that records the old policy.",
    "phase/aux_epochs": "Epochs of an auxiliary phase (n_aux_epochs); 0 without.",
    "phase/aux_progress": "Share of the auxiliary phase that is done, 0 to 1.",
    "phase/aux_phases": "Auxiliary phases completed in all.",
    "phase/policy_iterations_total": "Policy iterations in all.",
    "phase/stored_segments": "Segments in the frame store.",
    "lr": "Learning rate of the policy phase.",
    "aux_lr": "Learning rate of the auxiliary phase.",
    "gamma": "Discount per environment step.",
    "entropy_coeff": "Weight of the entropy bonus.",
    "reward_scale": "What rewards are divided by before clipping.",
    "time/sample_s": "Seconds that the iteration waited for rollouts.",
    "time/policy_phase_s": "Seconds in the policy phase, returns and copies included.",
    "time/aux_phase_s": "Seconds in the auxiliary phase.",
    "time/weight_sync_s": "Seconds until the weights were on their way to the workers.",
    "time/sample_env_share": "Share of the workers' sampling time in environment calls.",
    "time/sample_network_share": "Share of the workers' sampling time in network calls.",
    "time/env_steps_per_s": "Environment steps per second of this policy iteration.",
    "time/env_steps_per_s_overall": "Steps per second since this process began, all phases.",
    "time/run_s": "Seconds of the run so far in all its processes, checkpoints and evaluations "
    "included.",
    "time/checkpoint_s": "Seconds that this process's newest checkpoint took to write.",
    "checkpoint_mb": "Its size in megabytes.",
    "lost_envs": "Environments without a rollout in this iteration, because their worker failed.",
    "lost_workers": "Rollout workers without a rollout in this iteration; `notices` says why.",
}

METRICS = _in_groups({**_OF_ALL, **OF_PARTS})

_LEVELS = {
    "train": "the training's levels",
    "test": "levels that the training never has",
    "all": "all levels that there are",
    "custom": "levels chosen by number in evaluation_config",
}


def _of_levels(name: str, levels: str) -> dict[str, str]:
    return {
        f"{name}_return": f"Mean return of episodes on {levels}.",
        f"{name}_return_stderr": "Its standard error over episodes.",
        f"{name}_length": "Mean length of the same episodes, in environment steps.",
        f"{name}_score": "The same return normalised by score_table.",
        f"{name}_score_stderr": "Its standard error over episodes.",
    }


EVALUATION: dict[str, str] = {
    "env_runners/episode_return_mean": "Mean return of the evaluation's episodes, raw rewards. "
    "With levels: of unseen ones (test, else all) where such are played.",
    "env_runners/episode_return_stderr": "Its standard error over episodes.",
    "env_runners/episode_return_min": "Lowest return of the same episodes.",
    "env_runners/episode_return_max": "Highest return of the same episodes.",
    "env_runners/episode_len_mean": "Mean length of the same episodes, in environment steps.",
    "env_runners/num_episodes": "Their number.",
    **{name: text for item in _LEVELS.items() for name, text in _of_levels(*item).items()},
    "gap": "Generalisation gap: train_return less test_return (else all_return).",
    "gap_stderr": "Its standard error: both errors, added in squares.",
    "gap_score": "The gap in normalised returns.",
    "gap_score_stderr": "Its standard error.",
    "score_table": "Name of the table of constants that scores are by.",
    "num_env_steps_sampled_this_iter": "Environment steps played; no steps of the training.",
    "time_s": "Seconds that the evaluation took.",
}


def complete(stats: Mapping[str, Any]) -> dict[str, float]:
    """All of `METRICS`, in order: those of `stats`, the others NaN.

    Raises:
        KeyError: If `stats` holds a name that `METRICS` does not define.
    """
    unknown = set(stats) - set(METRICS)
    if unknown:
        raise KeyError(f"undefined metrics: {sorted(unknown)}")
    return {name: float(stats.get(name, math.nan)) for name in METRICS}


def nested(stats: Mapping[str, Any]) -> dict[str, Any]:
    """Turn `a/b` names into nested dicts, as Ray's results are."""
    tree: dict[str, Any] = {}
    for name, value in stats.items():
        *parents, leaf = name.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return tree
