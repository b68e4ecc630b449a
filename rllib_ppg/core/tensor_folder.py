"""Core: a folder of one JSON file and one safetensors file, written whole and read with care.

Exported policies and dumps of numeric faults are such folders. Nothing in them is pickled.
"""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
from safetensors import torch as safetensors_torch
from torch import Tensor

from rllib_ppg._version import __version__
from rllib_ppg.errors import UserError


@dataclass(frozen=True)
class TensorFolder:
    """A kind of such folders.

    Attributes:
        format: What `description` says that it is, under `format`.
        version: The newest `format_version` that is read, and the one that is written.
        description: Name of the JSON file.
        tensors: Name of the safetensors file.
        checksum: Key of the tensors' CRC-32 in the description.
        describes: What the description describes, with an article: "no policy of rllib_ppg".
        absent: What a folder without these files is not, with advice: "no exported policy".
        advice: A sentence for one who gave such a folder.
    """

    format: str
    version: int
    description: str
    tensors: str
    checksum: str
    describes: str
    absent: str
    advice: str = ""

    def write(
        self,
        place: Path,
        content: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
        *,
        allow_nan: bool = False,
    ) -> None:
        """Write a folder, over an older one; it is there whole or not at all.

        Args:
            place: The folder.
            content: The description, without format, version and checksum.
            tensors: By name.
            allow_nan: Whether the description may hold numbers that JSON does not know.

        Raises:
            OSError: If it cannot be written.
        """
        own = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        data = safetensors_torch.save(own, {"format": "pt"})
        head = {"format": self.format, "format_version": self.version}
        whole = {**head, **content, self.checksum: _crc32(data)}
        text = json.dumps(whole, indent=2, allow_nan=allow_nan) + "\n"
        _write_folder(place, {self.tensors: data, self.description: text.encode()})

    def read_description(self, folder: Path) -> dict[str, Any]:
        """Read the JSON file.

        Raises:
            UserError: If it is absent, damaged, another's or of a newer version.
        """
        path = folder / self.description
        data = self._read(path)
        try:
            content = json.loads(data)
        except ValueError:
            raise UserError(f"{path} is damaged: it is no JSON.") from None
        if not isinstance(content, dict) or content.get("format") != self.format:
            raise UserError(f"{path} describes {self.describes}.")
        version = content.get("format_version")
        if not isinstance(version, int):
            raise UserError(f"{path} is damaged: its format_version is {version!r}.")
        if version > self.version:
            raise UserError(
                f"{path} was written by rllib_ppg {content.get('version', 'of a newer version')} "
                f"in format {version}; rllib_ppg {__version__} reads formats up to {self.version}, "
                "so upgrade it."
            )
        return content

    def read_tensors(self, folder: Path, crc32: str) -> dict[str, Tensor]:
        """Read the safetensors file, whose checksum the description gave.

        Raises:
            UserError: If it is absent or damaged.
        """
        path = folder / self.tensors
        data = self._read(path)
        if _crc32(data) != crc32:
            raise UserError(f"{path} is damaged, or belongs to another {self.description}.")
        try:
            return safetensors_torch.load(data)
        except (safetensors.SafetensorError, KeyError, ValueError) as error:
            raise UserError(f"{path} is damaged: it holds no tensors ({error}).") from error

    def _read(self, path: Path) -> bytes:
        try:
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            problem = f"{path.parent} is {self.absent}: it has no {path.name}."
            raise UserError(f"{problem} {self.advice}".rstrip()) from None
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror or error}).") from error


def why_damaged(error: Exception) -> str:
    """The first line of an error, for a sentence about a damaged file."""
    return f"{type(error).__name__}: {error}".splitlines()[0].rstrip(".")


def _write_folder(place: Path, files: Mapping[str, bytes]) -> None:
    """Write files into a folder beside `place` and move it there, over an older one."""
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_name(f".{place.name}.{os.getpid()}")
    old = place.with_name(f".{place.name}.old.{os.getpid()}")
    temporary.mkdir()
    try:
        for name, data in files.items():
            with (temporary / name).open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        if place.exists():
            place.rename(old)
        temporary.rename(place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if old.exists() and not place.exists():
            old.rename(place)
        shutil.rmtree(old, ignore_errors=True)


def _crc32(data: bytes) -> str:
    return f"{zlib.crc32(data):08x}"
