"""App: an experiment ready to run: checked, resolved to numbers, and fitting the machine."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rllib_ppg.algorithm import resources
from rllib_ppg.algorithm.config import PPGConfig
from rllib_ppg.app import cluster
from rllib_ppg.app.checks import Checked, check, check_memory
from rllib_ppg.app.experiment import SWEEP_KEYS, Experiment, ExperimentKeys
from rllib_ppg.app.fit import check_fits, resource_lines, trials_at_once
from rllib_ppg.app.flags import TrainFlags
from rllib_ppg.app.launch import check_resumable
from rllib_ppg.app.resolve import complete, param_space
from rllib_ppg.app.run_folder import experiment_folder, is_remote
from rllib_ppg.app.run_length import best_weights_notes
from rllib_ppg.app.searchers import check_installed
from rllib_ppg.app.spaces import CHOICE, GRID, described, is_node
from rllib_ppg.app.sweep import Sweep, read_sweep
from rllib_ppg.app.typed import KeyProblems
from rllib_ppg.app.yaml_reader import read_yaml
from rllib_ppg.errors import UserError


@dataclass
class Plan:
    """An experiment that can be started.

    Attributes:
        experiment: The experiment.
        space: Its configuration for Tune, `auto` resolved.
        complete: The same with PPG's defaults filled in.
        sweep: How its trials are chosen and compared.
        title: What to call it in the view.
        configs: PPG's configuration objects, one a variant; none for other algorithms.
        notes: What to say before it starts.
        stop_changed: It resumes an earlier run, with other stop keys.
    """

    experiment: Experiment
    space: dict[str, Any]
    complete: dict[str, Any]
    sweep: Sweep
    title: str
    configs: list[PPGConfig] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    stop_changed: bool = False


def make_plan(experiment: Experiment, settings: cluster.RaySettings, flags: TrainFlags) -> Plan:
    """Check an experiment against itself and against the machine or cluster.

    Args:
        experiment: The experiment.
        settings: Which Ray it will run on.
        flags: The flags of the command line.

    Raises:
        UserError: With everything that is wrong.
    """
    if flags.resume:
        experiment.keys.restore = None  # where the run once began
    sweep = _sweep_of(experiment)
    there = cluster.nodes(settings)
    cpus = sum(node.get("CPU", 0.0) for node in there)
    gpus = sum(node.get("GPU", 0.0) for node in there)
    # What is `auto` leaves room for as many trials at once as are wanted.
    wanted = min(experiment.keys.max_concurrent_trials or 1, sweep.trials(experiment.config))
    with resources.assume(cpus / wanted, gpus / wanted):
        checked = check(experiment, sweep)
        space = param_space(checked)
        title = title_of(checked, sweep)
        whole = complete(checked, space, sweep.mutations)
        plan = Plan(experiment, space, whole, sweep, title, checked.configs)
        plan.notes += checked.notes
        if flags.resume:
            _use_earlier(plan)
        if settings.address is None or not flags.wait_for_resources:  # this machine never grows
            check_fits(plan, settings)
        at_once = trials_at_once(plan, settings)
        if settings.address is None:
            check_memory(checked, at_once)
        plan.notes += resource_lines(plan, settings, at_once)
    plan.notes += _notes_on_the_end(plan)
    return plan


def _notes_on_the_end(plan: Plan) -> Iterator[str]:
    keys = plan.experiment.keys
    found = [
        note
        for config in plan.configs
        for note in best_weights_notes(config, keys.stop, keys.time_budget_s)
    ]
    for note in dict.fromkeys(found):
        yield f"{plan.experiment.name}: {note}"
    ended = bool(plan.configs) and all(
        config.budget_env_steps or config.budget_s for config in plan.configs
    )
    if not (keys.stop or keys.time_budget_s or ended):
        yield (f"{plan.experiment.name}: no stop key and no budget is set; it runs until Ctrl-C.")


def _sweep_of(experiment: Experiment) -> Sweep:
    sweep = read_sweep(experiment)
    try:
        check_installed(sweep.search)
    except KeyProblems as error:
        lines = (experiment.source.message(path, text) for path, text in error.problems)
        raise UserError("\n".join(lines)) from None
    return sweep


def title_of(checked: Checked, sweep: Sweep) -> str:
    """The experiment's name, algorithm and game."""
    experiment, config = checked.experiment, sweep.expanded(checked.experiment.config)
    env = config.get("env")
    words = [experiment.name, experiment.keys.run, _word(env)]
    options = config.get("env_config") or {}
    if env == "procgen" and isinstance(options, dict):
        words.append(_word(options.get("env_name", "coinrun")))
        words.append(_word(options.get("distribution_mode", "hard")))
    return " · ".join(words)


def _word(value: Any) -> str:
    if is_node(value, GRID, CHOICE):
        return "|".join(map(str, next(iter(value.values()))))
    return described(value)


def _use_earlier(plan: Plan) -> None:
    """Take the configuration of the run that is resumed, and say what differs."""
    experiment = plan.experiment
    folder = check_resumable(experiment)
    path = Path(experiment_folder(experiment)) / "config.yaml"
    if is_remote(folder) or not path.is_file():
        return
    data = read_yaml(path.read_text(encoding="utf-8"), str(path)).data
    earlier = next(iter(data.values())) if isinstance(data, dict) and data else {}
    config = earlier.get("config") or plan.complete
    differing = [
        name
        for name in {**config, **plan.complete}
        if config.get(name) != plan.complete.get(name) and experiment.config.get(name) != "auto"
    ]
    if differing:
        plan.notes.append(
            f"{experiment.name}: the resumed run keeps its own {', '.join(differing)}; to change "
            "that, start a new run with --restore CHECKPOINT."
        )
    experiment.keys.restore = earlier.get("restore")  # where no trial had been noted down yet
    plan.stop_changed = earlier.get("stop", {}) != experiment.keys.stop
    plan.space = plan.complete = config
    _use_earlier_sweep(plan, earlier)


def _use_earlier_sweep(plan: Plan, earlier: dict[str, Any]) -> None:
    """Take the sweep's keys of the run that is resumed, and say what differs."""
    experiment = plan.experiment
    was = {
        name: earlier.get(name, ExperimentKeys.model_fields[name].default) for name in SWEEP_KEYS
    }
    differing = [name for name in SWEEP_KEYS if was[name] != getattr(experiment.keys, name)]
    if differing:
        plan.notes.append(
            f"{experiment.name}: the resumed run keeps its own {', '.join(differing)}; to change "
            "that, start a new run under another name (--experiment-name)."
        )
    stop = earlier.get("stop", experiment.keys.stop)
    keys = experiment.keys.model_copy(update={**was, "config": plan.space, "stop": stop})
    plan.sweep = _sweep_of(replace(experiment, keys=keys))
