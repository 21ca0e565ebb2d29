"""A folder of images, read into memory once."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from fastgan.data.images import Images, Resolution, image_shape
from fastgan.errors import UserError, one_line

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})
_EXPECTED = "'digits', 'textures' or a folder of images"


def folder(path: str | Path, resolution: Resolution, channels: int) -> Images:
    """Every image below a folder, at any depth, in the order of their paths.

    Each is turned upright, cut at its centre to the proportions of the resolution and resized (Lanczos) to it. Where
    every image lies in a subfolder, the subfolders right below the folder are the classes of what they hold, in the
    order of their names (as in torchvision's ImageFolder).

    Args:
        path: the folder; hidden files and folders in it are left out.
        resolution: height and width of the result, or one number for both.
        channels: 1 for grey, 3 for RGB.

    Returns:
        Images with uint8 pixels [N, channels, height, width]; without labels if one lies right in the folder.

    Raises:
        UserError: the folder is missing, is not a folder, holds no image, or one of its files cannot be read.
    """
    shape = image_shape(resolution, channels)
    root = Path(path).expanduser()
    if not root.exists():
        raise UserError(f"--data is {str(path)!r}, which does not exist; expected {_EXPECTED}")
    if not root.is_dir():
        raise UserError(f"--data is {str(path)!r}, which is a file; expected {_EXPECTED}")
    files = sorted(
        file
        for file in root.rglob("*")
        if file.suffix.lower() in SUFFIXES
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(root).parts)
    )
    if not files:
        raise UserError(
            f"--data is {str(path)!r}, a folder without images; expected files ending in {', '.join(sorted(SUFFIXES))}"
        )
    # Pillow releases the interpreter's lock while it decodes and resizes.
    with ThreadPoolExecutor() as pool:
        pixels = list(pool.map(lambda file: _read(file, *shape), files))
    return Images(str(path), torch.stack(pixels), *_classes([file.relative_to(root) for file in files]))


def _classes(files: list[Path]) -> tuple[Tensor | None, tuple[str, ...]]:
    """The labels of images by their paths in the folder, and the names of the classes."""
    if any(len(file.parts) == 1 for file in files):
        return None, ()
    names = sorted({file.parts[0] for file in files})
    numbers = {name: number for number, name in enumerate(names)}
    return torch.tensor([numbers[file.parts[0]] for file in files]), tuple(names)


def _read(file: Path, channels: int, height: int, width: int) -> Tensor:
    """uint8 [channels, height, width]."""
    try:
        with Image.open(file) as opened:
            upright = ImageOps.exif_transpose(opened).convert("L" if channels == 1 else "RGB")
        fitted = ImageOps.fit(upright, (width, height), Image.Resampling.LANCZOS)
    # Pillow raises OSError, SyntaxError, ValueError and DecompressionBombError, depending on the format.
    except Exception as error:
        raise UserError(f"--data holds {str(file)!r}, which is not a readable image: {one_line(error)}") from error
    return torch.from_numpy(np.array(fitted)).view(height, width, channels).permute(2, 0, 1)
