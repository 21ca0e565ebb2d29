"""A folder of images, read into memory once."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from fastgan.data.decode import decode
from fastgan.data.images import Images, Resolution, image_shape
from fastgan.data.listing import list_images, names
from fastgan.errors import UserError, one_line
from fastgan.files import expanded

_EXPECTED = "'digits', 'stacked-digits', 'textures' or a folder of images"


def folder(path: str | Path, resolution: Resolution, channels: int) -> Images:
    """Every image below a folder, at any depth, in the order of their paths; links are followed.

    Each is turned upright, cut at its centre to the proportions of the resolution and resized (Lanczos) to it; what is
    transparent is laid over white, and grey of 16 bits scaled to 8 (`fastgan.data.decode`). Images are told by the
    endings of their names, all that the installed Pillow reads. Where every image lies in a subfolder, the subfolders
    right below the folder are the classes of what they hold, in the order of their names (as in torchvision's
    ImageFolder).

    Args:
        path: the folder; hidden files and folders in it are left out.
        resolution: height and width of the result, or one number for both.
        channels: 1 for grey, 3 for RGB.

    Returns:
        Images with uint8 pixels [N, channels, height, width], a digest of the files, and remarks on what was left out
        or changed; without labels if one lies right in the folder.

    Raises:
        UserError: the folder is missing, is not a folder, holds no image, or one of its files cannot be read or has
            pixels without a range (floating point, 32 bits).
    """
    shape = image_shape(resolution, channels)
    root = expanded(path, "--data")
    if not root.exists():
        raise UserError(f"--data is {str(path)!r}, which does not exist; expected {_EXPECTED}")
    if not root.is_dir():
        raise UserError(f"--data is {str(path)!r}, which is a file; expected {_EXPECTED}")
    found = list_images(root)
    left_out = [f"left out {len(paths)} {reason}: {names(paths)}" for reason, paths in found.left_out.items()]
    if not found.images:
        raise UserError(
            f"--data is {str(path)!r}, a folder without images; expected files that Pillow reads by their endings, "
            f"such as .png, .jpg or .webp{''.join(f'; {remark}' for remark in left_out)}"
        )
    pixels = torch.empty(len(found.images), *shape, dtype=torch.uint8)
    # Pillow releases the interpreter's lock while it decodes and resizes.
    with ThreadPoolExecutor() as pool:
        read = list(pool.map(_read, (root / file for file in found.images), pixels))
    labels, classes = _classes(found.images)
    empty = [path for path in found.folders if path.name not in classes] if classes else []
    if empty:
        left_out.append(f"left out {len(empty)} empty class{'es' * (len(empty) > 1)}: {names(empty)}")
    return Images(
        str(path), pixels, labels, classes, _digest(found.images, read), (*left_out, *_remarks(found.images, read))
    )


class _File(NamedTuple):
    """Facts about a file besides its pixels."""

    size: int
    sha256: bytes
    remarks: tuple[str, ...]


def _read(file: Path, pixels: Tensor) -> _File:
    """Decodes a file into its place: uint8 [channels, height, width]."""
    try:
        content = file.read_bytes()
        picture = decode(content, *pixels.shape)
    # Pillow raises OSError, SyntaxError, ValueError and DecompressionBombError, depending on the format.
    except Exception as error:
        raise UserError(f"--data holds {str(file)!r}, which is not a readable image: {one_line(error)}") from error
    pixels.copy_(picture.pixels)
    return _File(len(content), hashlib.sha256(content).digest(), picture.remarks)


def _digest(files: list[Path], read: list[_File]) -> str:
    """A digest of the names, sizes and contents of all files."""
    digest = hashlib.sha256()
    for path, file in zip(files, read, strict=True):
        digest.update(os.fsencode(path.as_posix()) + b"\0%d\0" % file.size + file.sha256)
    return digest.hexdigest()


def _remarks(files: list[Path], read: list[_File]) -> list[str]:
    """One sentence for each kind of content that was found in the images and not taken over."""
    by_kind: dict[str, list[Path]] = {}
    for path, file in zip(files, read, strict=True):
        for remark in file.remarks:
            by_kind.setdefault(remark, []).append(path)
    return [f"{len(paths)} with {remark}: {names(paths)}" for remark, paths in sorted(by_kind.items())]


def _classes(files: list[Path]) -> tuple[Tensor | None, tuple[str, ...]]:
    """The labels of images by their paths in the folder, and the names of the classes."""
    if any(len(file.parts) == 1 for file in files):
        return None, ()
    classes = sorted({file.parts[0] for file in files})
    numbers = {name: number for number, name in enumerate(classes)}
    return torch.tensor([numbers[file.parts[0]] for file in files]), tuple(classes)
