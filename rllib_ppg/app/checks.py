"""App: what stands in an experiment, checked before anything is started.

PPG's configuration is checked in full, every variant of a grid; another algorithm of RLlib's is
only looked up, and run as it is.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from rllib_ppg._ray_compat import RLLIB_ALGORITHMS
from rllib_ppg.algorithm import memory, named_environments, resources
from rllib_ppg.algorithm.config import PPGConfig
from rllib_ppg.algorithm.environment import check_augmentations, check_counts
from rllib_ppg.algorithm.evaluation import number_names
from rllib_ppg.algorithm.hardware import slow_notes
from rllib_ppg.algorithm.idle_keys import idle_notes
from rllib_ppg.algorithm.model import MODELS, check_model, observation_layout, parameter_count
from rllib_ppg.algorithm.parts import try_rewards
from rllib_ppg.algorithm.registration import register
from rllib_ppg.app.experiment import Experiment
from rllib_ppg.app.objective import game_of, is_return, score_table
from rllib_ppg.app.restore import check_restore, unfit_copies
from rllib_ppg.app.result_keys import evaluation_problem, flat_stop, key_problem, stop_value
from rllib_ppg.app.sweep import Sweep
from rllib_ppg.app.variants import axes, variants
from rllib_ppg.app.yaml_reader import KeyPath
from rllib_ppg.errors import UserError, shown
from rllib_ppg.spelling import did_you_mean


@dataclass
class Checked:
    """An experiment that can be run.

    Attributes:
        experiment: The experiment; `stop` is flat and holds numbers.
        variants: Its configurations, one for each choice of the grids and spaces.
        configs: PPG's configuration objects of the same, `auto` resolved; none for others.
        notes: What to say before it is run.
    """

    experiment: Experiment
    variants: list[dict[str, Any]]
    configs: list[PPGConfig]
    notes: list[str] = field(default_factory=list)

    @property
    def is_ppg(self) -> bool:
        """Whether the algorithm is PPG."""
        return self.experiment.keys.run == "PPG"


def check(experiment: Experiment, sweep: Sweep | None = None) -> Checked:
    """Check an experiment's algorithm, environment, configuration and stop keys.

    Args:
        experiment: The experiment.
        sweep: What its trials vary beside the spaces in its configuration.

    Raises:
        UserError: Naming everything that is wrong, with file and line.
    """
    register()
    problems = [*_algorithm_problems(experiment), *_stop_problems(experiment)]
    problems += _score_problems(experiment)
    found = variants(sweep.expanded(experiment.config) if sweep else experiment.config)
    configs: list[PPGConfig] = []
    changed: list[PPGConfig] = []
    if experiment.keys.run == "PPG":
        if sweep and sweep.is_pbt:
            whole = variants(sweep.mutated(experiment.config))
            changed = _checked(whole, experiment, problems, sweep.mutations)
        configs = _checked(found, experiment, problems, sweep.mutations if sweep else {})
    elif not problems:
        problems += _env_problems(experiment, found)
    problems += _evaluation_key_problems(experiment, configs)
    problems += _sweep_problems(experiment, sweep, [*configs, *changed]) if sweep else []
    notes = _notes(configs)
    try:
        notes += check_restore(experiment, [(config, _spaces(config)) for config in configs])
    except UserError as error:
        problems.append(str(error))
    if problems:
        raise UserError("\n".join(dict.fromkeys(problems)))
    return Checked(experiment, found, configs, list(dict.fromkeys(notes)))


def _checked(
    found: list[dict[str, Any]],
    experiment: Experiment,
    problems: list[str],
    mutations: dict[str, Any],
) -> list[PPGConfig]:
    """PPG's configuration objects of variants; what is wrong with one is added to the problems."""
    configs = []
    for variant in found:
        try:
            configs.append(check_ppg(variant))
        except UserError as error:
            problems += located(str(error), experiment, mutations)
    return configs


def _notes(configs: Sequence[PPGConfig]) -> list[str]:
    """What has no effect, or is slow here, in every trial; a key that some need is in place."""
    said = [[*idle_notes(config), *slow_notes(config)] for config in configs]
    return [note for note in said[0] if all(note in each for each in said)] if said else []


def check_ppg(variant: dict[str, Any]) -> PPGConfig:
    """Check one configuration of PPG and resolve its `auto` keys.

    Raises:
        UserError: With what was given, what is allowed, and what to do.
    """
    if variant.get("env") is None:
        raise UserError("env is missing; name the environment, for example env: procgen.")
    named_environments.find_creator(variant["env"])
    try:
        config = PPGConfig().update_from_dict(variant)
        if not config._validate_config:
            raise UserError("_validate_config=False: everything is checked here; leave it out.")
        config.validate()
    except UserError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"The configuration is refused by RLlib: {reason}") from error
    _check_model(config)
    try_rewards(config)
    check_augmentations(config, observation_space(config))
    check_counts(_spaces(config).columns, config)
    return config


def store_bytes(config: PPGConfig) -> int:
    """Bytes of the frame store of a checked configuration."""
    space, _, frame_stack, _ = _spaces(config)
    return config.store_bytes(*observation_layout(space), frame_stack)


def memory_needs(config: PPGConfig) -> dict[str, int]:
    """Bytes of this machine's memory that a checked configuration needs, by part.

    A store that may stand on a GPU is left out: its trial decides that, and checks it again.
    """
    space, actions, frame_stack, _ = _spaces(config)
    on_gpu = config.uses_gpu and config.store_device != "cpu"
    needs = memory.memory_needs(
        config, *observation_layout(space), frame_stack=frame_stack, store_on_host=not on_gpu
    )
    network = _network_bytes(config, space, actions)
    # Those of common networks are part of what the learner and the workers need anyway.
    return {**needs, "network": network} if network > LARGE_NETWORK else needs


LARGE_NETWORK = 200_000_000
"""Bytes from which a network is a part of its own of the memory that a run needs."""


def network_parameters(config: PPGConfig) -> int:
    """Parameters of the network of a checked configuration.

    Returns:
        Their number; 0 for a model of the user's own, which only its trial makes.
    """
    space, actions, _, _ = _spaces(config)
    return _parameters(config, space, actions)


def _parameters(config: PPGConfig, space: Any, actions: Any) -> int:
    name = config.model.get("custom_model")
    if name is not None and name not in MODELS:
        return 0
    settings = config.model.get("custom_model_config") or {}
    return parameter_count(name, settings, space, actions)


def _network_bytes(config: PPGConfig, space: Any, actions: Any) -> int:
    """Bytes of the learner's weights, gradients, Adam's moments and a copy; workers' weights."""
    return 4 * _parameters(config, space, actions) * (5 + config.num_env_runners)


def check_memory(checked: Checked, at_once: int = 1) -> None:
    """Refuse a run that needs more memory than this machine has free.

    Args:
        checked: The experiment.
        at_once: How many of its trials run at the same time.

    Raises:
        UserError: With all sizes.
    """
    free, total = resources.free_memory(), 0
    for config in checked.configs:
        needs = memory_needs(config)
        total = max(total, sum(needs.values()))
        try:
            memory.check_memory(needs, free, "this machine")
        except UserError as error:
            message = checked.experiment.source.message(("config",), str(error))
            raise UserError(message) from None
    if total * at_once > free:
        fitting = max(1, free // total)
        problem = (
            f"{at_once} trials at once need {memory.gigabytes(total * at_once)} of memory, "
            f"{memory.gigabytes(total)} each, and {memory.gigabytes(free)} is free; set "
            f"max_concurrent_trials: {fitting}."
        )
        raise UserError(checked.experiment.source.message(("max_concurrent_trials",), problem))


def observation_space(config: PPGConfig) -> Any:
    """Observation space of a configuration's environment."""
    return _spaces(config).observations


def _spaces(config: PPGConfig) -> named_environments.Spaces:
    """Spaces of a configuration's environment; found once for equal settings."""
    text = json.dumps(config.env_config, sort_keys=True, default=repr)
    return _cached_spaces(config.env, text, _Hidden(dict(config.env_config)))


class _Hidden:
    """Carries a value past a cache, which looks at the other arguments only."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Hidden)

    def __hash__(self) -> int:
        return 0


@cache
def _cached_spaces(name: Any, _text: str, env_config: _Hidden) -> named_environments.Spaces:
    return named_environments.spaces(name, env_config.value)


def _check_model(config: PPGConfig) -> None:
    name = config.model.get("custom_model")
    if name is None or name in list(MODELS):  # a list: the name may be anything
        spaces, settings = _spaces(config), config.model.get("custom_model_config") or {}
        check_model(name, settings, spaces.observations, spaces.actions)
        return
    from ray.tune.registry import RLLIB_MODEL, _global_registry

    if not isinstance(name, str) or not _global_registry.contains(RLLIB_MODEL, name):
        raise UserError(
            f"model.custom_model={shown(name)} is not registered."
            f"{did_you_mean(str(name), MODELS)} Use "
            f"{' or '.join(MODELS)}, or one that a module given with --from registers."
        )


def algorithm_names() -> list[str]:
    """PPG and RLlib's own algorithms."""
    return ["PPG", *RLLIB_ALGORITHMS]


def _algorithm_problems(experiment: Experiment) -> Iterator[str]:
    from ray.tune.registry import _has_trainable

    name = experiment.keys.run
    if name not in algorithm_names() and not _has_trainable(name):
        hint = did_you_mean(name, algorithm_names(), 0.4)
        problem = f'unknown algorithm "{name}".{hint} Known: {", ".join(algorithm_names())}.'
        yield experiment.source.message(("run",), problem)


def _env_problems(experiment: Experiment, found: list[dict[str, Any]]) -> Iterator[str]:
    for env in dict.fromkeys(repr(variant.get("env")) for variant in found):
        name = next(v["env"] for v in found if repr(v.get("env")) == env) if env != "None" else None
        try:
            if name is not None:
                named_environments.find_creator(name)
        except UserError as error:
            yield experiment.source.message(("config", "env"), str(error))


def _stop_problems(experiment: Experiment) -> Iterator[str]:
    stop = {}
    for name, value in flat_stop(experiment.keys.stop):
        path = ("stop", *([name] if name in experiment.keys.stop else name.split("/")))
        problem = key_problem(name) if experiment.keys.run == "PPG" else None
        try:
            stop[name] = stop_value(name, value)
        except ValueError as error:
            problem = f"stop: {name}={shown(value)} {error}"
        if problem:
            yield experiment.source.message(path, _sentence(problem))
    experiment.keys.stop = stop


def _score_problems(experiment: Experiment) -> Iterator[str]:
    name = experiment.keys.checkpoint_config.checkpoint_score_attribute
    problem = key_problem(name) if name and experiment.keys.run == "PPG" else None
    if problem:
        path = ("checkpoint_config", "checkpoint_score_attribute")
        yield experiment.source.message(path, _sentence(f"checkpoint_score_attribute: {problem}"))


def _evaluation_key_problems(experiment: Experiment, configs: list[PPGConfig]) -> Iterator[str]:
    """Keys of evaluations that a variant does not make; Tune would end the run over them."""
    score = experiment.keys.checkpoint_config.checkpoint_score_attribute
    places: dict[str, KeyPath] = {name: ("stop", name) for name in experiment.keys.stop}
    if score:
        places[score] = ("checkpoint_config", "checkpoint_score_attribute")
    if experiment.keys.metric:
        places[experiment.keys.metric] = ("metric",)
    for config in configs:
        made = number_names(config)
        for name, path in places.items():
            problem = evaluation_problem(name, made)
            if problem:
                yield experiment.source.message(path, _sentence(problem))


def _sweep_problems(
    experiment: Experiment, sweep: Sweep, configs: list[PPGConfig]
) -> Iterator[str]:
    """Games whose returns have no scale in common, and what PBT cannot change."""
    for game, mode in dict.fromkeys(game_of(vars(config)) for config in configs):
        if sweep.objective.over_games and is_return(sweep.metric):
            try:
                score_table(game, mode)
            except UserError as error:
                place = ("average_over", ".".join(sweep.games_path or ()))
                yield experiment.source.message(place, _sentence(f"{'.'.join(place)}: {error}"))
    if sweep.is_pbt and configs:
        for reason in unfit_copies([(config, _spaces(config)) for config in configs]):
            text = f"scheduler: pbt lets trials copy each other's checkpoints. {reason}"
            yield experiment.source.message(("scheduler",), _sentence(text))


def _sentence(text: str) -> str:
    return text if text.endswith("?") else f"{text}."


def located(
    message: str, experiment: Experiment, mutations: dict[str, Any] | None = None
) -> list[str]:
    """The lines of a message about the configuration, each with where its key stands.

    Args:
        message: The message.
        experiment: The experiment.
        mutations: The spaces of PBT, nested like the configuration.
    """
    lines = []
    for line in filter(str.strip, message.splitlines()):
        own, path = _mentioned(line, experiment.config), _mentioned(line, mutations or {})
        if path:
            path = ("scheduler", "hyperparam_mutations", *path)
            lines.append(experiment.source.message(path, f"{'.'.join(path)}: {line}"))
        else:
            lines.append(experiment.source.message(("config", *own), line))
    return lines


def _mentioned(line: str, config: dict[str, Any]) -> KeyPath:
    """Path of the configuration key that a message is about: the deepest, then the first, named."""
    best: KeyPath = ()
    for word in re.findall(r"[A-Za-z_][\w.]*", line):
        for path in _paths(tuple(word.strip(".").split(".")), config):
            if len(path) > len(best):
                best = path
    return best


def _paths(word: KeyPath, config: dict[str, Any]) -> Iterator[KeyPath]:
    for parent in ((), ("env_config",), ("model",), ("model", "custom_model_config")):
        node: Any = config
        path = (*parent, *word)
        for name in path:
            node = node.get(name) if isinstance(node, dict) and name in node else None
            if node is None:
                break
        else:
            yield path


__all__ = [
    "Checked",
    "axes",
    "check",
    "check_memory",
    "check_ppg",
    "located",
    "memory_needs",
    "store_bytes",
]
