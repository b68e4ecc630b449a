"""`python -m benchmarks`: measure, print one table, write JSON.

The sections are imported when they run: what they need (Ray, Procgen, torch) takes seconds.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks import machine, report
from benchmarks.measure import Row
from rllib_ppg.app.cluster import RaySettings, prepare_environment
from rllib_ppg.errors import UserError

SECTIONS = (
    "returns", "phases", "recipes", "memory", "rollouts", "cycles", "growth", "checkpoints",
    "evaluation",
)  # fmt: skip
WITH_RAY = {"rollouts", "cycles", "growth"}  # the memory section's processes start their own
EXTRA = ("kernels",)
PLACES = ("recipes", "kernels")  # sections with a table of their own; the others share one
INTERRUPTED = 130


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line.

    Raises:
        UserError: If a section is unknown.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only",
        default=",".join(SECTIONS),
        metavar="A,B",
        help=f"sections to run; all but {', '.join(EXTRA)}: %(default)s",
    )
    parser.add_argument("--quick", action="store_true", help="a rehearsal with tiny sizes")
    parser.add_argument("--out", type=Path, default=Path("bench.json"), help="JSON file to write")
    parser.add_argument(
        "--markdown", type=Path, help="put the tables into this file's marked places"
    )
    parser.add_argument("--read", type=Path, help="measure nothing, show this JSON file")
    options = parser.parse_args(arguments)
    options.only = [name.strip() for name in options.only.split(",") if name.strip()]
    unknown = set(options.only) - {*SECTIONS, *EXTRA}
    if unknown:
        raise UserError(
            f"--only {', '.join(sorted(unknown))}: must be among {', '.join((*SECTIONS, *EXTRA))}."
        )
    return options


def measure(options: argparse.Namespace, rows: list[Row]) -> None:
    """Run the sections one after the other, adding to `rows`."""
    begin = time.monotonic()

    def progress(text: str) -> None:
        print(f"[{time.monotonic() - begin:5.0f} s] {text}", file=sys.stderr, flush=True)

    with ExitStack() as stack:
        for name in options.only:
            progress(name)
            section = importlib.import_module(f"benchmarks.{name}")
            if name in WITH_RAY:  # the first starts one for all that follow
                work = importlib.import_module("benchmarks.work")
                stack.enter_context(work.private_ray())
                if not options.quick:
                    work.settle()
            rows += section.run(options.quick, progress)


def show(options: argparse.Namespace, rows: list[Row], facts: dict[str, str]) -> None:
    """Print the table and put it into the Markdown file."""
    report.print_table(rows, facts)
    if options.markdown is None:
        return
    tables: dict[str, list[Row]] = {}
    for row in rows:
        tables.setdefault(row.section if row.section in PLACES else "results", []).append(row)
    for name, part in tables.items():
        report.insert(options.markdown, name, report.markdown(part, facts))


def main(arguments: Sequence[str]) -> int:
    """Run it and return the exit code."""
    try:
        options = parse(arguments)
        if options.read is not None:
            show(options, *report.read_json(options.read))
            return 0
        rows: list[Row] = []
        facts = machine.describe(arguments)
        complete = False
        try:
            measure(options, rows)
            complete = True
        finally:
            report.write_json(options.out, report.to_json(rows, facts, complete=complete))
        show(options, rows, facts)
        return 0
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"Interrupted; what was measured is in {options.out}.", file=sys.stderr)
        return INTERRUPTED


def prepare() -> None:
    """Set what Ray and OpenMP read when they are imported."""
    given = os.environ.get("OMP_WAIT_POLICY")
    prepare_environment(RaySettings())
    if given is None:
        # Training makes waiting threads sleep, for the sake of other processes. The yardsticks get
        # what torch does by itself, which is faster for them on a machine of their own.
        os.environ.pop("OMP_WAIT_POLICY", None)


if __name__ == "__main__":
    prepare()
    sys.exit(main(sys.argv[1:]))
