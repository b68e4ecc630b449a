"""App: the files by which Amazon SageMaker and a training container speak to each other.

Source: "How Amazon SageMaker AI Provides Training Information", its developer guide.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rllib_ppg.errors import UserError, told

ROOT = "/opt/ml"
FAILURE_CHARACTERS = 1024
"""As much of the failure file as SageMaker shows."""

EXPERIMENT, IMPORTS, STORAGE, CPUS = "experiment", "from", "storage_path", "ray_num_cpus"
OWN = (EXPERIMENT, IMPORTS, STORAGE, CPUS)
"""Hyperparameters with a meaning of their own; all others are keys of the experiment."""

EXPERIMENTS = "experiments"  # in the image's working directory


@dataclass(frozen=True)
class Job:
    """What a container is told about its training job.

    Attributes:
        root: The folder of the contract, `/opt/ml`.
        parameters: The hyperparameters; SageMaker makes texts of all of them.
        hosts: All hosts in one order; the first is the head of the cluster.
        here: This host.
        channels: Folders of the input channels, by their names.
    """

    root: Path
    parameters: Mapping[str, str]
    hosts: Sequence[str]
    here: str
    channels: Mapping[str, Path]

    @property
    def is_head(self) -> bool:
        """Whether this host is the head."""
        return self.here == self.hosts[0]

    @property
    def checkpoints(self) -> Path:
        """The folder that SageMaker copies to S3 all the time, and fills after an interruption."""
        return self.root / "checkpoints"

    @property
    def model(self) -> Path:
        """The folder that becomes the job's model.tar.gz."""
        return self.root / "model"

    @property
    def cpus(self) -> int | None:
        """CPUs that each host counts; None: those that Ray finds.

        Raises:
            UserError: If the hyperparameter is no whole number, or less than 1.
        """
        given = self.parameters.get(CPUS)
        if given is None:
            return None
        if not given.strip().isdecimal() or not int(given):
            raise UserError(f"hyperparameter {CPUS}={given}: must be a whole number of at least 1.")
        return int(given)

    @property
    def settings(self) -> dict[str, str]:
        """The hyperparameters that are keys of the experiment."""
        return {
            name: value
            for name, value in self.parameters.items()
            if name not in OWN and not name.startswith(("_", "sagemaker_"))
        }


def read_job(root: Path) -> Job:
    """Read what SageMaker has written.

    Raises:
        UserError: If a file is missing or holds something else.
    """
    config = root / "input" / "config"
    parameters = _read_json(config / "hyperparameters.json")
    resources = _read_json(config / "resourceconfig.json")
    hosts, here = resources.get("hosts"), resources.get("current_host")
    if not isinstance(hosts, list) or not hosts or here not in hosts:
        raise UserError(f"{config}/resourceconfig.json: needs hosts, and current_host among them.")
    listed = config / "inputdataconfig.json"
    names = _read_json(listed) if listed.exists() else {}
    data = root / "input" / "data"
    return Job(
        root,
        {str(name): _as_text(value) for name, value in parameters.items()},
        sorted(map(str, hosts)),
        str(here),
        {name: data / name for name in names},
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"{told(error)}. `rllib sagemaker` runs in a training container of SageMaker; "
            "elsewhere use `rllib train`."
        ) from None
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}).") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: must hold a mapping.")
    return content


def _as_text(value: Any) -> str:
    """A hyperparameter's text; the SDK's own estimators write JSON into it."""
    if not isinstance(value, str):
        return json.dumps(value)
    try:
        inner = json.loads(value)
    except ValueError:
        return value
    return inner if isinstance(inner, str) else value


def find_file(job: Job, kind: str, name: str) -> str:
    """The path of a file that a hyperparameter names: in a channel, else in the image.

    Args:
        job: The job.
        kind: The hyperparameter, for the message.
        name: An absolute path, or one inside a channel or the image's experiments.

    Raises:
        UserError: If it is nowhere, saying what is there.
    """
    places = [*job.channels.values(), Path(EXPERIMENTS)]
    for place in [Path(), *places] if os.path.isabs(name) else places:
        if (place / name).is_file():
            return str(place / name)
    there = [path.name for place in places for path in sorted(place.glob("*.*"))]
    raise UserError(
        f"hyperparameter {kind}: there is no file {name} in the channels "
        f"({', '.join(job.channels) or 'there are none'}) or in the image. "
        f"There are: {', '.join(there) or 'no files'}."
    )


def train_words(job: Job) -> list[str]:
    """The words for `rllib train` that the hyperparameters ask for, files found.

    Raises:
        UserError: If there is no experiment, or a file is missing.
    """
    name = job.parameters.get(EXPERIMENT)
    if name is None:
        raise UserError(
            'give the hyperparameter "experiment": an experiment file in a channel, or one of the '
            "image's such as ppg_procgen.yaml."
        )
    words = ["-f", find_file(job, EXPERIMENT, name)]
    for module in job.parameters.get(IMPORTS, "").split(","):
        if module.strip().endswith(".py"):
            words += ["--from", find_file(job, IMPORTS, module.strip())]
        elif module.strip():
            words += ["--from", module.strip()]
    words += ["--storage-path", job.parameters.get(STORAGE, str(job.checkpoints))]
    for key, value in job.settings.items():
        words += ["--set", f"{key}={value}"]
    return words


def write_failure(job_root: Path, reason: str) -> None:
    """Tell SageMaker why the job has failed; where that cannot be written, the log alone does."""
    place = job_root / "output" / "failure"
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(reason[:FAILURE_CHARACTERS], encoding="utf-8")
    except OSError as error:
        print(f"The failure file cannot be written: {told(error)}.", file=sys.stderr)
