"""App: the file of `--out`: checked before the work, written whole or not at all.

Nothing here imports Ray, torch or numpy.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from rllib_ppg.errors import UserError
from rllib_ppg.spelling import did_you_mean


def check_out(out: str, suffixes: Sequence[str]) -> Path:
    """Return the file to write, once it is clear that it can be; an earlier one stays as it is.

    Args:
        out: What was given.
        suffixes: What its name may end in.

    Raises:
        UserError: If its ending is unknown, or it cannot be written.
    """
    path = Path(out).expanduser().absolute()
    if path.suffix.lower() not in suffixes:
        hint = did_you_mean(path.suffix, suffixes) if path.suffix else ""
        raise UserError(f"--out {out}: give a name that ends in {', '.join(suffixes)}.{hint}")
    if path.is_dir():
        raise UserError(f"--out {out} is a folder; give the name of a file.")
    if not path.parent.is_dir():
        raise UserError(f"--out {out}: there is no folder {path.parent}; make it first.")
    temporary = temporary_of(path)
    try:
        temporary.touch()
        temporary.unlink()
    except OSError as error:
        raise UserError(f"--out {unwritable(path, error)}") from None
    return path


def write_out(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all.

    Raises:
        UserError: If it cannot be written.
    """
    temporary = temporary_of(path)
    try:
        temporary.write_bytes(data)
        temporary.replace(path.resolve())
    except OSError as error:
        raise unwritable(path, error) from None
    finally:
        temporary.unlink(missing_ok=True)


def temporary_of(path: Path) -> Path:
    """The name under which a file is written before it gets its own."""
    target = path.resolve()  # a link stays one
    return target.with_name(f".{target.name}.{os.getpid()}")


def unwritable(path: Path, error: OSError) -> UserError:
    """What to say of a file that cannot be written."""
    return UserError(f"{path} cannot be written ({error.strerror or error}).")
