"""Algorithm: the configuration keys of PPG, each declared once.

Every key stands here with its type, range, default, symbol and unit. `PPGConfig` takes its
attributes and checks from this table, and the README's table is made from it. No Ray is imported.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    ValidationError,
)

from rllib_ppg.errors import UserError, shown
from rllib_ppg.spelling import did_you_mean


def parse_number(value: Any) -> Any:
    """Turn a number string such as `"5e-4"` into a number; refuse booleans.

    PyYAML reads `5e-4` and `1e6` as strings, and Python takes True for 1.

    Raises:
        ValueError: If `value` is a boolean or a string that is not a number.
    """
    if isinstance(value, bool):
        raise ValueError("must be a number, not a boolean")
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise ValueError("must be a number") from None
    return value


def parse_integer(value: Any) -> Any:
    """Like `parse_number`, for whole numbers: `"1e6"` and `64.0` are taken, `0.5` is not."""
    try:
        value = parse_number(value)
    except ValueError as error:
        raise ValueError(str(error).replace("a number", "a whole number")) from None
    if isinstance(value, float):
        if not value.is_integer():
            raise ValueError("must be a whole number")
        value = int(value)
    return value


Number = Annotated[float, BeforeValidator(parse_number), Field(allow_inf_nan=False)]
Integer = Annotated[int, BeforeValidator(parse_integer)]


def check_gpus(gpus: float) -> float | int:
    """Refuse a count of GPUs that is neither whole nor a share of one."""
    if gpus > 1 and not float(gpus).is_integer():
        raise ValueError("must be a whole number, or a share of one GPU below 1")
    return int(gpus) if gpus >= 1 else gpus


Gpus = Annotated[Number, Field(ge=0, le=1024), AfterValidator(check_gpus)]


def check_pairs(schedule: Any) -> Any:
    """Refuse what is no list of pairs, with one message for all its forms."""
    pairs = schedule if isinstance(schedule, list | tuple) else [None]
    if not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
        raise ValueError("must be a list of [env steps, value] pairs")
    return schedule


def check_schedule(schedule: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Refuse a schedule that is empty, runs backwards or turns negative."""
    steps = [step for step, _ in schedule]
    if not schedule or any(a >= b for a, b in pairwise(steps)):
        raise ValueError("must hold [env steps, value] pairs with increasing steps")
    if min(steps) < 0 or min(value for _, value in schedule) < 0:
        raise ValueError("must hold no negative number")
    return schedule


Schedule = Annotated[
    list[tuple[Integer, Number]], BeforeValidator(check_pairs), AfterValidator(check_schedule)
]
Auto = Literal["auto"]
# As `core.precision.Precision`, which would import torch.
Precision = Literal["float32", "bfloat16", "float16"]


class EvaluationOverrides(BaseModel):
    """What evaluations during training may do otherwise than the training."""

    model_config = ConfigDict(extra="forbid")

    env_config: dict[str, Any] | None = None
    explore: StrictBool | None = None
    seed: Annotated[Integer, Field(ge=0, le=2**31 - 1)] | None = None
    num_cpus_per_env_runner: Annotated[Number, Field(ge=0, le=1024)] | None = None


def check_overrides(given: Any) -> dict[str, Any]:
    """Parse `evaluation_config`."""
    if not isinstance(given, Mapping):
        raise ValueError("must be a mapping")
    allowed = list(EvaluationOverrides.model_fields)
    # RLlib's build_algo(env=...) writes the training's environment here too.
    overrides = {name: value for name, value in given.items() if name != "env"}
    for name in overrides:
        if name not in allowed:
            hint = did_you_mean(str(name), allowed)
            raise ValueError(
                f'"{name}" cannot differ in an evaluation.{hint} Only {", ".join(allowed)} can'
            )
    try:
        parsed = EvaluationOverrides(**overrides).model_dump(exclude_unset=True)
    except ValidationError as error:
        raise ValueError(describe(error)) from None
    return {name: value for name, value in parsed.items() if value is not None}


Overrides = Annotated[dict[str, Any], BeforeValidator(check_overrides)]


def parse_levels(levels: Any) -> Any:
    """A list of levels; a single name may stand for itself."""
    return [levels] if isinstance(levels, str) and levels != "auto" else levels


def check_duration(duration: Any) -> Any:
    """Refuse `auto`, with the reason."""
    if duration == "auto":
        raise ValueError("must be a number of episodes: nothing is trained meanwhile")
    return parse_integer(duration)


def check_duration_unit(unit: Any) -> Any:
    """Refuse `timesteps`, with the reason."""
    if unit != "episodes":
        raise ValueError("must be 'episodes': a number of steps would favour short episodes")
    return unit


class PPGSettings(BaseModel):
    """The keys that `PPGConfig` understands beyond RLlib's common ones.

    Symbols in brackets are those of the paper (Cobbe et al. 2020, arXiv:2009.04416), defaults are
    the reference implementation's. T is the rollout length, N the number of environments.
    """

    model_config = ConfigDict(extra="forbid")

    num_envs: Annotated[Integer, Field(ge=1, le=1_000_000)] | None = Field(
        None,
        description="[N] Environments in total, over all workers. None: 64, or "
        "num_envs_per_env_runner times the number of workers where that is set.",
    )
    num_env_runners: Annotated[Integer, Field(ge=0, le=100_000)] | Auto = Field(
        0,
        description="Rollout workers. 0: sample in the learner's process. auto: the largest "
        "count that divides num_envs and fits the free CPUs, chosen once at launch.",
    )
    num_envs_per_env_runner: Annotated[Integer, Field(ge=1, le=1_000_000)] | None = Field(
        None, description="Environments of one worker. None: num_envs over the workers."
    )
    rollout_fragment_length: Annotated[Integer, Field(ge=1, le=1_000_000)] = Field(
        256, description="[T] Steps of every environment per policy iteration."
    )
    train_batch_size: Annotated[Integer, Field(ge=1)] | None = Field(
        None, description="Always N x T; another value is refused."
    )
    num_gpus: Gpus | Auto = Field(
        0,
        description="GPUs of the learner: a share of one (0.5), or a whole number of one "
        "machine's, which share the rows of every minibatch. auto: 1 where the machine or cluster "
        "has one.",
    )
    seed: Annotated[Integer, Field(ge=0, le=2**31 - 1)] | None = Field(
        None, description="Seed of all random generators and of the levels played."
    )

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
        None, description="[[env steps, rate], ...], linear in between; replaces lr."
    )
    aux_lr: Annotated[Number, Field(gt=0, le=1)] = Field(
        5e-4, description="Adam's learning rate in the auxiliary phase."
    )
    aux_lr_schedule: Schedule | None = Field(
        None, description="[[env steps, rate], ...], linear in between; replaces aux_lr."
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
    value_clip_param: Annotated[Number, Field(gt=0)] | None = Field(
        None,
        description="Clip of the value's change in the policy phase (not of the error, as "
        "RLlib's vf_clip_param); None: off, as in the paper.",
    )
    grad_clip: Annotated[Number, Field(gt=0)] | None = Field(
        None,
        description="Limit of the gradient's norm, both phases; None: off, as in the paper.",
    )

    normalize_rewards: StrictBool = Field(
        True, description="Divide rewards by the running deviation of their discounted sum."
    )
    reward_norm_gamma: Annotated[Number, Field(ge=0, lt=1)] = Field(
        0.99, description="Discount of that sum; the reference uses 0.99 whatever gamma is."
    )
    reward_clip: Annotated[Number, Field(gt=0)] = Field(
        10.0, description="Normalised rewards are clipped to +- this."
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
    minibatch_unit: Literal["segment", "step"] = Field(
        "segment", description="What minibatches are drawn from: whole segments or single steps."
    )
    aux_slice_s: Annotated[Number, Field(gt=0)] = Field(
        30.0,
        description="Seconds after which a training iteration inside an auxiliary phase ends "
        "(at a minibatch). Changes how often is reported, no number of the training.",
    )

    evaluation_interval: Annotated[Integer, Field(ge=0)] | None = Field(
        None,
        description="Policy iterations from one evaluation to the next; an auxiliary phase counts "
        "as none. None or 0: no evaluation.",
    )
    evaluation_duration: Annotated[
        int, BeforeValidator(check_duration), Field(ge=1, le=1_000_000)
    ] = Field(10, description="Episodes of an evaluation, of each of its evaluation_levels.")
    evaluation_duration_unit: Annotated[str, BeforeValidator(check_duration_unit)] = Field(
        "episodes", description="Always episodes: so many steps would favour short episodes."
    )
    evaluation_levels: Annotated[
        list[Literal["train", "test", "all"]] | Auto, BeforeValidator(parse_levels)
    ] = Field(
        "auto",
        description="Levels of Procgen that are played: train, test (unseen ones only), all. auto: "
        "train and test; all where the training has all.",
    )
    evaluation_num_env_runners: Annotated[Integer, Field(ge=0, le=100_000)] = Field(
        0,
        description="Workers that play evaluations, beside those that sample. 0: the learner's "
        "process does. The episodes are the same.",
    )
    evaluation_sample_timeout_s: Annotated[Number, Field(gt=0)] | None = Field(
        120.0,
        description="Seconds of silence after which an evaluation worker counts as lost; its "
        "episodes are played anew. None: no limit.",
    )
    evaluation_config: Overrides | None = Field(
        None,
        description="What evaluations do otherwise: env_config (keys to change), explore, seed, "
        "num_cpus_per_env_runner.",
    )

    checkpoint_store: StrictBool = Field(
        True,
        description="Checkpoints hold the phase's frames (compressed), so that a run goes on bit "
        "for bit. false: smaller checkpoints; after a restore the current phase begins anew.",
    )

    micro_batch_size: Annotated[Integer, Field(ge=1)] | Auto = Field(
        "auto",
        description="Rows per forward and backward pass; gradients accumulate to the same "
        "update. auto: 64 for images on a CPU, 4096 on a GPU, whole minibatches for vectors.",
    )
    learner_threads: Annotated[Integer, Field(ge=1, le=1024)] | Auto = Field(
        "auto",
        description="CPU threads of the learner. auto: the CPUs that the run reserved, for "
        "workers idle while the learner works. With images each thread has its own rows of a "
        "minibatch. Changes rounding only, which Adam may magnify where a gradient is nearly 0.",
    )
    policy_precision: Precision = Field(
        "float32",
        description="Number format of the network's passes in the policy phase: float32, "
        "bfloat16 or float16 (slow on a CPU). Losses, weights and optimisers stay float32.",
    )
    aux_precision: Precision = Field(
        "float32", description="The same in the auxiliary phase; its KL term is float32 too."
    )
    store_device: Literal["auto", "cpu", "cuda"] = Field(
        "auto",
        description="Where the frame store stands. auto: on the learner's GPUs (a copy on each) "
        "where it fits beside the training, else in host memory that a GPU copies from (cpu).",
    )
    overlap_aux: StrictBool = Field(
        False,
        description="Remote workers collect the first iteration of a phase while the auxiliary "
        "phase before it runs, with the weights from before it: that iteration is off-policy by "
        "one auxiliary phase. Hides one rollout of n_pi; on a CPU learner and workers then share "
        "cores. false: exact PPG.",
    )


DEFAULTS: dict[str, Any] = {name: f.default for name, f in PPGSettings.model_fields.items()}


def check_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Parse and check values of `PPGSettings`; missing keys stay missing.

    Args:
        values: Some or all keys of `PPGSettings`.

    Returns:
        The same keys, numbers parsed.

    Raises:
        UserError: Naming each key, what was given and what is allowed.
    """
    try:
        parsed = PPGSettings(**values)
    except ValidationError as error:
        raise UserError(describe(error)) from None
    return {name: getattr(parsed, name) for name in values}


def describe(error: ValidationError, prefix: str = "") -> str:
    """Put a pydantic error into one sentence a key: the key, what was given, what is allowed."""
    messages: dict[str, list[str]] = {}
    for item in error.errors(include_url=False):
        path = [str(part) for part in item["loc"]]
        reason = item["msg"].removeprefix("Value error, ")
        reason = reason.replace("Input should be", "must be")
        reason = reason.replace("must be a valid boolean", "must be true or false")
        key = f"{prefix}{path[0]}" if path else prefix.rstrip(".")
        messages.setdefault(f"{key}={shown(item['input'])}", []).append(reason)
    return "; ".join(f"{key}: {' or '.join(dict.fromkeys(why))}" for key, why in messages.items())


def interpolate(schedule: Schedule, env_steps: int) -> float:
    """Value of a piecewise linear schedule at `env_steps`, constant beyond both ends."""
    steps, values = zip(*schedule, strict=True)
    return float(np.interp(env_steps, steps, values))
