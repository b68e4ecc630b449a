"""Algorithm: what is played in an evaluation: which games, and which of their levels.

Procgen draws each episode's level, uniformly and with repetition, from the numbers
`start_level` to `start_level + num_levels - 1`, or with `num_levels: 0` from 0 to 2^31 - 2.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym

from rllib_ppg.algorithm import named_environments
from rllib_ppg.algorithm.actions import action_spec
from rllib_ppg.algorithm.model import observation_layout
from rllib_ppg.algorithm.policy import PPGTorchPolicy
from rllib_ppg.algorithm.policy_export import env_name
from rllib_ppg.envs.levels import CUSTOM, LEVELS, check_levels
from rllib_ppg.envs.procgen import game_names, parse_options
from rllib_ppg.envs.procgen_options import MAX_INT32, ProcgenOptions
from rllib_ppg.errors import UserError
from rllib_ppg.spelling import did_you_mean

_LEVEL_KEYS = ("num_levels", "start_level")


@dataclass(frozen=True)
class Task:
    """One game, or another environment, to be played.

    Attributes:
        env: The environment, as RLlib has it.
        env_config: Its whole configuration.
        name: The game, or the environment's name.
        levels: One of `LEVELS` or `CUSTOM`; None for environments without levels.
        distribution_mode: Procgen's difficulty; None for other environments.
        transfer: Whether it is another game or difficulty than the agent was trained on.
    """

    env: Any
    env_config: Mapping[str, Any]
    name: str
    levels: str | None = None
    distribution_mode: str | None = None
    transfer: bool = False


def make_tasks(
    policy: PPGTorchPolicy,
    *,
    games: Sequence[str] | None = None,
    levels: str | None = None,
    env_config: Mapping[str, Any] | None = None,
) -> list[Task]:
    """Return what is to be played, in the order of the games.

    Args:
        policy: The trained policy, which knows its environment.
        games: Games of Procgen; None for the one that it was trained on.
        levels: One of `LEVELS`; None for all, or for what `env_config` says.
        env_config: Keys to change in the training's `env_config`.

    Raises:
        UserError: If these contradict each other or the environment, or the policy cannot act in
            what they describe.
    """
    tasks = tasks_beside(
        policy.config["env"], policy.config["env_config"], games=games, levels=levels,
        env_config=env_config,
    )  # fmt: skip
    for task in tasks:
        check_task_fits(policy, task)
    return tasks


def tasks_beside(
    env: Any,
    trained_on: Mapping[str, Any],
    *,
    games: Sequence[str] | None = None,
    levels: str | None = None,
    env_config: Mapping[str, Any] | None = None,
) -> list[Task]:
    """Return what is to be played beside a training, as `make_tasks` does for its policy.

    Args:
        env: The training's environment.
        trained_on: Its `env_config`.
        games: As for `make_tasks`; the others too.
        levels: The same.
        env_config: The same.

    Raises:
        UserError: If these contradict each other or the environment.
    """
    changes = dict(env_config or {})
    if env != "procgen":
        _refuse_procgen_only(env, games, levels)
        return [Task(env, {**trained_on, **changes}, env_name(env))]
    return _procgen_tasks(dict(trained_on), _checked_games(games, changes), levels, changes)


def tasks_while_training(
    env: Any,
    trained_on: Mapping[str, Any],
    levels: Sequence[str] | str,
    env_config: Mapping[str, Any] | None = None,
) -> list[Task]:
    """Return what evaluations during a training play: one task for each kind of levels.

    Args:
        env: The training's environment.
        trained_on: Its `env_config`.
        levels: Some of `LEVELS`; `auto` for train and test where the training leaves levels out,
            else all.
        env_config: Keys to change in the training's `env_config`.

    Raises:
        UserError: If these contradict each other or the environment.
    """
    wanted: Sequence[str | None] = [None]
    if levels != "auto":
        if not levels or len(set(levels)) < len(levels):
            raise UserError(f"evaluation_levels={levels}: name some of {', '.join(LEVELS)}, once.")
        wanted = list(levels)
    changes = dict(env_config or {})
    by_default = levels == "auto" and env == "procgen" and not _has_level_keys(changes)
    training = parse_options(trained_on) if by_default else None
    try:
        if training is not None:
            wanted = _levels_of_interest(training, parse_options({**trained_on, **changes}))
        tasks = [
            task
            for name in wanted
            for task in tasks_beside(env, trained_on, levels=name, env_config=changes)
        ]
    except UserError as error:
        raise UserError(f"evaluation_levels or evaluation_config: {error}") from None
    if "train" in wanted and any(task.transfer for task in tasks):
        raise UserError(
            f"evaluation_levels={levels}: evaluation_config plays another game or difficulty than "
            "the training, which has no training levels; give test or all."
        )
    return tasks


def _levels_of_interest(training: ProcgenOptions, played: ProcgenOptions) -> tuple[str, ...]:
    if _is_transfer(training, played):
        return ("all",)
    try:
        level_range(training, "test")
    except UserError:
        return ("all",)
    return ("train", "test")


def level_range(options: ProcgenOptions, levels: str) -> dict[str, int]:
    """Return `start_level` and `num_levels` of some levels.

    Args:
        options: The training's.
        levels: One of `LEVELS`.

    Raises:
        UserError: If there are no such levels.
    """
    start, count = options.start_level, options.num_levels
    if levels == "train":
        return {"start_level": start, "num_levels": count}
    if levels == "all":
        return {"start_level": 0, "num_levels": 0}
    if options.distribution_mode == "exploration" or count == 0:
        raise UserError("levels=test: the agent was trained on all levels; use all.")
    if options.use_sequential_levels:
        raise UserError(
            "levels=test: with use_sequential_levels the training went on to levels beyond its "
            "num_levels, so none is known to be unseen; use all."
        )
    below, above = start, MAX_INT32 - (start + count)
    if not max(below, above):
        raise UserError("levels=test: the agent was trained on all levels; use all.")
    # One range is all that Procgen takes: the larger side of the training levels.
    if above >= below:
        return {"start_level": start + count, "num_levels": above}
    return {"start_level": 0, "num_levels": below}


def _refuse_procgen_only(env: Any, games: Sequence[str] | None, levels: str | None) -> None:
    for key, value in (("games", games), ("levels", levels)):
        if value is not None:
            raise UserError(
                f"{key}: only Procgen has {key}, and the agent was trained on {env_name(env)}; "
                "leave it out."
            )


def _checked_games(games: Sequence[str] | None, changes: Mapping[str, Any]) -> list[str] | None:
    if games is None:
        return None
    if "env_name" in changes:
        raise UserError("games and env_config.env_name both name what is played; give one.")
    for index, game in enumerate(games):
        if game not in game_names():
            hint = did_you_mean(game, game_names())
            raise UserError(
                f'games: there is no game "{game}" in the installed procgen.{hint} Give any of: '
                f"{', '.join(game_names())}."
            )
        if game in games[:index]:
            raise UserError(f"games: {game} stands there twice; name it once.")
    return list(games)


def _procgen_tasks(
    trained_on: Mapping[str, Any],
    games: Sequence[str] | None,
    levels: str | None,
    changes: Mapping[str, Any],
) -> list[Task]:
    check_levels(levels)
    if "rand_seed" in changes:
        raise UserError("env_config.rand_seed: the levels are drawn by seed; give that instead.")
    training = parse_options(trained_on)
    chosen = _has_level_keys(changes)
    if chosen and levels is not None:
        raise UserError(
            f"levels={levels} and env_config.num_levels or start_level both say which levels are "
            "played; give one."
        )
    wanted = levels or "all"
    played = {} if chosen else level_range(training, wanted)
    tasks = []
    for game in games or [changes.get("env_name", training.env_name)]:
        options = parse_options({**trained_on, **played, **changes, "env_name": game})
        transfer = _is_transfer(training, options)
        # The same numbers are no levels of the training in another game or difficulty.
        by_number = chosen or (transfer and wanted == "train")
        tasks.append(
            Task(
                "procgen",
                options.model_dump(exclude={"rand_seed"}),
                game,
                CUSTOM if by_number else wanted,
                options.distribution_mode,
                transfer,
            )
        )
    return tasks


def _has_level_keys(changes: Mapping[str, Any] | None) -> bool:
    return any(key in (changes or {}) for key in _LEVEL_KEYS)


def _is_transfer(training: ProcgenOptions, played: ProcgenOptions) -> bool:
    """Whether a game or difficulty is played that is not the training's."""
    return (training.env_name, training.distribution_mode) != (
        played.env_name,
        played.distribution_mode,
    )


def check_task_fits(policy: PPGTorchPolicy, task: Task) -> None:
    """Refuse a task in whose environment a policy cannot act; it is made for that.

    Raises:
        UserError: If its spaces are not those of the policy, or it cannot be made.
    """
    found = named_environments.spaces(task.env, task.env_config)
    check_fits(policy, task.name, found.observations, found.actions)


def check_fits(
    policy: PPGTorchPolicy, name: str, observations: gym.Space[Any], actions: gym.Space[Any]
) -> None:
    """Refuse an environment whose spaces are not those of the policy.

    Args:
        policy: The policy.
        name: What the environment is called.
        observations: Its observation space.
        actions: Its action space.

    Raises:
        UserError: With both.
    """
    space: Any = policy.observation_space
    theirs = getattr(space, "original_space", space)
    same = _layout(observations) == _layout(theirs)
    if not same or action_spec(actions) != policy.action_spec:
        raise UserError(
            f"{name} has observations {observations} and actions {actions} with this env_config; "
            f"the agent was trained with {theirs} and {policy.action_space}."
        )


def _layout(space: gym.Space[Any]) -> tuple[Any, Any]:
    return observation_layout(space), getattr(space, "n", None)
