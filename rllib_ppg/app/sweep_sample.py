"""App: the trials of a sweep before it runs: which they are, how many at once, what they cost."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ray.tune.search.basic_variant import BasicVariantGenerator
from ray.tune.search.variant_generator import generate_variants

from rllib_ppg.app.schedulers import AshaKeys
from rllib_ppg.app.searchers import RandomKeys
from rllib_ppg.app.spaces import GRID, described, is_node
from rllib_ppg.app.sweep import Sweep
from rllib_ppg.app.sweep_ranking import values_of
from rllib_ppg.app.tune_spaces import OptunaSpace, for_tune
from rllib_ppg.app.variants import nodes, variants
from rllib_ppg.app.view import show_value

SHOWN = 12
"""Trials that are listed; of more the first ones."""


def sweep_lines(sweep: Sweep, space: Mapping[str, Any], at_once: int) -> Iterator[str]:
    """What a sweep will do: lines of a name and a text, then its trials."""
    count = sweep.trials(space)
    sampled = any(not is_node(node, GRID) for _, node in nodes(sweep.expanded(space)))
    yield _field("objective", f"{sweep.metric} ({sweep.mode})")
    if sweep.over:
        over = "; ".join(f"{'.'.join(p)} {', '.join(map(str, v))}" for p, v in sweep.over.items())
        mean = "the mean of the normalised scores" if sweep.games_path else "the mean"
        yield _field("averaged over", f"{over} ({mean} of {sweep.members} trials)")
    yield _field("searcher", sweep.searcher)
    yield _field("scheduler", _scheduler(sweep))
    yield _field("trials", f"{count}, {at_once} at once; {_which(sweep, sampled=sampled)}")
    for number, values in enumerate(sample(sweep, space, SHOWN)):
        shown = ", ".join(f"{name} {show_value(value)}" for name, value in values.items())
        yield f"    {number:5}  {shown or 'the same'}"
    if count > SHOWN:
        yield f"           and {count - SHOWN} more"


def _field(name: str, value: str) -> str:
    return f"  {name:<16} {value}"


def _scheduler(sweep: Sweep) -> str:
    keys = sweep.scheduler
    given = keys.model_dump(exclude={"type", "hyperparam_mutations"})
    text = ", ".join(f"{name} {show_value(value)}" for name, value in given.items())
    spaces = ", ".join(f"{name}: {described(v)}" for name, v in sweep.mutations.items())
    return keys.type + (f" ({text})" if text else "") + (f"; changes {spaces}" if spaces else "")


def _which(sweep: Sweep, *, sampled: bool) -> str:
    if not isinstance(sweep.search, RandomKeys):
        return f"{sweep.searcher} learns from those before, at random they are such as"
    if sweep.search.seed is None and sampled:
        return "no seed is set, so others will be sampled, such as"
    return "they are"


def sample(sweep: Sweep, space: Mapping[str, Any], limit: int) -> list[dict[str, Any]]:
    """The varied values of the first trials: exactly, with a seed and random search."""
    found = _optuna(sweep, space) if sweep.searcher == "optuna" else _random(sweep, space)
    configs = itertools.islice(found, min(limit, sweep.trials(space)))
    return [values_of(sweep, space, config, members=True) for config in configs]


def _random(sweep: Sweep, space: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """As Tune's own generator makes them."""
    keys = sweep.search if isinstance(sweep.search, RandomKeys) else RandomKeys()
    state = BasicVariantGenerator(random_state=keys.seed)._random_state
    spec = {"config": for_tune(sweep.expanded(space))}
    constant = keys.constant_grid_search or bool(sweep.over)
    for _ in range(sweep.num_samples):
        for _, made in generate_variants(spec, constant_grid_search=constant, random_state=state):
            yield made["config"]


def _optuna(sweep: Sweep, space: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler())
    suggest = OptunaSpace(space)
    for _ in range(sweep.num_samples):
        flat = suggest(study.ask())
        config: dict[str, Any] = {}
        for name, value in flat.items():
            _put(config, tuple(name.split("/")), value)
        yield from variants(sweep.expanded(config))


def _put(config: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for name in path[:-1]:
        config = config.setdefault(name, {})
    config[path[-1]] = value


def share_trained(sweep: Sweep) -> float:
    """The share of all steps that is trained if about as many trials end early as ASHA means to."""
    keys = sweep.scheduler
    if not isinstance(keys, AshaKeys) or keys.max_t is None or keys.grace_period is None:
        return 1.0
    reached, rung, alive = 0.0, 0.0, 1.0
    following = float(keys.grace_period)
    while following < keys.max_t:
        reached += alive * (following - rung)
        rung, alive = following, alive / keys.reduction_factor
        following *= keys.reduction_factor
    return (reached + alive * (keys.max_t - rung)) / keys.max_t
