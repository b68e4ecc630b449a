"""App: what `rllib submit` does: send an experiment to a cluster, look after its job."""

import re
import secrets
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rllib_ppg.app import jobs
from rllib_ppg.app.experiment_files import load_experiments
from rllib_ppg.app.flags import TrainFlags
from rllib_ppg.app.interrupt import INTERRUPTED
from rllib_ppg.app.submit_files import make_upload
from rllib_ppg.app.submit_flags import SubmitFlags
from rllib_ppg.errors import UserError

_LINES = 20
"""Lines of its output that are shown of a job that has failed."""


def run_submit(flags: SubmitFlags, train: TrainFlags) -> int:
    """Submit an experiment, or look after a job that was submitted before.

    Args:
        flags: The flags of the command line.
        train: What `rllib train` makes of the words that it will be given.

    Returns:
        The exit code of the job; 0 with `--no-wait`, and 130 where Ctrl-C ended this command only.

    Raises:
        UserError: If anything that was given is wrong, or the cluster does not answer.
    """
    asked = {name: getattr(flags, name) for name in ("follow", "status", "stop")}
    given = {name: job for name, job in asked.items() if job is not None}
    if not given:
        return _submit(flags, train)
    if len(given) > 1 or flags.files or flags.train:
        what = [f"--{name}" for name in given] + ["-f"] * bool(flags.files) + flags.train
        raise UserError(f"{' and '.join(what[:2])} do not go together; give one of them.")
    ((name, job),) = given.items()
    address = jobs.job_server(flags.address)
    client = jobs.connect(address)
    return {"follow": _follow, "status": _status, "stop": _stop}[name](client, address, job)


def _submit(flags: SubmitFlags, train: TrainFlags) -> int:
    _check_train(train)
    experiments = load_experiments(train)
    address = jobs.job_server(flags.address)
    with tempfile.TemporaryDirectory(prefix="rllib_submit_") as folder:
        upload = make_upload(flags, Path(folder))
        client = jobs.connect(address)
        job = job_id([experiment.name for experiment in experiments])
        jobs.submit(client, address, shlex.join(upload.words), job, upload.runtime_env)
    for note in upload.notes:
        print(note)
    print(f"Job {job} has been submitted to {address}.")
    command = f"rllib submit --address {address}"
    if flags.no_wait:
        print(f"  {command} --follow {job}    shows its output and waits for its end")
        print(f"  {command} --status {job}    says how it stands")
        print(f"  {command} --stop {job}      ends it after a checkpoint")
        return 0
    return _follow(client, address, job)


def _check_train(train: TrainFlags) -> None:
    """Refuse what `rllib train` takes but a job on a cluster cannot.

    Raises:
        UserError: Naming it.
    """
    private = ("ray_address", "ray_num_cpus", "ray_num_gpus", "ray_object_store_memory")
    for name in private:
        if getattr(train, name) is not None:
            flag = f"--{name.replace('_', '-')}"
            raise UserError(f"{flag}: the job runs on the cluster of --address; leave it out.")
    if train.words:
        raise UserError(f"{' '.join(train.words)}: give experiment files with -f.")


def job_id(names: Sequence[str]) -> str:
    """A new id for a job, which begins with the name of its first experiment."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", names[0])[:40].strip("-.") or "experiment"
    return f"{name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def _follow(client: Any, address: str, job: str) -> int:
    try:
        info = jobs.follow(client, address, job, _write)
    except KeyboardInterrupt:
        command = f"rllib submit --address {address}"
        print(
            f"\nJob {job} goes on without this command. Its output again: {command} --follow {job}"
            f"\nTo stop it: {command} --stop {job}",
            file=sys.stderr,
        )
        return INTERRUPTED
    code = jobs.exit_code(info)
    if info.status == "FAILED" and info.driver_exit_code is None:  # its command never ran
        print(f"The job could not be started: {_message(info)}", file=sys.stderr)
    print(f"Job {job}: {info.status.value.lower()}, exit code {code}.")
    return code


def _write(text: str) -> None:
    print(text, end="", flush=True)


def _status(client: Any, address: str, job: str) -> int:
    info = jobs.details(client, address, job)
    code = jobs.exit_code(info)
    print(f"Job {job}: {info.status.value.lower()}" + (f", exit code {code}" if code else ""))
    print(f"  command   {info.entrypoint}")
    for name, stamp in (("started", info.start_time), ("ended", info.end_time)):
        if stamp:
            print(f"  {name:9} {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(stamp / 1000))}")
    if info.status == "FAILED":
        ran = info.driver_exit_code is not None
        lines = jobs.last_lines(client, address, job, _LINES) if ran else [_message(info)]
        print("  last lines:", *(f"    {line}" for line in lines), sep="\n")
    return code


def _message(info: Any) -> str:
    """What Ray says of a job that it could not start: its end, where the cause stands."""
    lines = [
        line for line in str(info.message or "no reason is known").splitlines() if line.strip()
    ]
    return "\n".join(lines[-_LINES:])


def _stop(client: Any, address: str, job: str) -> int:
    if not jobs.stop(client, address, job):
        info = jobs.details(client, address, job)
        print(f"Job {job} was not running any more: {info.status.value.lower()}.")
        return 0
    print(f"Job {job} ends after a checkpoint ...", flush=True)
    info = jobs.wait(client, address, job)
    print(f"Job {job}: {info.status.value.lower()}.")
    return 0
