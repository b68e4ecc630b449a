"""What every test needs: few threads, a quiet private Ray, one cluster for the whole run."""

import gc
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

ENVIRONMENT = {
    # Tests run side by side on few cores, where torch's own threads cost far more than they bring.
    # Workers and commands that tests start inherit these settings.
    "OMP_NUM_THREADS": "1",
    # A token in the environment works where the home folder cannot be written, and prints nothing.
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}

# Read when torch and Ray are imported or started, hence at once and not in a fixture.
for name, value in ENVIRONMENT.items():
    os.environ.setdefault(name, value)
# No test joins a cluster that happens to run on this machine.
os.environ.pop("RAY_ADDRESS", None)

# A busy machine is no failure of a property.
settings.register_profile("rllib_ppg", deadline=None)
settings.load_profile("rllib_ppg")


RAY_LOCAL_RUNS = pytest.StashKey[bool]()
LONG_FILES = pytest.StashKey[set[Path]]()
STARTS_PROCESSES = {"ray_local", "make_runs"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Function]) -> None:
    """Put files first whose tests start processes, so that two side by side end together."""
    long = {item.path for item in items if STARTS_PROCESSES & set(item.fixturenames)}
    config.stash[LONG_FILES] = long
    items.sort(key=lambda item: item.path not in long)


@pytest.fixture(scope="session")
def ray_local(pytestconfig: pytest.Config) -> Iterator[None]:
    """Yield with a private Ray of three logical CPUs, whatever the machine has."""
    import ray

    ray.init(
        address="local",
        num_cpus=3,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=500 * 1024**2,
    )
    pytestconfig.stash[RAY_LOCAL_RUNS] = True
    yield
    pytestconfig.stash[RAY_LOCAL_RUNS] = False
    ray.shutdown()


@pytest.fixture(scope="module", autouse=True)
def collect_actors(request: pytest.FixtureRequest) -> Iterator[None]:
    """End the actors that a module's tests have left: the next one's would wait for their CPUs.

    They go with their algorithms, which refer to themselves and so wait for a collection.
    """
    yield
    if request.path in request.config.stash[LONG_FILES]:
        gc.collect()


@pytest.fixture(autouse=True)
def leave_ray_as_it_was(pytestconfig: pytest.Config) -> Iterator[None]:
    """Fail the test that starts Ray by accident, or stops `ray_local`, and not one that follows."""
    yield
    ray = sys.modules.get("ray")
    if ray is None:
        return
    expected = pytestconfig.stash.get(RAY_LOCAL_RUNS, False)
    found = ray.is_initialized()
    if found and not expected:
        ray.shutdown()
    assert found == expected, "The test started Ray or stopped it; it should use ray_local."
