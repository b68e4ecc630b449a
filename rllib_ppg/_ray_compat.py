"""Every import of RLlib's old API stack, so that a new Ray breaks in one place.

Ray may remove these names after 2.60; `tests/test_ray_compat.py` fails by name when one is gone.
"""

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.algorithms.registry import ALGORITHMS as RLLIB_ALGORITHMS
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.env.base_env import BaseEnv
from ray.rllib.env.env_context import EnvContext
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.rllib.env.multi_agent_env import MultiAgentEnv
from ray.rllib.env.vector_env import VectorEnv
from ray.rllib.evaluation.episode_v2 import EpisodeV2
from ray.rllib.evaluation.metrics import RolloutMetrics
from ray.rllib.evaluation.rollout_worker import RolloutWorker
from ray.rllib.models.catalog import MODEL_DEFAULTS, ModelCatalog
from ray.rllib.models.torch.torch_action_dist import TorchDistributionWrapper
from ray.rllib.models.torch.torch_modelv2 import TorchModelV2
from ray.rllib.policy.sample_batch import DEFAULT_POLICY_ID, SampleBatch
from ray.rllib.policy.torch_policy_v2 import TorchPolicyV2
from ray.rllib.policy.view_requirement import ViewRequirement
from ray.rllib.utils.metrics import (
    NUM_AGENT_STEPS_SAMPLED,
    NUM_AGENT_STEPS_TRAINED,
    NUM_ENV_STEPS_SAMPLED,
    NUM_ENV_STEPS_TRAINED,
)
from ray.rllib.utils.metrics.learner_info import LEARNER_STATS_KEY
from ray.rllib.utils.spaces.space_utils import unsquash_action
from ray.train._internal.session import _FutureTrainingResult as FutureTrainingResult
from ray.train._internal.session import _TrainingResult as TrainingResult

__all__ = [
    "DEFAULT_POLICY_ID",
    "LEARNER_STATS_KEY",
    "MODEL_DEFAULTS",
    "NUM_AGENT_STEPS_SAMPLED",
    "NUM_AGENT_STEPS_TRAINED",
    "NUM_ENV_STEPS_SAMPLED",
    "NUM_ENV_STEPS_TRAINED",
    "RLLIB_ALGORITHMS",
    "Algorithm",
    "AlgorithmConfig",
    "BaseEnv",
    "EnvContext",
    "EnvRunnerGroup",
    "EpisodeV2",
    "FutureTrainingResult",
    "ModelCatalog",
    "MultiAgentEnv",
    "RLlibCallback",
    "RolloutMetrics",
    "RolloutWorker",
    "SampleBatch",
    "TorchDistributionWrapper",
    "TorchModelV2",
    "TorchPolicyV2",
    "TrainingResult",
    "VectorEnv",
    "ViewRequirement",
    "unsquash_action",
]
