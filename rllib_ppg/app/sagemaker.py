"""App: what `rllib sagemaker` does: a training job of Amazon SageMaker, from files to model.

On several hosts it starts one Ray cluster over them. Trials run on the first, whose checkpoint
folder is the job's; the others' CPUs are for rollout workers.
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rllib_ppg.algorithm.checkpoint_files import newest_whole
from rllib_ppg.app.experiment import Experiment
from rllib_ppg.app.experiment_files import load_experiments
from rllib_ppg.app.flags import TrainFlags
from rllib_ppg.app.host_cluster import HEAD_RESOURCE, HostCluster
from rllib_ppg.app.interrupt import TERMINATED, exit_code_of, sigterm_as_exception
from rllib_ppg.app.launch import is_begun
from rllib_ppg.app.objective import Objective
from rllib_ppg.app.result_files import results
from rllib_ppg.app.run_folder import (
    check_writable,
    experiment_folder,
    is_remote,
    storage_path,
    write_text,
)
from rllib_ppg.app.sagemaker_contract import Job, read_job, train_words, write_failure
from rllib_ppg.app.sweep import read_sweep
from rllib_ppg.app.sweep_end import BEST
from rllib_ppg.errors import UserError

_PINNED = f"custom_resources_for_main_process={{{HEAD_RESOURCE}: 0.001}}"


def run_sagemaker(root: Path, port: int, folder: str | None) -> int:
    """Take part in a training job.

    Args:
        root: The folder of SageMaker's contract.
        port: Of the cluster's head.
        folder: Of Ray's logs and sockets; None: Ray's own choice.

    Returns:
        The exit code: 0 done, 1 a trial failed, 2 something that was given is wrong, 143 stopped.
    """
    lines: deque[str] = deque(maxlen=40)
    try:
        with sigterm_as_exception():  # so that waiting for hosts ends in order too
            job = read_job(root)
            if len(job.hosts) == 1:
                code = _train(job, None, dict(os.environ), lines)
            else:
                code = _train_on_all(job, port, folder, lines)
    except KeyboardInterrupt as interruption:
        return exit_code_of(interruption)
    except UserError as error:
        write_failure(root, f"Error: {error}")
        raise
    except Exception as error:  # whatever it is, SageMaker shows the failure file alone
        write_failure(root, f"Error: {type(error).__name__}: {error}")
        raise
    if code not in (0, TERMINATED):
        write_failure(root, failure_text(lines))
    return code


def _train_on_all(job: Job, port: int, folder: str | None, lines: deque[str]) -> int:
    cluster = HostCluster(job.hosts, job.here, port, shared_token(job), job.cpus, folder)
    if not job.is_head:
        with _ignoring_sigterm():  # the head needs this host for its last checkpoint
            code = cluster.join()
        if code:
            lines.append(f"Error: {job.here} left the cluster before its first host ended.\n")
        return code
    with cluster.head() as address:
        return _train(job, address, cluster.environment, lines)


def shared_token(job: Job) -> str:
    """The token that all hosts use.

    They know nothing in common that others could not know; SageMaker's own network keeps others
    out. The token keeps jobs apart.
    """
    known = [os.environ.get("TRAINING_JOB_ARN", ""), dict(job.parameters), list(job.hosts)]
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:32]


@contextmanager
def _ignoring_sigterm() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _train(job: Job, address: str | None, environment: dict[str, str], lines: deque[str]) -> int:
    words = train_words(job)
    flags = _flags(words)
    experiments = load_experiments(flags)
    words += ["--ray-address", address, "--set", _PINNED] if address else []
    words += ["--ray-num-cpus", str(job.cpus)] if job.cpus and not address else []
    for experiment in experiments:
        check_writable(experiment)
    if any(map(is_begun, experiments)):  # by a container that was interrupted
        print(f"Going on from what {storage_path(experiments[0])} holds.", flush=True)
        words.append("--resume")
    code = _run(["train", *words, "--no-progress"], environment, lines)
    if code in (0, TERMINATED):
        for experiment in experiments:
            save_model(experiment, job.model / experiment.name)
    return code


def _flags(words: Sequence[str]) -> TrainFlags:
    """The flags that `train_words` has made."""
    found: dict[str, list[str]] = {"-f": [], "--from": [], "--set": [], "--storage-path": []}
    for name, value in zip(words[::2], words[1::2], strict=True):
        found[name].append(value)
    return TrainFlags(
        files=found["-f"],
        imports=found["--from"],
        settings=found["--set"],
        storage_path=found["--storage-path"][0],
    )


def _run(words: Sequence[str], environment: dict[str, str], lines: deque[str]) -> int:
    """Run our own command, hand SIGTERM on to it, and remember its last lines."""
    process = subprocess.Popen(
        [sys.executable, "-m", "rllib_ppg", *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    before = signal.signal(signal.SIGTERM, lambda *_: process.send_signal(signal.SIGTERM))
    try:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
        return process.wait()
    finally:
        signal.signal(signal.SIGTERM, before)


def failure_text(lines: Sequence[str]) -> str:
    """What SageMaker shows of a failure: the line with the cause, then the last lines."""
    causes = [line.strip() for line in lines if line.startswith(("Error: ", "  failed  "))]
    return "\n".join([*causes[-1:], "".join(lines)[-700:]]).strip() or "rllib train has failed"


def save_model(experiment: Experiment, target: Path) -> None:
    """Write what becomes the job's model: the best trial's policy, exported, and its configuration.

    A policy that cannot be exported stays a checkpoint.

    Args:
        experiment: The experiment.
        target: The folder to write.
    """
    folder = experiment_folder(experiment)
    if is_remote(folder):
        target.mkdir(parents=True, exist_ok=True)
        write_text(target / "results.txt", f"{folder}\n")
        return
    best = best_checkpoint(Path(folder), read_sweep(experiment).objective)
    if best is None:
        return
    target.mkdir(parents=True, exist_ok=True)
    for name in ("config.yaml", BEST):
        if (Path(folder) / name).is_file():
            shutil.copyfile(Path(folder) / name, target / name)
    if not (experiment.keys.run == "PPG" and _export(best, target / "policy")):
        shutil.copytree(best, target / "checkpoint", dirs_exist_ok=True)


def _export(checkpoint: Path, target: Path) -> bool:
    words = ["export", str(checkpoint), "--out", str(target), "--force"]
    return subprocess.run([sys.executable, "-m", "rllib_ppg", *words]).returncode == 0


def best_checkpoint(folder: Path, objective: Objective) -> Path | None:
    """The newest whole checkpoint of the best trial; None if there is none.

    Args:
        folder: The experiment's.
        objective: By what trials are compared; one without a number comes last.
    """
    found: list[tuple[float, Path]] = []
    for trial in sorted(path for path in folder.glob("*") if path.is_dir()):
        newest: Any = newest_whole(trial).path
        if newest is not None:
            rows = list(results(trial))
            config = rows[-1].get("config", {}) if rows else {}
            found.append((objective.order(objective.newest(rows, config)), newest))
    return min(found, default=(0.0, None), key=lambda pair: pair[0])[1]
