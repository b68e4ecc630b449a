"""Algorithm: what a PPG checkpoint holds beside RLlib's, so that a run goes on bit for bit.

RLlib writes the weights, counters and (`PPG.__getstate__`) the learner's state. Here are added, as
files of their own,

    phase.pkl     where the phase stands, all of the store but its frames, random generators
    frames        the store's frames, compressed and streamed (`store_files`)
    workers.pkl   each worker's environments, episodes under way and generator

and, last, the manifest (`checkpoint_files`), which tells a whole checkpoint from a broken one.
"""

import json
import pickle
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rllib_ppg.algorithm.checkpoint_files import leave_out
from rllib_ppg.algorithm.store_files import load_frames, save_frames
from rllib_ppg.core.segments import SegmentStore

PHASE, FRAMES, WORKERS = "phase.pkl", "frames", "workers.pkl"

# From this version on, RLlib's `from_checkpoint` makes the algorithm by its constructor and hands
# it the folder (`restore_from_path`); before, it hands over one pickled state, in which the frames
# would have to stand.
_VERSION = "2.0"
_CONSTRUCTOR = "class_and_ctor_args.pkl"


def save_phase(folder: Path, state: Mapping[str, Any], store: SegmentStore, threads: int) -> None:
    """Write where the phase stands, and the frames.

    Args:
        folder: The checkpoint.
        state: What `load_phase` is to return.
        store: The segments of the phase.
        threads: CPU threads that compress frames.

    Raises:
        OSError: If a file cannot be written.
    """
    _dump(folder / PHASE, {**state, "store": store.get_state()})
    save_frames(store, folder / FRAMES, threads)


def load_phase(folder: Path, store: SegmentStore) -> dict[str, Any] | None:
    """Read the store's segments and frames.

    Returns:
        The state of `save_phase`, or None where the checkpoint holds no phase.

    Raises:
        UserError: If a file is damaged or belongs to other settings.
        ValueError: If the segments do not fit the store.
    """
    if not (folder / PHASE).exists():
        return None
    state: dict[str, Any] = _load(folder / PHASE)
    store.set_state(state.pop("store"))
    load_frames(store, folder / FRAMES)
    return state


def leave_out_phase(folder: Path) -> None:
    """Make a checkpoint small whose training is over: without phase, frames and environments.

    It can be evaluated as before. A training that goes on from it begins a new phase and new
    episodes, and says so.

    Raises:
        UserError: If it is broken.
        OSError: If it cannot be changed; it is whole then too.
    """
    leave_out(folder, (FRAMES, PHASE, WORKERS), checkpoint_store=False)


def save_workers(folder: Path, states: Mapping[int, Any]) -> None:
    """Write the workers' states, by their index."""
    _dump(folder / WORKERS, dict(states))


def load_workers(folder: Path) -> dict[int, Any]:
    """Read the workers' states; none where the checkpoint holds none."""
    if not (folder / WORKERS).exists():
        return {}
    states: dict[int, Any] = _load(folder / WORKERS)
    return states


def declare(folder: Path, algorithm: type, config: Any) -> None:
    """Let RLlib's `from_checkpoint` hand the folder to the algorithm."""
    arguments = {"class": algorithm, "ctor_args_and_kwargs": ((config,), {})}
    _dump(folder / _CONSTRUCTOR, arguments)
    path = folder / "rllib_checkpoint.json"
    info = json.loads(path.read_text())
    path.write_text(json.dumps({**info, "checkpoint_version": _VERSION}))


def random_states() -> dict[str, Any]:
    """State of this process's global random generators, which user code may draw from."""
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
    }


def set_random_states(states: Mapping[str, Any]) -> None:
    """Go on from `random_states`."""
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])


@contextmanager
def randomness_kept() -> Iterator[None]:
    """Context that leaves the process's random generators, which user code may use, as found."""
    states = random_states()
    try:
        yield
    finally:
        set_random_states(states)


def _dump(path: Path, value: Any) -> None:
    from ray import cloudpickle

    with open(path, "wb") as file:
        cloudpickle.dump(value, file)


def _load(path: Path) -> Any:
    with open(path, "rb") as file:
        return pickle.load(file)
