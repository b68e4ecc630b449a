"""App: how a flag of the command line is declared."""

from typing import Annotated, Any

import typer

Text = str | None
Texts = list[str] | None
Count = int | None

MACHINE = "Machine or cluster"
"""The panel of the flags that say where it runs."""


def flag(panel: str, names: str, metavar: str | None, help: str) -> Any:
    """Declare a flag.

    Args:
        panel: Title of the part of the help that it stands in.
        names: Its names, with blanks between them.
        metavar: What the help calls its value; None for a switch.
        help: What it does.
    """
    return typer.Option(
        *names.split(), help=help, metavar=metavar, rich_help_panel=panel, show_default=False
    )


_ADDRESS = (
    "Ray cluster to use (auto: the one on this machine). Default: RAY_ADDRESS, else a private Ray "
    "on this machine."
)

RayAddress = Annotated[Text, flag(MACHINE, "--ray-address", "ADDRESS", _ADDRESS)]
RayNumCpus = Annotated[Count, flag(MACHINE, "--ray-num-cpus", "N", "CPUs of the private Ray.")]
RayNumGpus = Annotated[Count, flag(MACHINE, "--ray-num-gpus", "N", "GPUs of the private Ray.")]
