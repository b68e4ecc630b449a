"""Fixtures of the fault tests: runs in a folder of their own, and nothing left behind."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fault_runs import ITERATIONS, Runs, left_over, wait_until


@pytest.fixture(scope="session")
def make_runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Runs]]:
    """Makes runs; none of their processes may be left in the end."""
    made: list[Runs] = []

    def make(iterations: int, keys: dict[str, Any] | None = None, **config: Any) -> Runs:
        folder: Path = tmp_path_factory.mktemp("runs")
        made.append(Runs(folder, iterations, keys, **config))
        return made[-1]

    yield make
    for runs in made:
        runs.end()
    for runs in made:
        wait_until(lambda token=runs.token: not left_over(token), "the end of all processes")


@pytest.fixture(scope="session")
def undisturbed(make_runs: Callable[..., Runs]) -> Runs:
    """A run to its end without any fault."""
    runs = make_runs(ITERATIONS)
    assert runs.run() == 0, runs.output
    return runs
