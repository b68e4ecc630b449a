"""Algorithm: the configuration keys that decide what is learned and how. No Ray is imported."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StrictBool

from rllib_ppg.algorithm.setting_types import Auto, Integer, Number, Schedule


class LearningSettings(BaseModel):
    """The keys of rewards, losses, optimisers, both phases, and the budget."""

    gamma: Annotated[Number, Field(ge=0, le=1)] = Field(
        0.999, description="[gamma] Discount per environment step."
    )
    lambda_: Annotated[Number, Field(ge=0, le=1)] = Field(
        0.95, description="[lambda] GAE trade-off; `lambda` is taken too."
    )
    lr: Annotated[Number, Field(gt=0, le=1)] = Field(
        5e-4, description="Adam's learning rate in the policy phase."
    )
    lr_schedule: Schedule | None = Field(
        None,
        description="[[env steps, rate], ...], linear in between; replaces lr. An auxiliary "
        "phase keeps the rates that the policy iteration before it began with.",
    )
    aux_lr: Annotated[Number, Field(gt=0, le=1)] = Field(
        5e-4, description="Adam's learning rate in the auxiliary phase."
    )
    aux_lr_schedule: Schedule | None = Field(
        None, description="[[env steps, rate], ...], linear in between; replaces aux_lr."
    )
    value_lr: Annotated[Number, Field(gt=0, le=1)] | None = Field(
        None,
        description="Learning rate of the value's own Adam, with optimizers: heads. None: lr.",
    )
    value_lr_schedule: Schedule | None = Field(
        None, description="[[env steps, rate], ...], linear in between; replaces value_lr."
    )
    lr_decay: Annotated[Number, Field(gt=0, le=1)] = Field(
        1.0,
        description="Factor of lr, aux_lr and value_lr for each policy iteration, the first "
        "included: in the k-th it is lr_decay^k. 1: constant.",
    )
    optimizers: Literal["phases", "heads", "one"] = Field(
        "phases",
        description="phases: an Adam over all parameters for each phase. heads: the policy phase's "
        "holds all but the value parameters and the auxiliary head, the auxiliary phase's all but "
        "the value parameters, and a third, of both phases, the value parameters. one: a single "
        "Adam (lr) for everything.",
    )
    weight_decay: Annotated[Number, Field(ge=0)] = Field(
        0.0, description="Adam's L2 penalty, all optimisers."
    )
    clip_param: Annotated[Number, Field(ge=0, le=10)] = Field(
        0.2, description="[epsilon] PPO's clip range; 0: no clipping (use kl_penalty)."
    )
    kl_penalty: Annotated[Number, Field(ge=0)] = Field(
        0.0, description="[beta] Weight of 1/2 (log ratio)^2, the paper's L^KL variant."
    )
    entropy_coeff: Annotated[Number, Field(ge=0)] = Field(
        0.01, description="[beta_S] Weight of the entropy bonus."
    )
    entropy_coeff_schedule: Schedule | None = Field(
        None, description="[[env steps, weight], ...], linear in between; replaces entropy_coeff."
    )
    vf_loss_coeff: Annotated[Number, Field(ge=0)] = Field(
        0.5, description="Weight of the policy phase's value loss, times the plain squared error."
    )
    alternate_entropy_coeff: Annotated[Number, Field(ge=0)] | None = Field(
        None,
        description="Weight of the entropy bonus for policy minibatches in which observations "
        "repeat; needs environments that count them (num_unique_states). None: off.",
    )
    unique_threshold: Annotated[Number, Field(gt=0, le=1)] = Field(
        0.9,
        description="They repeat where the mean of num_unique_states / (episode_step + 2) is "
        "below this.",
    )
    advantage_std_min: Annotated[Number, Field(gt=0)] | None = Field(
        None,
        description="Advantages are divided by their deviation over the batch, or by this if it is "
        "larger. None: by the deviation + 1e-8.",
    )
    detach_value_head: StrictBool = Field(
        False,
        description="In the policy phase the value loss does not reach the encoder, whatever arch.",
    )
    value_clip_param: Annotated[Number, Field(gt=0)] | None = Field(
        None,
        description="Clip of the value's change in the policy phase (not of the error, as "
        "RLlib's vf_clip_param); None: off, as in the paper.",
    )
    grad_clip: Annotated[Number, Field(gt=0)] | None = Field(
        None,
        description="Limit of the gradient's norm, both phases; None: off, as in the paper.",
    )
    grad_clip_elementwise: Annotated[Number, Field(gt=0)] | None = Field(
        None,
        description="Every entry of the gradient is held within +- this, before grad_clip. "
        "None: off.",
    )
    grad_clip_adaptive: dict[str, Number] | None = Field(
        None,
        description="Replaces grad_clip by a percentile of the norms of the last steps, once "
        "buffer_size are known: {percentile: 97, buffer_size: 128, min: 1, max: 5}. None: off.",
    )

    drac_weight: Annotated[Number, Field(ge=0)] = Field(
        0.0,
        description="[alpha_r] Weight of DrAC's terms in the policy phase, which draw policy and "
        "value of changed observations to those of the clean ones. 0: off.",
    )
    drac_value_weight: Annotated[Number, Field(ge=0)] = Field(
        1.0, description="Weight of the value's term among them."
    )
    drac_policy_weight: Annotated[Number, Field(ge=0)] = Field(
        1.0, description="Weight of the policy's term among them."
    )
    drac_augmentation: str | dict[str, Any] | None = Field(
        None,
        description="How DrAC changes the observations: an augmentation, as aux_augmentation.",
    )
    drac_ucb: dict[str, Any] | None = Field(
        None,
        description="Choose one member of drac_augmentation each iteration by upper confidence "
        "bounds: {c: 0.02, q_alpha: 0.01, trace_decay: 0.25, reward: return, mean_alpha: 0.05}; "
        "{}: these. None: off.",
    )

    normalize_rewards: StrictBool = Field(
        True, description="Divide rewards by the running deviation of their discounted sum."
    )
    reward_transform: str | dict[str, Any] = Field(
        "rollout",
        description="What divides them: rollout (the reference), step, fragment, or a class of "
        "your own by dotted path; with options as {type: step, reset: never}. See docs/recipes.md.",
    )
    reward_norm_gamma: Annotated[Number, Field(ge=0, lt=1)] = Field(
        0.99, description="Discount of that sum; the reference uses 0.99 whatever gamma is."
    )
    reward_clip: Annotated[Number, Field(gt=0)] | Literal["return_max"] | None = Field(
        10.0,
        description="Normalised rewards are clipped to +- this; return_max: to the game's "
        "return_max. None: off.",
    )
    reward_scale: Annotated[Number, Field(gt=0)] = Field(
        1.0, description="Factor of the rewards after normalisation and clipping."
    )
    return_max: Annotated[Number, Field(gt=0)] | Auto = Field(
        "auto",
        description="The largest return of the game, where another key needs it. auto: "
        "env_config.return_max, or the challenge's number for the Procgen game, which holds for "
        "easy mode only.",
    )
    adaptive_gamma: StrictBool = Field(
        False,
        description="gamma moves towards a horizon three times as long as solved episodes take; "
        "solved: with return_max at least.",
    )
    bootstrap_on_truncation: StrictBool = Field(
        True,
        description="At a time limit, bootstrap from the value of the true last observation. "
        "Procgen does not tell time limits from endings, so there is nothing to bootstrap.",
    )

    n_pi: Annotated[Integer, Field(ge=1, le=100_000)] = Field(
        32, description="[N_pi] Policy iterations per phase."
    )
    n_epoch_pi: Annotated[Integer, Field(ge=1, le=1000)] = Field(
        1, description="[E_pi] Policy epochs of an iteration."
    )
    n_epoch_vf: Annotated[Integer, Field(ge=1, le=1000)] = Field(
        1, description="[E_V] Value epochs; equal to n_epoch_pi: one joint loss and optimiser."
    )
    nminibatch: Annotated[Integer, Field(ge=1)] = Field(
        8, description="Minibatches of a policy-phase epoch."
    )
    n_aux_epochs: Annotated[Integer, Field(ge=0, le=1000)] = Field(
        6, description="[E_aux] Epochs of an auxiliary phase; 0: no auxiliary phase (PPO)."
    )
    aux_mbsize: Annotated[Integer, Field(ge=1)] = Field(
        4,
        description="Segments (an environment's T steps) of an auxiliary minibatch; the paper's "
        "4 workers make it 16. With minibatch_unit step: T x this many rows.",
    )
    beta_clone: Annotated[Number, Field(ge=0)] = Field(
        1.0, description="[beta_clone] Weight of KL(old policy, policy) in the auxiliary phase."
    )
    vf_true_weight: Annotated[Number, Field(ge=0)] = Field(
        1.0, description="Weight of the true value head's loss in the auxiliary phase."
    )
    aux_augmentation: str | dict[str, Any] | None = Field(
        None,
        description="How the observations of the auxiliary phase's training passes are changed: a "
        "name (random_translate), or a mapping with the name as type and options; the targets stay "
        "those of the clean ones. None: not at all, as in the paper.",
    )
    minibatch_unit: Literal["segment", "step"] = Field(
        "segment", description="What minibatches are drawn from: whole segments or single steps."
    )
    aux_minibatch_unit: Literal["segment", "step"] | None = Field(
        None, description="The same for the auxiliary phase. None: minibatch_unit."
    )
    mbsize_rows: Annotated[Integer, Field(ge=1)] | None = Field(
        None,
        description="Rows of a policy minibatch, with minibatch_unit step. None: nminibatch equal "
        "ones.",
    )
    aux_mbsize_rows: Annotated[Integer, Field(ge=1)] | None = Field(
        None,
        description="Rows of an auxiliary minibatch, with aux_minibatch_unit step. None: "
        "aux_mbsize x T.",
    )
    num_accumulates: Annotated[Integer, Field(ge=1, le=100_000)] = Field(
        1,
        description="Policy minibatches whose mean losses are averaged for one optimiser step, "
        "counted on through the epochs.",
    )
    aux_num_accumulates: Annotated[Integer, Field(ge=1, le=100_000)] = Field(
        1, description="The same in the auxiliary phase, counted in each epoch."
    )
    shuffle_minibatches: StrictBool = Field(
        False,
        description="Shuffle the order of the minibatches too, so that a shorter one may come "
        "anywhere in an epoch.",
    )
    aux_value_targets: Literal["collected", "recomputed"] = Field(
        "collected",
        description="Value targets of the auxiliary phase. recomputed: anew at its beginning, with "
        "the value function of that moment.",
    )
    aux_skips: Annotated[Integer, Field(ge=0, le=100_000)] = Field(
        0,
        description="Policy iterations at the beginning of each phase that its auxiliary phase "
        "does not learn from; it comes after aux_skips + n_pi iterations.",
    )
    max_aux_phases: Annotated[Integer, Field(ge=0, le=1_000_000)] | None = Field(
        None,
        description="After this many auxiliary phases there are no more. None: no limit; 0: no "
        "auxiliary phase (PPO).",
    )
    aux_slice_s: Annotated[Number, Field(gt=0)] = Field(
        30.0,
        description="Seconds after which a training iteration inside an auxiliary phase ends "
        "(at a minibatch). Changes how often is reported, no number of the training.",
    )

    budget_env_steps: Annotated[Integer, Field(ge=1)] | None = Field(
        None,
        description="The run ends with the iteration that takes it to this many environment steps; "
        "it does not learn from one that takes it beyond. None: no limit.",
    )
    budget_s: Annotated[Number, Field(gt=0)] | None = Field(
        None,
        description="The run ends before it has taken this many seconds, checkpoints and "
        "evaluations included: as soon as another iteration may not fit. None: no limit.",
    )
    budget_margin_s: Annotated[Number, Field(ge=0)] = Field(
        20.0, description="Seconds that budget_s leaves for what is not foreseen."
    )
    best_weights: StrictBool = Field(
        False,
        description="The run ends, at its budget, with the weights of the best mean return: of the "
        "episodes of an iteration, or of the last 100 if it had fewer.",
    )
    best_weights_min_env_steps: Annotated[Integer, Field(ge=0)] = Field(
        1_000_000,
        description="A run that ends with no more environment steps than these keeps its last "
        "weights all the same: early means lie.",
    )
