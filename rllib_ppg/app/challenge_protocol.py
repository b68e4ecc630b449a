"""App: the protocol of a challenge: what is trained, for how long, and how it is scored.

The rules are those of the NeurIPS 2020 Procgen challenge. Sources: the challenge's page and starter
kit (AIcrowd/neurips2020-procgen-starter-kit@142d095), AIcrowd forum topics 3511 and 3680.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from rllib_ppg.algorithm.setting_types import Integer, Number
from rllib_ppg.app.experiment import Source
from rllib_ppg.core.scores import (
    PRIVATE_GAMES,
    PUBLIC_GAMES,
    ROUND_2_GAMES,
    get_table,
    score_range,
)
from rllib_ppg.envs.procgen_library import game_names
from rllib_ppg.errors import UserError, shown
from rllib_ppg.spelling import did_you_mean

SAMPLE_EFFICIENCY, GENERALIZATION, BOTH = "sample_efficiency", "generalization", "both"

TRAIN_LEVELS: Mapping[str, int] = MappingProxyType({SAMPLE_EFFICIENCY: 0, GENERALIZATION: 200})
"""`num_levels` of the training by track; 0: all levels."""

GAME_GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"all": PUBLIC_GAMES, "round2": ROUND_2_GAMES}
)

DIFFICULTY = "easy"

MIN_SCALED_SECONDS = 60.0
"""`budget_scale` shortens seconds no further: starting up and a minibatch take what they take."""


def _listed(value: Any) -> Any:
    """Turn `a, b` into a list; one number or name into a list of one."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value if isinstance(value, list) else [value]


class Protocol(BaseModel):
    """The keys of `protocol`."""

    model_config = ConfigDict(extra="forbid")

    track: Literal["sample_efficiency", "generalization", "both"] = Field(
        "both",
        description="sample_efficiency (train on all levels), generalization (train on levels 0 "
        "to 199, score on all) or both.",
    )
    games: Annotated[list[str], BeforeValidator(_listed), Field(min_length=1)] = Field(
        ["all"],
        description="all (the 16 public games), round2 (the six public ones of round 2), or a "
        "list of names.",
    )
    seeds: Annotated[
        list[Annotated[Integer, Field(ge=0, le=2**31 - 1)]],
        BeforeValidator(_listed),
        Field(min_length=1),
    ] = Field(
        [1],
        description="Seeds of the training; one trial a game, seed and track.",
    )
    budget_steps: Annotated[Integer, Field(ge=1)] = Field(
        8_000_000, description="Environment steps of a trial, never exceeded."
    )
    budget_seconds: Annotated[Number, Field(gt=0)] = Field(
        7200.0, description="Seconds of training of a trial, which ends in order before."
    )
    margin_seconds: Annotated[Number, Field(ge=0)] | None = Field(
        None,
        description="Seconds left for the last checkpoint. null: 20, at most a twentieth of the "
        "budget.",
    )
    budget_scale: Annotated[Number, Field(gt=0, le=1)] = Field(
        1.0, description="For rehearsals: scales the budget and what has to shrink with it."
    )
    episodes: Annotated[Integer, Field(ge=1, le=1_000_000)] = Field(
        200, description="Episodes of each evaluation."
    )
    evaluation_seed: Annotated[Integer, Field(ge=0, le=2**31 - 1)] = Field(
        0, description="Seed of the levels and actions of all evaluations."
    )
    score_table: str = Field(
        "easy_challenge", description="Score table of the normalised returns; one for easy levels."
    )
    threshold: Annotated[Number, Field()] = Field(
        0.5, description="Score at which `steps to` is measured on the learning curve."
    )
    distribution_mode: Literal["easy"] = Field(
        "easy", description="Always easy, as in the challenge."
    )

    @property
    def tracks(self) -> tuple[str, ...]:
        """The tracks, each trained by itself."""
        return tuple(TRAIN_LEVELS) if self.track == BOTH else (self.track,)

    @property
    def num_trials(self) -> int:
        """One trial for each game, seed and track."""
        return len(self.games) * len(self.seeds) * len(self.tracks)

    @property
    def steps(self) -> int:
        """Environment steps of a trial, scaled."""
        return int(self.budget_steps * self.budget_scale)

    @property
    def seconds(self) -> float:
        """Seconds of a trial, scaled."""
        least = min(self.budget_seconds, MIN_SCALED_SECONDS)
        return max(self.budget_seconds * self.budget_scale, least)

    @property
    def margin(self) -> float:
        """Seconds of the budget that are not trained in.

        The default is the time that a winner left (Dipamc77/procgen-competition@f473f51).
        """
        if self.margin_seconds is None:
            return min(20.0, self.seconds / 20)
        return self.margin_seconds


KEYS = tuple(Protocol.model_fields)

TRAINING_KEYS = (
    "track", "games", "seeds", "budget_steps", "budget_seconds", "margin_seconds", "budget_scale",
)  # fmt: skip
"""Keys that decide on what is trained; a challenge that is resumed keeps them."""


def levels_of(track: str) -> tuple[str, ...]:
    """The levels on which a track's agents are evaluated; the first one is scored."""
    return ("all", "train") if TRAIN_LEVELS[track] else ("all",)


def make_protocol(data: Mapping[str, Any], source: Source) -> Protocol:
    """Check the keys of `protocol`; groups of games become lists.

    Args:
        data: The keys.
        source: Where they stand, below `protocol`.

    Raises:
        UserError: Naming everything that is wrong.
    """
    problems = []
    for name in data:
        if name not in KEYS:
            hint = did_you_mean(name, KEYS) or f" Allowed: {', '.join(KEYS)}."
            problems.append(_at(source, name, f'unknown key "{name}".{hint}'))
    if problems:
        raise UserError("\n".join(problems))
    try:
        protocol = Protocol(**data)
    except ValidationError as error:
        raise UserError(_described(error, source)) from None
    protocol.games = _games(protocol.games, source)
    _check(protocol, source)
    return protocol


def _at(source: Source, name: str, problem: str) -> str:
    return source.message(("protocol", name), problem)


def _described(error: ValidationError, source: Source) -> str:
    lines = []
    for item in error.errors(include_url=False):
        name = str(item["loc"][0])
        reason = item["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
        if item["type"] == "too_short":
            reason = "must not be empty"
        lines.append(_at(source, name, f"{name}={shown(item['input'])} {reason}."))
    return "\n".join(dict.fromkeys(lines))


def _games(given: list[str], source: Source) -> list[str]:
    """The games of a list of names or of a group's name.

    Raises:
        UserError: If one is unknown, not installed, or stands there twice.
    """
    if len(given) == 1 and given[0] in GAME_GROUPS:
        return list(GAME_GROUPS[given[0]])
    installed = game_names()
    for game in given:
        if game in GAME_GROUPS:
            problem = f"{game} is a group of games; give it alone, or name the games."
        elif game in PRIVATE_GAMES and game not in installed:
            problem = (
                f"{game} is one of the challenge's private games ({', '.join(PRIVATE_GAMES)}), "
                "which the installed procgen does not have. Leave them out, or build procgen from "
                "the branch contest-envs of github.com/openai/procgen."
            )
        elif game not in installed:
            hint = did_you_mean(game, (*installed, *GAME_GROUPS))
            problem = (
                f'there is no game "{game}" in the installed procgen.{hint} Give all, round2, or '
                f"any of: {', '.join(installed)}."
            )
        elif given.count(game) > 1:
            problem = f"{game} stands there twice; name it once."
        else:
            continue
        raise UserError(_at(source, "games", f"games: {problem}"))
    return given


def _check(protocol: Protocol, source: Source) -> None:
    """Refuse values that contradict each other."""
    for seed in protocol.seeds:
        if protocol.seeds.count(seed) > 1:
            problem = f"seeds: {seed} stands there twice, and the same seed is no second run."
            raise UserError(_at(source, "seeds", problem))
    try:
        table = get_table(protocol.score_table)
        for game in protocol.games:
            score_range(game, table.name)
    except UserError as error:
        raise UserError(_at(source, "score_table", f"score_table: {error}")) from None
    if table.difficulty != DIFFICULTY:
        problem = (
            f"score_table={table.name} is for {table.difficulty} levels, and the challenge is "
            "played on easy ones; give easy_challenge or easy_paper."
        )
        raise UserError(_at(source, "score_table", problem))
    if protocol.margin >= protocol.seconds:
        problem = (
            f"margin_seconds={protocol.margin:g} leaves nothing of the {protocol.seconds:g} "
            "seconds of a trial; give less."
        )
        raise UserError(_at(source, "margin_seconds", problem))
