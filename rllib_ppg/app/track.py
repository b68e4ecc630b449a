"""App: `--track`: which experiment trackers a run reports to, checked before it starts.

Keys and passwords are taken from the environment or from what the trackers' own login has stored,
never from the command line.
"""

import importlib
import netrc
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from rllib_ppg.errors import UserError
from rllib_ppg.spelling import did_you_mean

WANDB, MLFLOW = "wandb", "mlflow"
TRACKERS = {WANDB: "Weights & Biases", MLFLOW: "MLflow"}

WANDB_OFFLINE = ("offline", "disabled")
_WANDB_URL = "https://api.wandb.ai"
_REACH_S = 10.0


def check_trackers(names: Sequence[str]) -> None:
    """Refuse trackers that could not take a result.

    Raises:
        UserError: If one is unknown, not installed, not logged in, or does not answer.
    """
    for index, name in enumerate(names):
        if name not in TRACKERS:
            hint = did_you_mean(name, TRACKERS)
            raise UserError(f"--track {name}: unknown.{hint} Give {' or '.join(TRACKERS)}.")
        if name in names[:index]:
            raise UserError(f"--track {name} stands there twice; give it once.")
        _check_installed(name)
        {WANDB: _check_wandb, MLFLOW: _check_mlflow}[name]()


def _check_installed(name: str) -> None:
    how = f'install it: pip install "rllib-ppg[{name}]"'
    try:
        module = importlib.import_module(name)
        works = hasattr(module, "init" if name == WANDB else "set_tracking_uri")
    except ImportError as error:
        raise UserError(
            f"--track {name}: the package {name} cannot be imported ({error}); {how}."
        ) from None
    if not works:  # a folder of results of that name looks like a package
        raise UserError(f"--track {name}: the package {name} is not there; {how}.")


def _check_wandb() -> None:
    if os.environ.get("WANDB_MODE") in WANDB_OFFLINE or os.environ.get("WANDB_API_KEY"):
        return
    if _has_netrc_entry(os.environ.get("WANDB_BASE_URL") or _WANDB_URL):
        return
    raise UserError(
        "--track wandb: not logged in. Run `wandb login`, or set WANDB_API_KEY; WANDB_MODE=offline "
        "keeps everything in the trial's folder, for `wandb sync` later."
    )


def _has_netrc_entry(url: str) -> bool:
    """Whether a password for a server stands where `wandb login` puts it."""
    given = os.environ.get("NETRC")
    files = [Path(given)] if given else [Path.home() / name for name in (".netrc", "_netrc")]
    for file in files:
        try:
            if netrc.netrc(str(file)).authenticators(urlsplit(url).hostname or ""):
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False


def _check_mlflow() -> None:
    server = urlsplit(os.environ.get("MLFLOW_TRACKING_URI", ""))
    if server.scheme not in ("http", "https"):
        return  # a file or a database, which MLflow makes
    host = server.hostname or ""  # without the password that may stand before it
    try:
        port = server.port or (443 if server.scheme == "https" else 80)
        socket.create_connection((host, port), timeout=_REACH_S).close()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"--track mlflow: no server answers at {host}, as MLFLOW_TRACKING_URI says ({reason})."
        ) from None
