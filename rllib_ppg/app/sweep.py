"""App: what makes a sweep of an experiment: its objective, searcher and scheduler, checked."""

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from rllib_ppg.app.experiment import Experiment
from rllib_ppg.app.objective import Objective, can_be_averaged_over_games
from rllib_ppg.app.result_keys import flat_stop, key_problem
from rllib_ppg.app.schedulers import FifoKeys, PbtKeys, SchedulerKeys, read_scheduler
from rllib_ppg.app.searchers import RandomKeys, SearchKeys, read_search
from rllib_ppg.app.spaces import CHOICE, CONDITIONAL, GRID, is_node, parse_conditional
from rllib_ppg.app.typed import KeyProblems, problem
from rllib_ppg.app.variants import NodePath, nodes, trial_count, value_at
from rllib_ppg.app.yaml_reader import KeyPath
from rllib_ppg.errors import UserError

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
    problems.extend(_conditional_problems(found.expanded(keys.config)))
    problems.extend(_choice_problems(found.expanded(keys.config)))
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
    wrong = key_problem(metric) if metric and experiment.keys.run == "PPG" else None
    if wrong:
        yield ("metric",), f"metric: {wrong}{'' if wrong.endswith('?') else '.'}"


def _conditional_problems(config: dict[str, Any]) -> Problems:
    for path, node in nodes(config):
        if not is_node(node, CONDITIONAL):
            continue
        where = ("config", *map(str, path))
        name = f"{'.'.join(where)}: conditional"
        conditional = parse_conditional(node)
        on, missing = ".".join(conditional.on), object()
        other = value_at(config, conditional.on, missing)
        if other is missing:
            yield where, f"{name}: on={on}: config has no such key."
        elif is_node(other, CHOICE, GRID):
            values = next(iter(other.values()))
            lacking = [value for value in values if not _has_case(conditional, value)]
            if lacking:
                yield where, f"{name}: cases has none for {on} = {_listed(lacking)}; add otherwise."
        elif is_node(other):
            yield where, f"{name}: on={on} must be a choice, a grid or a value there."
        elif not _has_case(conditional, other):
            yield where, f"{name}: cases has none for {on} = {other}; add otherwise."


def _has_case(conditional: Any, value: Any) -> bool:
    try:
        conditional.case_of(value)
    except KeyError:
        return False
    return True


def _listed(values: list[Any]) -> str:
    return ", ".join(map(str, values))


def _choice_problems(config: dict[str, Any]) -> Problems:
    """Tune does not look into the values of a choice."""
    for path, node in nodes(config):
        if is_node(node, CHOICE) and any(any(True for _ in nodes(v)) for v in node[CHOICE]):
            where = ("config", *map(str, path))
            yield (
                where,
                f"{'.'.join(where)}: choice: values hold no spaces; use conditional.",
            )


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
        if path[0] in ("env", "env_config", "seed"):
            yield where, f"{'.'.join(where)}: pbt changes the training's values, not {path[0]}."
