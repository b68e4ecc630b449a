"""App: an experiment ready to run: checked, resolved to numbers, and fitting the machine."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rllib_ppg.algorithm import resources
from rllib_ppg.algorithm.config import PPGConfig
from rllib_ppg.app import cluster
from rllib_ppg.app.checks import Checked, check, check_memory
from rllib_ppg.app.experiment import Experiment
from rllib_ppg.app.flags import TrainFlags
from rllib_ppg.app.launch import check_resumable, make_scheduler
from rllib_ppg.app.resolve import complete, param_space
from rllib_ppg.app.run_folder import experiment_folder, is_remote
from rllib_ppg.app.run_length import best_weights_notes
from rllib_ppg.app.variants import is_grid, variants
from rllib_ppg.app.yaml_reader import read_yaml
from rllib_ppg.errors import UserError


@dataclass
class Plan:
    """An experiment that can be started.

    Attributes:
        experiment: The experiment.
        space: Its configuration for Tune, `auto` resolved.
        complete: The same with PPG's defaults filled in.
        title: What to call it in the view.
        configs: PPG's configuration objects, one a variant; none for other algorithms.
        notes: What to say before it starts.
        stop_changed: It resumes an earlier run, with other stop keys.
    """

    experiment: Experiment
    space: dict[str, Any]
    complete: dict[str, Any]
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
    make_scheduler(experiment)
    there = cluster.nodes(settings)
    cpus = sum(node.get("CPU", 0.0) for node in there)
    gpus = sum(node.get("GPU", 0.0) for node in there)
    with resources.assume(cpus, gpus):
        checked = check(experiment)
        space = param_space(checked)
        title = title_of(checked)
        plan = Plan(experiment, space, complete(checked, space), title, checked.configs)
        plan.notes += checked.notes
        if flags.resume:
            _use_earlier(plan)
        if settings.address is None:
            check_memory(checked)
        if not flags.wait_for_resources:
            _check_fits(plan, settings)
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


def title_of(checked: Checked) -> str:
    """The experiment's name, algorithm and game."""
    experiment = checked.experiment
    env = experiment.config.get("env")
    words = [experiment.name, experiment.keys.run, _word(env)]
    options = experiment.config.get("env_config") or {}
    if env == "procgen" and isinstance(options, dict):
        words.append(_word(options.get("env_name", "coinrun")))
        words.append(_word(options.get("distribution_mode", "hard")))
    return " · ".join(words)


def _word(value: Any) -> str:
    return "|".join(map(str, value["grid_search"])) if is_grid(value) else str(value)


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


def _check_fits(plan: Plan, settings: cluster.RaySettings) -> None:
    experiment = plan.experiment
    place = "this machine" if settings.address is None else "the cluster"
    there = cluster.nodes(settings)
    advice = cluster.AUTO if plan.configs else cluster.FEWER
    for variant in variants(plan.space):
        try:
            bundles = cluster.bundles_of(experiment.keys.run, variant)
        except UserError as error:
            raise UserError(experiment.source.message(("config",), str(error))) from None
        try:
            cluster.check_fits(bundles, there, place, advice)
        except UserError as error:
            key = "num_gpus" if "GPU" in str(error).split("Use ")[0] else "num_env_runners"
            raise UserError(experiment.source.message(("config", key), str(error))) from None
