"""App: what makes a sweep of an experiment: its objective, searcher and scheduler, checked."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from rllib_ppg.app.experiment import Experiment
from rllib_ppg.app.objective import Objective, can_be_averaged_over_games
from rllib_ppg.app.result_keys import flat_stop, key_problem
from rllib_ppg.app.schedulers import FifoKeys, PbtKeys, SchedulerKeys, read_scheduler
from rllib_ppg.app.searchers import RandomKeys, SearchKeys, read_search
from rllib_ppg.app.spaces import (
    CHOICE,
    CONDITIONAL,
    GRID,
    Conditional,
    is_node,
    parse_conditional,
    same,
)
from rllib_ppg.app.typed import KeyProblems, problem
from rllib_ppg.app.variants import NodePath, nodes, opened, trial_count, value_at
from rllib_ppg.app.yaml_reader import KeyPath
from rllib_ppg.errors import UserError

NOT_MUTABLE = (
    "env", "env_config", "seed", "num_env_runners", "num_gpus", "num_cpus_for_main_process",
    "num_cpus_per_env_runner", "num_gpus_per_env_runner", "custom_resources_for_main_process",
    "custom_resources_per_env_runner", "placement_strategy", "evaluation_num_env_runners",
)  # fmt: skip
"""Keys that PBT cannot change: what is trained on, and what a trial has reserved once for all."""

DEFAULT_METRIC = "env_runners/episode_return_mean"


@dataclass
class Sweep:
    """How the trials of an experiment are chosen and compared.

    Attributes:
        metric: The result key that is the objective.
        mode: Whether it is to be `max` or `min`.
        scheduler: The keys of the scheduler.
        search: The keys of the searcher.
        over: What each configuration is trained on, by path in the configuration; the objective is
            the mean over all combinations.
        num_samples: Trials, or configurations, of each of the grids' combinations.
    """

    metric: str
    mode: str
    scheduler: SchedulerKeys
    search: SearchKeys
    over: dict[KeyPath, list[Any]]
    num_samples: int = 1

    @property
    def searcher(self) -> str:
        """The searcher's name."""
        return self.search["type"] if isinstance(self.search, dict) else self.search.type

    @property
    def mutations(self) -> dict[str, Any]:
        """The spaces of PBT, nested like the configuration."""
        is_pbt = isinstance(self.scheduler, PbtKeys)
        return self.scheduler.hyperparam_mutations if is_pbt else {}  # type: ignore[union-attr]

    @property
    def is_pbt(self) -> bool:
        """Whether trials copy each other."""
        return isinstance(self.scheduler, PbtKeys)

    @property
    def members(self) -> int:
        """Trials of one configuration."""
        total = 1
        for values in self.over.values():
            total *= len(values)
        return total

    @property
    def games_path(self) -> KeyPath | None:
        """Where the games stand that the objective is a mean over, if it is."""
        return next((path for path in self.over if path[-1] == "env_name"), None)

    @property
    def objective(self) -> Objective:
        """What the trials are compared by."""
        return Objective(self.metric, self.mode, over_games=self.games_path is not None)

    def expanded(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """A configuration with the spaces of PBT, and grids over what is averaged over."""
        whole = deepcopy(dict(config))
        _add_missing(whole, self.mutations)
        for path, values in self.over.items():
            put(whole, path, {GRID: list(values)})
        return whole

    def mutated(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """A configuration with the spaces of PBT in place of its own values."""
        whole = self.expanded(config)
        for path, node in nodes(self.mutations):
            put(whole, path, deepcopy(node))
        return whole

    def trials(self, config: Mapping[str, Any]) -> int:
        """Number of trials that the sweep of a configuration makes."""
        return trial_count(self.expanded(config), self.num_samples)


def put(config: dict[str, Any], path: NodePath, value: Any) -> None:
    """Set what stands at a path of a configuration, in place."""
    node: Any = config
    for name in path[:-1]:
        inner = node.get(name)
        if not isinstance(inner, dict):
            inner = node[name] = {}
        node = inner
    node[path[-1]] = value


def _add_missing(config: dict[str, Any], spaces: Mapping[str, Any]) -> None:
    for name, value in spaces.items():
        if not is_node(value) and isinstance(config.get(name), dict):
            _add_missing(config[name], value)
        elif name not in config:
            config[name] = deepcopy(value)


def read_sweep(experiment: Experiment) -> Sweep:
    """Check the keys of a sweep: `metric`, `mode`, `scheduler`, `search`, `average_over`, spaces.

    Raises:
        UserError: Naming everything that is wrong, with file, line and the key's path.
    """
    keys = experiment.keys
    problems: list[tuple[KeyPath, str]] = []

    def tried(read: Callable[[], Any], otherwise: Any) -> Any:
        try:
            return read()
        except KeyProblems as error:
            problems.extend(error.problems)
            return otherwise

    over = tried(lambda: _read_over(experiment), {})
    stop = dict(flat_stop(keys.stop))
    scheduler = tried(lambda: read_scheduler(keys.scheduler, keys.run, stop), FifoKeys())
    search = tried(lambda: read_search(keys.search, keys.config), RandomKeys())
    metric = keys.metric or DEFAULT_METRIC
    found = Sweep(metric, keys.mode, scheduler, search, over, keys.num_samples)
    problems.extend(_metric_problems(experiment))
    for config in opened(found.expanded(keys.config)):
        problems.extend(_conditional_problems(found, config))
        problems.extend(_inner_problems(config))
    problems.extend(_combination_problems(experiment, found))
    if problems:
        lines = (experiment.source.message(path, text) for path, text in problems)
        raise UserError("\n".join(dict.fromkeys(lines)))
    return found


Problems = Iterator[tuple[KeyPath, str]]


def _read_over(experiment: Experiment) -> dict[KeyPath, list[Any]]:
    found: dict[KeyPath, list[Any]] = {}
    for name, values in (experiment.keys.average_over or {}).items():
        path = tuple(name.split("."))
        where = ("average_over", name)
        if not all(path):
            raise problem(where, "must be a key of config, nested ones with dots")
        if not isinstance(values, list) or not values:
            raise problem(where, "write [value, value, ...]")
        if any(is_node(value) or isinstance(value, dict | list) for value in values):
            raise problem(where, "takes plain values only")
        if len({repr(value) for value in values}) < len(values):
            raise problem(where, "names a value twice")
        if is_node(value_at(experiment.config, path)):
            raise problem(where, f"config.{name} is a space; it is averaged over, or searched")
        found[path] = values
    return found


def _metric_problems(experiment: Experiment) -> Problems:
    metric = experiment.keys.metric
    wrong = key_problem(metric) if metric is not None and experiment.keys.run == "PPG" else None
    if wrong:
        yield ("metric",), f"metric: {wrong}{'' if wrong.endswith('?') else '.'}"


def _conditional_problems(sweep: Sweep, config: dict[str, Any]) -> Problems:
    for path, node in nodes(config):
        if is_node(node, CONDITIONAL):
            where = ("config", *map(str, path))
            text = _condition_problem(sweep, config, parse_conditional(node))
            if text:
                yield where, f"{'.'.join(where)}: conditional: {text}."


def _condition_problem(
    sweep: Sweep, config: dict[str, Any], conditional: Conditional
) -> str | None:
    """What is wrong with the key that a conditional depends on, or with its cases."""
    on, missing = ".".join(conditional.on), object()
    other = value_at(config, conditional.on, missing)
    if other is missing:
        return f"on={on}: config has no such key"
    constant = isinstance(sweep.search, RandomKeys) and sweep.search.constant_grid_search
    if conditional.on in sweep.over or (constant and is_node(other, GRID)):
        # Tune samples before it goes through a grid with constant samples.
        why = "average_over" if conditional.on in sweep.over else "constant_grid_search"
        return f"on={on}: with {why} values are sampled before that key has one"
    if is_node(other) and not is_node(other, CHOICE, GRID):
        return f"on={on} must be a choice, a grid or a value there"
    values = next(iter(other.values())) if is_node(other) else [other]
    if "auto" in values and len(conditional.on) == 1:
        return f"on={on}: auto is a number by then; give numbers there"
    lacking = [value for value in values if not _has_case(conditional, value)]
    if lacking:
        return f"cases has none for {on} = {_listed(lacking)}; add otherwise"
    if not is_node(other) or any(map(is_node, values)):
        return None
    # A plain value may be changed by a flag; a misspelt case of a choice would never be told.
    unused = [case for case, _ in conditional.cases if not any(same(case, v) for v in values)]
    if not unused:
        return None
    return (
        f"{on} never is {_listed(map(repr, unused))}; its values are {_listed(map(repr, values))}"
    )


def _has_case(conditional: Conditional, value: Any) -> bool:
    try:
        conditional.case_of(value)
    except KeyError:
        return False
    return True


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(map(str, values))


def _inner_problems(config: dict[str, Any]) -> Problems:
    """Tune does not look into the values of a choice, or of a case."""
    for path, node in nodes(config):
        where = ("config", *map(str, path))
        if is_node(node, CHOICE) and _holds_spaces(node):
            text = "choice: values hold no spaces; use conditional."
            yield where, f"{'.'.join(where)}: {text}"
        if is_node(node, CONDITIONAL):
            for item in parse_conditional(node).branches:
                if _holds_spaces(item):
                    text = "conditional: a case's value holds no spaces; write one for each key."
                    yield where, f"{'.'.join(where)}: {text}"


def _holds_spaces(value: Any) -> bool:
    """Whether there is a space inside a value, or inside one of a choice's."""
    inner = value[CHOICE] if is_node(value, CHOICE) else value
    return not is_node(inner) and any(True for _ in nodes(inner))


def _combination_problems(experiment: Experiment, sweep: Sweep) -> Problems:
    """What cannot be done together."""
    keys, name = experiment.keys, sweep.scheduler.type
    if sweep.is_pbt:
        yield from _pbt_problems(experiment, sweep)
    if not sweep.over:
        return
    if name != "fifo":
        yield (
            ("scheduler", "type"),
            (
                f"scheduler.type: {name} compares trials one by one, and with average_over a "
                "configuration is compared once all its trials have ended; leave scheduler out."
            ),
        )
    if sweep.searcher not in ("random", "optuna"):
        yield (
            ("search", "type"),
            (f"search.type: {sweep.searcher} does not go with average_over; use random or optuna."),
        )
    if sweep.games_path and keys.run == "PPG" and not can_be_averaged_over_games(sweep.metric):
        yield (
            ("metric",),
            (
                f"metric: {sweep.metric} cannot be averaged over games; use a return (it is "
                "normalised by each game's score table) or a score of evaluations."
            ),
        )


def _pbt_problems(experiment: Experiment, sweep: Sweep) -> Problems:
    keys = experiment.keys
    if sweep.searcher != "random":
        yield (
            ("search", "type"),
            f"search.type: pbt changes values itself; {sweep.searcher} cannot.",
        )
    if sweep.trials(keys.config) < 2:
        yield ("num_samples",), "num_samples: pbt needs at least 2 trials, which copy each other."
    if keys.checkpoint_config.num_to_keep is not None:
        yield (
            ("checkpoint_config", "num_to_keep"),
            ("checkpoint_config.num_to_keep: pbt copies checkpoints of any age; leave it out."),
        )
    for path, _ in nodes(sweep.mutations):
        where = ("scheduler", "hyperparam_mutations", *map(str, path))
        given = value_at(keys.config, path)
        if is_node(given, CONDITIONAL, GRID):
            kind = next(iter(given))
            yield where, f"{'.'.join(where)}: config has a {kind} there; give a value or a space."
        if path[0] in NOT_MUTABLE:
            yield where, f"{'.'.join(where)}: pbt changes the training's values, not {path[0]}."
