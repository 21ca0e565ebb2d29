"""The image files below a folder, and what else is there and why it is left out."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import PIL

from fastgan.data.decode import suffixes
from fastgan.errors import UserError

NAMED = 3
"""Of all paths of one kind, so many are named."""
HIDDEN, AROUND, NO_FILE = "hidden", "linked to a folder around it", "no file, or a link to nothing"
NO_IMAGE = f"whose ending is of no image that Pillow {PIL.__version__} reads"


class Listing(NamedTuple):
    """What a folder holds, by paths relative to it, in order.

    Attributes:
        images: those that are read.
        folders: those right below it.
        left_out: what else there is, by the reason, which is said after their number.
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
    for path, kind in sorted(_below(root, Path(), (_identity(root),))):
        if kind == "image":
            images.append(path)
        elif kind == "folder":
            folders.append(path)
        else:
            left_out.setdefault(kind, []).append(path)
    return Listing(images, [path for path in folders if len(path.parts) == 1], left_out)


def names(paths: Sequence[Path]) -> str:
    """The first of them, on one line; quoted where that would break it, or bytes are no text."""
    shown = ", ".join(str(path) if str(path).isprintable() else repr(str(path)) for path in paths[:NAMED])
    return shown if len(paths) <= NAMED else f"{shown}, ..."


def _below(folder: Path, path: Path, around: tuple[tuple[int, int], ...]) -> Iterator[tuple[Path, str]]:
    """All that is in a folder, at any depth: `image`, `folder`, or else the reason why it is left out.

    Args:
        folder: where it is.
        path: the same, relative to the first one.
        around: the folders that it lies in, itself included, by which a link in a circle is known.
    """
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        raise UserError(f"--data holds {str(folder)!r}, which cannot be read: {error.strerror or error}") from error
    for entry in entries:
        place = path / entry.name
        if entry.name.startswith("."):
            yield place, HIDDEN
        elif entry.is_dir():
            here = _identity(folder / entry.name)
            if here in around:
                yield place, AROUND
            else:
                yield place, "folder"
                yield from _below(folder / entry.name, place, (*around, here))
        elif not entry.is_file():
            yield place, NO_FILE
        else:
            yield place, "image" if place.suffix.lower() in suffixes() else NO_IMAGE


def _identity(folder: Path) -> tuple[int, int]:
    """The same for every path to one folder."""
    status = folder.stat()
    return status.st_dev, status.st_ino
