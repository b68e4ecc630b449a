"""Envs: the options of the `procgen` environment and their checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator

from rllib_ppg.core.scores import EASY_FLOORS, PRIVATE_GAMES, get_table
from rllib_ppg.envs.array_wrapper import find_wrapper
from rllib_ppg.envs.procgen_library import game_names, games_of_mode, mode_names
from rllib_ppg.envs.state_counts import FRAME_BYTES, MOST_FRAMES, Penalties
from rllib_ppg.errors import UserError
from rllib_ppg.spelling import did_you_mean

MAX_INT32 = 2**31 - 1
_NOOP_MIN_TIMESTEP = 10
_LONGEST = {"bigfish": 6000, "bossfight": 4000, "plunder": 4000, "leaper": 500, "maze": 500}
_LONGEST_JUMPER_OF_MEMORY = 2000
_LONGEST_OF_OTHERS = 1000


def _whole_number(low: int, high: int) -> Callable[[Any], int]:
    """Return a check that takes whole numbers from `low` to `high`, also written as strings."""

    def check(value: Any) -> int:
        number = _as_integer(value)
        if number is None or not low <= number <= high:
            raise ValueError(f"give a whole number from {low} to {high}")
        return number

    return check


def _as_integer(value: Any) -> int | None:
    """Return the whole number that `value` states, or None. A bool is not a number here."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer | float | str):
        return None
    if isinstance(value, int | np.integer):
        return int(value)
    try:
        number = float(value)
    except ValueError:
        return None
    return int(number) if number.is_integer() else None


def _number(value: Any) -> float:
    """Take finite numbers, also written as strings, and no booleans."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | np.number):
        raise ValueError("give a number")
    try:
        number = float(value)
    except ValueError:
        raise ValueError("give a number") from None
    if not np.isfinite(number):
        raise ValueError("give a finite number")
    return number


def _wrappers(value: Any) -> tuple[Any, ...]:
    """Take a list of wrappers that can be found."""
    if not isinstance(value, list | tuple):
        raise ValueError("give a list of dotted names, or of mappings with the name as type")
    for setting in value:
        find_wrapper(setting)
    return tuple(value)


def _true_or_false(value: Any) -> bool:
    """Take only real booleans: the string "True," or 1 is a slip that YAML lets through."""
    if not isinstance(value, bool):
        raise ValueError("give true or false, without quotes or comma")
    return value


def _name_from(kind: str, names: Callable[[], tuple[str, ...]]) -> Callable[[Any], str]:
    """Return a check that takes one of the names, and otherwise says the nearest one."""

    def check(value: Any) -> str:
        if value in names():
            return str(value)
        hint = _private_hint(value) or did_you_mean(str(value), names())
        raise ValueError(f"there is no such {kind}.{hint} Give one of: {', '.join(names())}")

    return check


def _private_hint(name: Any) -> str:
    """Return what to do about a game of the challenge that the installed library lacks."""
    if name not in PRIVATE_GAMES:  # they are in no released package
        return ""
    return " It is one of the challenge's private games, which need a procgen build with them."


Flag = Annotated[bool, BeforeValidator(_true_or_false)]
Level = Annotated[int, BeforeValidator(_whole_number(0, MAX_INT32))]
Threads = Annotated[int, BeforeValidator(_whole_number(0, 256))]
Frames = Annotated[int, BeforeValidator(_whole_number(1, 64))]
Number = Annotated[float, BeforeValidator(_number)]
Wrappers = Annotated[tuple[Any, ...], BeforeValidator(_wrappers)]
Game = Annotated[str, BeforeValidator(_name_from("game in the installed procgen", game_names))]
Mode = Annotated[str, BeforeValidator(_name_from("distribution mode", mode_names))]


CHALLENGE_MODE = "easy"
"""The mode of the challenge, which its constants hold for."""

LIBRARY_OPTIONS = (
    "env_name", "num_levels", "start_level", "paint_vel_info", "use_generated_assets",
    "center_agent", "use_sequential_levels", "distribution_mode", "use_backgrounds",
    "restrict_themes", "use_monochrome_assets", "num_threads",
)  # fmt: skip
"""The options that are Procgen's own, beside `rand_seed`."""


class ReturnConstants(NamedTuple):
    """What the challenge says of a game's returns; None where nobody has said it.

    Attributes:
        low: The lowest return.
        blind: The return of an agent that sees nothing.
        high: The best return.
    """

    low: float | None
    blind: float | None
    high: float | None


class ProcgenOptions(BaseModel):
    """The options of the `procgen` environment: Procgen's own, and those of ours around it.

    Attributes:
        env_name: The game, one of `game_names()`.
        num_levels: Number of different levels; 0 means all that there are.
        start_level: Number of the first level, where `num_levels` limits them.
        paint_vel_info: Paint the agent's velocity into the frame.
        use_generated_assets: Draw things from random shapes instead of pictures.
        center_agent: Keep the agent in the middle of the frame, in games that can.
        use_sequential_levels: Go on to the next level within the episode when one is solved.
        distribution_mode: `easy`, `hard`, `extreme`, `memory` or `exploration`.
        use_backgrounds: Draw background pictures instead of black.
        restrict_themes: One theme instead of several, in games that have them.
        use_monochrome_assets: Rectangles of one colour instead of pictures.
        rand_seed: Seed of the choice of levels; None takes the algorithm's seed.
        num_threads: Threads that step the games of one worker. 0 steps them in the worker's own
            thread: a worker has one CPU, and more threads than CPUs take time from the others.
        frame_stack: Number of last frames that make an observation.
        stale_frame_stack: Repeat the fault of a winner's wrapper: an episode's second observation
            holds the last frame of the episode before (`frame_stack.StaleFrameStack`). The frame
            store then keeps whole stacks, so it is `frame_stack` times as large.
        noop_reward: Added to the learner's reward of a step that changes no pixel, but not where it
            ends the episode; -0.1 in the sample-efficiency winner. Returns of episodes stay raw.
        noop_min_timestep: Only for steps of an episode after this one, counted from 0.
        revisit_reward: Added for each earlier visit of the same frame in the episode; -0.01 there,
            and switched off.
        count_states: Put the columns `num_unique_states` (different frames of the episode so far)
            and `episode_step` into the sample batch.
        wrappers: Wrappers of your own, innermost first: dotted names of subclasses of
            `rllib_ppg.envs.array_wrapper.ArrayWrapper` in an installed package, or mappings with
            the name as `type` and options.
        return_min: The game's lowest return. This and the next two change nothing in the game;
            the environment shows them as attributes, as the challenge's starter kit does, and the
            algorithm's key return_max takes the last. None: the kit's, which holds for easy mode.
        return_blind: The return of an agent that sees nothing.
        return_max: The best return.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    env_name: Game = "coinrun"
    num_levels: Level = 0
    start_level: Level = 0
    paint_vel_info: Flag = False
    use_generated_assets: Flag = False
    center_agent: Flag = True
    use_sequential_levels: Flag = False
    distribution_mode: Mode = "hard"
    use_backgrounds: Flag = True
    restrict_themes: Flag = False
    use_monochrome_assets: Flag = False
    rand_seed: Level | None = None
    num_threads: Threads = 0
    frame_stack: Frames = 1
    stale_frame_stack: Flag = False
    noop_reward: Number = 0.0
    noop_min_timestep: Level = _NOOP_MIN_TIMESTEP
    revisit_reward: Number = 0.0
    count_states: Flag = False
    wrappers: Wrappers = ()
    return_min: Number | None = None
    return_blind: Number | None = None
    return_max: Number | None = None

    @model_validator(mode="after")
    def _check_mode(self) -> ProcgenOptions:
        """Refuse a mode that the game lacks; the library would end the process."""
        allowed = games_of_mode(self.distribution_mode)
        if self.env_name not in allowed:
            raise ValueError(
                f"game '{self.env_name}' has no distribution_mode '{self.distribution_mode}', "
                f"which is for {', '.join(allowed)}; use easy or hard"
            )
        return self

    @model_validator(mode="after")
    def _check_levels(self) -> ProcgenOptions:
        """Refuse level numbers that the library would ignore or that overflow."""
        limited = self.num_levels != 0 or self.start_level != 0
        if self.distribution_mode == "exploration" and limited:
            raise ValueError(
                "distribution_mode 'exploration' plays one fixed level; leave num_levels and "
                "start_level out"
            )
        if self.start_level != 0 and self.num_levels == 0:
            raise ValueError(
                f"start_level={self.start_level} has no effect with num_levels=0, which plays all "
                "levels; give num_levels, or leave start_level out"
            )
        if self.start_level + self.num_levels > MAX_INT32:
            raise ValueError(f"start_level + num_levels must be at most {MAX_INT32}; lower one")
        return self

    @model_validator(mode="after")
    def _check_stack(self) -> ProcgenOptions:
        """Refuse a fault that could not show."""
        if self.stale_frame_stack and self.frame_stack < 2:
            raise ValueError(
                "stale_frame_stack=True has no effect with frame_stack=1; set frame_stack to 2 or "
                "more, or leave it out"
            )
        return self

    @model_validator(mode="after")
    def _check_noop(self) -> ProcgenOptions:
        """Refuse an option of a penalty that nobody set; one that was set to 0 may keep it."""
        changed = self.noop_min_timestep != _NOOP_MIN_TIMESTEP
        if changed and "noop_reward" not in self.model_fields_set:
            raise ValueError(
                f"noop_min_timestep={self.noop_min_timestep} has no effect without noop_reward; "
                "set that, or leave it out"
            )
        return self

    @property
    def separable_frames(self) -> int:
        """Frames of one observation that a store may keep one by one; 1 where it must not."""
        return 1 if self.stale_frame_stack else self.frame_stack

    @property
    def penalties(self) -> Penalties | None:
        """The reward shaping, where there is one."""
        if not self.noop_reward and not self.revisit_reward:
            return None
        return Penalties(self.noop_reward, self.noop_min_timestep, self.revisit_reward)

    @property
    def counts_frames(self) -> bool:
        """Whether anything depends on which frames are equal."""
        return self.counts_visits or self.noop_reward != 0

    @property
    def counts_visits(self) -> bool:
        """Whether the frames of each episode are remembered."""
        return self.count_states or self.revisit_reward != 0

    @property
    def longest_episode(self) -> int | None:
        """Steps after which Procgen ends an episode; None over sequential levels, without a limit.

        Source: `timeout` of openai/procgen's games.
        """
        if self.use_sequential_levels:
            return None
        if self.env_name == "jumper" and self.distribution_mode == "memory":
            return _LONGEST_JUMPER_OF_MEMORY
        return _LONGEST.get(self.env_name, _LONGEST_OF_OTHERS)

    @property
    def counted_bytes(self) -> int:
        """Most memory that the counted frames of one game take."""
        if not self.counts_visits:
            return 0
        longest = self.longest_episode
        frames = MOST_FRAMES if longest is None else min(longest + 1, MOST_FRAMES)
        return frames * FRAME_BYTES

    def return_constants(self) -> ReturnConstants:
        """Return the challenge's constants of the game, or those given; None where unknown."""
        low: float | None = None
        table: tuple[float | None, float | None] = (None, None)
        if self.distribution_mode == CHALLENGE_MODE:
            low = EASY_FLOORS.get(self.env_name)
            table = get_table("easy_challenge").ranges.get(self.env_name, table)
        known = ReturnConstants(low, *table)
        given = (self.return_min, self.return_blind, self.return_max)
        return ReturnConstants(
            *(there if own is None else own for own, there in zip(given, known, strict=True))
        )

    def gym3_arguments(self) -> dict[str, Any]:
        """Return the keyword arguments for procgen's `ProcgenGym3Env`, without `rand_seed`."""
        arguments = self.model_dump(include=set(LIBRARY_OPTIONS))
        if self.distribution_mode == "exploration":
            # The library asserts that these are absent, whatever their values.
            del arguments["num_levels"], arguments["start_level"]
        return arguments


def parse_options(env_config: Mapping[str, Any]) -> ProcgenOptions:
    """Check an `env_config` of the `procgen` environment.

    Args:
        env_config: Option names and values; what is left out takes its default.

    Returns:
        The complete options.

    Raises:
        UserError: A name is unknown, or a value has the wrong type, is out of range, or
            contradicts another one.
    """
    if not isinstance(env_config, Mapping):
        raise UserError(
            f"env_config of 'procgen' is {env_config!r}; give option names and values, for "
            "example {env_name: coinrun, num_levels: 200}."
        )
    try:
        return ProcgenOptions.model_validate(dict(env_config))
    except ValidationError as error:
        problems = [_sentence(dict(item)) for item in error.errors()]
    raise UserError("env_config of 'procgen': " + "\n".join(problems))


def _sentence(problem: dict[str, Any]) -> str:
    """Turn one of pydantic's errors into a sentence for the user."""
    name = ".".join(str(part) for part in problem["loc"][:1])
    if problem["type"] == "extra_forbidden":
        options = list(ProcgenOptions.model_fields)
        return (
            f"unknown option '{name}'.{did_you_mean(name, options, 0.5)} Give any of: "
            f"{', '.join(options)}."
        )
    message = problem["msg"].removeprefix("Value error, ").removesuffix(".")
    return f"{name}={problem['input']!r}: {message}." if name else f"{message}."
