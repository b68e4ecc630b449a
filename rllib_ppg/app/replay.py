"""App: `rllib replay`: a numeric fault that stopped a trial, computed again and explained.

Torch is imported only once the folder is known to be one, so that a mistake is answered at once.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from rllib_ppg.errors import UserError

if TYPE_CHECKING:
    from rllib_ppg.core.fault_files import Dump
    from rllib_ppg.core.fault_numbers import Layer, Numbers
    from rllib_ppg.core.fault_replay import Diagnosis


def run_replay(given: str) -> int:
    """Show what a dump of a numeric fault tells.

    Args:
        given: The folder `numeric_fault_...` of a trial.

    Returns:
        The exit code, 0, whether or not the fault comes again.

    Raises:
        UserError: If the folder is no dump, or a damaged one.
    """
    folder = Path(given).expanduser().absolute()
    if not folder.is_dir():
        raise UserError(
            f"There is no folder {given}; give the folder numeric_fault_... that the error names."
        )
    from rllib_ppg.core.fault_files import read_dump
    from rllib_ppg.core.fault_replay import diagnose

    dump = read_dump(folder)
    found = diagnose(dump, folder)
    show(Console(), dump, found)
    return 0


def show(console: Console, dump: "Dump", found: "Diagnosis") -> None:
    """Print a diagnosis."""
    console.print(dump.message, markup=False, highlight=False, soft_wrap=True)
    versions = ", ".join(f"{name} {version}" for name, version in dump.versions.items())
    console.print(f"Trained with {versions} on {dump.facts.get('device')}.", highlight=False)
    if found.losses:
        console.print(_losses(found.losses))
    if found.inputs:
        console.print(_inputs(found.inputs))
    if found.layers:
        console.print(_layers(found.layers))
    for line in (_verdict(dump, found), _module(found), *found.advice):
        if line:
            console.print(f"\n{line}", markup=False, highlight=False, soft_wrap=True)


def _losses(losses: Mapping[str, float]) -> Table:
    table = _table("Loss and gradient", "term", "value")
    for name, value in losses.items():
        table.add_row(name, _number(value), style=_style(not math.isfinite(value)))
    return table


def _inputs(inputs: "Sequence[Numbers]") -> Table:
    table = _table("Inputs", "name", "shape", "min", "max", "not finite", "")
    for entry in inputs:
        note = "not finite" if entry.broken else "extreme" if entry.extreme else ""
        cells = (_number(entry.least), _number(entry.greatest), str(entry.broken), note)
        table.add_row(entry.name, str(entry.shape), *cells, style=_style(bool(note)))
    return table


def _layers(layers: "Sequence[Layer]") -> Table:
    table = _table("Network", "parameter", "max |w|", "not finite", "max |gradient|", "not finite")
    for layer in layers:
        gradient = "none" if _untouched(layer) else _number(layer.gradient)
        cells = (_number(layer.largest), str(layer.broken), gradient, str(layer.broken_gradient))
        table.add_row(layer.name, *cells, style=_style(bool(layer.broken + layer.broken_gradient)))
    return table


def _untouched(layer: "Layer") -> bool:
    return math.isnan(layer.gradient) and not layer.broken_gradient


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        # Wrapped rather than cut: a name that is cut short says nothing.
        table.add_column(column, justify="right" if index else "left", overflow="fold")
    return table


def _style(bad: bool) -> str | None:
    return "red" if bad else None


def _number(value: float) -> str:
    return f"{value:.4g}"


def _verdict(dump: "Dump", found: "Diagnosis") -> str:
    if dump.kind == "sample":
        return (
            f"Nothing to compute: the environment gave the {dump.facts['what']} itself. Above are "
            f"environment {dump.facts['environment']}'s last steps on worker "
            f"{dump.facts['worker']}."
        )
    if found.repeats is None:
        return (
            "Not computed again: the network is a class of your own, which data alone cannot "
            "describe. The inputs above are complete."
        )
    if not found.repeats:
        return "Not reproduced: computed again here, loss and gradient are finite."
    more = {
        None: "",
        True: " It comes with float32 passes too.",
        False: " It does not come with float32 passes.",
    }
    return f"Reproduced: computed again here, the fault comes back.{more[found.in_float32]}"


def _module(found: "Diagnosis") -> str:
    if found.module is None:
        if not found.repeats:
            return ""
        return "Every module's output is finite: the loss or its gradient broke after them."
    inputs, weights = (
        "finite" if finite else "not finite"
        for finite in (found.module.inputs_finite, found.module.weights_finite)
    )
    return (
        f"The first module whose output is not finite: {found.module.name} ({found.module.kind}); "
        f"its inputs are {inputs}, its weights {weights}."
    )
