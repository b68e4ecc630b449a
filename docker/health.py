"""Whether this installation can train: the image's health check. Starts no Ray, takes seconds."""

import numpy as np
import ray
import torch

import rllib_ppg
from rllib_ppg.core.networks import ImpalaEncoder, PhasicNetwork
from rllib_ppg.envs.procgen_vector import ProcgenVectorEnv

GAMES, STEPS = 2, 3


def check() -> str:
    """Play Procgen with the default network, and put a gradient through all of it.

    Returns:
        The versions that were found, and whether there is a GPU.
    """
    rllib_ppg.register()
    env = ProcgenVectorEnv({"env_name": "coinrun"}, GAMES)
    network = PhasicNetwork(lambda: ImpalaEncoder((64, 64, 3)), env.action_space.n)
    obs = env.reset()
    for _ in range(STEPS):
        heads = network(torch.from_numpy(obs.copy()))
        obs = env.step(heads.logits.argmax(dim=1).numpy()).obs
    (heads.logits.square().mean() + heads.vf.mean() + heads.aux_vf.mean()).backward()
    for parameter in network.parameters():
        if parameter.grad is None or not parameter.grad.isfinite().all():
            raise RuntimeError("the network has a gradient that is missing or not finite")
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no GPU"
    versions = f"ray {ray.__version__}, torch {torch.__version__}, numpy {np.__version__}"
    return f"healthy: rllib_ppg {rllib_ppg.__version__}, {versions}, {gpu}"


if __name__ == "__main__":
    print(check())
