"""Files that appear whole or not at all, and paths as users write them."""

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from fastgan.errors import UserError, one_line, shown

TEMPORARY = ".partial"
"""The ending of a file that is being written; one that is left was so when its process died."""


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A binary file to write that replaces `path` when the block ends well, and leaves it as it was otherwise.

    Survives a power cut as well: the bytes reach the disk before the name does. What was written of a file that failed,
    on a full disk for example, is deleted.
    """
    temporary = path.with_name(path.name + TEMPORARY)
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def remove_partial(folder: Path) -> None:
    """Deletes what processes that died left half-written in a folder."""
    for leftover in folder.glob("*" + TEMPORARY):
        leftover.unlink(missing_ok=True)


def expanded(path: str | Path, name: str) -> Path:
    """The path with ~ as the home folder.

    Args:
        path: as a user wrote it.
        name: of the setting, for the message.

    Raises:
        UserError: there is no such user, or a part of the path is longer than file names can be.
    """
    try:
        found = Path(path).expanduser()
        found.exists()
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"{name} is {shown(str(path))}, which is no path: {one_line(error)}") from error
    return found
