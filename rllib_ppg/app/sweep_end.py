"""App: what a sweep leaves: a table, the best configuration as an experiment file, and a figure."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from rllib_ppg.app.experiment import SWEEP_KEYS, Experiment
from rllib_ppg.app.report import TrialEnd
from rllib_ppg.app.run_folder import experiment_folder, is_remote, write_text
from rllib_ppg.app.spaces import GRID
from rllib_ppg.app.sweep import Sweep, put
from rllib_ppg.app.sweep_ranking import Ranked, rank, table
from rllib_ppg.errors import UserError, told

BEST, FIGURE = "best.yaml", "search.png"
_OF_THE_SWEEP = {*SWEEP_KEYS, "max_concurrent_trials", "time_budget_s", "env", "config", "stop"}


def end_sweep(
    experiment: Experiment,
    sweep: Sweep,
    space: Mapping[str, Any],
    complete: Mapping[str, Any],
    ends: Sequence[TrialEnd],
) -> tuple[list[str], Ranked | None]:
    """Write the best configuration and the figure into the run's folder.

    Args:
        experiment: The experiment.
        sweep: How its trials are compared.
        space: Its configuration with spaces.
        complete: The same with PPG's defaults filled in.
        ends: How the trials ended.

    Returns:
        What to say, and the best configuration; None where no trial has an objective.
    """
    ranking = rank(sweep, space, ends)
    lines = ["", f"Best by {sweep.metric} ({sweep.mode}):"]
    lines += [f"  {line}" for line in table(sweep, ranking)]
    if not ranking or ranking[0].value != ranking[0].value:
        return [*lines, "  no configuration has an objective yet"], None
    best = ranking[0]
    folder = experiment_folder(experiment)
    if is_remote(folder):
        return lines, best
    place = Path(folder)
    try:
        write_text(place / BEST, best_yaml(experiment, sweep, complete, best, len(ends)))
        lines.append(f"  as an experiment file  {place / BEST}")
        _draw(sweep, ranking, place / FIGURE)
        lines.append(f"  the search as a figure {place / FIGURE}")
    except OSError as error:
        lines.append(f"  not all could be written: {told(error)}")
    except UserError as error:
        lines.append(f"  {error}")
    return lines, best


def _draw(sweep: Sweep, ranking: Sequence[Ranked], path: Path) -> None:
    from rllib_ppg.app.sweep_figure import draw

    draw(sweep, ranking, path)


def best_yaml(
    experiment: Experiment, sweep: Sweep, complete: Mapping[str, Any], best: Ranked, trials: int
) -> str:
    """The best configuration as an experiment file."""
    name = f"{experiment.name[:95]}-best"
    keys = experiment.keys.model_dump(exclude_unset=True, exclude_none=True, exclude=_OF_THE_SWEEP)
    config = best_config(sweep, complete, best.config)
    content = {name: {**keys, "stop": experiment.keys.stop, "config": config}}
    of = f"{trials} trials" if sweep.members == 1 else f"{trials} trials of its configurations"
    head = [
        f'# The best of {of} of the sweep "{experiment.name}": {sweep.objective.name} '
        f"{best.value:.6g} ({sweep.metric}, {sweep.mode}).",
        *(f"#   {key} = {value}" for key, value in best.values.items()),
    ]
    if sweep.is_pbt:
        head.append("# PBT changed these values while it trained; here they are the last ones.")
    text = yaml.safe_dump(plain(content), sort_keys=False, allow_unicode=True)
    return "\n".join([*head, "", text])


def best_config(
    sweep: Sweep, complete: Mapping[str, Any], trained: Mapping[str, Any]
) -> dict[str, Any]:
    """A trial's configuration with defaults, and grids over what was averaged over."""
    names = {**complete, **sweep.mutations}
    config = {
        name: deepcopy(trained[name]) if name in trained else deepcopy(complete[name])
        for name in names
        if name in trained or name in complete
    }
    for path, values in sweep.over.items():
        put(config, path, {GRID: list(values)} if len(values) > 1 else values[0])
    return config


def plain(value: Any) -> Any:
    """The same as plain data, without numpy's numbers."""
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value
