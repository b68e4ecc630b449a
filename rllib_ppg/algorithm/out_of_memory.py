"""Algorithm: memory that runs out while a run trains, told with what to lower."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch

from rllib_ppg.errors import OutOfMemory, WorkersLost


class Part(NamedTuple):
    """A part of training, and what makes it smaller."""

    name: str
    lower: str


_STORE = "num_envs x rollout_fragment_length x n_pi (the frame store)"

SAMPLING = Part(
    "while sampling", "num_envs, rollout_fragment_length, or n_pi for a smaller frame store"
)
POLICY = Part(
    "in the policy phase",
    f"micro_batch_size, {_STORE}, or set policy_precision: bfloat16; on a GPU also store_device: "
    "cpu",
)
AUXILIARY = Part(
    "in the auxiliary phase",
    f"micro_batch_size, aux_mbsize, {_STORE}, or set aux_precision: bfloat16; on a GPU also "
    "store_device: cpu",
)
SAVING = Part(
    "while a checkpoint was written", f"{_STORE}, or set checkpoint_store: false to leave it out"
)

# How torch's and its libraries' allocators on a CPU say it, in a plain RuntimeError.
_WORDS = ("can't allocate memory", "not enough memory", "bad_alloc", "out of memory")


def killed_for_memory(what: str) -> str:
    """Say that Ray's memory monitor killed a process, and what to lower.

    Args:
        what: Whose process, such as `the trial`.
    """
    return (
        f"Ray's memory monitor stopped {what}, because the machine's memory was nearly full. Lower "
        f"{_STORE}, num_env_runners or micro_batch_size; or use a larger machine"
    )


@contextmanager
def memory_of(part: Part) -> Iterator[None]:
    """Turn any allocator's error in a part of training into `OutOfMemory`.

    Raises:
        OutOfMemory: Saying which part, what was asked for where that is known, what to lower.
    """
    try:
        yield
    except (OutOfMemory, WorkersLost):  # the cause of a lost worker may speak of memory too
        raise
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        raise OutOfMemory(_message(part, str(error))) from error


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return any(words in text for words in _WORDS)


def _message(part: Part, text: str) -> str:
    where = "GPU memory" if "CUDA" in text else "Memory"
    found = re.search(r"allocate ([\d.]+) ?(bytes|[KMGTPE]i?B)\b", text)
    asked = f" ({found[1]} {found[2]} more were asked for)" if found else ""
    return f"{where} ran out {part.name}{asked}. Lower {part.lower}; or use a larger machine."
