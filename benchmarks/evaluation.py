"""Steps/s of an evaluation, all environment steps counted, beside a bare loop on the same cores."""

from __future__ import annotations

import torch

from benchmarks.bare import BareRollout
from benchmarks.measure import Progress, Row, interleave, speed_row
from benchmarks.work import DEFAULT, ENV_CONFIG, SEED, SMALL, procgen_arguments
from rllib_ppg.algorithm.evaluate_agents import TrainedAgent
from rllib_ppg.algorithm.evaluate_blocks import BLOCK_ENVS, Block, BlockPlayer
from rllib_ppg.core.distributions import ActionSpec

BARE = "bare loop"
ACTIONS = ActionSpec("categorical", (15,))
MAPPING = {"normalize_actions": True, "clip_actions": False}
TARGET = 0.85


def run(quick: bool, progress: Progress) -> list[Row]:
    """Measure one block by one thread: workers each play such blocks, on a core of their own."""
    network = (SMALL if quick else DEFAULT).build("dual")
    episodes, rounds = (1, 1) if quick else (2, 7)
    block = Block("procgen", ENV_CONFIG, (episodes,) * BLOCK_ENVS, 0, SEED, SEED)
    steps = _play(block, network)  # the same in every round
    bare = BareRollout(network, BLOCK_ENVS, procgen_arguments(), rand_seed=SEED)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    seconds = interleave(
        {"ours": lambda: _play(block, network), BARE: lambda: bare.play(steps // BLOCK_ENVS)},
        rounds,
        lambda text: progress(f"evaluation: {text}"),
    )
    torch.set_num_threads(threads)
    bare.close()
    row = speed_row(
        "evaluation",
        f"evaluation of {BLOCK_ENVS} games, {sum(block.quotas)} episodes, dual, one thread",
        seconds,
        ours="ours",
        against=BARE,
        amount=steps,
        unit="steps/s",
        target=TARGET,
        note="All steps count, also those of games that have finished their episodes; making the "
        "games is part of ours.",
    )
    return [row]


def _play(block: Block, network: torch.nn.Module) -> int:
    """Play a block and return its environment steps."""
    player = BlockPlayer(block, TrainedAgent(network.eval(), ACTIONS, MAPPING, 1.0))
    player.play()
    player.close()
    return player.env_steps
