"""Algorithm: the manifest of a checkpoint folder, by which a whole one is told from a broken one.

A process may die at any moment, and Tune copies a checkpoint to its place file by file, in no fixed
order. So the manifest, which names every file with its size and checksum, is written last.
"""

import json
import os
import pickletools
import re
import zlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rllib_ppg._version import __version__
from rllib_ppg.errors import UserError

MANIFEST = "rllib_ppg.json"
ALGORITHM = "PPG"
FORMAT = "rllib_ppg checkpoint"
FORMAT_VERSION = 1

# RLlib's own files; a folder with one of them and without a manifest is half a checkpoint of ours,
# or one of another algorithm.
RLLIB_FILES = ("algorithm_state.pkl", "rllib_checkpoint.json")
_CLASS_FILES = ("algorithm_state.pkl", "class_and_ctor_args.pkl")
POLICY_STATE = "policies/default_policy/policy_state.pkl"

BLOCK_BYTES = 1 << 20


class _Entry(NamedTuple):
    """A file as the manifest has it: its size in bytes and CRC-32 in hexadecimal."""

    size: int
    crc32: str


class Newest(NamedTuple):
    """What `newest_whole` found.

    Attributes:
        path: The newest whole checkpoint; None if there is none.
        passed_over: Newer ones, newest first, each with what is wrong with it.
        summary: What `check_checkpoint` gave for it, so that it is read once; else empty.
    """

    path: Path | None
    passed_over: list[tuple[Path, str]]
    summary: dict[str, Any]


def checkpoint_path(source: Any) -> Path:
    """Absolute path of a checkpoint folder on this machine, which need not exist.

    Args:
        source: A path (`~` is the home folder), or Ray's `Checkpoint`.

    Raises:
        UserError: If it is a remote address.
    """
    path = getattr(source, "path", source)
    if "://" in str(path):
        raise UserError(f"{path} is a remote address; copy the checkpoint to this machine first.")
    return Path(path).expanduser().absolute()


def remove_manifest(folder: str | os.PathLike[str]) -> None:
    """Declare a folder no checkpoint; to be called before anything in it is written or replaced."""
    (Path(folder) / MANIFEST).unlink(missing_ok=True)


def write_manifest(folder: str | os.PathLike[str], summary: Mapping[str, Any]) -> None:
    """Declare a folder a whole checkpoint; to be called after its last file has been written.

    Nothing but the manifest is flushed to the disk: what a power cut takes of the other files shows
    in their sizes and checksums. Hidden files are left out: they are Tune's notes, which it changes
    later.

    Args:
        folder: The checkpoint folder, with everything in it.
        summary: What a reader wants to know before anything is unpickled, as plain JSON.

    Raises:
        OSError: If a file cannot be read or the manifest not be written; no manifest is left then.
        TypeError, ValueError: If the summary is not plain JSON.
    """
    place = Path(folder)
    remove_manifest(place)
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "rllib_ppg": __version__,
        "algorithm": ALGORITHM,
        "summary": dict(summary),
        "files": {name: _entry(place / name)._asdict() for name in _files(place)},
    }
    _write_manifest(place, content)


def leave_out(folder: str | os.PathLike[str], names: Collection[str], **changes: Any) -> None:
    """Remove files from a whole checkpoint, which is whole at every moment of that.

    Args:
        folder: The checkpoint folder.
        names: The files; those that it does not have are passed over.
        changes: Keys of its summary that are others then.

    Raises:
        UserError: If its manifest is missing or damaged.
        OSError: If a file cannot be written or removed.
    """
    place = Path(folder)
    content = _read_manifest(place)
    if not any(name in content["files"] or (place / name).exists() for name in names):
        return
    content["files"] = {k: entry for k, entry in content["files"].items() if k not in names}
    content["summary"] = {**content["summary"], **changes}
    _write_manifest(place, content)
    for name in names:  # no file of the checkpoint any more
        (place / name).unlink(missing_ok=True)


def _write_manifest(folder: Path, content: dict[str, Any]) -> None:
    content["crc32"] = _crc32_of(content)
    _write_atomically(folder / MANIFEST, json.dumps(content, indent=1, allow_nan=False) + "\n")


def _crc32_of(content: Mapping[str, Any]) -> str:
    """Checksum of a manifest's own content, in one writing of it."""
    rest = {name: value for name, value in content.items() if name != "crc32"}
    text = json.dumps(rest, sort_keys=True)
    return f"{zlib.crc32(text.encode()):08x}"


def _files(folder: Path) -> Iterator[str]:
    """Relative paths (with `/`) of the files of a checkpoint, in a fixed order."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            yield path.relative_to(folder).as_posix()


def _entry(path: Path) -> _Entry:
    """Measure a file in one pass, a block at a time.

    CRC-32 finds every damage that is not made on purpose, and is about three times as fast as the
    cryptographic hashes of the standard library.
    """
    block = memoryview(bytearray(BLOCK_BYTES))
    size = checksum = 0
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(block):
            size += count
            checksum = zlib.crc32(block[:count], checksum)
    return _Entry(size, f"{checksum:08x}")


def _write_atomically(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush_folder(path.parent)


def _flush_folder(folder: Path) -> None:
    """Flush a rename in a folder to the disk, where a folder can be opened (not on Windows)."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_checkpoint(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Check that a checkpoint is whole, without unpickling anything.

    All sizes are compared before the first file is read.

    Returns:
        The summary that `write_manifest` was given.

    Raises:
        UserError: Saying what is wrong, with the name of the file.
    """
    place = Path(folder)
    manifest = _read_manifest(place)
    try:
        entries = {name: _Entry(**entry) for name, entry in manifest["files"].items()}
        summary = dict(manifest["summary"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UserError(_damaged(place, MANIFEST)) from None
    for name, entry in entries.items():
        _check_size(place, name, entry)
    for name, entry in entries.items():
        _check_content(place, name, entry)
    return summary


def _read_manifest(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise UserError(f"There is no checkpoint folder {folder}.")
    path = folder / MANIFEST
    if not path.is_file():
        raise UserError(_without_manifest(folder))
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(_unreadable(folder, MANIFEST, error)) from error
    except ValueError:
        raise UserError(_damaged(folder, MANIFEST)) from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise UserError(f"{folder} is no checkpoint of {ALGORITHM}: its {MANIFEST} is another's.")
    _check_version(folder, manifest)
    if manifest.get("crc32") != _crc32_of(manifest):
        raise UserError(_damaged(folder, MANIFEST))
    if manifest.get("algorithm") != ALGORITHM:
        raise UserError(_of_another(folder, str(manifest.get("algorithm"))))
    return manifest


def _check_version(folder: Path, manifest: Mapping[str, Any]) -> None:
    version = manifest.get("format_version")
    if not isinstance(version, int):
        raise UserError(_damaged(folder, MANIFEST))
    if version > FORMAT_VERSION:
        raise UserError(
            f"{folder} was written by rllib_ppg {manifest.get('rllib_ppg')} in format {version}; "
            f"rllib_ppg {__version__} reads formats up to {FORMAT_VERSION}, so upgrade it."
        )


def _without_manifest(folder: Path) -> str:
    """What a folder without manifest is."""
    if not any((folder / name).exists() for name in (*RLLIB_FILES, "policies")):
        problem = f"{folder} is no checkpoint folder: it holds none of a checkpoint's files."
        return problem + _hint(folder)
    algorithm = pickled_algorithm(folder)
    if algorithm not in (None, ALGORITHM):
        return _of_another(folder, str(algorithm))
    return (
        f"{folder} has no {MANIFEST}, so it was cut short while being written; use an earlier "
        "checkpoint."
    )


def _hint(folder: Path) -> str:
    """The newest whole checkpoint inside a trial's or a run's folder, as an advice."""
    try:
        trials = [folder, *(path for path in folder.iterdir() if path.is_dir())]
    except OSError:
        return ""
    found = [path for path in (newest_whole(trial).path for trial in trials) if path]
    if not found:
        return ""
    newest = max(found, key=lambda path: (path / MANIFEST).stat().st_mtime)
    return f" The newest whole checkpoint inside is {newest}."


def pickled_algorithm(folder: Path) -> str | None:
    """Name of the algorithm's class in RLlib's files, read without unpickling anything.

    One of them is a dictionary that begins with the class: its module and its name, or a name.

    Returns:
        None if no file says it.
    """
    for name in _CLASS_FILES:
        words = _first_words(folder / name)
        if len(words) == 3 and words[0] in ("algorithm_class", "class"):
            return words[2] if "." in words[1] else words[1]
    return None


def _first_words(path: Path) -> list[str]:
    """The first three strings of a pickle."""
    words: list[str] = []
    try:
        with path.open("rb") as file:
            for operation, argument, _ in pickletools.genops(file):
                if isinstance(argument, str):
                    words += argument.split(" ") if operation.name == "GLOBAL" else [argument]
                if len(words) >= 3 or operation.name in ("SETITEM", "SETITEMS"):
                    break
    except Exception:  # a damaged pickle raises anything
        return []
    return words[:3]


def _of_another(folder: Path, algorithm: str) -> str:
    return f"{folder} is a checkpoint of {algorithm}, not of {ALGORITHM}."


def _check_size(folder: Path, name: str, entry: _Entry) -> None:
    try:
        size = (folder / name).stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"The checkpoint {folder} is broken: {name} is missing.") from None
    except OSError as error:
        raise UserError(_unreadable(folder, name, error)) from error
    if size != entry.size:
        fault = "truncated" if size < entry.size else "too long"
        raise UserError(
            f"The checkpoint {folder} is broken: {name} is {fault}, {size} bytes instead of "
            f"{entry.size}."
        )


def _check_content(folder: Path, name: str, entry: _Entry) -> None:
    try:
        found = _entry(folder / name)
    except OSError as error:
        raise UserError(_unreadable(folder, name, error)) from error
    if found != entry:
        raise UserError(_damaged(folder, name))


def _damaged(folder: Path, name: str) -> str:
    reason = "it cannot be parsed" if name == MANIFEST else "its checksum is another"
    return f"The checkpoint {folder} is broken: {name} is damaged ({reason})."


def _unreadable(folder: Path, name: str, error: OSError) -> str:
    return f"The checkpoint {folder}: {name} cannot be read ({error.strerror or error})."


def checkpoint_folders(folder: str | os.PathLike[str]) -> list[Path]:
    """Tune's checkpoint folders (`checkpoint_000012`) in a trial's folder, the newest first."""
    numbered = []
    for path in Path(folder).glob("checkpoint_*"):
        number = re.fullmatch(r"checkpoint_(\d+)", path.name)
        if number and path.is_dir():
            numbered.append((int(number[1]), path))
    return [path for _, path in sorted(numbered, reverse=True)]


def newest_whole(folder: str | os.PathLike[str], *, before: Path | None = None) -> Newest:
    """Find the newest whole checkpoint among those of a trial's folder.

    Args:
        folder: The folder that holds `checkpoint_000000` and so on.
        before: Only older ones than this checkpoint of the folder.
    """
    passed_over = []
    folders = checkpoint_folders(folder)
    if before in folders:
        folders = folders[folders.index(before) + 1 :]
    for path in folders:
        try:
            summary = check_checkpoint(path)
        except UserError as error:
            passed_over.append((path, str(error)))
        else:
            return Newest(path, passed_over, summary)
    return Newest(None, passed_over, {})
