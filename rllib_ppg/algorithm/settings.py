"""Algorithm: the configuration keys of PPG, each declared once.

Every key stands here, in `learning_settings` or in `evaluation_settings`, with its type, range,
default, symbol and unit. `PPGConfig` takes its attributes and checks from this table, and the
README's table is made from it. No Ray is imported.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError

from rllib_ppg.algorithm.evaluation_settings import EvaluationSettings
from rllib_ppg.algorithm.learning_settings import LearningSettings
from rllib_ppg.algorithm.setting_types import Auto, Gpus, Integer, Precision, describe
from rllib_ppg.errors import UserError


class SamplingSettings(BaseModel):
    """The keys of sizes, workers and GPUs."""

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


class MachineSettings(BaseModel):
    """The keys of how it is computed: they change no number beyond rounding, but overlap_aux."""

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
        "float32",
        description="The same in the auxiliary phase's training passes; its KL term, the old "
        "policy and recomputed value targets are float32.",
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


class PPGSettings(MachineSettings, EvaluationSettings, LearningSettings, SamplingSettings):
    """The keys that `PPGConfig` understands beyond RLlib's common ones.

    Symbols in brackets are those of the paper (Cobbe et al. 2020, arXiv:2009.04416), defaults are
    the reference implementation's. T is the rollout length, N the number of environments.
    """

    # The last of these classes' keys stand first in tables.
    model_config = ConfigDict(extra="forbid")


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
