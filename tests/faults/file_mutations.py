"""Experiment files with faults in them, as hypothesis strategies: broken texts and odd trees."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from rllib_ppg._ray_compat import MODEL_DEFAULTS
from rllib_ppg.algorithm import keys
from rllib_ppg.algorithm.model_settings import MODEL_SETTINGS
from rllib_ppg.app import experiment
from rllib_ppg.app.result_keys import KEYS as RESULT_KEYS
from rllib_ppg.app.yaml_reader import read_yaml
from rllib_ppg.envs.procgen_options import ProcgenOptions

FILES = sorted((Path(__file__).resolve().parents[2] / "experiments").glob("*.yaml"))

Tree = Any
TreePath = tuple[str | int, ...]

NAMES = (
    *experiment.TOP_LEVEL_KEYS, *experiment.OUTDATED, *experiment.CheckpointKeys.model_fields,
    *sorted(keys.rllib_defaults()), *sorted(keys.own_keys()), *keys.OUTDATED, *keys.UNUSED,
    *ProcgenOptions.model_fields, *sorted(MODEL_DEFAULTS), *RESULT_KEYS,
    *(name for settings in MODEL_SETTINGS.values() for name in settings.model_fields),
    "grid_search", "eval", "type", "lambda", "class", "__init__", "self", "", " ", ".", "a/b", "…",
)  # fmt: skip
"""Keys of every level, and some of none."""

NUMBERS = (
    0, 1, -1, 2, 3, 7, 64, 1000, 65_536, 10**6, 2**31, 2**63, 10**12, 10**29, 10**400,
    0.5, -0.5, 1.5, 1e-320, 1e-5, 1e18, 1e300, float("nan"), float("inf"), float("-inf"),
)  # fmt: skip

WORDS = (
    "", "auto", "none", "5e-4", "1e400", "-1", "0", "nan", "inf", "1_000", "True,", "é", "\u202e",
    "日本", "🙂", "a" * 10_000, "../x", "~/x", "~nobody-here/x", "/", "s3://bucket/x", "a\nb",
    "a\0b", "\ud800", "procgen", "CartPole-v1", "Pendulum-v1", "CartPol-v1", "FrozenLake-v1",
    "Taxi-v3", "ALE/Pong-v5", "os.path", "os.", ".", "no_module:Env-v0", "os.path.Class",
    "gymnasium.Env", "builtins.int", "PPG", "PPO", "DQN", "ppg", "__fake", "x.y", "coinrun",
    "memory", "exploration", "cuda", "tf2", "ppg_mlp", "ppg_impala", "asha", "pbt", "{", "*a",
)  # fmt: skip


def paths(tree: Tree, path: TreePath = ()) -> Iterator[TreePath]:
    """Yield the path of every node below the root, parents first."""
    if not isinstance(tree, dict | list):
        return
    for name, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield (*path, name)
        yield from paths(value, (*path, name))


def at(tree: Tree, path: TreePath) -> Tree:
    """Return the node at a path."""
    for name in path:
        tree = tree[name]
    return tree


@st.composite
def values(draw: st.DrawFn, depth: int = 2) -> Tree:
    """A value of any type: numbers at the edges, words that mean something elsewhere, nests."""
    kind = draw(st.sampled_from(("number", "word", "other", "text", "grid", "list", "mapping")))
    if kind == "number":
        return draw(st.sampled_from(NUMBERS) | st.integers() | st.floats())
    if kind == "word" or depth == 0:
        return draw(st.sampled_from(WORDS))
    if kind == "other":
        return draw(st.sampled_from((None, True, False)))
    if kind == "text":
        return draw(st.text(max_size=20))
    inner = values(depth=depth - 1)
    if kind == "mapping":
        return draw(st.dictionaries(st.sampled_from(NAMES), inner, max_size=3))
    items = draw(st.lists(inner, max_size=3))
    return {"grid_search": items} if kind == "grid" else items


def _replace(draw: st.DrawFn, tree: Tree, path: TreePath) -> None:
    at(tree, path[:-1])[path[-1]] = draw(values())


def _wrap(draw: st.DrawFn, tree: Tree, path: TreePath) -> None:
    old = at(tree, path)
    other = draw(values(depth=1))
    wrapped = draw(st.sampled_from(({"grid_search": [old, other]}, [old], {"x": old})))
    at(tree, path[:-1])[path[-1]] = wrapped


def _drop(draw: st.DrawFn, tree: Tree, path: TreePath) -> None:
    del at(tree, path[:-1])[path[-1]]


def _rename(draw: st.DrawFn, tree: Tree, path: TreePath) -> None:
    parent = at(tree, path[:-1])
    if isinstance(parent, dict):
        name = draw(st.sampled_from((f"{path[-1]}s", str(path[-1]).upper(), *NAMES)))
        parent[name] = parent.pop(path[-1])


def _swap(draw: st.DrawFn, tree: Tree, path: TreePath) -> None:
    other = draw(st.sampled_from(list(paths(tree))))
    first, second = copy.deepcopy(at(tree, path)), copy.deepcopy(at(tree, other))
    at(tree, path[:-1])[path[-1]] = second
    if other[: len(path)] != path and path[: len(other)] != other:
        at(tree, other[:-1])[other[-1]] = first


def _insert(draw: st.DrawFn, tree: Tree, path: TreePath) -> None:
    parent = at(tree, path[:-1])
    if isinstance(parent, dict):
        parent[draw(st.sampled_from(NAMES) | st.text(max_size=8))] = draw(values())
    else:
        parent.append(draw(values()))


KNOWN: dict[TreePath, tuple[str, ...]] = {
    (): experiment.TOP_LEVEL_KEYS,
    ("checkpoint_config",): tuple(experiment.CheckpointKeys.model_fields),
    ("stop",): RESULT_KEYS,
    ("config",): (*sorted(keys.own_keys()), *sorted(keys.HONOURED)),
    ("config", "env_config"): tuple(ProcgenOptions.model_fields),
    ("config", "model"): ("custom_model", "custom_model_config"),
    ("config", "model", "custom_model_config"): tuple(
        name for settings in MODEL_SETTINGS.values() for name in settings.model_fields
    ),
}
"""The keys that are right, by where they stand in an experiment."""


def _set_known(draw: st.DrawFn, tree: Tree, path: TreePath) -> None:
    """Give a known key another value, so that what looks at values is reached."""
    where = draw(st.sampled_from(list(KNOWN)))
    node = tree[path[0]]
    for name in where:
        node = node.setdefault(name, {}) if isinstance(node, dict) else None
    if isinstance(node, dict):
        node[draw(st.sampled_from(KNOWN[where]))] = draw(values())


TREE_MUTATIONS = (
    *(_replace, _wrap, _drop, _rename, _swap, _insert),
    *(_set_known, _set_known, _set_known, _set_known, _set_known, _set_known),
)


@st.composite
def mutated_trees(draw: st.DrawFn) -> bytes:
    """A file of `experiments/` with one to three changes of its keys and values."""
    text = draw(st.sampled_from(FILES)).read_text(encoding="utf-8")
    tree = read_yaml(text, "file").data
    for _ in range(draw(st.sampled_from((1, 1, 1, 2, 3)))):
        places = list(paths(tree))
        if places:
            draw(st.sampled_from(TREE_MUTATIONS))(draw, tree, draw(st.sampled_from(places)))
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True).encode(errors="surrogatepass")


def _laughs(anchor: str) -> bytes:
    """A mapping in which each of nine anchors holds ten of the one before."""
    lines = [f"{anchor}0: &{anchor}0 [x, x, x, x, x, x, x, x, x, x]"]
    for level in range(1, 10):
        inner = ", ".join([f"*{anchor}{level - 1}"] * 10)
        lines.append(f"{anchor}{level}: &{anchor}{level} [{inner}]")
    return "\n".join(lines).encode()


PIECES = (
    b"\t", b" ", b"    ", b"\n", b"\r\n", b"\r", b"\0", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\x85",
    b"\xef\xbb\xbf", b"\xff\xfe", b": ", b"- ", b"? ", b"# ", b"'", b'"', b"{", b"}", b"[", b"]",
    b"!!python/object/apply:os.abort []", b"!!python/name:os.system ", b"!!binary x",
    b"!!set {a}", b"!!timestamp x", b"!x ", b"! ",
    b"&a ", b"*a", b"&a [*a]", b"<<: *a\n", b"<<: 1\n", b"<<: [1, 2]\n", b"---\n", b"...\n",
    b"%YAML 9.9\n---\n", b"%TAG ! x\n", b"|\n", b">-\n", b"@", b"`",
    b"1e999", b"0o9", b"-.inf", b"1:30:00", b"2020-01-01", b"~", b"null", b"=",
    b"ppg-procgen:\n  run: PPG\n", b"  run: PPO\n",
)  # fmt: skip
"""What is put into a text."""

LARGE = {
    "deep list": b"[" * 5000,
    "deep mapping": b"{a: " * 3000,
    "deep block": b"- " * 3000,
    "closed deep list": b"[" * 900 + b"]" * 900,
    "large integer": b"9" * 5000,
    "large hexadecimal": b"0x" + b"f" * 5000,
    "long fraction": b"1" * 300 + b".5",
    "long word": b"x" * 200_000,
    "laughs": _laughs("a"),
    "laughs on a line of their own": b"\n" + _laughs("b"),
    "many keys": b"a: " * 50_000,
    "megabytes": b"- [x, y]\n" * 1_000_000,
}
"""Pieces that are too large for a failure's report, by name."""

WHOLE = (
    b"", b"\0", b"---", b"~", b"[]", b"{}", b"1", b"'x'", b"x:", b"x: {}", b"x: []",
    b"? {a: 1}\n: 2",
    b"run: PPG", b"x: {run: PPG, env: procgen}", b"x: {run: PPO, env: CartPole-v1}", b"\xff" * 100,
    b"x: {run: [PPG], env: procgen}", b"'': {run: PPG, env: procgen}",
    b"- run: PPG\n  env: procgen", b"x: &a {run: PPG, config: *a}",
)  # fmt: skip
"""Whole files that are no mutation of another."""


@st.composite
def mutated_texts(draw: st.DrawFn) -> bytes:
    """A file of `experiments/` with one to three changes of its bytes and lines."""
    data = draw(st.sampled_from(FILES)).read_bytes()
    for _ in range(draw(st.integers(1, 3))):
        data = draw(_changed_text(data))
    return data


@st.composite
def _changed_text(draw: st.DrawFn, data: bytes) -> bytes:
    kind = draw(st.sampled_from(("cut", "put", "put", "line", "indent", "encode", "flip")))
    start = draw(st.integers(0, len(data)))
    if kind == "cut":
        return data[:start] + data[start + draw(st.integers(1, 200)) :]
    if kind == "put":
        return data[:start] + draw(_pieces()) + data[start:]
    if kind == "flip":
        return data[:start] + draw(st.binary(min_size=1, max_size=1)) + data[start + 1 :]
    if kind == "encode":
        return _encoded(draw, data)
    lines = data.split(b"\n")
    index = draw(st.integers(0, len(lines) - 1))
    if kind == "line":  # twice, elsewhere
        lines.insert(draw(st.integers(0, len(lines))), lines[index])
    else:
        lines[index] = draw(st.sampled_from((b"\t", b" ", b"  ", b""))) + lines[index].lstrip()
    return b"\n".join(lines)


def _pieces() -> st.SearchStrategy[bytes]:
    large = st.sampled_from(sorted(LARGE)).map(LARGE.__getitem__)
    return st.sampled_from(PIECES) | st.sampled_from(PIECES) | large | st.binary(max_size=8)


def _encoded(draw: st.DrawFn, data: bytes) -> bytes:
    kind = draw(st.sampled_from(("crlf", "cr", "bom", "utf-16", "utf-32", "twice", "values")))
    if kind in ("utf-16", "utf-32"):
        return data.decode("utf-8", errors="replace").encode(kind, errors="replace")
    if kind == "twice":
        return data + b"\n---\n" + data
    if kind == "values":  # each value an anchor's
        return data.replace(b": ", b": &a ", draw(st.integers(1, 5)))
    return {"crlf": data.replace(b"\n", b"\r\n"), "cr": data.replace(b"\n", b"\r")}.get(
        kind, b"\xef\xbb\xbf" + data
    )


def mutated_files() -> st.SearchStrategy[bytes]:
    """The bytes of an experiment file with something wrong in it, or nearly."""
    return (
        mutated_trees()
        | mutated_trees()
        | mutated_trees()
        | mutated_texts()
        | st.sampled_from(WHOLE)
        | _pieces()
    )
