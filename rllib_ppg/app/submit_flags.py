"""App: the flags of `rllib submit`, each declared once. All others are those of `rllib train`."""

from dataclasses import dataclass, field
from typing import Annotated

from rllib_ppg.app.flag import Text, Texts, flag

_WHAT = "What to train"
_CLUSTER = "Cluster"
_JOB = "Jobs that were submitted before"

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
INSTALLED, ON_CLUSTER = "installed", "cluster"

COMMAND_VARIABLE = "RLLIB_PPG_COMMAND"
"""Environment variable of a job: what was typed to submit it, for what it says to type next."""


_FILES = "Experiment file (YAML), which is uploaded; may be given several times."
_FROM = (
    "Module or .py file that `rllib train --from` imports. Files, and modules of this folder, are "
    "uploaded; others have to be installed on the nodes."
)
_ADDRESS = (
    "The cluster's dashboard. Default: RAY_API_SERVER_ADDRESS, RAY_ADDRESS where it is an http "
    f"address, else {DEFAULT_ADDRESS}."
)
_NO_WAIT = "End when the job has been accepted, and print its id. Default: follow it to its end."
_PACKAGE = (
    f"The rllib_ppg that the job runs: {INSTALLED} uploads the one that runs here (default), "
    f"{ON_CLUSTER} takes what the nodes have, FILE.whl uploads a wheel's. What it needs (Ray, "
    "torch, Procgen) has to be on the nodes, or in --runtime-env."
)
_RUNTIME_ENV = (
    "YAML file with a Ray runtime environment for the job: pip, env_vars, py_modules, ... "
    "(all but working_dir)."
)
_FOLLOW = "Show a job's output from its beginning and wait for its end; returns its exit code."
_STATUS = "Show how a job stands; returns its exit code if it has failed."
_STOP = (
    "Stop a job in order, with a checkpoint at the end of its current iteration. Beside something "
    "to train it is the --stop of `rllib train`."
)

Files = Annotated[Texts, flag(_WHAT, "--file --config-file -f", "FILE", _FILES)]
From = Annotated[Texts, flag(_WHAT, "--from", "MODULE", _FROM)]
Address = Annotated[Text, flag(_CLUSTER, "--address -a", "URL", _ADDRESS)]
NoWait = Annotated[bool, flag(_CLUSTER, "--no-wait", None, _NO_WAIT)]
Package = Annotated[str, flag(_CLUSTER, "--package", "WHAT", _PACKAGE)]
RuntimeEnv = Annotated[Text, flag(_CLUSTER, "--runtime-env", "FILE", _RUNTIME_ENV)]
Follow = Annotated[Text, flag(_JOB, "--follow", "ID", _FOLLOW)]
Status = Annotated[Text, flag(_JOB, "--status", "ID", _STATUS)]
Stop = Annotated[Text, flag(_JOB, "--stop", "ID", _STOP)]


@dataclass(frozen=True)
class SubmitFlags:
    """The flags of `rllib submit` as given; None or empty where not given.

    Attributes:
        train: The words for `rllib train`, without its files and imports.
        command: The words of the command line after `rllib`.
    """

    files: list[str] = field(default_factory=list)
    imports: list[str] = field(default_factory=list)
    address: Text = None
    no_wait: bool = False
    package: str = INSTALLED
    runtime_env: Text = None
    follow: Text = None
    status: Text = None
    stop: Text = None
    train: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
