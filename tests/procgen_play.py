"""What the tests of Procgen share: a game with short episodes, actions, levels played."""

import numpy as np

# Random play ends episodes of this game within some tens of steps.
SHORT = {"env_name": "starpilot", "distribution_mode": "hard"}


def random_actions(steps, num_envs, seed=0):
    return np.random.default_rng(seed).integers(0, 15, (steps, num_envs))


def level_seeds(env):
    return [info["level_seed"] for info in env.infos()]


def played_levels(env, episodes=3):
    """The levels of the first episodes of each game, which are cut short to get to the next."""
    levels = [level_seeds(env)]
    for _ in range(episodes - 1):
        env.step(np.zeros(env.num_envs, int))
        env.reset()
        levels.append(level_seeds(env))
    return np.array(levels).T.tolist()
