"""App: whether a run's trials fit the machine or cluster, how many at once, and what each gets."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rllib_ppg.algorithm.config import PPGConfig
from rllib_ppg.algorithm.keys import WORKER_SHARES
from rllib_ppg.app import cluster
from rllib_ppg.app.cluster import Resources
from rllib_ppg.app.progress import counted
from rllib_ppg.app.variants import variants
from rllib_ppg.errors import UserError

if TYPE_CHECKING:
    from rllib_ppg.app.plan import Plan

MOST = 100_000
AUTO_KEYS = ("num_env_runners", "num_gpus", *WORKER_SHARES)


def check_fits(plan: "Plan", settings: cluster.RaySettings) -> None:
    """Refuse a run of which a trial could never start.

    Raises:
        UserError: Naming what is missing, what is there, and what to do.
    """
    experiment = plan.experiment
    place = "this machine" if settings.address is None else "the cluster"
    there = cluster.nodes(settings)
    advice = cluster.AUTO if plan.configs else cluster.FEWER
    for variant in variants(plan.sweep.expanded(plan.space)):
        try:
            bundles = cluster.bundles_of(experiment.keys.run, variant)
        except UserError as error:
            raise UserError(experiment.source.message(("config",), str(error))) from None
        strategy = str(variant.get("placement_strategy", "PACK"))
        try:
            cluster.check_fits(bundles, there, place, advice, strategy)
        except UserError as error:
            key = _key_of(str(error).split(". ")[0], variant)
            raise UserError(experiment.source.message(("config", key), str(error))) from None


def _key_of(problem: str, config: Mapping[str, Any]) -> str:
    """The key that a problem is mostly about."""
    if "STRICT_" in problem:
        return "placement_strategy"
    for name in ("custom_resources_for_main_process", "custom_resources_per_env_runner"):
        if any(f" {resource} (" in problem for resource in config.get(name) or {}):
            return name
    if "GPU" in problem:
        return "num_gpus" if config.get("num_gpus") else "num_gpus_per_env_runner"
    workers, others = (
        config.get(n) or 0 for n in ("num_env_runners", "evaluation_num_env_runners")
    )
    return "evaluation_num_env_runners" if others > workers else "num_env_runners"


def trials_at_once(plan: "Plan", settings: cluster.RaySettings) -> int:
    """How many trials there is room for at once, by what the first one reserves."""
    keys = plan.experiment.keys
    most = min(plan.sweep.trials(plan.space), keys.max_concurrent_trials or MOST)
    first = variants(plan.sweep.expanded(plan.space))[0]
    return fits_at_once(cluster.bundles_of(keys.run, first), cluster.nodes(settings), most)


def fits_at_once(bundles: Sequence[Resources], there: Sequence[Resources], most: int) -> int:
    """How many trials of these bundles the nodes have room for at once, at most `most`.

    Trials that reserve nothing are not limited.
    """
    most = max(1, most)
    low, high = 0, 1
    while high <= most and cluster.packs([*bundles] * high, there):
        low, high = high, high * 2
    high = min(high, most + 1)
    while high - low > 1:
        middle = (low + high) // 2
        fits = cluster.packs([*bundles] * middle, there)
        low, high = (middle, high) if fits else (low, middle)
    return max(1, low)


def resource_lines(plan: "Plan", settings: cluster.RaySettings, at_once: int) -> Iterator[str]:
    """One line: what a trial reserves, what of it was chosen, and how many run at once.

    None where everything was given and there is one trial.
    """
    given, trials = plan.experiment.config, plan.sweep.trials(plan.space)
    chosen = any(given.get(name) == "auto" for name in AUTO_KEYS)
    if not plan.configs or (trials == 1 and not chosen):
        return
    config = plan.configs[0]
    there = cluster.nodes(settings)
    cpus, gpus = (sum(node.get(kind, 0.0) for node in there) for kind in ("CPU", "GPU"))
    many = f"; {at_once} of {trials} trials at once" if trials > 1 else ""
    place = "this machine" if settings.address is None else f"a cluster of {len(there)} node(s)"
    yield (
        f"{plan.experiment.name}: {_learner(config, given)}, {_workers(config, given)}"
        f"{many} on {place} with {counted(cpus, 'CPU')}, {counted(gpus, 'GPU')}."
    )


def _learner(config: PPGConfig, given: Mapping[str, Any]) -> str:
    gpus = f"{config.num_gpus:g} GPU{_auto(given, 'num_gpus')}"
    return f"learner {config.num_cpus_for_main_process:g} CPU, {gpus}"


def _workers(config: PPGConfig, given: Mapping[str, Any]) -> str:
    if not config.num_env_runners:
        return f"which samples too{_auto(given, 'num_env_runners')}"
    each = f"{config.num_cpus_per_env_runner:g} CPU{_auto(given, 'num_cpus_per_env_runner')}"
    if config.num_gpus_per_env_runner or given.get("num_gpus_per_env_runner") == "auto":
        share = f"{config.num_gpus_per_env_runner:g} GPU"
        each += f", {share}{_auto(given, 'num_gpus_per_env_runner')}"
    plural = "s" if config.num_env_runners > 1 else ""
    number = f"{config.num_env_runners} worker{plural}{_auto(given, 'num_env_runners')}"
    spread = config.placement_strategy
    return f"{number} of {each} each" + (f", {spread}" if spread != "PACK" else "")


def _auto(given: Mapping[str, Any], name: str) -> str:
    return " (auto)" if given.get(name) == "auto" else ""
