"""App: `rllib evaluate`: check what was given, play, show the numbers, write them down.

Ray and torch are imported only when what was given makes sense so far.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rllib_ppg.app import cluster
from rllib_ppg.app.evaluate_flags import POLICIES, EvaluateFlags
from rllib_ppg.app.export import find_checkpoint
from rllib_ppg.app.flags import TrainFlags
from rllib_ppg.app.interrupt import Interrupt, exit_code_of, sigterm_as_exception
from rllib_ppg.app.out_file import check_out
from rllib_ppg.app.train import import_modules, waiting
from rllib_ppg.app.yaml_reader import read_yaml
from rllib_ppg.envs.levels import check_levels
from rllib_ppg.errors import UserError
from rllib_ppg.spelling import did_you_mean

if TYPE_CHECKING:
    from rllib_ppg.algorithm.evaluate_agents import Agent
    from rllib_ppg.algorithm.evaluate_blocks import Block
    from rllib_ppg.algorithm.evaluate_episodes import EpisodeStatistics
    from rllib_ppg.algorithm.evaluate_levels import Task
    from rllib_ppg.app.evaluate_result import Outcome

ALL_GAMES = "all"
SUFFIX = ".json"

TRUST = (
    "Reading it unpickles it, which runs what it holds: evaluate only checkpoints from sources "
    "that you trust."
)


@dataclass(frozen=True)
class Plan:
    """An evaluation that makes sense.

    Attributes:
        agent: Who plays.
        tasks: What is played.
        tables: Score table of each task.
        blocks: The blocks of each task.
        settings: What the result says about how all tasks were played.
        checkpoint: The checkpoint.
        env_steps: Environment steps of its training.
    """

    agent: "Agent"
    tasks: Sequence["Task"]
    tables: Sequence[str | None]
    blocks: Sequence[Sequence["Block"]]
    settings: dict[str, Any]
    checkpoint: Path
    env_steps: int


class Stopped(Exception):
    """An orderly end was asked for.

    Args:
        episodes: Episodes that are finished.
        total: Episodes wanted.
        exit_code: What the command returns.
    """

    def __init__(self, episodes: int, total: int, exit_code: int) -> None:
        super().__init__(f"Interrupted after {episodes} of {total} episodes; nothing was written.")
        self.exit_code = exit_code


def run_evaluate(flags: EvaluateFlags) -> int:
    """Evaluate a checkpoint.

    Args:
        flags: What was given.

    Returns:
        The exit code: 0 done, 130 or 143 interrupted by Ctrl-C or SIGTERM.

    Raises:
        UserError: If anything that was given is wrong; nothing has been played or written then.
    """
    try:
        with sigterm_as_exception():
            return _run(flags)
    except Stopped as stop:
        print(stop, file=sys.stderr)
        return stop.exit_code
    except KeyboardInterrupt as error:  # outside of playing, which looks after signals itself
        print("\nInterrupted; nothing was written.", file=sys.stderr)
        return exit_code_of(error)


def _run(flags: EvaluateFlags) -> int:
    workers = _check_flags(flags)
    changes = env_changes(flags)
    settings = cluster.ray_settings(TrainFlags(ray_address=flags.ray_address))
    folder, passed_over = find_checkpoint(flags.checkpoint)
    for _, reason in passed_over:
        print(f"Passing over a newer checkpoint. {reason}")
    cluster.prepare_environment(settings)
    print(f"Evaluating {folder}\n{TRUST}")
    with waiting("Reading the checkpoint ..."):
        import_modules(flags.imports)
        plan = make_plan(flags, folder, changes)
        cluster.quiet_logging(settings)
    _finish(flags, plan, play(plan, workers, settings))
    return 0


def _check_flags(flags: EvaluateFlags) -> int | None:
    """Check what can be checked at once; return the number of workers, None for auto."""
    from rllib_ppg.core.scores import get_table

    if flags.policy not in POLICIES:
        hint = did_you_mean(flags.policy, POLICIES)
        raise UserError(f"--policy {flags.policy}: unknown.{hint} Give {' or '.join(POLICIES)}.")
    if flags.normalize not in (None, "none"):
        get_table(flags.normalize)
    check_levels(flags.levels)
    if flags.out is not None:
        check_out(flags.out, [SUFFIX])
    if flags.num_env_runners == "auto":
        return None
    if not flags.num_env_runners.isdecimal():
        raise UserError(
            f"--num-env-runners {flags.num_env_runners}: must be 0 (this process) or more, or auto."
        )
    return int(flags.num_env_runners)


def env_changes(flags: EvaluateFlags) -> dict[str, Any]:
    """Return the keys of `env_config` that `--config` and `--set` change.

    Raises:
        UserError: If they cannot be read, or are for anything but the environment.
    """
    changes: dict[str, Any] = {}
    if flags.config is not None:
        given = read_yaml(flags.config, "--config").data
        if not isinstance(given, dict) or set(given) != {"env_config"}:
            raise UserError("--config: " + _ENV_ONLY)
        if not isinstance(given["env_config"], dict):
            raise UserError("--config: env_config takes a mapping, option names and values.")
        changes.update(given["env_config"])
    for text in flags.settings:
        key, equals, value = text.partition("=")
        top, _, name = key.strip().partition(".")
        if not equals or top != "env_config" or not name:
            raise UserError(f"--set {text}: {_ENV_ONLY}")
        changes[name] = read_yaml(value, f"--set {key.strip()}").data
    return changes


_ENV_ONLY = (
    "only the environment can be changed in an evaluation: --set env_config.KEY=VALUE, or --config "
    '\'{"env_config": {"KEY": VALUE}}\'. How actions are chosen is --temperature.'
)


def make_plan(flags: EvaluateFlags, folder: Path, changes: dict[str, Any]) -> Plan:
    """Read the checkpoint and check all that was given against it.

    Raises:
        UserError: If something does not fit.
    """
    from rllib_ppg.algorithm.evaluate_blocks import env_count, make_blocks
    from rllib_ppg.algorithm.evaluate_levels import make_tasks
    from rllib_ppg.algorithm.evaluate_scores import choose_table
    from rllib_ppg.algorithm.policy_export import read_policy
    from rllib_ppg.app.evaluate import make_agent
    from rllib_ppg.core.temperature import check_temperature

    count = env_count(flags.episodes, flags.num_envs)
    check_temperature(flags.temperature)
    policy, env_steps = read_policy(folder)
    tasks = make_tasks(policy, games=_games(flags.games), levels=flags.levels, env_config=changes)
    agent = make_agent(policy, flags.policy, flags.temperature)
    if flags.policy == "random":  # it was trained on nothing, so that all games are alike to it
        tasks = [replace(task, transfer=False) for task in tasks]
    blocks = [
        make_blocks(
            task.env, task.env_config, task.name,
            episodes=flags.episodes, num_envs=flags.num_envs, seed=flags.seed,
        )
        for task in tasks
    ]  # fmt: skip
    settings = {
        "policy": flags.policy,
        "temperature": getattr(agent, "temperature", None),
        "seed": flags.seed,
        "num_envs": count,
    }
    tables = [choose_table(task, flags.normalize) for task in tasks]
    return Plan(agent, tasks, tables, blocks, settings, folder, env_steps)


def _games(given: str | None) -> list[str] | None:
    from rllib_ppg.envs.procgen import game_names

    if given is None:
        return None
    if given == ALL_GAMES:
        return list(game_names())
    games = [name.strip() for name in given.split(",") if name.strip()]
    if not games:
        raise UserError("--games: give names of games with commas between them, or all.")
    return games


def play(
    plan: Plan, wanted: int | None, settings: cluster.RaySettings
) -> list["EpisodeStatistics"]:
    """Play everything and return the episodes of each task.

    Args:
        plan: What is played by whom.
        wanted: Workers; None for as many as there are CPUs.
        settings: Which Ray to use; where Ray runs already, that one.

    Raises:
        Stopped: If Ctrl-C or SIGTERM came.
    """
    from rllib_ppg.algorithm.evaluate_episodes import join
    from rllib_ppg.algorithm.evaluate_workers import play_blocks
    from rllib_ppg.app.evaluate_progress import make_progress

    blocks = [block for each in plan.blocks for block in each]
    total = sum(sum(block.quotas) for block in blocks)
    with (
        _workers(wanted, len(blocks), settings) as workers,
        Interrupt() as interrupt,
        make_progress(total) as progress,
    ):

        def on_progress(episodes: int, env_steps: int) -> None:
            progress.update(episodes, env_steps)
            if interrupt.requested:
                raise Stopped(episodes, total, interrupt.exit_code)

        parts = iter(play_blocks(plan.agent, blocks, workers, on_progress))
    return [join([next(parts) for _ in each]) for each in plan.blocks]


@contextmanager
def _workers(wanted: int | None, num_blocks: int, settings: cluster.RaySettings) -> Iterator[int]:
    """Context with Ray, where workers are needed; gives their number."""
    from rllib_ppg.algorithm import resources
    from rllib_ppg.algorithm.evaluate_workers import choose_workers

    if settings.address is None:
        here = resources.machine_cpus()
        workers = choose_workers(wanted, num_blocks, here)
        settings = replace(settings, num_cpus=max(here, workers), num_gpus=0)
        if not workers:
            yield 0
            return
    with ExitStack() as stack:
        with waiting("Starting Ray ..."):
            stack.enter_context(cluster.session(settings))
        there = resources.available()["CPU"]
        workers = choose_workers(wanted, num_blocks, there)
        if workers > there:
            raise UserError(
                f"--num-env-runners {wanted}: the cluster has {there:g} CPUs, and each takes one; "
                "give fewer, or auto."
            )
        yield workers


def _finish(flags: EvaluateFlags, plan: Plan, played: Sequence["EpisodeStatistics"]) -> None:
    """Show the numbers, and write them down."""
    from rllib_ppg.app import evaluate_result as result

    outcomes = _outcomes(plan, played)
    print(_who(plan))
    result.print_table(outcomes)
    if flags.out is None:
        return
    path = check_out(flags.out, [SUFFIX])
    result.write(path, result_document(plan, played))
    print(f"Wrote {path}")


def result_document(plan: Plan, played: Sequence["EpisodeStatistics"]) -> dict[str, Any]:
    """Return the content of the file about what was played."""
    from rllib_ppg.app import evaluate_result as result
    from rllib_ppg.app.run_folder import versions

    # Readers take two files of one checkpoint as one agent's, which a random policy is not.
    agents = plan.settings["policy"] == "agent"
    return result.document(
        _outcomes(plan, played),
        plan.settings,
        checkpoint=str(plan.checkpoint) if agents else None,
        env_steps_trained=plan.env_steps if agents else 0,
        versions=versions(),
    )


def _outcomes(plan: Plan, played: Sequence["EpisodeStatistics"]) -> list["Outcome"]:
    from rllib_ppg.app.evaluate_result import Outcome

    return [
        Outcome(task, episodes, table)
        for task, episodes, table in zip(plan.tasks, played, plan.tables, strict=True)
    ]


def _who(plan: Plan) -> str:
    temperature = plan.settings["temperature"]
    if temperature is None:
        who = "Uniformly random actions"
    else:
        way = "the most probable actions" if not temperature else f"temperature {temperature:g}"
        who = f"Agent of {plan.env_steps:,} environment steps, {way}"
    modes = sorted({task.distribution_mode for task in plan.tasks if task.distribution_mode})
    played = "".join(f"{mode} levels, " for mode in modes)
    many = plan.settings["num_envs"]
    return f"\n{who}; {played}seed {plan.settings['seed']}, {many} environments a game"
