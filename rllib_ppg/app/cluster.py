"""App: Ray for a run: a private one on this machine, or a cluster; and whether a run fits there."""

import logging
import os
import secrets
import signal
import socket
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rllib_ppg.app.flags import TrainFlags
from rllib_ppg.app.interrupt import Terminated
from rllib_ppg.errors import UserError

Resources = Mapping[str, float]

QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",  # with verbose=0: Tune prints nothing of its own
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is ours
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_DEDUP_LOGS": "1",
    # Not noise, but just as early: threads that spin while they wait make the learner up to ten
    # times slower where anything else runs on the machine.
    "OMP_WAIT_POLICY": "PASSIVE",
}


@dataclass(frozen=True)
class RaySettings:
    """Which Ray to use.

    Attributes:
        address: Of a cluster; None for a private Ray on this machine.
        num_cpus: CPUs of the private Ray; None: those of the machine.
        num_gpus: Its GPUs; None: those that torch can use.
        object_store_memory: Bytes of its object store; None: Ray's choice.
        info: Show Ray's messages and what workers print.
        debug: Show debug messages too.
    """

    address: str | None = None
    num_cpus: int | None = None
    num_gpus: int | None = None
    object_store_memory: int | None = None
    info: bool = False
    debug: bool = False

    @property
    def log_level(self) -> int:
        """Level of Ray's messages that are shown here."""
        if self.debug:
            return logging.DEBUG
        return logging.INFO if self.info else logging.CRITICAL


def ray_settings(flags: TrainFlags) -> RaySettings:
    """Ray's settings from the flags and `RAY_ADDRESS`.

    Raises:
        UserError: If a number makes no sense, or is for a private Ray and an address is given too.
    """
    sizes = {
        "--ray-num-cpus": flags.ray_num_cpus,
        "--ray-num-gpus": flags.ray_num_gpus,
        "--ray-object-store-memory": flags.ray_object_store_memory,
    }
    given = [f"{flag}={value}" for flag, value in sizes.items() if value is not None]
    for flag, value in sizes.items():
        least = {"--ray-num-cpus": 1, "--ray-num-gpus": 0}.get(flag, 75 * 1024**2)
        if value is not None and value < least:
            raise UserError(f"{flag}={value}: must be at least {least}.")
    address = flags.ray_address
    if address is None and not given:
        address = os.environ.get("RAY_ADDRESS")
    if address == "local":
        address = None
    if address and given:
        raise UserError(
            f"{', '.join(given)}: a running cluster ({address}) has its sizes already; leave this "
            "out, or leave --ray-address out for a private Ray."
        )
    return RaySettings(
        address or None,
        flags.ray_num_cpus,
        flags.ray_num_gpus,
        flags.ray_object_store_memory,
        flags.info or flags.debug,
        flags.debug,
    )


def prepare_environment(settings: RaySettings) -> None:
    """Set what Ray reads when it is imported; call before the first import of Ray."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if settings.address is None and not os.environ.get("RAY_AUTH_TOKEN"):
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        if not _can_write(Path.home() / ".ray" / "auth_token"):
            os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    if not settings.info:
        # What Ray prints of other processes here even with log_to_driver off.
        os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
        warnings.filterwarnings("ignore", module=r"(ray|gymnasium|gym|pyarrow|google|pydantic)\b")
        warnings.filterwarnings("ignore", category=DeprecationWarning)


def quiet_logging(settings: RaySettings) -> None:
    """Set how much Ray's loggers say in this process; call after Ray has been imported."""
    for name in ("ray", "ray.rllib", "ray.tune"):
        logging.getLogger(name).setLevel(settings.log_level)


def _can_write(path: Path) -> bool:
    """Whether a file can be written, or is there already."""
    while not path.exists():
        path = path.parent
    return path.is_file() or (path.is_dir() and os.access(path, os.W_OK | os.X_OK))


@contextmanager
def session(settings: RaySettings) -> Iterator[None]:
    """Context in which this process is connected to Ray.

    Raises:
        UserError: If a cluster cannot be reached.
    """
    import ray

    if ray.is_initialized():  # the caller's own
        yield
        return
    if settings.address is not None:
        _check_answers(settings.address)
    quiet = {
        "include_dashboard": False,
        "log_to_driver": settings.info,
        "logging_level": settings.log_level,
    }
    handler = signal.getsignal(signal.SIGTERM)
    try:
        if settings.address is None:
            ray.init(address="local", **_sizes(settings), **quiet)
        else:
            quiet.pop("include_dashboard")
            ray.init(address=settings.address, **quiet)
    except SystemExit as error:  # Ray's own answer to SIGTERM
        raise Terminated from error
    except Exception as error:  # Ray raises plain ones where a process of its own does not come up
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        if settings.address is None:
            raise UserError(
                f"Ray could not be started: {reason}. Is the machine very busy, or out of memory "
                "or disk? Ray's logs are in /tmp/ray/session_latest/logs."
            ) from error
        raise UserError(f"No Ray cluster answers at {settings.address}: {reason}.") from None
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)  # Ray has put its own there
    try:
        yield
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Refuse an address `host:port` where nothing listens; Ray itself would try for minutes."""
    host, colon, port = address.rpartition(":")
    if not colon or "/" in address or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"No Ray cluster answers at {address}: {reason}.") from None


def _sizes(settings: RaySettings) -> dict[str, Any]:
    here = local_resources(settings)
    sizes = {"num_cpus": int(here["CPU"]), "num_gpus": int(here["GPU"])}
    if settings.object_store_memory is not None:
        sizes["object_store_memory"] = settings.object_store_memory
    return sizes


def local_resources(settings: RaySettings) -> dict[str, float]:
    """CPUs and GPUs that a private Ray has."""
    from rllib_ppg.algorithm import resources

    cpus, gpus = settings.num_cpus, settings.num_gpus
    return {
        "CPU": float(resources.machine_cpus() if cpus is None else cpus),
        "GPU": float(resources.machine_gpus() if gpus is None else gpus),
    }


def nodes(settings: RaySettings) -> list[Resources]:
    """What each live node has: those of the connected cluster, else this machine alone."""
    import ray

    if settings.address is None or not ray.is_initialized():
        return [local_resources(settings)]
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def bundles_of(run: str, config: Mapping[str, Any]) -> list[dict[str, float]]:
    """The resource bundles that a trial of an algorithm asks Ray for.

    Raises:
        UserError: If the algorithm refuses its configuration.
    """
    from ray.tune.registry import get_trainable_cls

    try:
        request = get_trainable_cls(run).default_resource_request(dict(config))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"The configuration is refused by {run}: {reason}") from error
    return [dict(bundle) for bundle in request.bundles] if request else []


AUTO = "Use num_env_runners: auto and num_gpus: auto, or smaller numbers"
FEWER = "Use fewer num_env_runners and num_gpus"
CUSTOM = (
    "Leave custom_resources_for_main_process and custom_resources_per_env_runner out, or start "
    "nodes that have it (ray start --resources)"
)
_OF_RAY = ("CPU", "GPU")


def check_fits(
    bundles: Sequence[Resources],
    there: Sequence[Resources],
    place: str,
    advice: str = AUTO,
    strategy: str = "PACK",
) -> None:
    """Refuse a trial that could never start.

    Args:
        bundles: What it asks for; each bundle has to fit on one node.
        there: What each node has.
        place: What to call the nodes.
        advice: What to change, for the message.
        strategy: Ray's `placement_strategy`.

    Raises:
        UserError: Naming what is missing, what is there, and what to do.
    """
    needed, total = _sum(bundles), _sum(there)
    kind = next((name for name in needed if needed[name] > total.get(name, 0.0)), "CPU")
    missing = [
        f"{_amount(name, amount)} (there {_amount(name, total.get(name, 0.0))})"
        for name, amount in needed.items()
        if amount > total.get(name, 0.0)
    ]
    if missing:
        problem = f"{place} has too little for it: it needs {' and '.join(missing)}."
        advice = advice if kind in _OF_RAY else CUSTOM
    elif not packs(bundles, there):
        parts = ", ".join(dict.fromkeys(str(_sum([bundle])) for bundle in bundles))
        problem = f"no node of {place} has room for one of its parts: {parts}."
    elif strategy == "STRICT_PACK" and not any(packs(bundles, [node]) for node in there):
        problem = f"no node of {place} has room for all its parts, as {strategy} wants."
        advice = "Use placement_strategy: PACK"
    elif strategy == "STRICT_SPREAD" and not _spreads(bundles, there):
        problem = (
            f"its {len(bundles)} parts do not fit on as many nodes of {place} ({len(there)} there),"
            f" as {strategy} wants."
        )
        advice = "Use placement_strategy: SPREAD"
    else:
        return
    if place != "this machine":
        advice += "; --wait-for-resources waits where the cluster grows by itself"
    elif kind in _OF_RAY and "STRICT_" not in problem:
        advice += f"; --ray-num-{kind.lower()}s N makes Ray count N {kind}s"
    raise UserError(f"The run can never start: {problem} {advice}.")


def _spreads(bundles: Sequence[Resources], there: Sequence[Resources]) -> bool:
    """Whether each bundle can have a node of its own."""
    holds: dict[int, int] = {}  # which bundle a node has

    def place(bundle: int, tried: set[int]) -> bool:
        for node, free in enumerate(there):
            if node in tried or not packs([bundles[bundle]], [free]):
                continue
            tried.add(node)
            if node not in holds or place(holds[node], tried):  # the other one finds another
                holds[node] = bundle
                return True
        return False

    return all(place(bundle, set()) for bundle in range(len(bundles)))


def _sum(parts: Sequence[Resources]) -> dict[str, float]:
    total: dict[str, float] = {}
    for part in parts:
        for name, amount in part.items():
            total[name] = total.get(name, 0.0) + amount
    return {name: amount for name, amount in total.items() if amount}


def _amount(name: str, amount: float) -> str:
    plural = "s" if amount != 1 and name in ("CPU", "GPU") else ""
    return f"{amount:g} {name}{plural}"


def packs(bundles: Sequence[Resources], there: Sequence[Resources]) -> bool:
    """Whether all bundles fit on the nodes: those that few nodes can hold first, large ones first.

    As Ray itself does, it may overlook a way where there is one.
    """
    free = [dict(node) for node in there]

    def order(bundle: Resources) -> tuple[float, ...]:
        homes = sum(_holds(node, bundle) for node in there)
        return homes, -bundle.get("GPU", 0), -bundle.get("CPU", 0)

    for bundle in sorted(bundles, key=order):
        node = next((node for node in free if _holds(node, bundle)), None)
        if node is None:
            return False
        for name, amount in bundle.items():
            node[name] = node.get(name, 0.0) - amount
    return True


def _holds(node: Resources, bundle: Resources) -> bool:
    return all(node.get(name, 0.0) >= amount for name, amount in bundle.items())
