"""App: whether the nodes of a cluster write results to the same place, tried before training.

A trial's main process writes its results and checkpoints on the node that it was put on; what
started the run reads them where it runs itself. With a folder that each node has for itself, a
trial ends without results, or cannot go on from its checkpoint on another node.
"""

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pyarrow.fs import FileSystem

from rllib_ppg.app.experiment import Experiment
from rllib_ppg.app.run_folder import is_remote, storage_path
from rllib_ppg.errors import UserError

ANSWER_S = 300.0
"""How long a node may take; its first task waits for what the run brings along."""

_MARK = ".rllib_ppg_check_"


def check_shared(experiment: Experiment, main: Mapping[str, float]) -> list[str]:
    """Refuse a results folder that is not the same for all nodes that trials can be put on.

    Args:
        experiment: The experiment.
        main: The resources of a trial's main process; nodes without them are not asked.

    Returns:
        What to say: nodes that have not answered.

    Raises:
        UserError: Naming the nodes and what to use instead.
    """
    import ray

    here = ray.get_runtime_context().get_node_id()
    nodes = [node for node in ray.nodes() if node["Alive"] and _can_hold(node, main)]
    if all(node["NodeID"] == here for node in nodes):
        return []
    place = storage_path(experiment)
    if not is_remote(place):
        Path(place).mkdir(parents=True, exist_ok=True)
    name = uuid.uuid4().hex
    mark = mark_of(place, name)
    write_mark(mark)
    try:
        answers = _ask(nodes, mark, [mark_of(place, f"{name}_{i}") for i in range(len(nodes))])
    finally:
        remove_mark(mark)
    problems = {name: answer for name, answer in answers.items() if answer}
    if problems:
        message = refusal(place, problems)
        raise UserError(experiment.source.message(("storage_path",), message))
    silent = [name for name, answer in answers.items() if answer is None]
    return [f"{experiment.name}: {_silence(silent)}"] if silent else []


def _can_hold(node: Mapping[str, Any], main: Mapping[str, float]) -> bool:
    return all(node["Resources"].get(name, 0.0) >= amount for name, amount in main.items())


def _silence(nodes: Sequence[str]) -> str:
    return (
        f"{', '.join(nodes)} did not answer within {ANSWER_S:.0f} s; whether results can be "
        "written from there is not known."
    )


def refusal(place: str, problems: Mapping[str, str]) -> str:
    """What is wrong with a results folder, by node."""
    nodes = "; ".join(f"{name}: {reason}" for name, reason in problems.items())
    if is_remote(place):
        return f"not every node can write results to {place} ({nodes}). Do they have credentials?"
    return (
        f"{place} is not one folder for all nodes ({nodes}). On a cluster use --storage-path with "
        "a folder that all nodes mount, such as NFS, or an object store (s3://BUCKET/FOLDER)."
    )


def mark_of(place: str, name: str) -> str:
    """Where a mark of this name lies in a results folder."""
    folder, question, settings = place.partition("?") if is_remote(place) else (place, "", "")
    return f"{folder.rstrip('/')}/{_MARK}{name}{question}{settings}"


def write_mark(mark: str) -> None:
    """Write a mark; its content is its name."""
    filesystem, path = _opened(mark)
    with filesystem.open_output_stream(path) as stream:
        stream.write(path.encode())


def remove_mark(mark: str) -> None:
    """Remove a mark."""
    filesystem, path = _opened(mark)
    filesystem.delete_file(path)


def try_mark(mark: str, own: str) -> str:
    """Read a mark of another node and write one; returns what is wrong, or nothing.

    Args:
        mark: Where the other's lies.
        own: Where to write one, which does not stay.
    """
    try:
        filesystem, path = _opened(mark)
        with filesystem.open_input_stream(path) as stream:
            stream.read()
    except FileNotFoundError:
        return "what was written elsewhere is not there"
    except (OSError, ValueError) as error:
        return f"cannot be read: {' '.join(str(error).split())[:200]}"
    try:
        write_mark(own)
        remove_mark(own)
    except OSError as error:
        return f"cannot be written: {' '.join(str(error).split())[:200]}"
    return ""


def _opened(mark: str) -> tuple[Any, str]:
    found: tuple[Any, str] = FileSystem.from_uri(mark)
    return found


def _ask(
    nodes: Sequence[Mapping[str, Any]], mark: str, own: Sequence[str]
) -> dict[str, str | None]:
    """What `try_mark` says on each node; None where nothing was heard in time."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    names, tasks = [], []
    ask = ray.remote(num_cpus=0, max_retries=0)(try_mark)
    for node, its in zip(nodes, own, strict=True):
        strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        tasks.append(ask.options(scheduling_strategy=strategy).remote(mark, its))
        names.append(f"node {node['NodeManagerAddress']} ({node['NodeID'][:6]})")
    ray.wait(tasks, num_returns=len(tasks), timeout=ANSWER_S)
    return {name: _answer(task) for name, task in zip(names, tasks, strict=True)}


def _answer(task: Any) -> str | None:
    import ray

    try:
        found: str = ray.get(task, timeout=0)
    except ray.exceptions.GetTimeoutError:
        ray.cancel(task, force=True)
        return None
    except ray.exceptions.RayError as error:
        return f"could not be tried: {' '.join(str(error).split())[:200]}"
    return found
