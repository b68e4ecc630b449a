"""App: `rllib train --dry-run`: what a run would be, without starting Ray or training."""

import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from rllib_ppg.algorithm import resources
from rllib_ppg.algorithm.config import PPGConfig
from rllib_ppg.algorithm.hardware import reserved_threads
from rllib_ppg.algorithm.memory import gigabytes
from rllib_ppg.algorithm.model import MODELS, default_model, is_image
from rllib_ppg.algorithm.model_settings import parse_model_settings
from rllib_ppg.algorithm.settings import DEFAULTS
from rllib_ppg.app import cluster
from rllib_ppg.app.checks import memory_needs, observation_space, store_bytes
from rllib_ppg.app.experiment import Experiment
from rllib_ppg.app.fit import trials_at_once
from rllib_ppg.app.flags import TrainFlags
from rllib_ppg.app.measure import Speeds, measure
from rllib_ppg.app.plan import Plan, make_plan
from rllib_ppg.app.progress import counted, show_time
from rllib_ppg.app.resolve import DERIVED
from rllib_ppg.app.run_folder import experiment_folder
from rllib_ppg.app.run_length import (
    aux_updates,
    policy_updates,
    rows_of,
    run_length,
    seconds_of,
)
from rllib_ppg.app.spaces import described, is_node
from rllib_ppg.app.sweep import Sweep
from rllib_ppg.app.sweep_sample import share_trained, sweep_lines
from rllib_ppg.envs.procgen import parse_options


def dry_run(
    experiments: Sequence[Experiment], settings: cluster.RaySettings, flags: TrainFlags
) -> int:
    """Check experiments and describe them.

    Raises:
        UserError: If one is wrong, as the run itself would say.
    """
    with _compiler_cache():
        with nullcontext() if settings.address is None else cluster.session(settings):
            plans = [make_plan(e, settings, flags) for e in experiments]
        for plan in plans:
            for line in describe(plan, settings):
                print(line)
    print("Nothing was started (--dry-run).")
    return 0


@contextmanager
def _compiler_cache() -> Iterator[None]:
    """Context in which torch's compiler keeps its files in a folder that is then removed.

    torch makes that folder with its first optimiser, whether or not anything is compiled.
    """
    name = "TORCHINDUCTOR_CACHE_DIR"
    if name in os.environ:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="rllib-dry-run-") as folder:
        os.environ[name] = folder
        try:
            yield
        finally:
            del os.environ[name]


def describe(plan: Plan, settings: cluster.RaySettings) -> Iterator[str]:
    """All lines about one experiment."""
    experiment = plan.experiment
    yield plan.title
    yield from (f"  {note}" for note in plan.notes)
    yield _field("from", experiment.source.default)
    yield _field("results to", experiment_folder(experiment))
    count, at_once = plan.sweep.trials(plan.space), trials_at_once(plan, settings)
    if count > 1:
        yield "Sweep"
        yield from sweep_lines(plan.sweep, plan.space, at_once)
        yield _field("", "sizes and times below are those of one trial, the first to be checked")
    yield from _configuration(plan)
    if not plan.configs:
        yield "  (run by RLlib as it is: no sizes and no estimate for other algorithms than PPG)"
        yield ""
        return
    config = plan.configs[0]
    yield from _resources(config, settings)
    yield from arithmetic(config)
    yield from budget_lines(config, experiment.keys.stop)
    yield from _memory(config, settings)
    yield from _time(config, plan, count, at_once)


def _field(name: str, value: Any) -> str:
    return f"  {name:<16} {value}"


def _configuration(plan: Plan) -> Iterator[str]:
    given = dict(flattened(plan.experiment.config))
    resolved = dict(flattened(plan.space))
    width = max(map(len, resolved))
    yield ""
    yield "Configuration as given"
    for name, value in resolved.items():
        note = "  (auto)" if given.get(name) == "auto" else ""
        note = "  (default)" if name not in given else note
        yield f"  {name:<{width}}  {described(value)}{note}"
    for name, value in plan.experiment.keys.stop.items():
        yield f"  {'stop.' + name:<{width}}  {value:,}"
    if plan.configs:
        yield "The rest, at its defaults"
        yield from _columns(_defaults(plan.configs[0], resolved))
    yield ""


def flattened(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a configuration, with dots in their names."""
    for name, value in config.items():
        if isinstance(value, Mapping) and value and not is_node(value):
            yield from flattened(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _defaults(config: PPGConfig, resolved: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that decides on the run and was not given: PPG's keys, the game's, the model's."""
    found = {name: value for name, value in DEFAULTS.items() if name not in DERIVED}
    if config.env == "procgen":
        options = parse_options(config.env_config).model_dump()
        found |= {f"env_config.{name}": value for name, value in options.items()}
    model = config.model.get("custom_model") or default_model(observation_space(config))
    found["model.custom_model"] = model
    if model in MODELS:
        settings = parse_model_settings(model, config.model.get("custom_model_config") or {})
        prefix = "model.custom_model_config."
        found |= {f"{prefix}{name}": value for name, value in settings.model_dump().items()}
    given = [f"{name}." for name in resolved]  # a mapping stands there key by key
    return {
        name: value
        for name, value in found.items()
        if not any(other.startswith(f"{name}.") for other in given)
    }


def _columns(values: Mapping[str, Any], width: int = 96) -> Iterator[str]:
    """`name value` pairs, as many on a line as fit."""
    line = " "
    for name, value in values.items():
        word = f" {name} {value},"
        if len(line) + len(word) > width:
            yield line
            line = " "
        line += word
    yield line.rstrip(",")


def _resources(config: PPGConfig, settings: cluster.RaySettings) -> Iterator[str]:
    there = cluster.nodes(settings)
    cpus, gpus = (sum(node.get(kind, 0.0) for node in there) for kind in ("CPU", "GPU"))
    workers = config.num_env_runners
    each = f"{config.num_envs_per_env_runner} environments"
    place = "this machine" if settings.address is None else f"cluster, {len(there)} node(s)"
    yield "Resources"
    threads = reserved_threads(config)
    main = f"{config.num_cpus_for_main_process:g} CPU, {config.num_gpus:g} GPU"
    yield _field("learner", f"{main}, {threads} thread{'s' if threads > 1 else ''}")
    yield _field(
        "rollout workers",
        f"{workers} x {config.num_cpus_per_env_runner:g} CPU, {each} each"
        if workers
        else f"none: the learner's process steps all {each} itself",
    )
    yield _field(place, f"{cpus:g} CPUs, {gpus:g} GPUs")
    yield ""


def arithmetic(config: PPGConfig) -> Iterator[str]:
    """The sizes of a checked configuration's batch, minibatches and passes."""
    envs, steps = config.num_envs, config.rollout_fragment_length
    rows = envs * steps
    yield "Batch"
    yield _field("N x T", f"{envs} x {steps} = {rows:,} environment steps a policy iteration")
    pi, vf = config.n_epoch_pi, config.n_epoch_vf
    epochs = f"{pi} joint epoch(s)" if pi == vf else f"{vf} value and {pi} policy epoch(s)"
    minibatches = config.policy_minibatches()
    size = config.mbsize_rows or rows // minibatches
    yield _field(
        "policy phase",
        f"{epochs} of {counted(minibatches, 'minibatch')} of {size:,} rows: "
        f"{counted(policy_updates(config), 'optimiser step')}",
    )
    if config.has_aux_phases:
        count = config.aux_minibatches()
        size = config.aux_mbsize_rows or config.aux_mbsize * steps
        most = config.max_aux_phases
        yield _field(
            "auxiliary phase",
            f"after every {counted(config.aux_skips + config.n_pi, 'iteration')}"
            + (f", {counted(most, 'time')} at most" if most else "")
            + f", {counted(config.n_aux_epochs, 'epoch')} of {counted(count, 'minibatch')} of "
            f"{size:,} rows: {counted(aux_updates(config), 'optimiser step')}",
        )
    else:
        yield _field("auxiliary phase", f"none ({config.without_aux_phases} 0: PPO)")
    micro = config.rows_per_pass(images=is_image(observation_space(config)), gpu=config.uses_gpu)
    whole = micro is None or micro >= config.minibatch_rows()
    yield _field("at a time", "whole minibatches" if whole else f"{micro:,} rows a pass")
    yield ""


def budget_lines(config: PPGConfig, stop: Mapping[str, float]) -> Iterator[str]:
    """What a run does until its environment steps are used up, where something sets them."""
    length = run_length(config, stop)
    if length is None:
        return
    yield f"Within {length.steps:,.0f} environment steps"
    learned = counted(length.learned, "iteration")
    updates = counted(length.learned * policy_updates(config), "optimiser step")
    yield _field("policy phase", f"{learned}, {updates}")
    if length.sampled > length.learned:
        yield _field("", "and one beyond the budget, which is sampled and not learned from")
    updates = counted(length.aux_phases * aux_updates(config), "optimiser step")
    yield _field("auxiliary phase", f"{counted(length.aux_phases, 'phase')}, {updates}")
    yield ""


def _memory(config: PPGConfig, settings: cluster.RaySettings) -> Iterator[str]:
    needs, free = memory_needs(config), resources.free_memory()
    yield "Memory"
    if "frame store" not in needs:
        store = gigabytes(store_bytes(config))
        yield _field("frame store", f"{store} on each GPU where it fits, else in host memory")
    for part, size in needs.items():
        yield _field(part, gigabytes(size))
    total = resources.machine_memory()
    yield _field(
        "in all",
        f"{gigabytes(sum(needs.values()))} of {gigabytes(total)} (free now: {gigabytes(free)})",
    )
    yield ""


def _time(config: PPGConfig, plan: Plan, trials: int, at_once: int) -> Iterator[str]:
    stop = plan.experiment.keys.stop
    yield "Time on this machine, from a measurement of some seconds"
    speeds = measure(config)
    sampling, learning = speeds.iteration_s(config)
    aux = speeds.aux_phase_s(config)
    rows = rows_of(config)
    yield _field("network", f"{speeds.parameters:,} parameters")
    yield _field("sampling", f"{_precise(sampling)} an iteration, {rows / sampling:,.0f} steps/s")
    yield _field("policy phase", f"{_precise(learning)} an iteration")
    if config.has_aux_phases:
        yield _field("auxiliary phase", f"{_precise(aux)} each")
    yield _field("all phases", f"{speeds.pace(config):,.0f} steps/s")
    yield from _total(config, stop, speeds)
    if trials > 1:
        yield from _sweep_time(plan.sweep, _trial_s(config, stop, speeds), trials, at_once)
    yield ""


def _total(config: PPGConfig, stop: Mapping[str, float], speeds: Speeds) -> Iterator[str]:
    length, seconds = run_length(config, stop), seconds_of(config, stop)
    if length is not None:
        whole = speeds.run_s(config, length)
        yield _field("whole run", f"about {whole / 3600:.3g} hours ({show_time(whole)})")
    if seconds is not None:
        steps = speeds.steps_within(config, seconds)
        yield _field("", f"about {steps:,.0f} steps in {show_time(seconds)}")
    if length is None and seconds is None:
        yield _field("whole run", "neither stop nor a budget sets its steps or seconds")


def _trial_s(config: PPGConfig, stop: Mapping[str, float], speeds: Speeds) -> float:
    """Seconds of one trial that is trained to its end; infinite where nothing sets one."""
    length, seconds = run_length(config, stop), seconds_of(config, stop)
    ends = [math.inf if seconds is None else seconds]
    if length is not None:
        ends.append(speeds.run_s(config, length))
    return min(ends)


def _sweep_time(sweep: Sweep, each: float, trials: int, at_once: int) -> Iterator[str]:
    if math.isinf(each):
        return
    share = share_trained(sweep)
    seconds = math.ceil(trials / at_once) * each
    yield _field(
        "all trials",
        f"about {show_time(seconds)}: {trials} of {show_time(each)}, "
        f"{at_once} at once, if those do not slow each other down; each needs",
    )
    yield _field("", "some seconds more to start")
    if share < 1:
        yield _field(
            "",
            f"of that about {share:.0%}, {show_time(share * seconds)}, where "
            f"{sweep.scheduler.type} ends as many as it means to",
        )


def _precise(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds < 10 else show_time(seconds)
