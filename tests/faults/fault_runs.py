"""What the fault tests share: small seeded runs of `rllib train` in processes of their own."""

import json
import os
import pickle
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

MARK = "RLLIB_PPG_FAULT_TEST"
"""Environment variable by which a test finds the processes that it caused."""

ITERATIONS = 40

CONFIG = {
    "num_env_runners": 0, "num_envs": 4, "rollout_fragment_length": 16, "n_pi": 3,
    "n_aux_epochs": 2, "aux_mbsize": 4, "nminibatch": 2, "aux_slice_s": 1e-4, "seed": 5,
    "num_gpus": 0, "num_cpus_per_env_runner": 0.25,
    "model": {"custom_model_config": {"widths": [4], "hidden_size": 8, "blocks": 1}},
}  # fmt: skip
"""Three policy iterations, then nine auxiliary minibatches with an iteration each, and so on."""


class Runs:
    """Runs of one experiment in a folder.

    Args:
        folder: Holds the experiment file and the results.
        iterations: When it stops.
        keys: Changes at the experiment's top level.
        config: Changes of `CONFIG`.
    """

    def __init__(
        self, folder: Path, iterations: int, keys: dict[str, Any] | None = None, **config: Any
    ) -> None:
        self.folder = folder
        self.token = secrets.token_hex(8)
        self.processes: list[subprocess.Popen[bytes]] = []
        self.log = folder / "log.txt"
        experiment = {
            "run": "PPG",
            "env": "procgen",
            "stop": {"training_iteration": iterations},
            "checkpoint_config": {"checkpoint_frequency": 1, "num_to_keep": 3},
            "config": {**CONFIG, **config},
            **(keys or {}),
        }
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "e.yaml").write_text(json.dumps({"faulty": experiment}))

    def start(self, *flags: str, prefix: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        """Start `rllib train`; what it prints goes to the log."""
        words = ["train", "-f", str(self.folder / "e.yaml"), "--storage-path", str(self.storage)]
        environment = {**os.environ, MARK: self.token}
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "rllib_ppg", *words, *flags],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment,
                start_new_session=True,
            )  # fmt: skip
        self.processes.append(process)
        return process

    def run(self, *flags: str, limit_s: float = 400) -> int:
        """Run it to its end; returns the exit code."""
        return self.start(*flags).wait(limit_s)

    @property
    def storage(self) -> Path:
        return self.folder / "results"

    @property
    def trial(self) -> Path:
        """The folder of the only trial."""
        (found,) = [p for p in (self.storage / "faulty").iterdir() if p.is_dir()]
        return found

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def resume(self) -> tuple[str, ...]:
        """The flag to go on, where a run has begun to be one."""
        return ("--resume",) if list(self.storage.glob("*/tuner.pkl")) else ()

    def rows(self) -> list[dict[str, Any]]:
        """The whole lines of result.json."""
        try:
            text = (self.trial / "result.json").read_text()
        except (FileNotFoundError, ValueError):
            return []
        return [json.loads(line) for line in text.splitlines(keepends=True) if line[-1] == "\n"]

    def checkpoints(self) -> list[Path]:
        return sorted(self.trial.glob("checkpoint_*"))

    def end(self) -> None:
        """Kill what still runs."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()


def left_over(token: str) -> list[str]:
    """Command lines of the processes that a test with this token caused."""
    return [" ".join(words) for _, words in caused(token)]


def caused(token: str) -> Iterator[tuple[int, list[str]]]:
    """Process numbers and command lines, by their environment."""
    needle = f"{MARK}={token}".encode()
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if needle not in (place / "environ").read_bytes().split(b"\0"):
                continue
            words = (place / "cmdline").read_bytes().decode(errors="replace").split("\0")
            state = (place / "stat").read_text().rpartition(")")[2].split()[0]
        except (OSError, ValueError):
            continue
        if state != "Z":
            yield int(place.name), words


def workers(token: str) -> list[int]:
    """Process numbers of the remote rollout workers."""
    return [pid for pid, words in caused(token) if "PPGRolloutWorker" in words[0]]


def trial_process(token: str) -> int:
    """Process number of the trial."""
    (found,) = [pid for pid, words in caused(token) if words[0].startswith("ray::PPG.")]
    return found


def wait_until(
    condition: Callable[[], Any], what: str, process: subprocess.Popen[bytes] | None = None,
    limit_s: float = 300,
) -> Any:  # fmt: skip
    """Wait for a condition, and return its value; fail where the process ends before."""
    limit = time.monotonic() + limit_s
    while time.monotonic() < limit:
        over = process is not None and process.poll() is not None
        value = condition()
        if value:
            return value
        assert not over, f"the run ended before {what}"
        time.sleep(0.02)
    raise AssertionError(f"waited {limit_s:g} s in vain for: {what}")


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL, to this process alone."""
    process.send_signal(signal.SIGKILL)
    process.wait()


def state_of(checkpoint: Path) -> dict[str, Any]:
    """All that decides on the next update, read from a checkpoint; frames as they are stored."""
    with (checkpoint / "algorithm_state.pkl").open("rb") as file:
        algorithm = pickle.load(file)
    with (checkpoint / "policies/default_policy/policy_state.pkl").open("rb") as file:
        policy = pickle.load(file)
    with (checkpoint / "phase.pkl").open("rb") as file:
        phase = pickle.load(file)
    with (checkpoint / "workers.pkl").open("rb") as file:
        workers = pickle.load(file)
    return {
        "weights": policy["weights"],
        "ppg": {name: value for name, value in algorithm["ppg"].items() if name != "elapsed_s"},
        "steps": algorithm["counters"]["num_env_steps_sampled"],
        "phase": {name: phase[name] for name in ("iterations", "aux_phase", "store", "random")},
        "frames": (checkpoint / "frames").read_bytes(),
        "workers": workers,
    }


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Where two states differ, bit for bit."""
    if isinstance(one, dict) and isinstance(other, dict):
        if one.keys() != other.keys():
            return [f"{path}: keys {sorted(one.keys() ^ other.keys())}"]
        return [d for key in one for d in differences(one[key], other[key], f"{path}/{key}")]
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        if len(one) != len(other):
            return [f"{path}: {len(one)} and {len(other)} entries"]
        pairs = enumerate(zip(one, other, strict=True))
        return [d for i, (a, b) in pairs for d in differences(a, b, f"{path}[{i}]")]
    if hasattr(one, "__dict__") and type(one) is type(other):
        return differences(vars(one), vars(other), path)
    same = np.array_equal(np.asarray(one), np.asarray(other), equal_nan=_is_float(one))
    return [] if same else [f"{path}: {one!r:.60} and {other!r:.60}"]


def _is_float(value: Any) -> bool:
    return np.asarray(value).dtype.kind == "f"
