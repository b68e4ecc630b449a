"""Algorithm: PPG's RLlib policy: the network on its device, acting, and its weights.

Learning is not done here: `core.learner.PhasicLearner` works on `policy.network`. So a policy's
state stays small (its weights), which matters because RLlib sends it to every worker.
"""

from typing import Any

import gymnasium as gym
import torch

from rllib_ppg._ray_compat import (
    ModelCatalog,
    TorchDistributionWrapper,
    TorchModelV2,
    TorchPolicyV2,
)
from rllib_ppg.algorithm.actions import action_spec, distribution_class
from rllib_ppg.algorithm.model import PPGModel, default_model
from rllib_ppg.core.networks import PhasicNetwork
from rllib_ppg.errors import UserError


class PPGTorchPolicy(TorchPolicyV2):
    """A `PhasicNetwork` behind RLlib's policy interface."""

    def __init__(
        self, observation_space: gym.Space, action_space: gym.Space, config: dict[str, Any]
    ) -> None:
        self.action_spec = action_spec(action_space)
        # RLlib would compile the model that acts; the learner compiles its own passes.
        settings = {**config, "torch_compile_learner": False}
        TorchPolicyV2.__init__(self, observation_space, action_space, settings)

    def make_model_and_action_dist(
        self,
    ) -> tuple[TorchModelV2, type[TorchDistributionWrapper]]:
        """Build the configured model (`ppg_impala` or `ppg_mlp` unless named)."""
        space = getattr(self.observation_space, "original_space", self.observation_space)
        model_config = dict(self.config["model"])
        model_config["custom_model"] = model_config.get("custom_model") or default_model(space)
        model = ModelCatalog.get_model_v2(
            obs_space=self.observation_space,
            action_space=self.action_space,
            num_outputs=self.action_spec.num_inputs,
            model_config=model_config,
            framework="torch",
        )
        if not isinstance(model, PPGModel):
            raise UserError(
                f"model.custom_model={model_config['custom_model']!r} is not a PPG model; use "
                "ppg_impala, ppg_mlp, or a subclass of rllib_ppg.algorithm.model.PPGModel."
            )
        return model, distribution_class(self.action_space)

    def optimizer(self) -> list[torch.optim.Optimizer]:
        """No optimiser here: `PhasicLearner` owns them all."""
        return []

    @property
    def network(self) -> PhasicNetwork:
        """The network that acts and learns."""
        return self.model.network

    @property
    def network_copies(self) -> list[PhasicNetwork]:
        """Copies of the network on the learner's further GPUs; RLlib makes them."""
        return [tower.network for tower in self.model_gpu_towers[1:]]
