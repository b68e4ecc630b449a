"""Algorithm: the frames of a phase in a file, compressed and streamed.

The file holds one line of JSON (`FORMAT`, the frames' shape and dtype) and then one block for each
segment: its compressed size (8 bytes, little-endian) and its bytes. Neither writing nor reading
holds more than a few segments at a time beside the store.
"""

import json
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from rllib_ppg.core.segments import SegmentStore
from rllib_ppg.errors import UserError

FORMAT = 1
_SIZE_BYTES = 8

# Fast, and a tenth of the size or less for Procgen's frames: BENCHMARKS.md.
_CODEC = "zstd"
_LEVEL = 1


def save_frames(store: SegmentStore, path: Path, threads: int = 1) -> int:
    """Write the frames of all stored segments.

    Args:
        store: The segments.
        path: The file, which must not exist or is replaced.
        threads: Segments that are compressed side by side.

    Returns:
        Bytes written.

    Raises:
        OSError: If the file cannot be written.
    """
    with open(path, "wb") as file:
        file.write(json.dumps(_header(store)).encode() + b"\n")
        for block in _compressed(store, threads):
            file.write(len(block).to_bytes(_SIZE_BYTES, "little"))
            file.write(memoryview(block))
        file.flush()
        os.fsync(file.fileno())
        return file.tell()


def load_frames(store: SegmentStore, path: Path) -> None:
    """Read the frames of all segments of a store, whose state was set before.

    Args:
        store: Takes the frames.
        path: A file of `save_frames`.

    Raises:
        UserError: If the file is damaged, newer, or belongs to other segments.
        OSError: If it cannot be read.
    """
    codec = pa.Codec(_CODEC)
    expected = _header(store)
    shape, dtype = tuple(expected["shape"]), np.dtype(expected["dtype"])
    size = int(np.prod(shape)) * dtype.itemsize
    with open(path, "rb") as file:
        _check_header(file.readline(), expected, path)
        for row in range(store.count):
            block = _read_block(file, path)
            try:
                data = codec.decompress(block, size)
            except (OSError, pa.ArrowException) as error:
                raise UserError(f"{path} is damaged at segment {row}: {error}") from None
            frames = np.frombuffer(data, dtype).reshape(1, *shape)
            store.write_frames(slice(row, row + 1), frames)


def _header(store: SegmentStore) -> dict[str, Any]:
    empty = store.read_frames(slice(0, 0))
    return {
        "format": FORMAT,
        "segments": store.count,
        "shape": list(empty.shape[1:]),
        "dtype": empty.dtype.str,
    }


def _check_header(line: bytes, expected: dict[str, Any], path: Path) -> None:
    try:
        header = json.loads(line)
    except ValueError:
        raise UserError(
            f"{path} is not a file of stored frames, or its start is damaged."
        ) from None
    if header.get("format", 0) > FORMAT:
        raise UserError(
            f"{path} has format {header['format']}, this version of rllib_ppg reads up to "
            f"{FORMAT}; install a newer rllib_ppg."
        )
    if header != expected:
        raise UserError(f"{path} holds frames of {header}, not of {expected}.")


def _compressed(store: SegmentStore, threads: int) -> Iterator[Any]:
    """Yield each segment's compressed frames in order; few are held at a time."""
    codec = pa.Codec(_CODEC, compression_level=_LEVEL)

    def compress(row: int) -> Any:
        frames = np.ascontiguousarray(store.read_frames(slice(row, row + 1)))
        return codec.compress(frames.reshape(-1).view(np.uint8))

    with ThreadPoolExecutor(threads, "checkpoint") as pool:
        waiting: deque[Future[Any]] = deque()
        for row in range(store.count):
            waiting.append(pool.submit(compress, row))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _read_block(file: BinaryIO, path: Path) -> bytes:
    head = file.read(_SIZE_BYTES)
    block = file.read(int.from_bytes(head, "little")) if len(head) == _SIZE_BYTES else b""
    if len(head) < _SIZE_BYTES or len(block) < int.from_bytes(head, "little"):
        raise UserError(f"{path} is truncated.")
    return block
