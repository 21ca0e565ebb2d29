"""Lists the image files below a folder, and what was left out with the reason."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import PIL

from fastgan.data.decode import suffixes
from fastgan.errors import UserError

NAMED = 3
"""Of all paths of one kind, so many are named."""
HIDDEN, READ, NO_FILE = "hidden", "linked to a folder that is read already", "no file, or a link to nothing"
NO_IMAGE = f"whose ending is of no image that Pillow {PIL.__version__} reads"


class Listing(NamedTuple):
    """What a folder holds, by paths relative to it, in order.

    Attributes:
        images: those that are read.
        folders: those right below it.
        left_out: all other files and folders, by the reason, which follows their number in messages.
    """

    images: list[Path]
    folders: list[Path]
    left_out: dict[str, list[Path]]


def list_images(root: Path) -> Listing:
    """Every image below a folder, at any depth, by the ending of its name; links are followed.

    Raises:
        UserError: a folder cannot be read.
    """
    images, folders = [], []
    left_out: dict[str, list[Path]] = {}
    for path, kind in sorted(_below(root, Path(), {_identity(root)})):
        if kind == "image":
            images.append(path)
        elif kind == "folder":
            folders.append(path)
        else:
            left_out.setdefault(kind, []).append(path)
    return Listing(images, [path for path in folders if len(path.parts) == 1], left_out)


def names(paths: Sequence[Path]) -> str:
    """The first of the names, on one line; quoted where that would break it, or bytes are no text."""
    shown = ", ".join(str(path) if str(path).isprintable() else repr(str(path)) for path in paths[:NAMED])
    return shown if len(paths) <= NAMED else f"{shown}, ..."


def _below(folder: Path, path: Path, read: set[tuple[int, int]]) -> Iterator[tuple[Path, str]]:
    """All that is in a folder, at any depth: `image`, `folder`, or else the reason why it is left out.

    Args:
        folder: where it is.
        path: the same, relative to the first one.
        read: the folders around it, and those of its class that were read, to which a link adds nothing: without an end
            where it leads around in a circle. Every class has all that is linked into it.
    """
    try:
        entries = sorted(os.listdir(folder))
    except OSError as error:
        raise UserError(f"--data holds {str(folder)!r}, which cannot be read: {error.strerror or error}") from error
    for name in entries:
        place, there = path / name, folder / name
        if name.startswith("."):
            yield place, HIDDEN
        elif there.is_dir():
            here = _identity(there)
            if here in read:
                yield place, READ
            else:
                yield place, "folder"
                below = read if path.parts else set(read)
                below.add(here)
                yield from _below(there, place, below)
        elif not there.is_file():
            yield place, NO_FILE
        else:
            yield place, "image" if place.suffix.lower() in suffixes() else NO_IMAGE


def _identity(folder: Path) -> tuple[int, int]:
    """A key of a folder, the same for every path to it."""
    status = folder.stat()
    return status.st_dev, status.st_ino
